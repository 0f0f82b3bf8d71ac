from __future__ import annotations

import itertools

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.protocols.duplicates import duplicates


def by_pairs(cluster: list[int], label: list[int]) -> tuple[float, float]:
    pairs = list(itertools.combinations(range(len(cluster)), 2))
    joined = {p for p in pairs if cluster[p[0]] == cluster[p[1]]}
    same = {p for p in pairs if label[p[0]] == label[p[1]]}
    return (
        len(joined & same) / len(joined) if joined else 1.0,
        len(joined & same) / len(same) if same else 1.0,
    )


def test_a_known_answer():
    # Joined: ab, ac, bc, de. Same: ab, cd, ce, de. Right: ab, de.
    found = duplicates(["x", "x", "x", "y", "y"], [1, 1, 2, 2, 2])
    assert (found["precision"].value, found["precision"].n) == (0.5, 4)
    assert (found["recall"].value, found["recall"].n) == (0.5, 4)
    assert found["f1"].value == 0.5
    # a, b: 2/3; c: 1/3; d, e: 1. In the labels: 1, 1, 1/3, 2/3, 2/3.
    assert found["bcubed_precision"].value == pytest.approx(11 / 15)
    assert found["bcubed_recall"].value == pytest.approx(11 / 15)


def test_all_pairs_counted_one_by_one():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cluster, label = rng.integers(0, 6, 40).tolist(), rng.integers(0, 9, 40).tolist()
        precision, recall = by_pairs(cluster, label)
        found = duplicates(cluster, label)
        assert found["precision"].value == pytest.approx(precision)
        assert found["recall"].value == pytest.approx(recall)
        assert found["f1"].value == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_right_clusters_score_one_and_none_at_all_recalls_nothing():
    label = np.repeat(np.arange(10), 3)
    perfect = duplicates(label + 100, label)
    assert {m.value for m in perfect.values()} == {1.0}
    alone = duplicates(np.arange(30), label)
    assert (alone["precision"].value, alone["precision"].n) == (1.0, 0)
    assert (alone["recall"].value, alone["f1"].value) == (0.0, 0.0)
    assert alone["bcubed_recall"].value == pytest.approx(1 / 3)
    together = duplicates(np.zeros(30), label)
    assert together["recall"].value == 1.0
    assert together["precision"].value == pytest.approx(10 * 3 / (30 * 29 / 2))


def test_the_interval_holds_the_value_and_narrows_with_more_groups():
    rng = np.random.default_rng(1)
    widths = []
    for groups in (20, 2000):
        label = np.repeat(np.arange(groups), 4)
        cluster = np.where(rng.random(len(label)) < 0.7, label, 10**6 + np.arange(len(label)))
        recall = duplicates(cluster, label)["recall"]
        assert recall.low <= recall.value <= recall.high
        widths.append(recall.high - recall.low)
    assert widths[1] < widths[0] / 5


def test_the_order_of_records_and_the_names_of_clusters_have_no_effect():
    rng = np.random.default_rng(2)
    cluster, label = rng.integers(0, 9, 200), rng.integers(0, 30, 200)
    order = rng.permutation(200)
    again = duplicates(cluster[order], label[order])
    for name, metric in duplicates(cluster, label).items():
        assert list(again[name].to_dict().values()) == pytest.approx(
            list(metric.to_dict().values())
        )
    assert duplicates(cluster, label)["f1"].value == duplicates(-cluster, label)["f1"].value


def test_what_cannot_be_compared_is_refused():
    for cluster, label in (([1, 2], [1]), ([], [])):
        with pytest.raises(DataError, match="one of each a record"):
            duplicates(cluster, label)
