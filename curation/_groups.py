"""Whole groups of rows, in blocks of bounded bytes: what a groupwise method is called with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

BLOCK_BYTES = 64 << 20
# What a row costs a method beside its own bytes.
ROW_BYTES = 32


def keys(rows: pl.DataFrame) -> pl.Series:
    """Return the groups of each record by the column `group`: its value, or each of its list.

    A record without a group has a key of its own.
    """
    keyed = rows.select("uid", key="group")
    if isinstance(keyed.schema["key"], pl.List):
        keyed = keyed.with_columns(pl.col("key").list.unique()).explode("key", empty_as_null=True)
    alone = pl.when(pl.col("key").is_null()).then("uid").alias("alone")
    keyed = keyed.select("uid", key=pl.struct("key", alone))
    return keyed.group_by("uid", maintain_order=True).agg("key")["key"]


def blocks(
    rows: pl.DataFrame, keyed: pl.DataFrame, *, order: Sequence[str], by_first_row: bool
) -> Iterator[pl.DataFrame]:
    """Yield whole groups, some `BLOCK_BYTES` of rows at a time; at least one block.

    Args:
        rows: `uid` and the columns.
        keyed: `row`, a row's number, and the `key` of its group; a null key is a group of one.
        order: columns by which the rows of a group are sorted, before uid.
        by_first_row: groups come in the order of their first rows, not of their keys, so that a
            block has the groups of few long rows and not of all; a row counts once a group.

    Yields:
        The columns and `group: UInt32`, sorted by (group, order, uid).
    """
    rank = np.empty(rows.height, dtype=np.uint32)
    placed = rows.select(pl.arg_sort_by(*order, "uid", nulls_last=True)).to_series()
    rank[placed.to_numpy()] = np.arange(rows.height, dtype=np.uint32)
    # Two stable sorts of one column are several times faster than one of both.
    keyed = keyed.with_columns(rank=rank[keyed["row"].to_numpy()])
    keyed = keyed.sort("rank", maintain_order=True)
    keyed = keyed.sort("key", maintain_order=True, nulls_last=True)
    starts = keyed["key"].is_null() | keyed["key"].ne_missing(keyed["key"].shift(1))
    if keyed.height:
        starts[0] = True
    keyed = keyed.with_columns(starts=starts)
    rows = rows.rechunk()
    weight = _bytes(rows)[keyed["row"].to_numpy()]
    if by_first_row:
        lead = pl.when("starts").then("rank").forward_fill()
        keyed = keyed.with_columns(lead=lead, weight=weight)
        keyed = keyed.sort("lead", maintain_order=True)
        fresh = keyed.select(pl.struct("lead", "row").is_first_distinct()).to_series()
        weight = np.where(fresh, keyed["weight"], 0)
    chosen, starts = keyed["row"].to_numpy(), keyed["starts"]
    cost = np.cumsum(weight + ROW_BYTES)
    for start, stop in _ranges(starts.arg_true().to_numpy(), cost):
        group = starts[start:stop].cast(pl.UInt32).cum_sum()
        yield rows[chosen[start:stop]].with_columns(group=group)


def repeated(keys: pl.Series) -> pl.Series:
    """Return where a key, not null, may stand more than once: surely where it does."""
    hashes = keys.hash(0)
    ordered = hashes.sort()
    several = ordered.filter(ordered == ordered.shift(1)).unique()
    return hashes.is_in(several.implode()) & keys.is_not_null()


def _bytes(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Return the bytes of each row, those of its texts and payloads exactly."""
    lengths = [
        rows[name].str.len_bytes() if dtype == pl.String else rows[name].bin.size()
        for name, dtype in rows.schema.items()
        if dtype in (pl.String, pl.Binary)
    ]
    fixed = rows.select(pl.exclude(pl.String, pl.Binary)).estimated_size() // max(1, rows.height)
    total = np.full(rows.height, fixed, dtype=np.int64)
    for length in lengths:
        total += length.fill_null(0).cast(pl.Int64).to_numpy()
    return total


def _ranges(limits: NDArray[np.intp], cost: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of whole groups of at most `BLOCK_BYTES`, or of one group; at least one range.

    Args:
        limits: where each group starts.
        cost: bytes of the rows up to each, cumulative.
    """
    ends = np.append(limits[1:], len(cost)) if len(limits) else limits
    start = group = 0
    while True:
        read = cost[start - 1] if start else 0
        after = int(np.searchsorted(cost[ends - 1], read + BLOCK_BYTES, side="right"))
        group = max(after, min(group + 1, len(ends)))
        stop = int(ends[group - 1]) if group else 0
        yield start, stop
        start = stop
        if start >= len(cost):
            return
