"""Webster's divisors: groups take turns by weight, so that a budget contains every smaller one."""

from __future__ import annotations

import polars as pl

from contracts.uid import uniform

NAMES = (pl.String, pl.UInt64, pl.UInt32, pl.Int64, pl.Int32, pl.UInt16, pl.UInt8, pl.Boolean)
"""Types of a group's name."""


def in_turn(
    records: pl.DataFrame,
    weight: pl.Expr,
    *,
    amount: pl.Expr | None = None,
    tie: pl.Series | None = None,
) -> pl.DataFrame:
    """Order records so that in any head of them each group has its part by weight.

    The k-th record of a group comes at (k - 1/2) / weight, ties by `tie`, then by uid. With
    amounts it comes at (the sum of those before it + its own / 2) / weight. A group that has run
    out leaves its part to the others, in proportion to their weights.

    Args:
        records: `uid` and `group`, each group's in the order in which it gives them; those
            without a group are one.
        weight: above 0, the same for all records of a group.
        amount: what a record counts, above 0; 1 where not given.
        tie: of each record, such as `group_draws`.

    Reference: Balinski and Young 1982, Fair Representation: Webster's method, and why with
    divisors a larger house takes a seat from no state.
    """
    each = pl.lit(1.0) if amount is None else amount.cast(pl.Float64)
    middle = pl.col("each").cum_sum().over("group") - pl.col("each") / 2
    return (
        records.with_columns(each=each, tie=pl.lit(0.0) if tie is None else tie)
        .with_columns(at=middle / weight)
        .sort("at", "tie", "uid")
        .drop("each", "at", "tie")
    )


def group_draws(records: pl.DataFrame, seed: int, stream: str) -> pl.Series:
    """Return a draw for each record, the same for all of its group: that of the smallest uid."""
    first = records.select(pl.col("uid").min().over("group"))["uid"].to_numpy()
    return pl.Series("tie", uniform(first, seed, f"{stream}, ties"))


def drawn(candidates: pl.DataFrame, seed: int, stream: str) -> pl.DataFrame:
    """Return the candidates by ascending draws uniform(uid, seed, stream), ties by uid."""
    draw = pl.Series("draw", uniform(candidates["uid"].to_numpy(), seed, stream))
    return candidates.with_columns(draw).sort("draw", "uid").drop("draw")
