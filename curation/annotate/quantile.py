"""Where a record's score stands among all, as a share and in standard deviations."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.step import Role, in_order, poolwise

NUMBERS = (pl.Float32, pl.Float64, pl.Int64, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
Floats = NDArray[np.float64]


@poolwise(
    version=1,
    reads={
        "score": Role(NUMBERS),
        "weight": Role(NUMBERS, optional=True),
        "group": Role((pl.String, pl.UInt64, pl.UInt32, pl.Int64, pl.Int32), optional=True),
    },
    writes={"quantile": pl.Float32, "zscore": pl.Float32},
)
def quantile(rows: pl.DataFrame) -> pl.DataFrame:
    """Rank scores, so that scores of different scales can be compared and joined in a rule.

    quantile(s) = (W(< s) + W(s) / 2) / W, with W the weight of all records, of those below and of
    those that tie. `greatest(a.quantile, b.quantile)` is the ensemble of two scores,
    `floor(20 * a.quantile)` one of twenty buckets, and `0.6 * a.zscore + 0.4 * b.zscore` a mean.

    Reads:
        score: what is ranked.
        weight: what a record counts, such as its tokens; 1 where it is not bound.
        group: records are ranked among those of the same one, such as a language; those without one
            among each other.
    Reference: Su et al. 2024, Nemotron-CC, arXiv:2412.02595, section 2.2 (twenty buckets by rank,
        and the largest of three classifiers' buckets).
    Writes:
        quantile: in [0, 1]; null for a record without a score, or with a weight that is null, NaN
            or below 0, which others are not ranked by.
        zscore: (score - mean) / standard deviation, both weighted; 0 where all scores of the group
            are equal; null where quantile or the score is not finite.
    Cost: 28 bytes a record, and a sort.
    """
    weight = pl.col("weight") if "weight" in rows.columns else pl.lit(1)
    group = pl.col("group").rank("dense") if "group" in rows.columns else pl.lit(0)
    known = rows.select(
        "uid",
        score=pl.col("score").cast(pl.Float64).fill_nan(None),
        weight=weight.cast(pl.Float64),
        group=group.fill_null(0).cast(pl.UInt32),
    ).filter(pl.col("score").is_not_null() & (pl.col("weight") >= 0) & pl.col("weight").is_finite())
    # In a fixed order, so that sums of weights are the same to the last bit.
    known = known.sort("group", "score", "uid")
    score, weights, of_group = (known[name].to_numpy() for name in ("score", "weight", "group"))
    tie = _runs(of_group, score)
    start, stop = _runs(of_group)
    ahead = np.concatenate([[0.0], np.cumsum(weights)])
    below, through = (ahead[limit] - ahead[start] for limit in tie)
    total = ahead[stop] - ahead[start]
    ranked = np.divide(
        (below + through) / 2, total, out=np.full(len(score), np.nan), where=total > 0
    )
    found = known.select(
        "uid", quantile=pl.Series(ranked), zscore=pl.Series(_zscores(score, weights, start))
    )
    return in_order(rows["uid"], found.fill_nan(None).cast({pl.Float64: pl.Float32}))


def _runs(*columns: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row where its run of equal values begins and where it ends."""
    count = len(columns[0])
    cuts = np.zeros(max(0, count - 1), dtype=np.bool_)
    for column in columns:
        cuts |= column[1:] != column[:-1]
    limits = np.concatenate([[0], np.flatnonzero(cuts) + 1, [count]])
    length = np.diff(limits)
    return limits[:-1].repeat(length), limits[1:].repeat(length)


def _zscores(score: Floats, weight: Floats, start: NDArray[np.int64]) -> Floats:
    """Return the scores in deviations of their group, NaN where they are not finite."""
    finite = np.isfinite(score)
    if not finite.any():
        return np.full(len(score), np.nan)
    begins, number = np.unique(start, return_inverse=True)
    values, shares = np.where(finite, score, 0.0), np.where(finite, weight, 0.0)
    total = np.add.reduceat(shares, begins)[number]
    held = finite & (total > 0)
    some = np.where(held, total, 1.0)
    away = values - (np.add.reduceat(shares * values, begins)[number] / some)
    deviation = np.sqrt(np.add.reduceat(shares * away**2, begins)[number] / some)
    # What is left of equal scores is rounding.
    spread = deviation > 1e-12 * np.abs(values)
    found = np.divide(away, deviation, out=np.zeros(len(score)), where=spread)
    return np.where(held, found, np.nan)
