"""Break the part that gives the answer, and see that its tests say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from flows.answer import arms, compare, evaluate, grid, pretrain, sets
from tests.flows.answer import facts, mutants, small
from tests.flows.answer.facts import Evidence
from tests.flows.answer.mutants import Mutant, planted

SOAK = bool(os.environ.get("WINNOW_SOAK"))
DRAWN = 20

PLANTED: dict[str, tuple[Any, str, str, str]] = {
    "the arms of the difference are swapped": (
        compare, "_of_metric",
        'values[arm], values["random"], over_items', 'values["random"], values[arm], over_items',
    ),
    "every arm is trained on the kept records": (
        sets, "_fixed", 'if arm == "recipe":', "if True:",
    ),
    "the random arm is drawn once for all trainings": (
        sets, "drawn", "random_arm(everyone, draws, s)", "random_arm(everyone, draws, 0)",
    ),
    "the weights begin as those of another seed": (
        pretrain, "_train", "build(section, task.seed,", "build(section, section.seed,",
    ),
    "a tower is taken for the other": (
        evaluate, "_arguments", "towers[section.tower].vectors", "towers[min(towers)].vectors",
    ),
    "the direction of a metric is turned": (
        compare, "_of_metric", "over_items, higher_is_better=higher",
        "over_items, higher_is_better=not higher",
    ),
    "held-out records are in an arm": (
        sets, "_everyone", "runtime.visible", "runtime.live",
    ),
    "the halves of a probe split a group": (
        evaluate, "halves",
        "np.unique(groups,", "np.unique(np.arange(len(groups), dtype=np.uint64),",
    ),
    "the items of one random set stand for those of all": (
        compare, "_of_metric", 'by_arm["random"])', 'by_arm["random"][:1])',
    ),
    "what no training learns gets a verdict": (
        compare, "_learned", ">= LEARNED", ">= -LEARNED",
    ),
    "the cells of a grid are not corrected for their number": (
        compare, "cells_of", "LEVEL / len(by_cell)", "LEVEL",
    ),
    "the smallest budget answers": (
        compare, "_decides", "max(cell.budget for", "min(cell.budget for",
    ),
    "the rate that is worst for random sets answers": (
        compare, "_decides", "way = -1 if", "way = 1 if",
    ),
    "the steps of two budgets are swapped": (
        compare, "saved_of", "cell.steps for cell in curve]", "cell.steps for cell in curve[::-1]]",
    ),
    "a branch leaves another rate's trunk": (
        grid, "training", "section, schedule=\"constant\"", "plain.section, schedule=\"constant\"",
    ),
    "the cells of a rate are swapped": (
        compare, "compare", "zip(cells, measured,", "zip(cells, measured[::-1],",
    ),
}  # fmt: skip
# A second each: in soak.
FURTHER: dict[str, tuple[Any, str, str, str]] = {
    "the random arm has as many records, not as many draws": (
        sets, "arm_records", 'int(kept["repeats"].sum())', "kept.height",
    ),
    "the random arm has the draws of a selection": (
        sets, "random_arm", "seed, STREAM", 'seed, "random_sample"',
    ),
    "the whole pool stands for the random arm": (
        sets, "arm_records", 'name == "random"', 'name == "rand"',
    ),
    "the evaluation of one arm is found for another": (
        pretrain, "Training.made_by", "self.arm.content if self.steps else", "",
    ),
    "the evaluation of one seed is found for another": (
        pretrain, "Training.made_by", '"seed": self.seed', '"seed": 0',
    ),
    "an arm sees its records in the order of another seed": (
        pretrain, "_train", "steps=task.steps, seed=task.seed", "steps=task.steps, seed=0",
    ),
    "the untrained arm is trained": (
        compare, "compare", '0 if arm == "untrained" else steps', "steps",
    ),
    "repeats are forgotten": (
        arms, "_with_records", 'frame = frame.select("uid", "repeats").sort("uid")',
        'frame = frame.select("uid", repeats=pl.lit(1, dtype=pl.UInt16)).sort("uid")',
    ),
    "two sets of one arm share a content": (
        arms, "_with_records", 'frame["uid"].to_numpy(), frame["repeats"].to_numpy(), digests[at]',
        "digests[:1]",
    ),
    "vectors are those of other records": (
        evaluate, "Tower.vectors", '_filled(frame["vector"],', '_filled(frame["vector"].reverse(),',
    ),
    "classes stand in another order than their numbers": (
        evaluate, "_arguments", "for name in names]", "for name in names[::-1]]",
    ),
    "texts are grouped by nothing": (
        evaluate, "_arguments", 'here[column].rank("dense")', 'here["uid"].rank("dense")',
    ),
    "the answer is that of another metric than was chosen": (
        compare, "answered", "comparison.metric or next(iter(metrics))", "next(iter(metrics))",
    ),
    "the answer is that of the whole pool": (
        compare, "answered", '_pair("recipe")', '_pair("all")',
    ),
    "other metrics are as good as the chosen one": (
        compare, "found", "corrected[name, pair]", "difference.p",
    ),
    "the items' values are those of another training": (
        evaluate, "_metrics_of", "np.array(items)", "np.sort(items)",
    ),
}  # fmt: skip


# Texts alone do not show them.
OF_PAIRS = {
    "a tower is taken for the other",
    "classes stand in another order than their numbers",
    "texts are grouped by nothing",
}
OF_GRID = {"the cells of a rate are swapped"}


def check(mutant: Mutant, measured: Callable[[str], Any], name: str = "") -> None:
    """Check everything with a mutant planted; what is quick comes first."""
    runs: list[tuple[str, Callable[[Evidence], None]]] = [
        (small.TEXTS, facts.check_texts),
        (small.PAIRS, facts.check_both),
    ]
    if name in OF_PAIRS:
        runs.reverse()
    if name in OF_GRID:
        runs = [(small.GRID, facts.check_grid)]
    for recipe, _ in runs:
        measured(recipe)  # Made without the mutant.
    with mutant.planted():
        for plain in facts.PLAIN:
            plain()
        for recipe, holds in runs:
            holds(Evidence(measured(recipe), recipe))


def survives(mutant: Mutant, measured: Callable[[str], Any], name: str = "") -> bool:
    """Whether every check holds although a mutant is planted."""
    try:
        check(mutant, measured, name)
    except (Exception, pytest.fail.Exception):
        return False
    return True


def test_a_planted_mutant_of_the_answer_is_caught(
    measured: Callable[[str], Any], record_property: Callable[[str, object], None]
):
    wanted = {**PLANTED, **FURTHER} if SOAK else PLANTED
    survivors = [name for name, how in wanted.items() if survives(planted(*how), measured, name)]
    # Unchanged code survives, after all others too: it is the mutants that are caught.
    check(planted(sets, "_fixed", "return kept", "return kept"), measured)
    caught = len(wanted) - len(survivors)
    record_property("says", f"{caught}/{len(wanted)} planted mutants of the answer caught")
    assert not survivors


@pytest.mark.skipif(not SOAK, reason="the drawn mutants of the answer are run by make soak")
def test_a_drawn_mutant_of_the_answer_is_caught(
    measured: Callable[[str], Any], record_property: Callable[[str, object], None]
):
    found = mutants.drawn(DRAWN, seed=0)
    survivors = [m.where for m in found if survives(m, measured)]
    record_property(
        "says",
        f"{DRAWN - len(survivors)}/{DRAWN} drawn mutants of the answer caught"
        + "".join(f"\n  survived: {where}" for where in survivors),
    )
    unexplained = [where for where in survivors if where not in EQUIVALENT]
    assert not unexplained


EQUIVALENT: dict[str, str] = {}
