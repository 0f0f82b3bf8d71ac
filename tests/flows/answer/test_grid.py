"""Rates and budgets: each cell is a training that went its whole way, found and resumed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import polars as pl
import pytest

from contracts.errors import ConfigError
from flows.answer import arms, grid, pretrain
from flows.reporter import Reporter
from flows.upkeep.verify import unknown, verify
from tests.flows.answer import facts, small
from tests.flows.answer.facts import Evidence


def test_a_cell_is_worth_what_a_training_alone_is_and_one_that_diverges_says_so(
    measured: Callable[[str], Any],
):
    project, said = measured(small.GRID), []
    project.run(small.GRID, until="evaluate", reporter=Reporter(line=said.append))
    evidence = Evidence(project, small.GRID)
    facts.check_grid(evidence)
    # Minutes and disk are said before the first step.
    [line] = [line for line in said if line.startswith("grid: ")]
    assert line.startswith("grid: 27 trainings, 90 steps of ")
    assert said.index(line) < next(i for i, one in enumerate(said) if "can be told" in one)
    # The encoder that a run leaves is the recipe's of the cell that answers.
    facts.check_checkpoint(evidence, "./mine.py:Fragile", "text", "look")
    # No state is left to go on from, not even of what diverged.
    assert not list((project.store.root / "training").glob("*.safetensors"))
    assert (verify(project.store, deep=True), unknown(project.store)) == ([], [])
    # A later answer finds all trainings, those that diverged too.
    again, said = small.GRID.replace("seeds = 1", "seeds = 1\nworth = 0.5"), []
    result = project.run(again, until="evaluate", reporter=Reporter(line=said.append))
    assert result["evaluation"]["answer"]["cells"] == evidence.answer["answer"]["cells"]
    assert not [line for line in said if line.startswith("grid: ")]


def branches(project: Any) -> list[pretrain.Training]:
    """The recipe's trainings of 3, 6 and 12 steps at a third of the rate."""
    run = project.last()
    kept = run.kept().select("uid", repeats=pl.lit(1, dtype=pl.UInt16)).collect()
    with project.store.lease():
        [arm] = arms.make(run.runtime, {"recipe": [kept]}, None, kept["uid"])["recipe"]
    section = run.runtime.plan.recipe.pretrain
    plain = pretrain.Training(project.store.root, "web", arm, section, 3, 3, project.recipe_dir)
    return [grid.training(plain, cell, "full") for cell in grid.rows(section, 3, "full")[1]]


def test_branches_and_their_trunk_killed_after_every_save_end_with_the_same_bytes(
    measured: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    class Killed(Exception):
        pass

    save, kills = pretrain._save, []

    def once(*given: Any) -> None:
        save(*given)
        kills.append(given)
        raise Killed

    project = measured(small.GRID)
    straight = [pretrain.trained(branch).sha256 for branch in branches(project)]
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 1)
    monkeypatch.setattr(pretrain, "_save", once)
    other = measured(small.GRID)
    todo, found = branches(other), []
    while len(found) < len(todo):
        with suppress(Killed):
            found.append(pretrain.trained(todo[len(found)]).sha256)
    assert found == straight
    # Of the trunk every step to 0.8 of twelve, of the branches all that follow.
    assert len(kills) == 9 + (3 - 2) + (6 - 4) + (12 - 9)
    states = sorted((other.store.root / "training").glob("*.safetensors"))
    assert len(states) == 3
    for branch in todo:
        pretrain.drop_states(branch)
    assert not list((other.store.root / "training").glob("*.safetensors"))


def test_a_warm_up_that_reaches_into_the_decay_is_refused(measured: Callable[[str], Any]):
    project = measured(small.GRID)
    recipe = small.GRID.replace("steps = 2\n", "steps = 2\nwarmup_ratio = 0.9\n", 1)
    with pytest.raises(ConfigError) as refused:
        project.run(recipe, until="evaluate")
    assert [problem.key for problem in refused.value.problems] == ["pretrain.warmup_ratio"]
