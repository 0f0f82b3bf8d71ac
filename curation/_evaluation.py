"""The items of an evaluation that records are compared with: their names, and one table of them."""

from __future__ import annotations

import polars as pl

from contracts.uid import hex_uid


def names(items: pl.DataFrame) -> pl.Series:
    """Return `id` as text where a table has it, else its uids in hexadecimal, else row numbers."""
    if "id" in items.columns:
        return items["id"].cast(pl.String)
    if "uid" in items.columns:
        return pl.Series("id", [hex_uid(uid) for uid in items["uid"]], dtype=pl.String)
    return pl.int_range(items.height, eager=True).cast(pl.String).alias("id")


class Same:
    """A table that equals itself alone: tables are big, and a run hands over the same one."""

    def __init__(self, table: pl.DataFrame | None) -> None:
        self.table = table

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.table is self.table
