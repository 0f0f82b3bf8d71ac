"""The dry run: nothing is written, and what it foresees is what happens."""

from __future__ import annotations

import pytest

from flows import dry
from flows import run as runs
from flows.dry import wilson

RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[[select]]
name = "words"
where = "caption_stats.words >= 3"
"""
TEXTS = [f"{'word ' * (i % 5)}{i}" for i in range(60)]


def foresee(project, sample: int):
    recipe = runs.read_recipe(project.recipe(RECIPE))
    return dry.dry_run(recipe, project.store, runs.Options(), sample)


def test_before_the_first_run_the_sources_are_looked_at_and_nothing_is_written(project):
    project.texts(*TEXTS)
    foreseen = foresee(project, 30)
    assert foreseen["records"] is None
    assert foreseen["sample"] == 30
    assert foreseen["rules"][0]["kept_ratio"] == pytest.approx(0.6)
    assert "of the sample alone:" in dry.text(foreseen)
    assert not (project.recipe_dir / ".winnow").exists()


def test_after_a_run_everything_is_found(project):
    project.texts(*TEXTS)
    project.run(RECIPE)
    before = sorted(p.name for p in (project.recipe_dir / ".winnow").rglob("*"))
    table = foresee(project, 20)["tables"]["annotate.caption_stats"]
    assert (table["found"], table["computed"]) == (60, 0)
    assert sorted(p.name for p in (project.recipe_dir / ".winnow").rglob("*")) == before


def test_what_was_not_measured_is_counted(project):
    project.texts(*TEXTS)
    project.run(RECIPE, until="ingest")
    table = foresee(project, 20)["tables"]["annotate.caption_stats"]
    assert (table["found"], table["computed"]) == (0, 60)
    assert "foreseen:" in dry.text(foresee(project, 20))


def test_a_sample_as_large_as_the_pool_foresees_the_run_exactly(project):
    project.texts(*TEXTS)
    result = project.run(RECIPE)
    rule = foresee(project, 1000)["rules"][0]
    assert rule["kept_ratio"] == pytest.approx(result["kept"] / 60)
    assert rule["low"] < rule["kept_ratio"] < rule["high"]


def test_the_wilson_interval_has_its_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
