from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Features, ordered, unit


def test_vectors_become_float32_and_labels_stay_as_they_are() -> None:
    labels = ["cat", "dog"]
    found = Features(np.array([[1, 2], [3, 4]]), labels)
    assert found.x_ND.dtype == np.float32
    assert found.y_N is labels
    assert len(found) == 2


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        ([[1.0, 2.0], [np.nan, 0.0]], [0, 1], r"1 of 2 rows are not finite, the first is row 1"),
        ([[1.0, 2.0]], [0, 1], "1 vectors, but 2 labels"),
        ([1.0, 2.0], [0, 1], r"the shape is \(2,\)"),
        (np.zeros((0, 3)), [], r"the shape is \(0, 3\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(x: object, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Features(np.asarray(x, dtype=float), labels)


def test_half_precision_beyond_its_range_is_refused_too() -> None:
    with pytest.raises(DataError, match="not finite"):
        Features(np.array([[np.inf, 1]], dtype=np.float16), [0])


def test_unit_keeps_directions_and_zero_rows() -> None:
    assert unit(np.array([[3, 4], [0, 0]], dtype=np.float32)).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]


def test_an_order_is_by_class_and_depends_on_the_seed_but_not_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    x_ND, y_N, turn = rng.normal(size=(100, 10)), rng.integers(0, 3, 100), rng.permutation(100)
    first, second = ordered(x_ND, y_N, 0), ordered(x_ND, y_N, 1)
    assert (np.diff(y_N[first]) >= 0).all()
    assert (x_ND[first] == x_ND[turn][ordered(x_ND[turn], y_N[turn], 0)]).all()
    assert (first != second).any()
