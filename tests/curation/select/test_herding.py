from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from curation import _neighbours
from curation.select.herding import herding


def frame(x, dtype=pl.Float32):
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    vector = pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(range(len(x)), dtype=pl.UInt64), "vector": vector})


def picks(found):
    return found.sort("rank")["uid"].to_list()


def naive(x, count, had=()):
    """The definition, in double precision: t mu - sum - x is shortest."""
    mean, total, order = x.mean(axis=0), np.sum(had, axis=0) if len(had) else 0, []
    for t in range(len(had) + 1, len(had) + count + 1):
        away = np.linalg.norm(t * mean - total - x, axis=1)
        away[order] = np.inf
        order.append(int(away.argmin()))
        total = total + x[order[-1]]
    return order


def test_the_worked_example():
    # specs/methods.md 9; an argmax picks (0, 0), (4, 0), (2, 2), whose mean is 1.33 away.
    found = herding(frame([[0, 0], [4, 0], [0, 4], [4, 4], [2, 2]]), budget=3)
    assert picks(found) == [4, 0, 3]
    assert found.sort("rank")["distance"].to_list() == pytest.approx([0, 2**0.5, 0])


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float16])
@pytest.mark.parametrize("in_memory_bytes", [_neighbours.IN_MEMORY_BYTES, 0])
def test_it_picks_what_the_definition_does(monkeypatch, dtype, in_memory_bytes):
    monkeypatch.setattr(_neighbours, "IN_MEMORY_BYTES", in_memory_bytes)
    rng = np.random.default_rng(0)
    rows = frame(rng.standard_normal((1500, 12)) * rng.exponential(size=(1500, 1)), dtype)
    x = rows["vector"].to_numpy().astype(np.float64)
    assert picks(herding(rows, budget=60)) == naive(x, 60)


def test_with_chosen_records_it_goes_on_as_if_they_were_its_first_picks():
    rng = np.random.default_rng(1)
    x, had = (rng.standard_normal((n, 5)).astype(np.float32).astype(np.float64) for n in (80, 7))
    found = herding(frame(x), frame(had), budget=12)
    assert picks(found) == naive(x, 12, had)
    mean = np.vstack([had, x[picks(found)]]).mean(axis=0)
    last = np.linalg.norm(mean - x.mean(axis=0))
    assert found.sort("rank")["distance"][-1] == pytest.approx(last, rel=1e-5)
    empty = frame(had).clear()
    assert herding(frame(x), empty, budget=5).equals(herding(frame(x), budget=5))


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_fewer_are_the_first_of_more_and_all_have_the_mean_of_all(seed, n):
    rows = frame(np.random.default_rng(seed).integers(-2, 3, (n, 2)))
    kept = [set(herding(rows, budget=b).rows()) for b in range(1, n + 2)]
    assert all(a <= b for a, b in pairwise(kept))
    whole = herding(rows, budget=n).sort("rank")
    assert whole.height == n
    assert whole["distance"][-1] == pytest.approx(0, abs=1e-6)


def test_its_mean_is_nearer_to_that_of_all_than_most_sets_of_as_many_are():
    x = np.random.default_rng(3).standard_normal((14, 3))
    away = sorted(
        np.linalg.norm(x[list(some)].mean(axis=0) - x.mean(axis=0))
        for some in combinations(range(14), 6)
    )
    found = herding(frame(x), budget=6)
    assert found.sort("rank")["distance"][-1] < away[len(away) // 20]


def test_degenerate_pools():
    # Equal vectors go by uid, those of zeros are vectors, null ones are never picked.
    assert picks(herding(frame([[1, 2]] * 3), budget=9)) == [0, 1, 2]
    assert picks(herding(frame([[0, 0]]), budget=1)) == [0]
    rows = frame([[1, 0], [0, 0], [5, 5]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 2).then("vector"))
    assert picks(herding(rows, budget=3)) == [0, 1]
    assert herding(rows.filter(pl.col("uid") == 2), budget=1).height == 0
    assert herding(rows, budget_ratio=0.2).height == 0


def test_what_it_refuses():
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        herding(frame([1.0]))
    with pytest.raises(DataError, match="1 of 1"):
        herding(frame([float("nan")]), budget=1)
    with pytest.raises(DataError, match="of 1 dimensions, chosen of 2"):
        herding(frame([1.0]), frame([[1, 0]]), budget=1)
