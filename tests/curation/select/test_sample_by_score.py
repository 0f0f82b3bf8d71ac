"""Draws with odds by score: their law, their limits, and what never changes them."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from contracts.uid import uniform
from curation.select.random_sample import random_sample
from curation.select.sample_by_score import sample_by_score
from curation.select.top import top


def table(scores: object, first: int = 0) -> pl.DataFrame:
    score = pl.Series(scores, dtype=pl.Float64)
    uid = pl.int_range(first, first + len(score), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uid, "score": score})


SCORES = np.sin(np.arange(500.0)) * 2


def test_the_sequential_law_of_soft_caps():
    # Scores 3, 2, 1, 0 less 0.15 a draw, 20 draws: means by 6,000 sequential runs.
    runs = [
        sample_by_score(
            table([3.0, 2.0, 1.0, 0.0]),
            budget=20, repeat_penalty=0.15, max_repeats=20, seed=seed,
        )
        for seed in range(150)
    ]  # fmt: skip
    assert all(found["repeats"].sum() == 20 for found in runs)
    total = pl.concat(runs).group_by("uid").agg(pl.col("repeats").cast(pl.Int64).sum()).sort("uid")
    # Their standard deviation is some 1.6, of 150 runs 0.13.
    assert (total["repeats"] / 150).to_list() == pytest.approx([10.42, 5.79, 2.68, 1.11], abs=0.45)


def test_once_each_is_gumbel_top_k():
    uids = np.arange(500, dtype=np.uint64)
    gumbel = -np.log(-np.log1p(-uniform(uids, 3, "sample_by_score")))
    want = np.sort(np.argsort(-(SCORES / 0.5 + gumbel))[:50])
    found = sample_by_score(table(SCORES), budget=50, temperature=0.5, seed=3)
    assert found["uid"].to_list() == want.tolist()
    assert found["repeats"].to_list() == [1] * 50


def test_a_cap_bounds_how_often_a_record_is_drawn():
    found = sample_by_score(table([9.0, 0.0, 0.0]), budget=10, max_repeats=4)
    assert found["repeats"].to_list()[0] == 4
    assert found["repeats"].sum() == 10
    assert sample_by_score(table([9.0, 0.0, 0.0]), budget=99, max_repeats=4)["repeats"].sum() == 12


def test_a_low_temperature_keeps_the_top_and_equal_scores_the_random_sample():
    found = sample_by_score(table(SCORES), budget=40, temperature=1e-9)["uid"]
    assert found.to_list() == sorted(top(table(SCORES), budget=40)["uid"])
    flat = table(np.full(500, 7.0))
    drawn = random_sample(flat, budget=40, stream="s")["uid"]
    assert sample_by_score(flat, budget=40, stream="s")["uid"].to_list() == sorted(drawn)


def test_a_constant_added_to_all_scores_and_the_order_of_rows_change_nothing():
    options = {"budget": 300, "repeat_penalty": 0.2, "max_repeats": 9}
    found = sample_by_score(table(SCORES), **options)
    assert sample_by_score(table(SCORES + 64), **options).equals(found)
    order = np.random.default_rng(0).permutation(500)
    assert sample_by_score(table(SCORES)[order], **options).equals(found)
    assert sample_by_score(table(SCORES - 1e6), **options)["repeats"].sum() == 300


def test_a_record_waits_as_long_whatever_other_records_there_are():
    # All that both halves draw before the first miss of each is drawn of the whole.
    half = sample_by_score(table(SCORES[:250]), budget=250, max_repeats=3)
    whole = sample_by_score(table(SCORES), budget=200, max_repeats=3).filter(pl.col("uid") < 250)
    joined = whole.join(half, on="uid", how="left")
    assert (joined["repeats"] <= joined["repeats_right"]).all()


def test_a_larger_budget_draws_every_record_as_often_or_more():
    rows = table(SCORES)
    runs = [
        dict(sample_by_score(rows, budget=b, max_repeats=5, repeat_penalty=0.1).iter_rows())
        for b in (1, 7, 50, 400, 1000, 2400)
    ]
    assert [sum(run.values()) for run in runs] == [1, 7, 50, 400, 1000, 2400]
    for small, large in itertools.pairwise(runs):
        assert all(large[uid] >= often for uid, often in small.items())


def test_nulls_are_never_drawn_and_infinite_scores_first_and_last():
    rows = table([None, float("nan"), float("-inf"), 0.0, float("inf")])
    assert sample_by_score(rows, budget=1)["uid"].to_list() == [4]
    assert sample_by_score(rows, budget=2)["uid"].to_list() == [3, 4]
    assert sample_by_score(rows, budget=9)["uid"].to_list() == [2, 3, 4]
    assert sample_by_score(rows, budget_ratio=0.1).height == 0


def test_exactly_one_of_budget_and_share_is_given():
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        sample_by_score(table([1.0]))
