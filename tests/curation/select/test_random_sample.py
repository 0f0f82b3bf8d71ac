"""Random subsets: exact in size, nested, and random in law."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from contracts.uid import uniform
from curation.select.random_sample import random_sample


def candidates(count: int, probability: float | np.ndarray | None = None) -> pl.DataFrame:
    frame = pl.DataFrame({"uid": pl.int_range(count, dtype=pl.UInt64, eager=True)})
    if probability is None:
        return frame
    values = np.broadcast_to(probability, count)
    return frame.with_columns(probability=pl.Series(values, dtype=pl.Float64))


def test_a_budget_is_met_exactly_and_a_larger_one_contains_a_smaller():
    small = set(random_sample(candidates(1000), budget=100)["uid"])
    large = set(random_sample(candidates(1000), budget_ratio=0.3)["uid"])
    assert (len(small), len(large)) == (100, 300)
    assert small < large


def test_the_draws_are_those_of_uniform():
    uids = np.arange(50, dtype=np.uint64)
    want = uids[np.argsort(uniform(uids, 3, "random_sample"))[:7]]
    assert random_sample(candidates(50), budget=7, seed=3)["uid"].to_list() == sorted(want)


def test_another_stream_is_another_sample():
    one = set(random_sample(candidates(1000), budget=500)["uid"])
    other = set(random_sample(candidates(1000), budget=500, stream="random_sample#2")["uid"])
    assert 200 < len(one & other) < 300


def test_a_probability_keeps_that_share_of_records():
    kept = random_sample(candidates(20_000, 0.3)).height
    assert abs(kept - 6000) < 4 * (20_000 * 0.3 * 0.7) ** 0.5


def test_twice_the_probability_enters_a_small_sample_twice_as_often():
    weights = np.where(np.arange(10_000) < 5000, 2.0, 1.0)
    kept = random_sample(candidates(10_000, weights / 2), budget=300)["uid"]
    heavy = (kept < 5000).sum()
    assert abs(heavy - 200) < 4 * (300 * (2 / 3) * (1 / 3)) ** 0.5


def test_nothing_to_go_by_is_refused():
    with pytest.raises(ConfigError, match="budget"):
        random_sample(candidates(3))
