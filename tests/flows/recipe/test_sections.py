from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from flows.recipe import sections as recipes
from flows.recipe.planner import plan
from flows.recipe.sections import Recipe

MISTAKES = """
name = "bad name"
pool = 7
[sauce]
x = 1
[[source]]
pth = "pictures"
[[source]]
path = "x"
payload = "move"
[holdout]
where = "caption_stat.words >= 3"
rato = 0.1
[embed.look]
encoder = "color_layoutt"
[embed.bag]
encoder = "hashed_ngrams"
dimension = "many"
[annotate.text]
step = "caption_stats"
[annotate.caption]
step = "caption_statss"
[annotate.near]
step = "minhash_clusters"
threshold = 1.5
thresholds = 3
[annotate.clusters]
step = "exact_clusters"
digest = 5
only = "caption_stats.wordz > 3"
[annotate.brought]
file = "nowhere.parquet"
[fit.k]
step = "kmeens"
[[select]]
where = "caption_stats.words >= 3 AND txt = 'a'"
[[select]]
where = "caption_stats.words >="
[[select]]
name = "both"
where = "text LIKE 'x%'"
by = "top"
[[select]]
name = "drawn"
by = "random_sampl"
[[select]]
name = "few"
by = "random_sample"
budget = 0
[[select]]
name = "few"
where = "caption_stats.words + 1"
[[select]]
name = "holdout"
by = "one_per_cluster"
[export]
format = ["webdatasets"]
columns = ["caption_stats.wrds"]
[pretrain]
objective = "clipp"
[[evaluate]]
protocol = "knnn"
[[evaluate]]
label = "meta.label"
[compare]
seeds = 0
"""

EXPECTED = {
    "sauce": "Nearest: source.",
    "name": "'bad name'",
    "pool": "(got 7)",
    "source[0].pth": "Nearest: path.",
    "source[0].path": "is required.",
    "source[1].payload": "'copy' or 'reference'",
    "holdout.rato": "Nearest: ratio.",
    "holdout.where": "nothing is called 'caption_stat' (in 'caption_stat.words'). Nearest: caption",
    "embed.look": "Nearest: color_layout.",
    "embed.bag.dimension": "(got 'many')",
    "annotate.text": "'text' is a column of every pool",
    "annotate.caption": "Nearest: caption_stats",
    "annotate.near.threshold": "less than or equal to 1 (got 1.5)",
    "annotate.near.thresholds": "Nearest: threshold.",
    "annotate.clusters.digest": "SQL expression in quotes (got 5)",
    "annotate.clusters.only": "Nearest: caption_stats.words",
    "annotate.brought": "nowhere.parquet",
    "fit.k": "Nearest: kmeans.",
    "select[0].where": "there is no column 'txt'. Nearest: text",
    "select[1].where": "is not an SQL expression",
    "select[2]": "has either `where` or `by`, and 'both' has both",
    "select[3]": "Nearest: random_sample",
    "select[4].budget": "greater than or equal to 1 (got 0)",
    "select[5].name": "'few' is taken",
    "select[5].where": "gives Int64, not true or false",
    "select[6].name": "'holdout' is rule 0",
    "select[6].cluster": "bind the role to a column",
    "export.format.0": "'webdataset', 'parquet', 'jsonl' or 'uids' (got 'webdatasets')",
    "export.columns": "Nearest: caption_stats.words",
    "pretrain": "Nearest: clip.",
    "evaluate[0]": "Nearest: knn.",
    "evaluate[1].protocol": "is required.",
    "compare.seeds": "greater than or equal to 1 (got 0)",
}


def test_every_mistake_of_a_recipe_is_reported_at_once_and_nothing_is_written(project: Any):
    with pytest.raises(ConfigError) as refused:
        project.run(MISTAKES)
    found = {problem.key: problem.message for problem in refused.value.problems}
    assert set(found) == set(EXPECTED)
    assert [key for key, message in EXPECTED.items() if message not in found[key]] == []
    assert refused.value.exit_code == 78
    assert [path.name for path in project.recipe_dir.iterdir()] == ["web.toml"]


def _read(text: str, *overrides: str, tmp_path: Path) -> Recipe:
    path = tmp_path / "web.toml"
    path.write_text(text, encoding="utf-8")
    return recipes.read(path, overrides)


def _problems(text: str, *overrides: str) -> dict[str, str]:
    raw = tomllib.loads(text)
    for override in overrides:
        recipes._set(raw, override)
    try:
        plan(recipes.parsed(raw, recipe_dir=Path("/nowhere"), name="web"))
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


def test_a_recipe_is_named_after_its_file_and_its_pool_after_the_recipe(tmp_path: Path):
    found = _read("", tmp_path=tmp_path)
    assert (found.name, found.pool, found.recipe_dir) == ("web", "web", tmp_path)
    assert _read('name = "other"', tmp_path=tmp_path).pool == "other"


def test_the_right_recipe_has_no_problem():
    text = """
    [[source]]
    path = "x"
    [holdout]
    by_group = "meta.group"
    ratio = 0.2
    [[select]]
    where = "caption_stats.words >= 3"
    [[select]]
    by = "random_sample"
    budget = 5
    [export]
    format = ["webdataset", "parquet"]
    [compare]
    """
    assert _problems(text) == {}


def test_a_rule_is_named_after_its_condition_or_its_first_column(tmp_path: Path):
    text = """
    [[select]]
    where = "caption_stats.words >= 3"
    [[select]]
    by = "top"
    budget = 5
    score = "width * height"
    [[select]]
    by = "random_sample"
    budget = 5
    """
    names = [rule.name for rule in _read(text, tmp_path=tmp_path).select]
    assert names == ["caption_stats.words >= 3", "top(width * height)", "random_sample"]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ('[[select]]\nwhere = "text = 1"\nbudget = 3', "select[0].budget", "unknown key"),
        ('[[select]]\nname = 3\nwhere = "width > 1"', "select[0]", "are texts"),
        ("[[select]]\nwhere = 3", "select[0]", "are texts"),
        ('[select]\nwhere = "width > 1"', "select", "write [[select]]"),
        ('[source]\npath = "x"', "source", "write [[source]]"),
        ("embed = 3", "embed", "[embed.some_name]"),
        ("[annotate]\nstep = 3", "annotate", "[annotate.some_name]"),
        ('[annotate."a.b"]\nstep = "caption_stats"', "annotate.a.b", "an alias has no dot"),
        ('[annotate.meta]\nstep = "caption_stats"', "annotate.meta", "is not 'meta'"),
        ("export = 3", "export", "is a section"),
        ("[holdout]", "holdout", "give `where`, `pool`, or `ratio`"),
        ('[holdout]\npool = "x"\nratio = 0.5', "holdout.pool", "needs no where"),
        ("[holdout]\nratio = 1.5", "holdout.ratio", "less than or equal to 1"),
        ('[holdout]\nwhere = "COUNT(text) > 1"', "holdout.where", "looks at one record"),
        ("[export]\nshard_records = 0", "export.shard_records", "greater than or equal to 1"),
        ("[export]\nworkers = 2", "export.workers", "unknown key"),
        ("[pretrain]\nsteps = 3", "pretrain.objective", "is required"),
        ('pool = "../x"', "pool", "use letters"),
    ],
)
def test_a_mistake_in_a_fixed_section_is_found_under_its_key(text: str, key: str, message: str):
    assert message in _problems(text)[key]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("pool=other", "pool", "other"),
        ('pool="other"', "pool", "other"),
        ("holdout.ratio=0.5", "holdout.ratio", 0.5),
        ("export.format=['jsonl']", "export.format", ["jsonl"]),
        ("annotate.near.threshold=1", "annotate.near.threshold", 1),
        ("select.1.budget=7", "select.1.budget", 7),
        ("select.few.budget=7", "select.2.budget", 7),
        ('select."width > 1".where="width = 2"', "select.0.where", "width = 2"),
        ("select.width > 1.where=width = 2", "select.0.where", "width = 2"),
        ("select.random_sample.budget=7", "select.1.budget", 7),
        ("evaluate.knn.k=3", "evaluate.0.k", 3),
        ("select.0.where=width > 3 AND height > 3", "select.0.where", "width > 3 AND height > 3"),
        ("pretrain.lr = 1e-4", "pretrain.lr", 1e-4),
    ],
)
def test_set_puts_a_value_over_the_recipe(tmp_path: Path, override: str, key: str, value: object):
    text = '[[select]]\nwhere = "width > 1"\n[[select]]\nby = "random_sample"\nbudget = 5\n'
    text += '[[select]]\nname = "few"\nby = "random_sample"\n[[evaluate]]\nprotocol = "knn"\n'
    here: Any = _read(text, override, tmp_path=tmp_path).raw
    for step in key.split("."):
        here = here[int(step)] if isinstance(here, list) else here[step]
    assert here == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ratio", "write key=value"),
        ("select.2.budget=1", "there is no item 2"),
        ("select.first.budget=1", r"there is no item first\. There is: width > 1"),
        ("select.widht > 1.where=x", r"no item widht > 1\. Nearest: width > 1"),
        ("width > 1.where=x", "is a rule: write select.width > 1.where"),
        ("name.x=1", "name is no section"),
        ("name.x.y=1", "name.x is no section"),
        ("select=", "is a list of sections"),
    ],
)
def test_a_set_that_fits_nowhere_is_refused(tmp_path: Path, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        plan(_read('name = "a"\n[[select]]\nwhere = "width > 1"', override, tmp_path=tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such recipe"),
        (b"a = [", r"is not TOML: (?!.*If it is data)"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_recipe_is_a_config_error(
    tmp_path: Path, content: bytes | None, message: str
):
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        recipes.read(path)


def test_a_folder_and_data_in_place_of_a_recipe_are_answered_with_what_to_do(tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"is a folder, not a recipe: `winnow init {tmp_path}`"):
        recipes.read(tmp_path)
    (tmp_path / "winnow.toml").write_text('name = "x"')
    with pytest.raises(ConfigError, match=rf"`winnow run {tmp_path}/winnow.toml`"):
        recipes.read(tmp_path)
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}')
    with pytest.raises(ConfigError, match=rf"If it is data, `winnow init {data}` writes one"):
        recipes.read(data)
