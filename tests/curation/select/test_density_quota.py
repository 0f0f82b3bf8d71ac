"""Parts of clusters by density: closed forms, the quadratic program, and who is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from contracts.errors import DataError
from curation.annotate.nearest_centroid import nearest_centroid
from curation.fit.kmeans import kmeans
from curation.select.density_quota import density_quota, raised


def circle(degrees: list[float], centroids: list[float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return records at angles, measured by centroids at angles, and these centroids."""

    def vectors(angles: list[float]) -> pl.Series:
        x = np.radians(angles)
        return pl.Series(np.c_[np.cos(x), np.sin(x)], dtype=pl.Array(pl.Float32, 2))

    numbers = pl.int_range(len(centroids), dtype=pl.UInt32, eager=True)
    table = pl.DataFrame({"centroid": numbers, "vector": vectors(centroids)})
    uids = pl.int_range(len(degrees), dtype=pl.UInt64, eager=True)
    return nearest_centroid(pl.DataFrame({"uid": uids, "vector": vectors(degrees)}), table), table


def test_a_wide_cluster_far_from_others_gets_the_largest_part():
    rows, table = circle([-40, -20, 0, 20, 40, 178, 179, 180, 181, 182], [0, 180])
    kept = density_quota(rows, table, budget=5, temperature=0.3, floor_ratio=0.0)
    inner = 1 - np.cos(np.radians([[-40, -20, 0, 20, 40], [-2, -1, 0, 1, 2]])).mean(axis=1)
    odds = np.exp(inner * 2 / 0.3)
    assert kept["uid"].to_list() == [0, 1, 4, 5, 9]
    wide, dense = odds / odds.sum()
    assert kept["weight"].to_list() == pytest.approx([wide] * 3 + [dense] * 2, rel=1e-5)


def test_a_cluster_gives_the_farthest_first_and_what_it_lacks_goes_to_others():
    rows, table = circle([0, 1, 90, 94, 99], [0, 95])
    assert density_quota(rows, table, budget=2, floor_ratio=1.0)["uid"].to_list() == [1, 2]
    assert density_quota(rows, table, budget=4)["uid"].to_list() == [0, 1, 2, 4]
    assert density_quota(rows, table, budget=9).height == 5


def test_raised_parts_are_those_of_the_quadratic_program():
    rng = np.random.default_rng(0)
    for floor_ratio in (0.0, 0.5, 0.9, 1.0):
        parts = rng.dirichlet(np.full(6, 0.4))
        floor = floor_ratio / 6
        solved = minimize(
            lambda x, p=parts: ((x - p) ** 2).sum(),
            np.full(6, 1 / 6),
            bounds=[(floor, 1)] * 6,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-14},
        )
        assert raised(parts, floor_ratio) == pytest.approx(solved.x, abs=1e-5)
        assert raised(parts, floor_ratio).sum() == pytest.approx(1)


BUDGETS = [1, 2, 3, 7, 8, 9, 30, 31, 32, 80, 119, 120]


def test_a_larger_budget_contains_a_smaller_one_up_to_the_whole():
    x = np.random.default_rng(1).standard_normal((120, 6)).astype(np.float32)
    rows = pl.DataFrame({"uid": np.arange(120, dtype=np.uint64), "vector": x})
    table = kmeans(rows, num_clusters=7)
    measured = nearest_centroid(rows, table)
    kept = [set(density_quota(measured, table, budget=b)["uid"]) for b in BUDGETS]
    assert [len(one) for one in kept] == BUDGETS
    assert all(a < b for a, b in pairwise(kept))


def test_null_and_nan_are_never_kept_and_a_strange_centroid_is_an_error():
    rows, table = circle([0, 10, 20], [0])
    cosine = pl.Series([None, float("nan"), 0.5], dtype=pl.Float32)
    assert density_quota(rows.with_columns(cosine=cosine), table, budget=3)["uid"].to_list() == [2]
    assert density_quota(rows.clear(), table, budget=3).height == 0
    with pytest.raises(DataError, match=r"no \[0\]"):
        density_quota(rows, table.with_columns(centroid=pl.lit(5, dtype=pl.UInt32)), budget=1)
