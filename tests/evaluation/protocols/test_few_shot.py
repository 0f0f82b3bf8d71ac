from __future__ import annotations

import itertools

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Features, unit
from evaluation.protocols.few_shot import few_shot


def two(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 4
    return Features(np.eye(4, 8)[label] * 2 + rng.normal(size=(n, 8)), label)


def test_one_example_in_two_misleads_in_half_of_the_episodes() -> None:
    # Class a lies at 0 and 90 degrees, class b at 60: an item at 10 is nearest to a by the first
    # example of a alone, or by both (their mean is at 45, b is at 50 from it; a at 35).
    degrees = np.radians([0, 90, 60])
    train = Features(np.column_stack([np.cos(degrees), np.sin(degrees)]), ["a", "a", "b"])
    at = np.radians([10.0])
    test = Features(np.column_stack([np.cos(at), np.sin(at)]), ["a"])
    found = few_shot(train, test, k=(1, 2), episodes=1000)
    assert found["accuracy@1"].value == pytest.approx(0.5, abs=0.06)
    assert found["accuracy@2"].value == 1


def test_the_mean_over_episodes_is_that_over_all_draws_there_are() -> None:
    rng = np.random.default_rng(1)
    label = np.repeat(np.arange(3), 4)
    train = Features(np.eye(3, 5)[label] + 0.7 * rng.normal(size=(12, 5)), label)
    test = Features(np.eye(3, 5)[label] + 0.7 * rng.normal(size=(12, 5)), label)
    x, query = unit(train.x_ND).astype(float), unit(test.x_ND).astype(float)
    right = []
    for draw in itertools.product(
        *[itertools.combinations(range(4 * c, 4 * c + 4), 2) for c in range(3)]
    ):
        means = np.array([x[list(rows)].mean(axis=0) for rows in draw])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right.append((query @ means.T).argmax(axis=1) == label)
    found = few_shot(train, test, k=(2,), episodes=3000)["accuracy@2"]
    expected = np.mean(right, axis=0)
    assert found.items is not None
    assert np.abs(found.items - expected).max() < 4 * 0.5 / np.sqrt(3000)
    assert found.value == pytest.approx(expected.mean(), abs=0.01)


def test_with_all_examples_it_is_sklearns_nearest_centroid_in_every_episode() -> None:
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

    train, test = two(80, 0), two(60, 1)
    x = unit(train.x_ND)
    means = NearestCentroid().fit(x, train.y_N).centroids_
    # Of unit centroids the nearest is the one of largest cosine.
    nearest = KNeighborsClassifier(1).fit(unit(means.astype(np.float32)), np.arange(4))
    expected = nearest.predict(unit(test.x_ND)) == test.y_N
    found = few_shot(train, test, k=(1000,), episodes=3)["accuracy@1000"]
    assert found.items is not None
    assert (found.items == expected).all()


def test_more_examples_and_more_episodes_say_more() -> None:
    train, test = two(200, 0), two(100, 1)
    found = few_shot(train, test)
    assert list(found) == ["accuracy@1", "accuracy@5", "accuracy@10"]
    one, five, ten = (of.value for of in found.values())
    assert 0.25 < one < five < ten

    def sd(episodes: int) -> float:
        values = [
            few_shot(train, test, k=(1,), episodes=episodes, seed=s)["accuracy@1"].value
            for s in range(12)
        ]
        return float(np.std(values))

    assert sd(64) < sd(1) / 3


def test_each_k_is_the_same_beside_others_and_alone() -> None:
    train, test = two(60, 0), two(40, 1)
    alone = few_shot(train, test, k=(5,), episodes=7)
    assert few_shot(train, test, k=(1, 5), episodes=7)["accuracy@5"] == alone["accuracy@5"]


def test_a_label_that_the_training_half_lacks_is_never_right() -> None:
    train = Features(np.eye(2), ["a", "b"])
    found = few_shot(train, Features(np.eye(2), ["a", "c"]), k=(1,))
    assert found["accuracy@1"].value == 0.5


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"only the label a.*hold out more"):
        few_shot(Features(np.eye(2), ["a", "a"]), Features(np.eye(2), ["a", "b"]))
