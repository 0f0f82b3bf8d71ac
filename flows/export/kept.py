"""The kept records of an export as narrow columns; what is wide is read again part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import UIDs
from flows.measure.runtime import Runtime
from storage import tables

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """The kept records in the order of their uids; a position is a place in that order.

    Attributes:
        uids: ascending.
        repeats: how often an epoch sees each.
    """

    runtime: Runtime
    uids: UIDs
    repeats: NDArray[np.uint16]

    @classmethod
    def of(cls, runtime: Runtime, kept: pl.DataFrame) -> Kept:
        """Return a verdict's kept records."""
        kept = kept.sort("uid")
        return cls(runtime, kept["uid"].to_numpy(), kept["repeats"].to_numpy())

    def schema(self) -> dict[str, Any]:
        """Return every column of the pool's parts, a field of meta as `meta.url`."""
        found: dict[str, Any] = {}
        for part in self.runtime.pool.parts:
            for name, dtype in tables.part_schema(self.runtime.store, part).items():
                if found.get(name, pl.Null) == pl.Null:
                    found[name] = dtype
        return found

    def of_part(self, part: int) -> tuple[Positions, Positions]:
        """Return the rows of a part that are kept, ascending, and the position of each."""
        uids = self.runtime.uids(part).to_numpy()
        positions = np.searchsorted(self.uids, uids)
        positions[positions == len(self.uids)] = 0
        is_kept = self.runtime.live[part]
        is_kept = is_kept & (self.uids[positions] == uids) if len(self.uids) else is_kept & False
        rows = np.flatnonzero(is_kept)
        return rows, positions[rows]

    def columns(self, part: int, paths: Sequence[str], rows: Positions) -> pl.DataFrame:
        """Return `uid` and flat columns of some rows of a part."""
        return self.runtime.rows(part, paths)[rows]
