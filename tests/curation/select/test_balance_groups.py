"""The max-min fair cut: its worked numbers, its law, and which records it takes."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.select.balance_groups import balance_groups


def groups(sizes: list[int], **columns: object) -> pl.DataFrame:
    names = [number for number, size in enumerate(sizes) for _ in range(size)]
    uid = pl.int_range(len(names), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uid, "group": pl.Series(names, dtype=pl.Int64), **columns})


def parts(sizes: list[int], budget: int, seed: int = 0) -> list[int]:
    rows = groups(sizes)
    kept = balance_groups(rows, budget=budget, seed=seed)
    found = rows.join(kept, on="uid", how="semi")["group"].to_list()
    return [found.count(group) for group in range(len(sizes))]


@pytest.mark.parametrize(
    ("sizes", "budget", "want"),
    [
        ([10, 3, 1], 9, [5, 3, 1]),
        ([10, 3, 1], 8, [4, 3, 1]),
        ([100, 10, 1], 30, [19, 10, 1]),
        ([4, 4], 100, [4, 4]),
    ],
)
def test_the_worked_numbers(sizes: list[int], budget: int, want: list[int]):
    assert parts(sizes, budget) == want


def test_who_gets_the_odd_one_is_drawn():
    assert sorted(parts([5, 5, 5], 7)) == [2, 2, 3]
    assert {parts([5, 5, 5], 7, seed).index(3) for seed in range(20)} == {0, 1, 2}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 200))
def test_whoever_is_cut_has_at_most_one_less_than_any(sizes: list[int], budget: int):
    found = parts(sizes, budget)
    assert sum(found) == min(budget, sum(sizes))
    for part, size in zip(found, sizes, strict=True):
        assert part <= size
        assert part == size or part >= max(found) - 1


def test_the_best_scores_come_first_and_what_is_unmeasured_never():
    scores = [0.1, 0.9, 0.9, None, 0.2, float("nan"), 0.3]
    rows = groups([4, 3], score=pl.Series(scores, dtype=pl.Float32))
    rows = rows.with_columns(group=pl.when(pl.col("uid") != 6).then("group"))
    assert balance_groups(rows, budget=2)["uid"].to_list() == [1, 4]
    assert balance_groups(rows, budget=3)["uid"].to_list() == [1, 2, 4]
    assert balance_groups(rows, budget=99)["uid"].to_list() == [0, 1, 2, 4]
    assert balance_groups(rows.filter(pl.col("group").is_null()), budget=1).height == 0


def test_a_larger_budget_contains_a_smaller_one():
    kept = [set(balance_groups(groups([9, 1, 4]), budget=b)["uid"]) for b in range(1, 15)]
    assert all(a < b for a, b in pairwise(kept))
