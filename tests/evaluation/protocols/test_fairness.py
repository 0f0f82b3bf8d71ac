from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Features
from evaluation.protocols.fairness import fairness
from evaluation.protocols.knn import knn

TRAIN = Features(np.eye(2), ["a", "b"])


def items(*right: tuple[str, int, int]) -> tuple[Features, np.ndarray]:
    """Return for (group, right, wrong) so many test items, all at the training item of a."""
    labels = [label for _, r, w in right for label in ["a"] * r + ["b"] * w]
    groups = [group for group, r, w in right for _ in range(r + w)]
    return Features(np.tile([1.0, 0.0], (len(labels), 1)), labels), np.array(groups)


def test_the_worst_group_and_the_gap_to_the_best() -> None:
    test, group = items(("north", 9, 1), ("south", 6, 4), ("east", 8, 2))
    found = fairness(TRAIN, test, group, k=1, min_items=10)
    assert found["worst_group"].value == pytest.approx(0.6)
    assert found["gap"].value == pytest.approx(0.3)
    assert found["accuracy"].value == pytest.approx(23 / 30)
    assert (found["small_groups"].value, found["small_groups"].n) == (0, 3)


def test_a_group_that_is_too_small_is_neither_the_worst_nor_the_best_and_is_counted() -> None:
    test, group = items(("north", 9, 1), ("south", 6, 4), ("none", 0, 9), ("all", 9, 0))
    found = fairness(TRAIN, test, group, k=1, min_items=10)
    assert (found["worst_group"].value, found["worst_group"].n) == (pytest.approx(0.6), 20)
    assert (found["gap"].value, found["gap"].n) == (pytest.approx(0.3), 20)
    assert (found["small_groups"].value, found["small_groups"].n) == (2, 4)
    with_them = fairness(TRAIN, test, group, k=1, min_items=9)
    assert (with_them["worst_group"].value, with_them["gap"].value) == (0, 1)


def test_a_group_is_scored_as_if_it_were_the_whole_test_set() -> None:
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 3, 300), rng.integers(0, 4, 300)
    x_ND = np.eye(3, 6)[label] + (0.4 + 0.2 * group[:, None]) * rng.normal(size=(300, 6))
    train = Features(x_ND[:150], label[:150])
    test, of = Features(x_ND[150:], label[150:]), group[150:]
    alone = [
        knn(train, Features(test.x_ND[of == g], test.y_N[of == g]))["accuracy"].value
        for g in range(4)
    ]
    found = fairness(train, test, of)
    assert found["worst_group"].value == pytest.approx(min(alone))
    assert found["gap"].value == pytest.approx(max(alone) - min(alone))
    assert found["accuracy"].value == pytest.approx(knn(train, test)["accuracy"].value)


def test_intervals_are_those_of_shares_of_the_two_groups() -> None:
    test, group = items(("best", 900, 100), ("worst", 200, 200))
    found = fairness(TRAIN, test, group, k=1)
    half = 1.96 * np.sqrt(0.5 * 0.5 / 400)
    assert found["worst_group"].high - 0.5 == pytest.approx(half, rel=0.15)
    half = 1.96 * np.sqrt(0.5 * 0.5 / 400 + 0.9 * 0.1 / 1000)
    assert found["gap"].high - 0.4 == pytest.approx(half, rel=0.15)
    assert 0.4 - found["gap"].low == pytest.approx(half, rel=0.15)


def test_the_worst_group_of_another_encoder_may_be_another_so_its_items_are_not_compared() -> None:
    test, group = items(("north", 9, 1), ("south", 6, 4))
    found = fairness(TRAIN, test, group, k=1, min_items=10)
    assert found["worst_group"].items is None
    assert found["gap"].items is None


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([*"xxxxxxyyyy"], r"1 of 2 groups have min_items = 5 test items, the largest 6\. Lower"),
        ([*"xxxxxxxxxx"], "1 of 1 groups"),
        ([*"xxxxx"], "10 test items, but"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(groups: list[str], message: str) -> None:
    test, _ = items(("", 5, 5))
    with pytest.raises(DataError, match=message):
        fairness(TRAIN, test, np.array(groups), min_items=5)
