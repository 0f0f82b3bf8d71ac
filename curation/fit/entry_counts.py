"""How many records match each metadata entry."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation.step import Role, fit


def _add(counts: pl.DataFrame, **_: Any) -> pl.DataFrame:
    return counts.group_by("entry").agg(pl.col("count").sum()).sort("entry")


@fit(
    version=1,
    reads={"entries": Role(pl.List(pl.UInt32), default="entry_matches.entries")},
    writes={"entry": pl.UInt32, "count": pl.UInt64},
    merge=_add,
)
def entry_counts(rows: pl.DataFrame) -> pl.DataFrame:
    """Count for each entry the records whose list holds it, once a record however often.

    Reads:
        entries: the list of each record.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, algorithm 1.
    Returns:
        entry: ascending, those that some record matches.
        count: records. The tables of two parts add up.
    Cost: O(matches).
    """
    matches = rows.select(entry=pl.col("entries").list.unique()).explode("entry").drop_nulls()
    return _add(matches.select("entry", count=pl.lit(1, dtype=pl.UInt64)))
