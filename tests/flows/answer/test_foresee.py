"""What a dry run says of the trainings, by steps that are tried on what was exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import dry
from flows import run as runs
from flows.answer import foresee, grid, pretrain
from flows.answer.arms import Arm
from tests.flows.answer import small


def foreseen(project: Any, recipe: str, **options: Any) -> Any:
    read = runs.read_recipe(project.recipe(recipe))
    found = dry.dry_run(read, project.store, runs.Options(**options), 10)
    said = found["training"]
    if said is not None:
        assert dry.text(found).endswith(said.get("text") or f"training: unknown: {said['unknown']}")
    return said


def test_it_tries_steps_on_tars_and_leaves_nothing(measured: Callable[[str], Any]):
    project = measured(small.PAIRS)
    assert foreseen(project, small.PAIRS) == {"unknown": foresee.NO_EXPORT}
    project.run(small.PAIRS, until="export")
    before = sorted(project.store.root.rglob("*"))
    said = foreseen(project, small.PAIRS)
    # Two seeds of the recipe and two random sets, of two steps each.
    assert (said["trainings"], said["steps"]) == (4, 8)
    assert said["seconds"] == pytest.approx(8 * said["step_s"], abs=0.1)
    assert said["text"].startswith("4 trainings, 8 steps of ")
    assert said["peak_memory_bytes"] > 1 << 20
    full = small.PAIRS.replace("seeds = 2", 'seeds = 1\ngrid = "full"')
    # At three rates a trunk of 6 steps and branches; random sets twice, the recipe once.
    assert foreseen(project, full)["trainings"] == 27
    assert foreseen(project, small.PAIRS, until="select") is None
    assert sorted(project.store.root.rglob("*")) == before


def test_what_tars_do_not_hold_is_said(measured: Callable[[str], Any]):
    project = measured(small.PAIRS)
    drawn = small.PAIRS.replace("seed = 3", 'seed = 3\ndraws = "meta.number"')
    assert foreseen(project, drawn) == {"unknown": foresee.NOTES}


def test_a_record_is_read_once_a_training_and_costs_more_then():
    cost = pretrain.Cost(2.0, 0.25, 0, 0, 0)
    # 5 and 1 steps of 4 records: the 10 that there are, and 4.
    assert cost.seconds([5, 1], batch=4, records=10) == 6 * 2.0 + 14 * 0.25
    recipe = runs.recipes.parsed(
        {"pretrain": {"objective": "clip", "steps": 10}}, recipe_dir=Path(), name="x"
    )
    assert recipe.pretrain is not None
    plain = pretrain.Training(Path(), "web", Arm("a"), recipe.pretrain, 10, 0, Path())
    assert grid.seconds_of([[plain], [plain]], cost) == 40.0
