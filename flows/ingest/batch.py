"""Positions of units on their way into a pool: records by columns, and what is no record."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storage.block import Span


class Cells(NamedTuple):
    """A column of meta, of which a record may have none.

    Attributes:
        rows: of the batch, those that have a value, ascending.
        values: of each of these; none is null.
    """

    rows: NDArray[np.int64]
    values: Sequence[Any]


def cells_of(metas: Sequence[Mapping[str, Any]]) -> dict[str, Cells]:
    """Return the meta of records by columns."""
    # Each record's own values alone: a thousand columns of which a record has few cost little.
    rows: defaultdict[str, list[int]] = defaultdict(list)
    values: defaultdict[str, list[Any]] = defaultdict(list)
    for row, meta in enumerate(metas):
        for name, value in meta.items():
            if value is not None:
                rows[name].append(row)
                values[name].append(value)
    return {name: Cells(np.array(rows[name]), values[name]) for name in rows}


class Out(NamedTuple):
    """A position that gives no record.

    Attributes:
        place: in the batch.
        code: a reason code of docs/reasons.md.
    """

    place: int
    source_id: str | None
    where: str
    code: str
    detail: str
    digest: bytes | None


@dataclass(frozen=True)
class Batch:
    """Positions that follow each other, each a row of `records` or an item of `out`.

    Attributes:
        spans: the positions of each unit.
        records: `place` (in the batch), `where`, `text_bytes`, and columns of
            storage.parts.RECORD; those of no record are left out.
        meta: by name.
        payloads: of each record, or None where it is not copied; None where none has one.
        kinds: of the payloads, sorted.
        out: what is no record.
    """

    spans: Sequence[Span]
    records: pl.DataFrame
    meta: dict[str, Cells]
    payloads: Sequence[bytes | None] | None
    kinds: tuple[str, ...]
    out: Sequence[Out]

    @property
    def count(self) -> int:
        """How many positions they are."""
        return sum(span.count for span in self.spans)

    def unit_of(self, place: int) -> str:
        """Return the name of the unit that a place belongs to."""
        ends = list(itertools.accumulate(span.count for span in self.spans))
        return self.spans[bisect.bisect_right(ends, place)].unit.name

    def filter(self, mask: NDArray[np.bool_]) -> Batch:
        """Return the batch with those records that a mask keeps."""
        if mask.all():
            return self
        rows = np.cumsum(mask) - 1
        meta: dict[str, Cells] = {}
        for name, cells in self.meta.items():
            held = mask[cells.rows]
            if held.any():
                values = [value for value, hold in zip(cells.values, held, strict=True) if hold]
                meta[name] = Cells(rows[cells.rows[held]], values)
        payloads = self.payloads
        if payloads is not None:
            payloads = [payload for payload, hold in zip(payloads, mask, strict=True) if hold]
        records = self.records.filter(pl.Series(mask))
        return replace(self, records=records, meta=meta, payloads=payloads)
