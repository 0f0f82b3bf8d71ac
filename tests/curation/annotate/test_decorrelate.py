"""Principal components of scores: two by hand, more against the singular values."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curation.annotate.decorrelate import decorrelate


def table(*scores: object) -> pl.DataFrame:
    columns = {f"score_{n}": pl.Series(s, dtype=pl.Float64) for n, s in enumerate(scores, start=1)}
    uid = pl.int_range(len(columns["score_1"]), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uid, **columns})


def test_two_scores_give_their_sum_and_their_difference():
    # Of 1, 2, 3, 4 and 2, 1, 4, 3 in deviations: a correlation of 0.6.
    found = decorrelate(table([1, 2, 3, 4], [20, 10, 40, 30]))
    z = (np.array([[1, 2, 3, 4], [2, 1, 4, 3]]) - 2.5) / np.sqrt(1.25)
    assert found["component_1"].to_list() == pytest.approx((z[0] + z[1]) / np.sqrt(2 * 1.6))
    assert found["component_2"].to_list() == pytest.approx((z[0] - z[1]) / np.sqrt(2 * 0.4))


def test_components_are_the_singular_vectors_and_do_not_correlate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * [1, 10, 0.1, 3] + [5, 0, 9, -2]
    found = decorrelate(table(*x.T), scores=4).drop("uid").to_numpy()
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    left, _, right = np.linalg.svd(z, full_matrices=False)
    want = left * np.sqrt(300) * np.sign(right.sum(axis=1))
    assert found == pytest.approx(want, abs=1e-4)
    assert np.cov(found.T, bias=True) == pytest.approx(np.eye(4), abs=1e-4)
    scaled = decorrelate(table(*(x * 1e6 + 3).T), scores=4).drop("uid").to_numpy()
    assert scaled == pytest.approx(found, abs=1e-3)


def test_a_score_that_follows_from_others_leaves_no_axis():
    found = decorrelate(table([1, 2, 3, 5], [0.1] * 4, [2, 4, 6, 10]), scores=3)
    z = (np.array([1, 2, 3, 5]) - 2.75) / np.sqrt(2.1875)
    assert found["component_1"].to_list() == pytest.approx(z)
    assert found["component_2"].to_list() == found["component_3"].to_list() == [None] * 4
    assert decorrelate(table([3], [4]))["component_1"].to_list() == [None]


def test_what_lacks_a_score_has_no_component_and_counts_for_none():
    some = decorrelate(table([1, 2, None, 4, 9], [2, 1, 7, float("nan"), float("inf")]))
    assert some["component_1"].to_list() == [pytest.approx(-1), pytest.approx(1), None, None, None]
    assert some["component_2"].to_list() == [None] * 5
