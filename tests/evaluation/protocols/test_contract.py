"""What holds of every protocol of the folder, given what its parameters' annotations ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from contracts import methods
from contracts.errors import ContractError, DataError
from contracts.params import parse, schema_of
from contracts.report import Metric
from evaluation import protocol as inputs
from evaluation.features import Dense, Features, Items
from evaluation.protocol import INPUTS, Protocol, Test, Train, protocol
from evaluation.protocols.knn import knn
from evaluation.protocols.linear_probe import linear_probe
from evaluation.protocols.retrieval import retrieval
from evaluation.protocols.zero_shot import zero_shot

NAMES = methods.names("evaluation.protocols")
DIMENSION = 16
CLASSES = 5


def _load(name: str) -> Protocol[Any]:
    found: Protocol[Any] = methods.load("evaluation.protocols", name)
    return found


HALVES = ({Train, Test}, {inputs.TrainItems, inputs.TestItems})
TRAINED = (Train, inputs.TrainItems, inputs.TrainDense)
PROBES = [n for n in NAMES if any(pair <= set(_load(n).inputs) for pair in HALVES)]
NO_VECTORS = {inputs.Clusters, inputs.Nats, inputs.ChoiceNats, inputs.Trainable, inputs.TrainDense}
OF_VECTORS = [n for n in NAMES if not NO_VECTORS & set(_load(n).inputs)]
# Of one input of vectors alone there are no two dimensions.
PAIRED = [n for n in OF_VECTORS if inputs.Vectors not in _load(n).inputs]


# A grid of trainings at each call would take seconds.
SETTINGS: dict[str, dict[str, Any]] = {"finetune": {"lr": 3e-3, "steps": 50}}


def scored(name: str, *values: Any) -> dict[str, Metric]:
    """Score the inputs of a protocol, by its defaults where these are fast."""
    found: dict[str, Metric] = _load(name)(*values, **SETTINGS.get(name, {}))
    return found


def centres() -> np.ndarray:
    return np.random.default_rng(99).normal(size=(CLASSES, DIMENSION))


def blobs(n: int, *, spread: float, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    return Features(centres()[labels] + spread * rng.normal(size=(n, DIMENSION)), labels)


def items(of: Features) -> Items:
    return Items(of.x_ND, of.y_N)


def grids(n: int, *, spread: float, seed: int) -> Dense:
    """Return grids of 2 x 2 places, each over four pixels of its class."""
    places = blobs(4 * n, spread=spread, seed=seed)
    labels = np.asarray(places.y_N, dtype=np.uint8).reshape(n, 2, 2)
    return Dense(places.x_ND.reshape(n, 2, 2, -1), labels.repeat(2, axis=1).repeat(2, axis=2))


def encoder() -> Any:
    """Return the encoder of items that are vectors already."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return torch.nn.Linear(DIMENSION, DIMENSION)


def given(name: str, *, spread: float) -> list[Any]:
    """Return a protocol's inputs: all that belongs together lies together, give or take."""
    test = blobs(150, spread=spread, seed=1)
    rng = np.random.default_rng(3)
    image = rng.normal(size=(120, DIMENSION))
    noise = spread * rng.normal(size=image.shape)
    label = np.repeat(np.arange(50), 3)
    moved = rng.random(150) < spread / 3
    cluster = np.where(moved, rng.integers(0, 50, 150), label)
    # Together are those of one label; what is far from it all lies along one direction.
    vectors = rng.normal(size=(50, DIMENSION))[label] + spread * rng.normal(size=(150, DIMENSION))
    vectors[:, 0] += 50 * spread
    length = rng.integers(20, 200, 150).astype(float)
    # The right one of four choices is the cheapest, give or take.
    answer, bytes_NK = rng.integers(0, 4, 150), rng.integers(5, 20, (150, 4)).astype(float)
    wrong = np.arange(4) != answer[:, None]
    costs_NK = bytes_NK * (0.5 + wrong) * np.exp(spread * rng.normal(size=wrong.shape) ** 2)
    made = {
        inputs.Train: blobs(200, spread=spread, seed=0), inputs.Test: test,
        inputs.Labelled: test, inputs.Classes: centres(),
        inputs.Images: image, inputs.Texts: image + noise, inputs.Groups: np.arange(120),
        inputs.Vectors: vectors, inputs.TestGroups: np.arange(150) % 4,
        inputs.Clusters: cluster, inputs.Labels: label,
        inputs.Nats: length * (0.5 + spread * rng.random(150)), inputs.Bytes: length,
        inputs.ChoiceNats: costs_NK, inputs.ChoiceBytes: bytes_NK, inputs.Answers: answer,
        inputs.Trainable: encoder,
        inputs.TrainItems: items(blobs(200, spread=spread, seed=0)), inputs.TestItems: items(test),
        inputs.TrainDense: grids(200, spread=spread, seed=0),
        inputs.TestDense: grids(150, spread=spread, seed=1),
    }  # fmt: skip
    assert set(made) == set(INPUTS)
    return [made[asked] for asked in _load(name).inputs]


def taken(value: Any, rows: Any) -> Any:
    if isinstance(value, Features):
        return Features(value.x_ND[rows], np.asarray(value.y_N)[rows])
    if isinstance(value, Dense):
        return Dense(value.x_NHWD[rows], value.y_NHW[rows])
    if isinstance(value, Items):
        return Items(value.x_N[rows], np.asarray(value.y_N)[rows])
    return value[rows]


def other_order(count: int) -> Any:
    return np.random.default_rng(count).permutation(count)


def shuffled(name: str, values: list[Any], *, train: bool = True, rest: bool = True) -> list[Any]:
    """Return the inputs with their rows in another order; what is one record stays together."""
    found = []
    for asked, value in zip(_load(name).inputs, values, strict=True):
        fixed = (inputs.Classes, inputs.Trainable)
        moves = asked not in fixed and (train if asked in TRAINED else rest)
        found.append(taken(value, other_order(len(value))) if moves else value)
    return found


def assert_alike(found: dict[str, Metric], expected: dict[str, Metric]) -> None:
    """Assert that two results are equal up to the rounding of sums in another order."""
    assert list(found) == list(expected)
    for name, of in expected.items():
        assert list(found[name].to_dict().values()) == pytest.approx(list(of.to_dict().values()))


def on(name: str, train: Features, test: Features) -> dict[str, Metric]:
    """Score a probe; groups of the test items are drawn."""
    groups = np.random.default_rng(0).integers(0, 2, len(test))
    more = {
        inputs.Train: train, inputs.Test: test, inputs.TestGroups: groups,
        inputs.Trainable: encoder,
        inputs.TrainItems: items(train), inputs.TestItems: items(test),
    }  # fmt: skip
    return scored(name, *[more[asked] for asked in _load(name).inputs])


def scaled(values: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    def one(value: Any) -> Any:
        if isinstance(value, Features):
            return Features(change(value.x_ND), value.y_N)
        return change(value) if value.ndim == 2 else value

    return [one(value) for value in values]


every_protocol = pytest.mark.parametrize("name", NAMES)
every_probe = pytest.mark.parametrize("name", PROBES)
every_vectors = pytest.mark.parametrize("name", OF_VECTORS)


@every_protocol
def test_it_returns_exactly_the_metrics_that_it_declares_each_with_its_direction(name: str) -> None:
    method = _load(name)
    defaults = schema_of(method)().model_dump()
    found = method.function(*given(name, spread=1.0), **SETTINGS.get(name, {}))
    declared = method.metrics(defaults)
    assert list(found) == list(declared)
    assert any(way is not None for way in declared.values())
    for metric, of in scored(name, *given(name, spread=1.0)).items():
        assert of.higher_is_better is declared[metric]


@every_protocol
def test_what_lies_together_scores_no_worse_than_noise_in_every_metric(name: str) -> None:
    near, far = (scored(name, *given(name, spread=spread)) for spread in (0.02, 6.0))
    better = 0
    for metric, of in near.items():
        if of.higher_is_better is None:
            continue
        gain = (of.value - far[metric].value) * (1 if of.higher_is_better else -1)
        assert gain >= 0, metric
        better += gain > 0
    assert better


@every_protocol
def test_the_order_of_records_has_no_effect(name: str) -> None:
    values = given(name, spread=1.0)
    assert_alike(scored(name, *shuffled(name, values)), scored(name, *values))


@every_protocol
def test_items_are_the_test_records_in_their_order_whatever_that_of_the_training_half(
    name: str,
) -> None:
    values = given(name, spread=1.0)
    found = scored(name, *values)
    trained = scored(name, *shuffled(name, values, rest=False))
    turned = scored(name, *shuffled(name, values, train=False))
    for metric, of in found.items():
        if of.items is None:
            continue
        assert of.n == len(of.items)
        statistic = np.mean if of.statistic == "mean" else np.median
        assert of.value == pytest.approx(statistic(of.items))
        assert (trained[metric].items == of.items).all(), metric
        assert (turned[metric].items == of.items[other_order(of.n)]).all(), metric


@every_probe
def test_the_items_of_a_probe_tell_its_test_records_apart(name: str) -> None:
    found = scored(name, *given(name, spread=1.0))
    assert any(of.items is not None and len(set(of.items)) > 1 for of in found.values())


@every_protocol
def test_every_metric_has_n_and_an_interval_around_its_value(name: str) -> None:
    for metric, of in scored(name, *given(name, spread=1.2)).items():
        assert of.n > 0, metric
        assert of.low <= of.value <= of.high, metric
        assert of.low < of.high or of.higher_is_better is None or of.value in (0, 1), metric


@every_vectors
@pytest.mark.parametrize("scale", [2.0**-6, 1000.0])
def test_the_scale_of_vectors_has_no_effect(name: str, scale: float) -> None:
    values = given(name, spread=1.0)
    found, expected = (scored(name, *v) for v in (scaled(values, lambda x: x * scale), values))
    assert_alike(found, expected)


@pytest.mark.parametrize(
    "score",
    # The others draw along a random direction.
    [
        *(_load(n) for n in OF_VECTORS if n not in [*PROBES, "clustering"]),
        knn,
        partial(linear_probe, l2=0.01),
    ],
)
def test_a_rotation_of_vectors_has_no_effect(score: Any) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(DIMENSION, DIMENSION)))
    name = getattr(score, "func", score).__name__
    values = given(name, spread=1.0)
    found, expected = (score(*v) for v in (scaled(values, lambda x: x @ turn), values))
    for metric, of in expected.items():
        assert found[metric].value == pytest.approx(of.value), metric


@pytest.mark.parametrize("name", PAIRED)
def test_other_dimensions_are_refused(name: str) -> None:
    first, second, *rest = given(name, spread=1.0)
    (narrow,) = scaled([second], lambda x: x[:, :3])
    with pytest.raises(DataError, match=r"dimensions|do not fit"):
        scored(name, first, narrow, *rest)


class Watched:
    """Labels that note when they are read."""

    def __init__(self, name: str, values: Any, journal: list[str]) -> None:
        self.name, self.values, self.journal = name, np.asarray(values), journal

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.journal.append(self.name)
        return self.values


@every_probe
def test_the_labels_of_the_test_set_are_read_once_and_last(name: str) -> None:
    journal: list[str] = []
    train, test = blobs(100, spread=0.5, seed=0), blobs(50, spread=0.5, seed=1)
    on(
        name,
        Features(train.x_ND, Watched("train", train.y_N, journal)),
        Features(test.x_ND, Watched("test", test.y_N, journal)),
    )
    assert journal == ["train", "test"]


@every_probe
def test_shuffled_labels_score_chance_within_three_sigma(name: str) -> None:
    train, test = blobs(300, spread=0.3, seed=0), blobs(1000, spread=0.3, seed=1)
    wrong = np.random.default_rng(2).integers(0, CLASSES, 1000)
    found = on(name, train, Features(test.x_ND, wrong))
    accuracies = [of.value for metric, of in found.items() if metric.startswith("accuracy")]
    assert accuracies
    assert max(abs(value - 0.2) for value in accuracies) < 3 * np.sqrt(0.2 * 0.8 / 1000)


@every_probe
def test_labels_may_be_names(name: str) -> None:
    train, test = blobs(200, spread=0.8, seed=0), blobs(100, spread=0.8, seed=1)
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    named = on(name, Features(train.x_ND, names[train.y_N]), Features(test.x_ND, names[test.y_N]))
    assert named == on(name, train, test)


@every_protocol
def test_the_first_line_says_what_it_is_and_the_docstring_where_it_is_from(name: str) -> None:
    assert methods.first_line("evaluation.protocols", name).endswith(".")
    assert "Reference:" in (_load(name).__doc__ or "")
    assert "Returns:" in (_load(name).__doc__ or "")


def test_a_recipe_may_set_what_stands_after_the_star() -> None:
    assert parse(knn, {"k": 5}, where="")["k"] == 5
    assert parse(retrieval, {"k": [1, 10]}, where="")["k"] == [1, 10]
    assert next(iter(retrieval.metrics({"k": [10]}))) == "image_to_text.recall@10"
    assert parse(linear_probe, {"l2": 0.1}, where="")["seed"] == 0
    assert parse(zero_shot, {}, where="") == {}


def test_a_protocol_that_returns_what_it_does_not_declare_is_refused() -> None:
    @protocol({"accuracy": True})
    def other(train: Train, test: Test) -> dict[str, Metric]:
        return {"acuracy": Metric(1.0, len(test), 1.0, 1.0)}

    @protocol({"loss": False})
    def infinite(train: Train, test: Test) -> dict[str, Metric]:
        return {"loss": Metric(float("nan"), len(test), 0.0, 0.0)}

    features = blobs(10, spread=1.0, seed=0)
    with pytest.raises(ContractError, match=r"declares \['accuracy'\], returns \['acuracy'\]"):
        other(features, features)
    with pytest.raises(ContractError, match="loss is nan"):
        infinite(features, features)


def test_a_protocol_may_ask_only_for_what_there_is() -> None:
    @protocol({"accuracy": True})
    def other(train: Features) -> dict[str, Metric]:
        return {}

    with pytest.raises(ContractError, match=r"train is annotated .*Features.*such as Train"):
        _ = other.inputs
