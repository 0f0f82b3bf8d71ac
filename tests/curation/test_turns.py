"""Turns of groups by Webster's divisors, against seats handed out one by one."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.uid import uniform
from curation._turns import group_draws, in_turn


def seats(sizes: list[int], weights: list[float], budget: int, tie: list[float]) -> list[int]:
    """Hand each seat to the group of the smallest (given + 1/2) / weight that has one left."""
    given_to = [0] * len(sizes)
    for _ in range(min(budget, sum(sizes))):
        owed = [
            ((given_to[g] + 0.5) / weights[g], tie[g], g)
            for g in range(len(sizes))
            if given_to[g] < sizes[g]
        ]
        given_to[min(owed)[2]] += 1
    return given_to


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.5, 1.0, 2.0, 3.0])), min_size=1,
             max_size=6),
    st.integers(0, 40),
)  # fmt: skip
def test_a_head_is_what_seats_one_by_one_give(groups: list[tuple[int, float]], budget: int):
    sizes, weights = [s for s, _ in groups], [w for _, w in groups]
    group = np.repeat(np.arange(len(sizes)), sizes)
    records = pl.DataFrame(
        {
            "uid": pl.Series(range(len(group)), dtype=pl.UInt64),
            "group": group,
            "weight": np.repeat(weights, sizes),
        }
    )
    first = np.cumsum([0, *sizes[:-1]]).astype(np.uint64)
    tie = uniform(first, 3, "s, ties").tolist()
    draws = group_draws(records, 3, "s")
    turns = in_turn(records, pl.col("weight"), tie=draws)["group"][:budget]
    assert np.bincount(turns, minlength=len(sizes)).tolist() == seats(sizes, weights, budget, tie)


def test_an_amount_comes_at_its_middle():
    records = pl.DataFrame(
        {
            "uid": pl.Series([0, 1, 2, 3, 4], dtype=pl.UInt64),
            "group": ["a", "a", "b", "b", "b"],
            "tokens": [10, 2, 4, 4, 4],
        }
    )
    # In halves of tokens: a at 5 and 11; b at 2, 6 and 10.
    turns = in_turn(records, pl.lit(1.0), amount=pl.col("tokens"))
    assert turns["uid"].to_list() == [2, 0, 3, 4, 1]
    assert turns.columns == records.columns
