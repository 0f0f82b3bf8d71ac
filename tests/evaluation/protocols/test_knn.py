from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.features import Features
from evaluation.protocols.knn import _largest, knn, predict


def at(*degrees: float) -> np.ndarray:
    return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_one_near_item_outvotes_two_far_ones_at_a_low_temperature_only() -> None:
    train = Features(at(5, 40, 41), ["near", "far", "far"])
    query = at(0).astype(np.float32)
    # cos: 0.996, 0.766, 0.755. exp(0.230 / 0.07) = 26.8 against 1 + 0.85; at 10, 1.02 against 2.
    assert predict(train, query, k=3, temperature=0.07).tolist() == ["near"]
    assert predict(train, query, k=3, temperature=10.0).tolist() == ["far"]


def test_predictions_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    bank, query = rng.normal(size=(60, 8)), rng.normal(size=(40, 8)).astype(np.float32)
    labels = rng.integers(0, 4, 60)
    expected = []
    for q in query.astype(float):
        cosines = [float(q @ b / np.linalg.norm(q) / np.linalg.norm(b)) for b in bank]
        votes = dict.fromkeys(range(4), 0.0)
        for i in sorted(range(60), key=lambda i: -cosines[i])[:7]:
            votes[int(labels[i])] += math.exp(cosines[i] / 0.07)
        expected.append(max(votes, key=votes.__getitem__))
    found = predict(Features(bank, labels), query, k=7, temperature=0.07)
    assert found.tolist() == expected


def test_with_k_one_it_is_sklearns_nearest_neighbour() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(1)
    bank, query = rng.normal(size=(200, 6)), rng.normal(size=(1500, 6)).astype(np.float32)
    labels = rng.integers(0, 9, 200)
    expected = KNeighborsClassifier(1, metric="cosine").fit(bank, labels).predict(query)
    found = predict(Features(bank, labels), query, k=1, temperature=0.07)
    assert (found == expected).mean() > 0.999


def test_equal_items_vote_by_label_whatever_their_order() -> None:
    x = np.repeat(at(0), 6, axis=0)
    labels = np.array(["b", "a", "c", "a", "b", "c"])
    for order in (np.arange(6), np.arange(6)[::-1]):
        train = Features(x[order], labels[order])
        assert predict(train, at(10).astype(np.float32), k=2, temperature=0.07).tolist() == ["a"]


def test_the_largest_are_those_of_a_stable_sort_also_where_values_repeat() -> None:
    rng = np.random.default_rng(2)
    few = rng.integers(0, 6, (50, 30)).astype(np.float32)
    # Of so many columns the chunks that hold none of the largest are not looked at.
    many = rng.integers(0, 400, (20, 1280)).astype(np.float32)
    many[0] = 1.0
    for values, counts in ((few, (1, 5, 29, 30)), (many, (1, 3, 9, 10, 1280))):
        for k in counts:
            expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
            assert (_largest(values, k) == expected).all()


def test_k_larger_than_the_training_set_takes_all_of_it() -> None:
    train = Features(at(0, 90), [0, 1])
    assert knn(train, Features(at(10, 80), [0, 1]), k=500)["accuracy"].value == 1


def test_a_tiny_temperature_does_not_overflow() -> None:
    train = Features(at(0, 90), [0, 1])
    found = knn(train, Features(at(10, 80), [0, 1]), temperature=1e-6)
    assert found["accuracy"].value == pytest.approx(1)
