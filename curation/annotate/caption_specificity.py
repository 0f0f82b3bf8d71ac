"""How specific a caption is: the metadata entries that it names, and the rare among them."""

from __future__ import annotations

import polars as pl

from contracts.params import Positive
from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"entries": Role(pl.List(pl.UInt32), default="entry_matches.entries")},
    writes={"entries": pl.UInt32, "tail_entries": pl.UInt32, "rarest_count": pl.UInt64},
    tables={"counts": Table(("entry", "count"), default="fit.entry_counts")},
)
def caption_specificity(
    rows: pl.DataFrame, counts: pl.DataFrame, *, cap: Positive = 20_000
) -> pl.DataFrame:
    """Count the entries of a caption, and those of the tail, which at most `cap` records name.

    An entry that the table lacks counts as named once, as in `balance_entries`.

    Reads:
        entries: the list of each record, each entry once.
        counts: in how many records each entry is.
    Args:
        cap: an entry in so many records or fewer is of the tail. MetaCLIP's 20,000 is for a pool of
            400 million; a smaller pool needs a smaller one.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, for head and tail; as a
    signal of specificity winnow's own.
    Writes:
        entries: how many; null where the list is null, as all columns.
        tail_entries: how many of them are of the tail.
        rarest_count: records that name the rarest of them; null where there is none.
    Cost: O(matches); the table, sorted, in memory.
    """
    known = counts.select(pl.col("entry").cast(pl.UInt32), pl.col("count").cast(pl.UInt64))
    number = pl.int_range(pl.len(), dtype=pl.UInt32)
    matches = rows.select(row=number, entry="entries").explode("entry").drop_nulls("entry")
    count = pl.col("count").fill_null(1)
    found = (
        matches.join(known, on="entry", how="left", maintain_order="left")
        .group_by("row")
        .agg(tail_entries=(count <= cap).sum().cast(pl.UInt32), rarest_count=count.min())
    )
    listed = rows.select(row=number, entries=pl.col("entries").list.len())
    tail = pl.when(pl.col("entries").is_not_null()).then(pl.col("tail_entries").fill_null(0))
    return (
        listed.join(found, on="row", how="left", maintain_order="left")
        .with_columns(tail_entries=tail)
        .drop("row")
    )
