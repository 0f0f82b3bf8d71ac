from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import winnow
from contracts.errors import ConfigError
from contracts.uid import uid_of
from flows import run as runs
from flows.recipe import sections as recipes
from tests.flows.look.small import RECIPE, ROWS
from tests.flows.look.small import row_uid as _u

OWN = """
import polars as pl
from winnow import Role, rowwise


@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"long": pl.Boolean})
def long(rows):
    return rows.select(long=pl.col("text").str.len_chars() > 0)
"""
NEW = "meta.n < 14 AND caption_stats.words >= 1 AND meta.n >= 2"


def test_a_recut_equals_a_run_with_that_threshold(rows: Any, run: Any, projects: Callable[[], Any]):
    recut = run.recut({"size": NEW, "some": {"budget": 3}})
    other = projects()
    (other.recipe_dir / "rows.jsonl").write_bytes((rows.recipe_dir / "rows.jsonl").read_bytes())
    old = 'where = "meta.n < 18 AND caption_stats.words >= 2 AND meta.n >= 2"'
    other.run(RECIPE.replace(old, f'where = "{NEW}"').replace("budget = 4", "budget = 3"))
    assert recut.verdict.rows.equals(other.last().verdict)
    assert recut.funnel().equals(other.last().funnel())
    assert set(recut.kept()["uid"]) == other.kept()


def test_a_recut_writes_nothing_and_measures_nothing(rows: Any, run: Any, watch: Any):
    before = {(p, p.stat().st_mtime_ns) for p in rows.store.root.rglob("*")}
    run.recut({"size": NEW}).funnel()
    assert {(p, p.stat().st_mtime_ns) for p in rows.store.root.rglob("*")} == before
    assert watch.counts == {}


def test_a_recut_needs_a_rule_of_that_name_and_notes_that_are_there(run: Any):
    with pytest.raises(ConfigError, match=r"no rule is called 'sizze'\. Nearest: size"):
        run.recut({"sizze": "meta.n < 3"})
    with pytest.raises(ConfigError, match=r"annotate\.language was not measured"):
        run.recut({"size": "language.confidence > 0.5"})
    with pytest.raises(ConfigError, match="not an SQL expression"):
        run.recut({"size": "meta.n <"})


def test_a_diff_names_the_records_whose_fate_differs(run: Any):
    diff = run.recut({"size": "meta.n < 16 AND caption_stats.words >= 2"}).diff(run)
    fates = {uid: (before, after) for uid, before, after in diff.iter_rows()}
    assert {uid for uid, (_, after) in fates.items() if after == "size"} == {_u(16), _u(17)}
    assert all(before != after for before, after in fates.values())
    assert run.recut({}).diff(run).height == 0


@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_a_saved_recut_is_a_recipe_that_runs_to_the_same_verdict(
    rows: Any, run: Any, folder: str, tmp_path: Path
):
    target = (rows.recipe_dir if folder == "." else tmp_path) / "new.toml"
    recut = run.recut({"size": NEW})
    recut.save(target)
    assert tomllib.loads(target.read_text())["select"][0] == {"name": "size", "where": NEW}
    store = winnow.open(rows.store.root).store
    found = runs.run(recipes.read(target, ["name=saved"]), store)
    assert found["kept"] == recut.kept().height
    saved = winnow.open(rows.store.root).run("saved")
    assert saved.verdict.equals(recut.verdict.rows)
    assert saved.pool.version == run.pool.version


@pytest.mark.parametrize("reference", ["mine:long", "./mine.py:long"])
def test_a_saved_recut_names_the_file_of_a_method_of_ones_own(
    rows: Any, tmp_path: Path, reference: str
):
    (rows.recipe_dir / "mine.py").write_text(OWN)
    rows.run(f'{ROWS}[annotate.own]\nstep = "{reference}"\n[[select]]\nwhere = "own.long"\n')
    target = tmp_path / "new.toml"
    winnow.open(rows.store.root).run("web").recut({}).save(target)
    own = tomllib.loads(target.read_text())["annotate"]["own"]
    assert own["step"] == f"{rows.recipe_dir / 'mine.py'}:long"


def test_a_rule_that_needed_a_target_pool_is_recut(project: Any):
    project.texts(*[f"word{i % 7} and number {i}" for i in range(20)])
    project.texts("word3 and number 3", "word5 and number 5", path="wanted.jsonl")
    winnow.ingest(project.recipe_dir / "wanted.jsonl", id="id", store=project.store.root)
    project.run(
        '[[source]]\npath = "texts.jsonl"\nid = "id"\n[embed.bag]\nencoder = "hashed_ngrams"\n'
        '[[select]]\nname = "core"\nby = "simcore"\ntarget = "pool:wanted"\nbudget = 2\n'
    )
    assert project.kept() == {uid_of("texts", "r3"), uid_of("texts", "r5")}
    recut = project.last().recut({"core": {"budget": 6}})
    assert recut.kept().height == 6
    assert project.kept() < set(recut.kept()["uid"])
