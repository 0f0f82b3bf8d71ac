from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from curation.select import retrieve as module
from curation.select.retrieve import retrieve


def frame(x, first=0):
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    vector = pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, x.shape[1]))
    return pl.DataFrame(
        {"uid": np.arange(first, first + len(x), dtype=np.uint64), "vector": vector}
    )


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.column_stack([np.cos(radians), np.sin(radians)])


def naive(x, targets, rounds):
    """Of every round's pairs the nearest again and again, each target and row once."""
    x, targets = (
        y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-30) for y in (x, targets)
    )
    pairs = sorted((-round(float(x[i] @ targets[t]), 9), t, i)
                   for t in range(len(targets)) for i in range(len(x)))  # fmt: skip
    taken, found = set(), []
    for rank in range(1, rounds + 1):
        served = set()
        for _, t, i in pairs:
            if t not in served and i not in taken:
                served.add(t)
                taken.add(i)
                found.append((i, 100 + t, rank))
    return sorted(found)


def test_a_worked_example():
    # Both targets are nearest to the record at 8 degrees; that at 10 takes it, the other its next.
    rows, target = frame(at_angles(8, 20, 3, 90)), frame(at_angles(5, 10), first=100)
    kept = retrieve(rows, target, k=1)
    assert kept.drop("cosine").rows() == [(0, 101, 1), (2, 100, 1)]
    assert kept["cosine"].to_list() == pytest.approx(np.cos(np.radians([2, 2])))
    more = retrieve(rows, target, k=2)
    assert more.drop("cosine").rows() == [(0, 101, 1), (1, 101, 2), (2, 100, 1), (3, 100, 2)]


@pytest.mark.parametrize("lines", [1024, 3])
def test_it_takes_what_looking_at_all_pairs_does(monkeypatch, lines):
    monkeypatch.setattr(module, "LINES", lines)
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((300, 6)), rng.standard_normal((11, 6))
    targets[5:] = targets[0] + 0.05 * targets[5:]  # many ask for the same
    found = retrieve(frame(x), frame(targets, first=100), k=20)
    assert found.drop("cosine").rows() == naive(x, targets, 20)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4))
def test_smaller_budgets_and_fewer_neighbours_are_subsets(seed, n, targets):
    rng = np.random.default_rng(seed)
    rows, target = frame(rng.standard_normal((n, 3))), frame(rng.standard_normal((targets, 3)), 100)
    kept = [set(retrieve(rows, target, budget=b).rows()) for b in range(1, n + 1)]
    assert [len(one) for one in kept] == list(range(1, n + 1))
    by_k = [set(retrieve(rows, target, k=k).rows()) for k in range(1, 6)]
    assert [len(one) for one in by_k] == [min(n, k * targets) for k in range(1, 6)]
    assert all(a <= b for of in (kept, by_k) for a, b in pairwise(of))
    assert set(retrieve(rows, target, budget=3, k=2).rows()) == by_k[1] & kept[min(3, n) - 1]


def test_targets_that_are_candidates_are_found_and_their_order_changes_nothing():
    rows = frame(np.random.default_rng(1).standard_normal((50, 4)))
    target = rows[::7]
    found = retrieve(rows, target, k=1)
    assert found["uid"].to_list() == found["target"].to_list() == target["uid"].to_list()
    assert found["cosine"].to_list() == pytest.approx([1] * 8)
    assert retrieve(rows, target.reverse(), k=3).equals(retrieve(rows, target, k=3))


def test_degenerate_pools():
    equal = retrieve(frame([[1, 1]] * 4), frame([[2, 2], [1, 1]], first=100), k=1)
    assert equal.drop("cosine").rows() == [(0, 100, 1), (1, 101, 1)]
    rows = frame([[0, 0], [1, 0], [0, 1]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 2).then("vector"))
    assert retrieve(rows, frame([[1, 0], [0, 0]], 100))["uid"].to_list() == [1]
    assert retrieve(rows[2:], frame([[1, 0]], 100)).height == 0
    assert retrieve(rows, frame([[1, 0]], 100), budget_ratio=0.1).height == 0


def test_what_it_refuses():
    rows = frame([[1, 0]])
    with pytest.raises(DataError, match="the target has no vector"):
        retrieve(rows, frame([[0, 0]]))
    with pytest.raises(DataError, match="of 2 dimensions, a target of 1"):
        retrieve(rows, frame([[1]]))
    with pytest.raises(DataError, match="1 of 1 vectors hold NaN"):
        retrieve(frame([[float("nan"), 0]]), rows)
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        retrieve(rows, rows, budget=1, budget_ratio=0.5)
