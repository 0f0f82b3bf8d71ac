"""The grid of rates and budgets: which training each of its cells is, and what all of them cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flows.answer.evaluate import Evaluated, Evaluation, evaluated
from flows.answer.pretrain import Cost, Training, drop_states, timed
from flows.recipe.sections import PretrainSection
from flows.workers import Workers
from storage.store import Store, key_of

Grid = Literal["one", "full"]

RATES = (1, 3, 10)
"""What the rate of [pretrain] is divided by."""
BUDGETS = (1, 2, 4)
"""What the steps are multiplied by. As powers of two they keep a branch's rate bit for bit."""
TRUNK_RATIO = 0.8
"""The share of a budget after which its branch leaves the trunk, and the rate falls."""


@dataclass(frozen=True)
class Cell:
    """One rate and budget.

    Attributes:
        lr: the full rate.
        budget: how many times the steps of the comparison.
        steps: of each training.
    """

    lr: float
    budget: int
    steps: int


def rows(section: PretrainSection, steps: int, grid: Grid) -> tuple[tuple[Cell, ...], ...]:
    """Return for each rate its cells, the smallest budget first."""
    if grid == "one":
        return ((Cell(section.lr, 1, steps),),)
    return tuple(
        tuple(Cell(section.lr / by, budget, budget * steps) for budget in BUDGETS) for by in RATES
    )


def training(plain: Training, cell: Cell, grid: Grid) -> Training:
    """Return the training of a cell.

    With "full" one trunk a rate is warmed up and goes on at the full rate; the branch of each
    budget leaves it at 0.8 of its steps, and its rate falls linearly to nothing. So a branch ends
    as if it had been trained alone, with "warmup_stable_decay".

    Args:
        plain: of the arm, with the section and the steps of the comparison.
        cell: of the grid.
        grid: which.
    """
    if grid == "one" or not plain.steps:
        return plain
    section = replace(
        plain.section, lr=cell.lr, schedule="warmup_stable_decay", decay_ratio=1 - TRUNK_RATIO,
        cycles=None, cooldown_ratio=None, constant_rate_ratio=None, end_rate_ratio=None,
    )  # fmt: skip
    warmup, longest = section.warmup_ratio, BUDGETS[-1]
    constant = replace(
        section, schedule="constant", decay_ratio=None, warmup_ratio=warmup / longest
    )
    trunk: Training | None = None
    for budget in BUDGETS[: BUDGETS.index(cell.budget) + 1]:
        trunk = replace(
            plain, section=constant, steps=longest * plain.steps, trunk=trunk,
            until=int(TRUNK_RATIO * budget * plain.steps),
        )  # fmt: skip
    branch = replace(section, warmup_ratio=warmup / cell.budget)
    return replace(plain, section=branch, steps=cell.steps, trunk=trunk)


def evaluated_in_turn(tasks: Sequence[Evaluation]) -> list[Evaluated]:
    """Train and evaluate the cells of one rate in turn, then drop what they branched from."""
    found = [evaluated(task) for task in tasks]
    for task in tasks:
        if task.training.trunk is not None:
            drop_states(task.training)
    return found


def foretell(
    store: Store,
    rates: Sequence[Sequence[Evaluation]],
    workers: Workers,
    on_line: Callable[[str], None],
) -> None:
    """Say how long the trainings of a grid that are not found will take, and how much disk.

    Args:
        store: where they are looked for.
        rates: of each set the cells of each rate, the smallest rate last.
        workers: that train; one of them tries a few steps at that rate.
        on_line: told.
    """
    of_grid = [[task.training for task in of] for of in rates if of[0].training.trunk is not None]
    done = {
        key_of(task.training.made_by())
        for of in rates
        for task in of
        if any(store.find(key_of(made.made_by())) for made in (task, task.training))
    }
    missing = [[one for one in of if key_of(one.made_by()) not in done] for of in of_grid]
    missing = [of for of in missing if of]
    if not missing:
        return
    cost = next(workers.map(timed, [of_grid[-1][0]]))
    trainings = sum(map(len, missing))
    # The states at the end of each part of the trunk, and one of what is under way.
    states = min(workers.count, len(missing)) * (1 + max(map(len, missing)))
    kept, meanwhile = trainings * cost.encoder_bytes / 1e6, states * cost.state_bytes / 1e6
    on_line(
        f"grid: {said(missing, cost, workers.count)}; about {kept:,.1f} MB of disk for encoders "
        f"and, until they are trained, {meanwhile:,.1f} MB for states"
    )


def said(rows: Sequence[Sequence[Training]], cost: Cost, workers: int) -> str:
    """Say how long trainings take, of which those of a row may share a trunk."""
    steps = sum(sum(steps_of(row)) for row in rows)
    count = sum(map(len, rows))
    return (
        f"{count:,} training{'s' * (count > 1)}, {steps:,} steps of {cost.step_s:.3g} s: about "
        f"{seconds_of(rows, cost) / workers / 60:,.1f} minutes with {workers} "
        f"worker{'s' * (workers > 1)}, evaluation apart"
    )


def seconds_of(rows: Sequence[Sequence[Training]], cost: Cost) -> float:
    """Return how long trainings take one after the other."""
    return sum(
        cost.seconds(steps_of(row), row[0].section.batch, row[0].arm.records) for row in rows
    )


def steps_of(branches: Sequence[Training]) -> list[int]:
    """Return the steps of the trunk that branches share, where they do, and of each branch."""
    ends = [0 if of.trunk is None else of.trunk.until or 0 for of in branches]
    return [max(ends), *(of.steps - end for of, end in zip(branches, ends, strict=True))]
