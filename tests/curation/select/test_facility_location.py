from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from curation import _coverage
from curation.select import facility_location as module
from curation.select.facility_location import facility_location


def frame(x, uids=None):
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def clusters(n, d=8, seed=0, spread=0.7):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((5, d))
    return centers[rng.integers(0, 5, n)] + spread * rng.standard_normal((n, d))


def similarities(columns, rows=None):
    """What the method compares, by a plain product in whole numbers."""
    a = _coverage.on_grid(np.asarray(columns, dtype=np.float32)).astype(np.int64)
    b = a if rows is None else _coverage.on_grid(np.asarray(rows, dtype=np.float32))
    return np.clip(a @ b.astype(np.int64).T, 0, _coverage.ONE)


def naive(similar, count, best=None):
    """Compare every column with every row for every pick."""
    best = np.zeros(similar.shape[1], dtype=np.int64) if best is None else best
    left, picks = list(range(len(similar))), []
    for _ in range(count):
        gains = [int(np.maximum(similar[j] - best, 0).sum()) for j in left]
        j = left[int(np.argmax(gains))]
        picks.append((j, max(gains)))
        best = np.maximum(best, similar[j])
        left.remove(j)
    return picks


def picks(found):
    """The picks in their order: that of falling gains, ties by uid."""
    ordered = found.sort("gain", "uid", descending=[True, False])
    return list(zip(ordered["uid"].to_list(), ordered["gain"].to_list(), strict=True))


def in_cosines(wanted):
    """The picks of `naive`, their gains as the method writes them."""
    return [(row, pytest.approx(gain / _coverage.ONE, rel=1e-6)) for row, gain in wanted]


def test_the_worked_example():
    # specs/methods.md 9, a matrix of similarities: 1 at a gain of 2.1, then 2 and 3.
    similar = np.array([[1, 0.9, 0.1, 0], [0.9, 1, 0.2, 0], [0.1, 0.2, 1, 0.3], [0, 0, 0.3, 1]])
    lists = [[(j, s) for j, s in enumerate(row) if j != i and s] for i, row in enumerate(similar)]
    rows = pl.DataFrame(
        {
            "uid": pl.Series(range(4), dtype=pl.UInt64),
            "neighbours": pl.Series([[j for j, _ in x] for x in lists], dtype=pl.List(pl.UInt64)),
            "cosines": pl.Series([[s for _, s in x] for x in lists], dtype=pl.List(pl.Float32)),
        }
    )
    found = facility_location(rows, None, None, budget=3, similarity="neighbours")
    assert [uid for uid, _ in picks(found)] == [1, 2, 3]
    assert [gain for _, gain in picks(found)] == pytest.approx([2.1, 1.1, 0.7], abs=1e-6)


@pytest.mark.parametrize("listed", [1024, 7])
@pytest.mark.parametrize("weights", ["none", "density"])
def test_it_picks_what_comparing_all_with_all_for_each_pick_does(monkeypatch, listed, weights):
    monkeypatch.setattr(_coverage, "LISTED", listed)
    monkeypatch.setattr(_coverage, "TIMES", 5)
    x = clusters(90)
    x[40:60] = x[:20]  # equal gains
    similar = similarities(x)
    if weights == "density":
        kth = module._kth_cosine(_coverage.on_grid(x.astype(np.float32)), 40)
        w = module._density(kth)
        similar = np.rint(similar.astype(np.float32) * w[:, None]).astype(np.int64)
    found = facility_location(frame(x), None, None, budget=40, weights=weights)
    assert picks(found) == in_cosines(naive(similar, 40))


def test_with_a_target_and_with_what_one_has_already():
    x, target, had = clusters(60), clusters(25, seed=1), clusters(4, seed=2)
    similar = similarities(x, target)
    found = facility_location(frame(x), frame(target), None, budget=20)
    assert picks(found) == in_cosines(naive(similar, 20))
    best = similarities(had, target).max(axis=0)
    found = facility_location(frame(x), frame(target), frame(had), budget=12)
    assert picks(found) == in_cosines(naive(similar, 12, best))


def test_lists_of_all_neighbours_pick_what_all_pairs_do():
    x = clusters(40)
    grid = _coverage.on_grid(x.astype(np.float32))
    cosine = (grid @ grid.T / np.float32(_coverage.ONE)).astype(np.float32)
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :-1]
    lists = frame(x).select("uid").with_columns(
        neighbours=pl.Series(order.tolist(), dtype=pl.List(pl.UInt64)),
        cosines=pl.Series(np.take_along_axis(cosine, order, 1).tolist(), dtype=pl.List(pl.Float32)),
    )  # fmt: skip
    # A record is like itself by 1, where the grid may say a little less or more.
    similar = similarities(x)
    np.fill_diagonal(similar, _coverage.ONE)
    found = facility_location(lists, None, None, budget=15, similarity="neighbours")
    assert picks(found) == in_cosines(naive(similar, 15))


@given(st.integers(0, 10**6), st.integers(2, 12), st.data())
def test_greedy_is_worth_at_least_its_share_of_the_best_set(seed, n, data):
    k = data.draw(st.integers(1, n))
    x = np.random.default_rng(seed).standard_normal((n, 3))
    similar = similarities(x)
    best = max(similar[list(some)].max(axis=0).sum() for some in combinations(range(n), k))
    found = facility_location(frame(x), None, None, budget=k)
    assert similar[found["uid"].to_numpy()].max(axis=0).sum() >= (1 - 1 / np.e) * best
    fewer = facility_location(frame(x), None, None, budget=max(1, k - 1))
    assert set(fewer["uid"]) <= set(found["uid"])


def test_samples_and_parts_are_worth_nearly_as_much_and_repeat():
    x = clusters(600, d=16)
    similar = similarities(x)

    def value(**parameters):
        kept = facility_location(frame(x), None, None, budget=30, **parameters)
        assert kept.height == 30
        assert kept.equals(facility_location(frame(x), None, None, budget=30, **parameters))
        return similar[kept["uid"].to_numpy()].max(axis=0).sum()

    central = value()
    random = np.random.default_rng(0).choice(600, 30, replace=False)
    assert similar[random].max(axis=0).sum() < 0.95 * central
    assert value(optimizer="stochastic") > 0.97 * central
    assert value(parts=5) > 0.97 * central
    assert value(parts=1, optimizer="stochastic", seed=1) != value(optimizer="stochastic")


def test_how_many_neighbours_the_density_looks_at():
    # specs/methods-2.md 11.
    assert module._nearer_than(500, 112) == 4
    assert module._nearer_than(10**6, 10**5) == 9
    assert module._nearer_than(10**6, 10**4) == 92


def test_the_density_passes_over_outliers_and_dense_duplicates():
    radius = np.array([0.1, 0.2, 0.2, 0.3, 0.9])
    weights = module._density((1 - radius**2 / 2).astype(np.float32))
    assert weights == pytest.approx([0.705, 0.888, 0.888, 0.990, 0.149], abs=1e-3)
    assert module._density(np.full(4, 0.5, dtype=np.float32)).tolist() == [1, 1, 1, 1]


def test_what_has_no_direction_stands_for_nothing():
    rows = frame([[0, 0], [1, 0], [0, 1]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 2).then("vector"))
    assert facility_location(rows, None, None, budget=3).rows() == [(1, 1.0)]
    # Vectors that are equal: the first stands for all, the others add nothing, ties by uid.
    kept = facility_location(frame([[1, 1]] * 4), None, None, budget=3)
    assert kept["uid"].to_list() == [0, 1, 2]
    assert kept["gain"].to_list() == pytest.approx([4, 0, 0], rel=1e-3)


def test_what_it_refuses():
    rows = frame(clusters(10))
    lists = rows.select("uid").with_columns(
        neighbours=pl.Series([[0]] * 10, dtype=pl.List(pl.UInt64)),
        cosines=pl.Series([[0.5]] * 10, dtype=pl.List(pl.Float32)),
    )
    with pytest.raises(DataError, match="the target has no vector"):
        facility_location(rows, frame([[0.0] * 8]), None, budget=2)
    with pytest.raises(DataError, match="of 8 dimensions, target of 2"):
        facility_location(rows, frame([[0, 1]]), None, budget=2)
    for wrong in ({"parts": 2}, {"optimizer": "stochastic"}):
        with pytest.raises(ConfigError, match="knows the candidates alone"):
            facility_location(lists, None, None, budget=2, similarity="neighbours", **wrong)
    with pytest.raises(ConfigError, match="raise k of nearest_neighbours"):
        facility_location(lists, None, None, budget=2, similarity="neighbours", weights="density")
