"""Repeat what ranks high and drop what ranks low, along a curve instead of at a threshold."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import ConfigError
from contracts.params import Budget, BudgetRatio, Seed, Stream
from contracts.uid import uniform
from curation._turns import NAMES
from curation.select.mixture import COUNTS
from curation.step import MAX_REPEATS, Role, budget_of, selector

Floats = NDArray[np.float64]

BUCKETS = 20
STEEPEST = 8.0
"""The largest exponent: beyond it a small budget would be the top alone."""


@selector(
    version=1,
    reads={
        "quantile": Role((pl.Float32, pl.Float64), default="quantile.quantile"),
        "group": Role(NAMES, optional=True),
        "tokens": Role(COUNTS, optional=True),
    },
    evidence={"factor": pl.Float64, "repeats": pl.UInt16},
)
def quality_curve(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    start_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    max_factor: Annotated[float, Field(gt=0, lt=MAX_REPEATS)] = 7.0,
    seed: Seed = 0,
    stream: Stream = "quality_curve",
) -> pl.DataFrame:
    """Draw a record floor(factor) or one more times, as often as its bucket of quality is worth.

    Of a group's tokens, ranked by quantile, the share g(t) = ((t - start) / (1 - start)) ** q of
    the draws falls on those below t, and none below start. A bucket, a twentieth by quantile, of
    the tokens from u to v has the factor R (g(v) - g(u)) / (v - u), with R the draws over all
    tokens; q, from 1 to 8, is the largest at which the top bucket's is at most max_factor. What is
    left of the factor is one more draw where uniform(uid, seed, stream) is below it, so that the
    budget is the expected size. A null or NaN quantile is never drawn.

    Reads:
        quantile: the rank of each candidate in [0, 1], from the lowest quality.
        group: each has its own curve and the same R, such as a topic; null is a group.
        tokens: what the budget counts in place of records: tokens, bytes or seconds, a record one
            at least; null is never drawn.
    Args:
        budget: how many records, or tokens, are drawn on average, each repeat counted.
        budget_ratio: the share of all that have a quantile, instead of a budget.
        start_ratio: the share of each group that is never drawn.
        max_factor: the most that the best bucket is repeated on average.
    Reference: Olmo Team 2025, Olmo 3, arXiv:2512.13961, the section on quality-aware upsampling;
        there f(x) = C (x - a) ** p exp(k (x - a)), fitted by search; here k is 0.
    Writes:
        factor: the mean number of draws, at most max_factor.
        repeats: how often the record is drawn, at least 1.
    Cost: O(candidates); some 100 bytes each.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given; a budget that needs
            more than max_factor.
    """
    counted = "tokens" in candidates.columns
    amount = pl.col("tokens").cast(pl.Int64).clip(1) if counted else pl.lit(1, dtype=pl.Int64)
    grouped = "group" in candidates.columns
    known = candidates.select(
        "uid",
        group="group" if grouped else pl.lit(0),
        bucket=(pl.col("quantile").fill_nan(None).clip(0, 1) * BUCKETS)
        .floor()
        .clip(upper_bound=BUCKETS - 1)
        .cast(pl.UInt8),
        amount=amount,
    ).drop_nulls(["bucket", "amount"])
    whole = int(known["amount"].sum())
    wanted = budget_of(whole, budget, budget_ratio)
    if budget is not None:
        # With repeats there may be more than there is.
        wanted = budget
    ratio = wanted / max(whole, 1)
    most = max_factor * (1 - start_ratio)
    if known.height and ratio > most:
        raise ConfigError(
            f"quality_curve: {wanted:,} draws of {whole:,} need a factor above {max_factor}; draw "
            f"at most {int(most * whole):,}, or raise max_factor."
        )
    masses = known.group_by("group", "bucket").agg(pl.col("amount").sum()).sort("group", "bucket")
    tables = [
        part.with_columns(
            factor=pl.Series(
                factors(part["amount"].to_numpy(), ratio, start_ratio, max_factor),
                dtype=pl.Float64,
            )
        )
        for part in masses.partition_by("group")
    ]
    table = pl.concat(tables or [masses.with_columns(factor=pl.lit(0.0))]).drop("amount")
    found = known.join(table, on=["group", "bucket"], nulls_equal=True, maintain_order="left")
    factor = found["factor"].to_numpy()
    draw = uniform(found["uid"].to_numpy(), seed, stream)
    repeats = np.floor(factor) + (draw < factor % 1)
    return found.select("uid", "factor", repeats=pl.Series(repeats).cast(pl.UInt16)).filter(
        pl.col("repeats") > 0
    )


def factors(masses: NDArray[np.int64], ratio: float, start: float, most: float) -> Floats:
    """Return the factor of each bucket.

    Args:
        masses: tokens of each bucket that has any, the lowest quality first.
        ratio: draws over tokens, at most `most` (1 - start).
        start: the share that is never drawn.
        most: of the last bucket.
    """
    edges = np.concatenate([[0.0], np.cumsum(masses) / masses.sum()])

    def of(exponent: float) -> Floats:
        share = np.clip((edges - start) / (1 - start), 0, 1) ** exponent
        found: Floats = ratio * np.diff(share) / np.diff(edges)
        return found

    low, high = 1.0, STEEPEST
    if of(high)[-1] > most:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if of(middle)[-1] <= most else (low, middle)
        return of(low)
    return of(high)
