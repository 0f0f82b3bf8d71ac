"""The nearest target and the mean square of all, against the definition."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.target_similarity import target_similarity


def table(x: object, d: int = 2) -> pl.DataFrame:
    vector = pl.Series(x, dtype=pl.Array(pl.Float32, d))
    return pl.DataFrame({"uid": pl.int_range(len(vector), dtype=pl.UInt64, eager=True) + 10,
                         "vector": vector})  # fmt: skip


def test_the_worked_example():
    # specs/methods-2.md 8: maxima 1, 0.96 and 0.60; squares 1.64, 1.2816 and 0.36 of two targets.
    found = target_similarity(
        table([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), table([[1.0, 0.0], [0.8, 0.6]])
    )
    assert found["cosine"].to_list() == pytest.approx([1, 0.96, 0.6])
    assert found["nearest"].to_list() == [10, 11, 11]
    assert (2 * found["mean_square"]).to_list() == pytest.approx([1.64, 1.2816, 0.36])


def test_a_vector_opposite_to_a_target_is_far_from_it():
    found = target_similarity(table([[-1.0, 0.0], [0.0, 2.0]]), table([[3.0, 0.0]]))
    assert found["cosine"].to_list() == [-1, 0]
    assert found["mean_square"].to_list() == [1, 0]


def test_it_is_the_definition_whatever_the_order_and_the_lengths_of_targets():
    rng = np.random.default_rng(0)
    f, t = (rng.standard_normal((n, 12)).astype(np.float32) for n in (1100, 70))
    rows, target = table(f.tolist(), 12), table(t.tolist(), 12)
    scaled = (t * rng.uniform(0.5, 2, (70, 1))).astype(np.float32)
    found = target_similarity(rows, target)
    f, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, t))
    cosine = f @ t.T
    assert found["cosine"].to_numpy() == pytest.approx(cosine.max(axis=1), abs=1e-6)
    assert found["nearest"].to_list() == (cosine.argmax(axis=1) + 10).tolist()
    assert found["mean_square"].to_numpy() == pytest.approx((cosine**2).mean(axis=1), abs=1e-6)
    reversed_target = table(scaled.tolist(), 12).reverse()
    assert target_similarity(rows, reversed_target)["nearest"].equals(found["nearest"])
    # More targets never lower the maximum, and no bit depends on the rows beside a row.
    fewer = target_similarity(rows, target[:30])
    assert (fewer["cosine"] <= found["cosine"]).all()
    alone = pl.concat([target_similarity(rows[a:b], target) for a, b in ((0, 3), (3, 1100))])
    assert alone.equals(found)


def test_what_has_no_direction_is_unmeasured_on_either_side():
    rows, target = table([[0.0, 0.0], None, [1.0, 1.0]]), table([[0.0, 0.0], None, [1.0, 0.0]])
    found = target_similarity(rows, target)
    assert found["nearest"].to_list() == [None, None, 12]
    nothing = target_similarity(rows, target[:2])
    assert nothing.drop("uid").null_count().row(0) == (3, 3, 3)


def test_equal_targets_are_told_apart_by_uid_and_other_lengths_are_refused():
    found = target_similarity(table([[2.0, 1.0]]), table([[1.0, 1.0]] * 3))
    assert found["nearest"].to_list() == [10]
    with pytest.raises(DataError, match="embed both by the same encoder"):
        target_similarity(table([[1.0, 1.0]]), table([[1.0]], 1))
    with pytest.raises(DataError, match="1 of 1 vectors hold NaN"):
        target_similarity(table([[float("nan"), 1.0]]), table([[1.0, 1.0]]))
