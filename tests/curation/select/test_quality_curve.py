"""The curve of repeats: published numbers, exact sums, and what a larger budget changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from contracts.uid import uniform
from curation.select.quality_curve import factors, quality_curve

EVEN = np.full(20, 50)


def pool(quantiles: object, **columns: object) -> pl.DataFrame:
    quantile = pl.Series(quantiles, dtype=pl.Float32)
    uid = pl.int_range(len(quantile), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uid, "quantile": quantile, **columns})


def ranked(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def test_the_worked_factors():
    found = factors(EVEN, 1.0, 0.4, 7.0)
    assert found[-6:] == pytest.approx([0.741, 1.300, 2.127, 3.296, 4.890, 7.000], abs=6e-4)
    assert (found[:8] == 0).all()
    assert factors(EVEN, 2.0, 0.4, 7.0)[8] == pytest.approx(0.165, abs=6e-4)
    assert factors(EVEN, 0.5, 0.4, 7.0)[-1] == pytest.approx(5.01, abs=6e-3)


def test_factors_sum_to_the_ratio_rise_and_stay_below_the_most():
    rng = np.random.default_rng(0)
    for ratio in (0.01, 0.5, 1.0, 2.5, 4.19):
        for masses in (EVEN, rng.integers(1, 90, 20), rng.integers(1, 9, 3), np.array([5])):
            found = factors(masses, ratio, 0.4, 7.0)
            assert (found * masses).sum() / masses.sum() == pytest.approx(ratio, abs=1e-9)
            assert (np.diff(found) >= -1e-12).all()
            assert found[-1] <= 7.0 + 1e-9


def test_a_larger_budget_lowers_no_factor():
    tables = [factors(EVEN, ratio, 0.4, 7.0) for ratio in np.linspace(0.01, 4.19, 100)]
    assert all((after >= before - 1e-9).all() for before, after in pairwise(tables))


def test_records_are_drawn_as_their_buckets_say():
    rows = pool(ranked(1000))
    kept = quality_curve(rows, budget=1000, seed=2)
    by_bucket = factors(EVEN, 1.0, 0.4, 7.0)
    factor = by_bucket[np.arange(1000) // 50]
    draw = uniform(rows["uid"].to_numpy(), 2, "quality_curve")
    want = (np.floor(factor) + (draw < factor % 1)).astype(int)
    assert kept["uid"].to_list() == np.flatnonzero(want).tolist()
    assert kept["repeats"].to_list() == want[want > 0].tolist()
    assert kept["factor"].to_numpy() == pytest.approx(factor[want > 0])
    spread = np.sqrt((factor % 1 * (1 - factor % 1)).sum())
    assert abs(int(kept["repeats"].sum()) - 1000) < 4 * spread


def test_each_group_has_its_curve_and_tokens_are_what_counts():
    tokens = np.where(np.arange(200) % 2 == 0, 10, 30)
    rows = pool([*ranked(100), *ranked(100)], group=[0] * 100 + [1] * 100, tokens=tokens)
    rows = rows.with_columns(pl.col("tokens").cast(pl.UInt32))
    kept = quality_curve(rows, budget_ratio=1.0).join(rows, on="uid")
    factor = kept.group_by("group").agg(pl.col("factor").max()).sort("group")["factor"]
    assert factor.to_list() == pytest.approx([7.0, 7.0])
    alone = quality_curve(rows.filter(group=1), budget_ratio=1.0)
    assert alone.equals(kept.filter(group=1).select(alone.columns))
    drawn = int((kept["repeats"].cast(pl.Int64) * kept["tokens"]).sum())
    # Of each record at most one draw is by chance: a standard deviation of 15 tokens at most.
    assert abs(drawn - 4000) < 4 * 15 * 200**0.5


def test_the_unmeasured_is_never_drawn_and_degenerate_pools_end():
    rows = pool([None, float("nan"), 0.9, 0.95])
    # Two buckets of half the records each: the lower one has next to nothing of the curve.
    assert quality_curve(rows, budget=6)["factor"].to_list() == pytest.approx([6.0], abs=1e-4)
    assert quality_curve(rows.head(2), budget=6).height == 0
    assert quality_curve(pool([0.5]), budget=3)["repeats"].to_list() == [3]
    assert quality_curve(pool([0.5] * 40), budget_ratio=1.0)["factor"].to_list() == [1.0] * 40


def test_more_than_the_curve_can_give_is_refused():
    with pytest.raises(ConfigError, match=r"need a factor above 7.0; draw at most 420"):
        quality_curve(pool(ranked(100)), budget=421)
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        quality_curve(pool(ranked(10)))
