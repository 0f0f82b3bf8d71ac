"""Columns of spans, and the folding of what buckets found of one text.

A span is `start` and `end` in characters of the Python string (code points): `text[start:end]`.
"""

from __future__ import annotations

import polars as pl

SPANS = pl.List(pl.Struct({"start": pl.UInt32, "end": pl.UInt32}))


def spanned(records: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Give each record the union of its spans, and the share of its characters in them.

    Args:
        records: `uid`, `characters` and whatever else, a row a record.
        spans: `uid`, `start`, `end`; any number for a record, in any order, overlapping or not.

    Returns:
        The records by uid with `spans` and `repeated_ratio`; spans that touch stay two.
    """
    ordered = spans.sort("uid", "start", "end")
    reached = pl.col("end").cum_max().shift(1).over("uid")
    apart = reached.is_null() | (pl.col("start") >= reached)
    united = (
        ordered.with_columns(number=apart.cum_sum())
        .group_by("uid", "number")
        .agg(pl.col("start").min(), pl.col("end").max())
        .sort("uid", "start")
        .group_by("uid", maintain_order=True)
        .agg(
            spans=pl.struct("start", "end"),
            covered=(pl.col("end").cast(pl.UInt64) - pl.col("start")).sum(),
        )
    )
    covered = pl.col("covered").fill_null(0) / pl.col("characters")
    return (
        records.sort("uid")
        .join(united, on="uid", how="left", maintain_order="left")
        .with_columns(
            spans=pl.col("spans").fill_null(pl.lit([], dtype=SPANS)),
            repeated_ratio=covered.fill_nan(0.0).cast(pl.Float32),
        )
        .drop("covered")
    )


def folded(partials: pl.DataFrame, *others: pl.Expr) -> pl.DataFrame:
    """Return one row a record: the union of its spans, and how the other columns aggregate.

    The union does not depend on the order of its members, so the fold is associative.
    """
    records = partials.group_by("uid").agg(pl.col("characters").first(), *others)
    spans = partials.select("uid", "spans").explode("spans", empty_as_null=True)
    return spanned(records, spans.drop_nulls("spans").unnest("spans")).select(partials.columns)
