"""Keep every candidate, seen in training as often as its repeats say."""

from __future__ import annotations

import polars as pl

from contracts.errors import DataError
from curation.step import MAX_REPEATS, Role, selector


@selector(
    version=1,
    reads={
        "repeats": Role(
            (pl.UInt16, pl.UInt8, pl.UInt32, pl.UInt64, pl.Int32, pl.Int64),
            default="cluster_repeats.repeats",
        )
    },
    evidence={"repeats": pl.UInt16},
)
def repeat(candidates: pl.DataFrame) -> pl.DataFrame:
    """Keep every candidate whose repeats are 1 or more; null or 0 drops.

    Shards hold a record once; the trainer's index repeats it, and later budgets count draws.

    Reads:
        repeats: how often training sees the candidate.
    Reference: Penedo et al. 2025, FineWeb2, arXiv:2506.20920 (rehydration), for its use.
    Raises:
        DataError: repeats below 0 or above 65,535.
    """
    known = candidates.drop_nulls("repeats")
    wrong = known.filter(~pl.col("repeats").is_between(0, MAX_REPEATS))
    if wrong.height:
        raise DataError(
            f"repeat: record {wrong['uid'][0]:016x} has {wrong['repeats'][0]} repeats; give 0 to "
            f"{MAX_REPEATS:,}, as LEAST(x, {MAX_REPEATS}) does."
        )
    kept = known.filter(pl.col("repeats") > 0)
    return kept.select("uid", pl.col("repeats").cast(pl.UInt16))
