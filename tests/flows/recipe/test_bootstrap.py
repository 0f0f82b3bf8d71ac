"""Pretrain, embed with what came out, select by it, pretrain again."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import ConfigError, DataError
from flows.look.views import RunView
from flows.measure import encoders
from flows.options import Options
from flows.recipe import bootstrap
from flows.recipe.sections import parsed
from flows.reporter import Reporter
from flows.run import run
from storage.store import Store
from tests.flows.answer import small

HOLDOUT = '[holdout]\nratio = 0.4\nby_group = "meta.motif"\n'
TRAIN = """
[pretrain]
{objective}
encoder = {{ width = 4, side_px = 16 }}
text_encoder = {{ width = 8, heads = 2, num_buckets = 64, max_tokens = 8 }}
steps = 2
batch = 8
"""
CLIP = TRAIN.format(objective='objective = "clip"\ndim = 8')
BOOT = (
    'name = "boot"\npool = "web"\n[[source]]\npath = "pictures"\n' + HOLDOUT
    + '[[select]]\nwhere = "meta.number < 27"\n' + CLIP
)  # fmt: skip
SECOND = (
    'name = "second"\npool = "web"\n[embed.own]\nencoder = "checkpoint"\nrecipe = "boot.toml"\n'
    '[[select]]\nname = "fitting"\nby = "top"\nscore = "alignment.cosine"\nbudget_ratio = 0.5\n'
)
KNN = '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\nk = 3\n'


@pytest.fixture(scope="module")
def booted(projects: Callable[[], Any]) -> Any:
    """A project in which `boot.toml` trained both towers."""
    project = projects()
    small.write(project)
    project.run(BOOT, "boot", until="pretrain")
    return project


@pytest.fixture
def project(booted: Any, projects: Callable[[], Any]) -> Any:
    copy = projects()
    shutil.copytree(booted.recipe_dir, copy.recipe_dir, dirs_exist_ok=True)
    return copy


def _refused(project: Any, text: str, name: str = "second") -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        project.run(text, name)
    return {problem.key: problem.message for problem in refused.value.problems}


def test_pretrain_embed_select_and_pretrain_again_is_a_loop(project: Any):
    found = project.run(SECOND + CLIP + KNN, "second", until="evaluate")
    # 40 records, 22 of them held out as in boot.toml; half of the rest fits best.
    held = found["dropped"]["holdout"]
    assert held == project.view.run("boot").result["dropped"]["holdout"] > 0
    assert found["kept"] == (40 - held) // 2
    notes = project.last("second").runtime.frame(["own.image", "own.text", "alignment.cosine"])
    assert notes.null_count().row(0) == (0, 0, 0, 0)
    image, text = (notes[f"own.{tower}"].to_numpy().astype(float) for tower in ("image", "text"))
    assert notes["alignment.cosine"].to_numpy() == pytest.approx((image * text).sum(1), abs=1e-2)
    assert found["evaluation"]["metrics"]["knn.accuracy"]["values"]["recipe"]
    assert Path(found["checkpoint"]).read_bytes() != _weights(project).read_bytes()
    third = SECOND.replace("second", "third").replace("boot.toml", "second.toml")
    assert project.run(third, "third")["kept"] == (40 - held) // 2
    assert not project.run(third, "third")["changed"]


def _weights(project: Any, name: str = "boot") -> Path:
    return Path(project.view.run(name).result["checkpoint"])


def test_one_tower_is_a_vector_and_its_role_may_be_bound(project: Any):
    chosen = SECOND.partition("[[select]]")[0] + 'tower = "text"\ntext = "\'a red tile\'"\n'
    project.run(chosen, "second", until="select")
    vectors = project.last("second").runtime.frame(["own.vector"])["own.vector"].to_numpy()
    assert len(np.unique(vectors, axis=0)) == 1


def test_other_weights_are_measured_anew_and_the_same_are_found(project: Any, watch: Any):
    embedding = SECOND.partition("[[select]]")[0]
    project.run(embedding, "second", until="select")
    assert "embed.own" in watch.computed
    watch.reset()
    project.run(embedding, "second", until="select")
    assert not watch.computed
    # Elsewhere the same file is the same vectors; a path says nothing.
    copied = project.recipe_dir / "elsewhere.safetensors"
    shutil.copy(_weights(project), copied)
    by_path = embedding.replace('recipe = "boot.toml"', 'path = "elsewhere.safetensors"')
    project.run(by_path, "second", until="select")
    assert not watch.computed
    project.run(BOOT.replace("steps = 2", "steps = 3"), "boot", until="pretrain")
    project.run(embedding, "second", until="select")
    assert watch.computed == {"embed.own"}


def test_a_recipe_inherits_the_hold_out_or_has_the_same(project: Any):
    inherited = project.run(SECOND, "second")
    assert project.last("second").recipe["holdout"] == tomllib.loads(HOLDOUT)["holdout"]
    same = project.run(SECOND + HOLDOUT, "same", set=["name=same"])
    assert same["dropped"] == inherited["dropped"]


@pytest.mark.parametrize("other", ["ratio = 0.3", 'ratio = 0.4\nby_group = "meta.colour"'])
def test_another_hold_out_than_the_encoders_is_refused(project: Any, other: str):
    problems = _refused(project, SECOND + f"[holdout]\n{other}\n")
    assert "boot was trained under another [holdout]" in problems["embed.own.recipe"]
    assert "Leave [holdout] out here to inherit it" in problems["embed.own.recipe"]


def test_an_encoder_trained_without_a_hold_out_has_seen_what_is_held_out_now(project: Any):
    everything = BOOT.replace(HOLDOUT, "").replace("steps = 2", "steps = 1")
    project.run(everything, "boot", until="pretrain")
    assert project.run(SECOND, "second")["kept"] == 20
    problems = _refused(project, SECOND + HOLDOUT)
    assert "boot was trained without a [holdout]" in problems["embed.own.recipe"]


def test_a_record_that_came_to_be_held_out_after_the_encoder_saw_it_is_refused(project: Any):
    # Of one hold-out by a note, which the two recipes measure otherwise.
    near = '[annotate.like]\nstep = "exact_clusters"\ndigest = "{digest}"\n'
    here = BOOT.replace('by_group = "meta.motif"', 'near = "like"')
    project.run(here + near.format(digest="digest"), "boot", until="pretrain")
    problems = _refused(project, SECOND + near.format(digest="'same'"))
    assert "records that are held out here: its vectors would know them" in "".join(
        problems.values()
    )


def test_weights_of_a_file_are_taken_and_it_is_said_that_their_records_are_unknown(project: Any):
    said: list[str] = []
    section = f'path = "{_weights(project)}"'
    recipe = SECOND.replace('recipe = "boot.toml"', section) + HOLDOUT
    project.run(recipe, "second", reporter=Reporter(line=said.append))
    assert any("was trained is not known here" in line for line in said)
    assert project.last("second").result["kept"] == 9


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", 'give recipe = "boot.toml"'),
        ('recipe = "absent.toml"', "there is no such recipe"),
        ('recipe = "never.toml"', "has trained no encoder in"),
        ('recipe = "untrained.toml"', "it has no [pretrain]"),
        ('recipe = "second.toml"', "it would embed with itself"),
        ("recipe = 3", "is a text (got 3)"),
        ('run = "boot@7"', "there is no run 'boot@7' that trained an encoder"),
        ('path = "absent.safetensors"', "there is no"),
        ('recipe = "boot.toml"\ntowr = "text"', "unknown key. Nearest: tower"),
        ('recipe = "boot.toml"\ntower = "sound"', "has no sound tower"),
    ],
)
def test_what_names_no_encoder_is_refused_with_its_key_before_anything_is_written(
    project: Any, section: str, message: str
):
    project.recipe(CLIP, "never")
    project.recipe('name = "untrained"', "untrained")
    before = sorted(project.store.root.rglob("*"))
    problems = _refused(project, SECOND.replace('recipe = "boot.toml"', section))
    (key,) = problems
    assert key.startswith("embed.own")
    assert message in problems[key]
    assert sorted(project.store.root.rglob("*")) == before


def test_a_file_that_holds_no_weights_is_bad_data_with_its_name(project: Any):
    (project.recipe_dir / "bad.safetensors").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"bad\.safetensors: this is a pickle"):
        project.run(SECOND.replace('recipe = "boot.toml"', 'path = "bad.safetensors"'), "second")


def test_vectors_of_two_checkpoints_are_never_compared(project: Any):
    shutil.copy(_weights(project), project.recipe_dir / "a.safetensors")
    problems = _refused(
        project,
        SECOND + '[embed.other]\nencoder = "checkpoint"\npath = "a.safetensors"\n'
        '[annotate.mixed]\nstep = "alignment"\nimage_vector = "own.image"\n'
        'text_vector = "other.text"\n',
    )
    assert "compares vectors of different encoders" in problems["annotate.mixed"]


def test_an_encoder_of_ones_own_objective_is_embedded_with(projects: Callable[[], Any]):
    project = projects()
    small.write(project)
    own = TRAIN.format(objective='objective = "./mine.py:Bag"').replace(
        "encoder = { width = 4, side_px = 16 }\n", "", 1
    )
    boot = 'name = "boot"\npool = "web"\n[[source]]\npath = "texts.jsonl"\nid = "id"\n' + own
    project.run(boot, "boot", until="pretrain")
    project.run(SECOND.partition("[[select]]")[0], "second", until="select")
    assert project.last("second").runtime.frame(["own.vector"])["own.vector"].null_count() == 0
    by_path = SECOND.partition("[[select]]")[0].replace(
        'recipe = "boot.toml"', f'path = "{_weights(project)}"'
    )
    with pytest.raises(DataError, match="names foreign code"):
        project.run(by_path, "second")
    project.run(by_path + 'allow = ["./mine.py:Bag"]\n', "second", until="select")


def test_a_resolved_recipe_runs_to_the_same_and_is_read_without_the_weights(project: Any):
    kept = project.run(SECOND, "second")["kept"]
    view = project.last("second")
    project.view.run("second").recut({}).save(project.recipe_dir / "again.toml")
    again = project.recipe_dir / "again.toml"
    assert run(parsed(tomllib.loads(again.read_text()), recipe_dir=project.recipe_dir, name="x"),
               project.store, Options(until="export"))["kept"] == kept  # fmt: skip
    for weights in project.store.root.glob("objects/web/checkpoints/*"):
        weights.unlink()
    (project.recipe_dir / "boot.toml").unlink()
    fresh: RunView = project.view.run("second")
    assert fresh.kept().collect().height == kept
    assert view.name == fresh.name


def test_a_dry_run_resolves_as_a_run_does(project: Any):
    from flows.dry import dry_run
    from flows.recipe.sections import read

    recipe = read(project.recipe(SECOND, "second"))
    foreseen = dry_run(recipe, project.store, Options(), 40)
    assert "embed.own" in foreseen["tables"]
    empty = Store(project.recipe_dir / "empty")
    assert bootstrap.resolved(recipe, empty, encoders).problems
