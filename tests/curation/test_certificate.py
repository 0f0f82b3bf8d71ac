from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.uid import uniform
from curation import _coverage, certificate
from curation.certificate import certify, distinct


def clustered(n, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((6, d))[rng.integers(0, 6, n)] * 2 + rng.standard_normal((n, d))
    ).astype(np.float32)


def similarities(x):
    grid = _coverage.on_grid(x)
    return np.clip(grid @ grid.T, 0, _coverage.ONE) / _coverage.ONE


def certified(x, dropped_by, rules, **parameters):
    uids = np.arange(len(x), dtype=np.uint64)
    return certify(x, uids, np.asarray(dropped_by), rules=rules, **parameters)


def test_all_of_it_is_what_comparing_all_with_all_says(monkeypatch):
    monkeypatch.setattr(certificate._neighbours, "ROWS", 64)
    x = clustered(300)
    dropped_by = np.random.default_rng(1).choice([0, 1, 2], 300, p=[0.3, 0.5, 0.2])
    found = certified(x, dropped_by, 2, sample=300, subsets=50)
    similar = similarities(x)
    assert [rule.records for rule in found.rules] == [
        300,
        (dropped_by > 0).sum(),
        (dropped_by == 2).sum(),
    ]
    for rule, left in zip(
        found.rules, (dropped_by >= 0, dropped_by > 0, dropped_by == 2), strict=True
    ):
        distance = np.sqrt(np.maximum(2 - 2 * similar[:, left].max(axis=1), 0))
        assert rule.distance == pytest.approx(distance.mean(), abs=1e-6)
    kept = dropped_by == 2
    assert found.value == pytest.approx(similar[:, kept].max(axis=1).mean(), abs=1e-7)
    assert found.farthest_is_exact
    farthest = np.sqrt(2 - 2 * similar[:, kept].max(axis=1).min())
    assert found.farthest == pytest.approx(farthest, abs=1e-6)
    # A depth of all records leaves nothing out: the random sets are worth what they are.
    values = []
    for number in range(50):
        uids = np.arange(300, dtype=np.uint64)
        member = uniform(uids, 0, f"certificate:{number}") < kept.mean()
        values.append(similar[:, member].max(axis=1).mean())
    monkeypatch.setattr(certificate, "DEPTH", 10**6)
    found = certified(x, dropped_by, 2, sample=300, subsets=50)
    assert found.random_value == pytest.approx(np.mean(values), abs=1e-6)
    assert found.random_sd == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert found.percentile == np.mean([value <= found.value for value in values])


@given(st.integers(0, 10**6), st.integers(3, 12), st.data())
def test_no_set_of_as_many_is_worth_more_than_the_bound(seed, n, data):
    count = data.draw(st.integers(1, n))
    x = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    dropped_by = np.where(np.random.default_rng(seed).permutation(n) < count, 1, 0)
    found = certified(x, dropped_by, 1, sample=n, subsets=5)
    similar = similarities(x)
    best = max(similar[list(some)].max(axis=0).mean() for some in combinations(range(n), count))
    assert found.value <= best + 1e-7 <= found.bound + 2e-7


def test_a_chosen_set_is_told_from_a_random_one_and_a_narrow_one():
    x = clustered(2000, d=16, seed=3)
    uids = np.arange(2000, dtype=np.uint64)
    greedy = _coverage.Greedy(
        _coverage.Pairs(*[_coverage.on_grid(x)] * 2), np.zeros(2000, np.float32)
    )
    chosen = [column for column, _ in greedy.picks(60)]
    random = np.argsort(uniform(uids, 7, "mine"))[:60]
    narrow = np.argsort(-(x @ x[0]))[:60]
    found = {}
    for name, kept in (("chosen", chosen), ("random", random), ("narrow", narrow)):
        dropped_by = np.zeros(2000, dtype=np.int64)
        dropped_by[kept] = 1
        found[name] = certified(x, dropped_by, 1, sample=500, subsets=200)
    assert found["chosen"].percentile == 1
    assert found["chosen"].value > 0.9 * found["chosen"].bound
    assert 0.01 < found["random"].percentile < 0.99
    assert found["narrow"].percentile == 0
    assert found["narrow"].distinct < 0.7 * found["narrow"].random_distinct
    halvings = [cover.distance for cover in found["chosen"].halvings]
    assert halvings == sorted(halvings, reverse=True)
    assert [cover.records for cover in found["chosen"].halvings] == [1, 3, 7, 15, 30, 60]


def test_the_interval_holds_the_mean_over_all():
    x = clustered(800, seed=5)
    dropped_by = (np.arange(800) % 40 == 0).astype(np.int64)
    truth = certified(x, dropped_by, 1, sample=800, subsets=2).rules[1].distance
    covers = [
        certified(x, dropped_by, 1, sample=100, subsets=2, seed=seed).rules[1] for seed in range(20)
    ]
    assert sum(cover.low <= truth <= cover.high for cover in covers) >= 17


def test_how_many_distinct_records_there_are():
    # specs/methods-2.md 14.
    assert distinct(np.array([[1, 0]] * 3 + [[0, 1]])) == pytest.approx(1.7548, abs=1e-4)
    assert distinct(np.array([[2, 0], [1, 0], [0, 1], [0, 3]])) == pytest.approx(2)
    assert distinct(np.array([[1, 0], [0.5, 0.75**0.5]])) == pytest.approx(1.7548, abs=1e-4)
    assert distinct(np.array([[1, 0], [1, 0]])) == pytest.approx(1)
