"""What holds of every protocol that scores labelled features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from contracts.errors import DataError
from contracts.params import parse
from contracts.report import Metric
from evaluation.features import Features
from evaluation.protocols.knn import knn
from evaluation.protocols.linear_probe import linear_probe
from evaluation.protocols.retrieval import retrieval
from evaluation.protocols.zero_shot import zero_shot

Score = Callable[[Features, Features], dict[str, Metric]]


def prototypes(train: Features, test: Features) -> dict[str, Metric]:
    """Zero-shot with the class means of the training set as class vectors."""
    labels = np.asarray(train.y_N)
    means = np.stack([train.x_ND[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    return zero_shot(test, means)


@pytest.fixture(params=[knn, linear_probe, prototypes])
def protocol(request: pytest.FixtureRequest) -> Score:
    return request.param


def blobs(n: int, *, spread: float, seed: int, classes: int = 5) -> Features:
    centres = np.random.default_rng(99).normal(size=(classes, 16))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return Features(centres[labels] + spread * rng.normal(size=(n, 16)), labels)


def shuffled(features: Features, seed: int) -> Features:
    order = np.random.default_rng(seed).permutation(len(features))
    return Features(features.x_ND[order], np.asarray(features.y_N)[order])


def test_separable_features_score_one(protocol: Score) -> None:
    found = protocol(blobs(200, spread=0.05, seed=0), blobs(100, spread=0.05, seed=1))
    assert found["accuracy"] == Metric(1.0, 100, 1.0, 1.0)


def test_shuffled_labels_score_chance_within_three_sigma(protocol: Score) -> None:
    train, test = blobs(300, spread=0.3, seed=0), blobs(1000, spread=0.3, seed=1)
    wrong = np.random.default_rng(2).integers(0, 5, 1000)
    found = protocol(train, Features(test.x_ND, wrong))["accuracy"]
    assert abs(found.value - 0.2) < 3 * np.sqrt(0.2 * 0.8 / 1000)


def test_the_order_of_rows_has_no_effect(protocol: Score) -> None:
    train, test = blobs(200, spread=1.0, seed=0), blobs(150, spread=1.0, seed=1)
    found = protocol(train, test)
    assert 0.5 < found["accuracy"].value < 1
    assert protocol(shuffled(train, 3), shuffled(test, 4)) == found


@pytest.mark.parametrize("scale", [2.0**-6, 1000.0])
def test_the_scale_of_features_has_no_effect(protocol: Score, scale: float) -> None:
    train, test = blobs(200, spread=1.0, seed=0), blobs(150, spread=1.0, seed=1)
    found = protocol(Features(train.x_ND * scale, train.y_N), Features(test.x_ND * scale, test.y_N))
    assert found["accuracy"] == protocol(train, test)["accuracy"]


@pytest.mark.parametrize("protocol", [knn, partial(linear_probe, l2=0.01), prototypes])
def test_a_rotation_of_features_has_no_effect(protocol: Score) -> None:
    train, test = blobs(200, spread=1.0, seed=0), blobs(150, spread=1.0, seed=1)
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))
    found = protocol(Features(train.x_ND @ turn, train.y_N), Features(test.x_ND @ turn, test.y_N))
    assert found["accuracy"] == protocol(train, test)["accuracy"]


class Watched:
    """Labels that note when they are read."""

    def __init__(self, name: str, values: Any, journal: list[str]) -> None:
        self.name, self.values, self.journal = name, np.asarray(values), journal

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.journal.append(self.name)
        return self.values


@pytest.mark.parametrize("protocol", [knn, linear_probe])
def test_the_labels_of_the_test_set_are_read_once_and_last(protocol: Score) -> None:
    journal: list[str] = []
    train, test = blobs(100, spread=0.5, seed=0), blobs(50, spread=0.5, seed=1)
    protocol(
        Features(train.x_ND, Watched("train", train.y_N, journal)),
        Features(test.x_ND, Watched("test", test.y_N, journal)),
    )
    assert journal == ["train", "test"]


@pytest.mark.parametrize("protocol", [knn, linear_probe])
def test_labels_may_be_names(protocol: Score) -> None:
    train, test = blobs(200, spread=0.8, seed=0), blobs(100, spread=0.8, seed=1)
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    named = protocol(Features(train.x_ND, names[train.y_N]), Features(test.x_ND, names[test.y_N]))
    assert named == protocol(train, test)


def test_every_metric_has_n_and_an_interval_around_its_value(protocol: Score) -> None:
    found = protocol(blobs(200, spread=1.2, seed=0), blobs(120, spread=1.2, seed=1))
    accuracy = found["accuracy"]
    assert accuracy.n == 120
    assert accuracy.low < accuracy.value < accuracy.high


def test_other_dimensions_are_refused(protocol: Score) -> None:
    train, test = blobs(100, spread=1.0, seed=0), blobs(50, spread=1.0, seed=1)
    with pytest.raises(DataError, match="dimensions"):
        protocol(train, Features(test.x_ND[:, :3], test.y_N))


def test_a_recipe_may_set_what_stands_after_the_star() -> None:
    assert parse(knn, {"k": 5}, where="")["k"] == 5
    assert parse(retrieval, {"k": [1, 10]}, where="")["k"] == [1, 10]
    assert parse(linear_probe, {"l2": 0.1}, where="")["seed"] == 0
    assert parse(zero_shot, {}, where="") == {}
