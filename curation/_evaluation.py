"""The items that records are compared with: their names, one table of them, the nearest of each."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.uid import hex_uid
from curation import _neighbours


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


class Directions(NamedTuple):
    """The items whose vector has a direction, by name: as (n, d) at length 1, and as a table."""

    vectors: _neighbours.Vectors
    items: pl.DataFrame


@lru_cache(maxsize=2)
def directions(same: Same) -> Directions:
    """Return the items of a table with `vector` that have a direction.

    `id` is an item's name; `uid`, where a table has none, its row.
    """
    assert same.table is not None
    table = same.table.with_columns(id=names(same.table))
    if "uid" not in table.columns:
        table = table.with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
    table = table.sort("id", maintain_order=True)
    known, vectors = _neighbours.directions(table["vector"].alias("target vector"))
    return Directions(vectors, table.filter(pl.Series(known)))


class Nearest(NamedTuple):
    """What is nearest to some of the records.

    Attributes:
        row: (n,) the records with a direction, ascending.
        item: (n,) the nearest item of each, the first by name of equals.
        cosine: (n,) to it.
    """

    row: NDArray[np.int64]
    item: NDArray[np.int64]
    cosine: NDArray[np.float32]


def nearest(method: str, vectors: pl.Series, items: Directions) -> Nearest:
    """Return the nearest item of each vector with a direction; of none where there is no item.

    Raises:
        DataError: vectors and items of different lengths; NaN or infinity.
    """
    known, x = _neighbours.in_place(vectors, zeros=False)
    if not len(x) or not len(items.vectors):
        nothing = np.empty(0, dtype=np.int64)
        return Nearest(nothing, nothing, nothing.astype(np.float32))
    if x.shape[1] != items.vectors.shape[1]:
        raise DataError(
            f"{method}: vectors of {x.shape[1]} dimensions, of targets "
            f"{items.vectors.shape[1]}: embed both by the same encoder."
        )
    item, cosine = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=np.float32)
    for a, b in _neighbours.blocks(len(x)):
        item[a:b] = _neighbours.closest(_neighbours.unit(x[a:b]), items.vectors)
        cosine[a:b] = _neighbours.cosine(x[a:b], items.vectors[item[a:b]])
    return Nearest(np.flatnonzero(known), item, cosine)
