"""Protocols over a run: each gets the vectors, labels and groups of the right records."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from contracts.errors import ConfigError
from contracts.report import Metric
from evaluation.features import Features, Items
from evaluation.protocols.clustering import clustering
from evaluation.protocols.fairness import fairness
from evaluation.protocols.few_shot import few_shot
from evaluation.protocols.finetune import finetune
from evaluation.protocols.rankme import rankme
from flows.answer import evaluate
from tests.flows.answer import facts, small
from tests.flows.answer.facts import Evidence

GROUPS = "CASE WHEN meta.number < 20 THEN 'old' WHEN meta.number < 36 THEN 'new' END"
FINETUNE = """[[evaluate]]
protocol = "finetune"
label = "meta.colour"
steps = 3
lr = 0.01
"""
SECTIONS = f"""
[[evaluate]]
protocol = "rankme"
[[evaluate]]
protocol = "clustering"
label = "meta.colour"
starts = 2
[[evaluate]]
protocol = "few_shot"
label = "meta.colour"
k = [1, 2]
episodes = 9
[[evaluate]]
protocol = "fairness"
label = "meta.colour"
groups = "{GROUPS}"
min_items = 2
{FINETUNE}"""
RECIPE = (
    small.TEXTS.replace(small.ALL, '["untrained"]').replace(small.LOOK + small.HALVES, "")
    + SECTIONS
)


@pytest.fixture(scope="module")
def found(measured: Callable[[str], Any]) -> Evidence:
    return Evidence(measured(RECIPE), RECIPE)


def test_each_scores_the_held_out_records_by_their_labels_halves_and_groups(found: Evidence):
    held = sorted(found.held)
    rows = [found.rows[uid] for uid in held]
    encoder = facts.encoder(found, "./mine.py:Bag", "untrained", facts.SEEDS[0], "text")
    x_ND = facts.vectors(encoder, [row["text"] for row in rows], "text")
    label = np.array([row["colour"] for row in rows])
    motif = [row["motif"] for row in rows]
    first = {m: uid for uid, m in zip(reversed(held), reversed(motif), strict=True)}
    expected = {"rankme": rankme(x_ND), "clustering": clustering(x_ND, label, starts=2)}

    def halves(used: np.ndarray) -> tuple[Features, Features, np.ndarray]:
        groups = np.array([first[motif[i]] for i in np.flatnonzero(used)], dtype=np.uint64)
        train = evaluate.halves(groups)
        x, y = x_ND[used], label[used]
        return Features(x[train], y[train]), Features(x[~train], y[~train]), ~train

    train, test, tested = halves(np.ones(len(held), dtype=bool))
    expected["few_shot"] = few_shot(train, test, k=[1, 2], episodes=9)
    expected["finetune"] = finetuned(encoder, "text", rows, tested)
    number = np.array([row["number"] for row in rows])
    train, test, tested = halves(number < 36)
    old = number[number < 36][tested] < 20
    expected["fairness"] = fairness(train, test, np.where(old, "old", "new"), min_items=2)
    assert found.answer["passed_over"] == {
        "fairness": {"without a group": int((number >= 36).sum())}
    }
    for name, metrics in expected.items():
        for metric, of in metrics.items():
            said = found.answer["metrics"][f"{name}.{metric}"]
            assert said["higher_is_better"] is of.higher_is_better
            within = said["within"]["untrained"]
            for key in ("value", "n", "low", "high"):
                assert within[key] == pytest.approx(getattr(of, key), rel=1e-4), (name, metric)


def finetuned(encoder: Any, tower: str, rows: list[Any], tested: np.ndarray) -> dict[str, Metric]:
    """Fine-tune copies of one tower on what it reads of records, as `SECTIONS` says."""
    module = encoder._modules[tower]
    x_N = np.stack([module.codec.encode(row[tower]) for row in rows])
    label = np.array([row["colour"] for row in rows])
    train, test = Items(x_N[~tested], label[~tested]), Items(x_N[tested], label[tested])
    return finetune(lambda: copy.deepcopy(module), train, test, steps=3, lr=0.01)


def test_pictures_are_fine_tuned_as_their_encoder_reads_them(measured: Callable[[str], Any]):
    head = small.IMAGES.replace(small.TWO, '["untrained"]').partition("[[evaluate]]")[0]
    recipe = head + FINETUNE
    found = Evidence(measured(recipe), recipe)
    held = sorted(found.held)
    rows = [found.rows[uid] for uid in held]
    first: dict[str, int] = {}
    for uid, row in zip(held, rows, strict=True):
        first.setdefault(row["motif"], uid)
    groups = np.array([first[row["motif"]] for row in rows], dtype=np.uint64)
    encoder = facts.encoder(found, "simclr", "untrained", facts.SEEDS[0], "image")
    expected = finetuned(encoder, "image", rows, ~evaluate.halves(groups))["accuracy"]
    within = found.answer["metrics"]["finetune.accuracy"]["within"]["untrained"]
    assert (within["value"], within["n"]) == (expected.value, expected.n)


def test_groups_by_a_note_that_nothing_makes_are_refused_with_their_key(
    measured: Callable[[str], Any],
):
    recipe = RECIPE.replace(GROUPS, "counted.words > 3")
    with pytest.raises(ConfigError) as refused:
        measured(small.TEXTS).run(recipe, until="evaluate")
    assert {problem.key for problem in refused.value.problems} == {"evaluate[3].groups"}
