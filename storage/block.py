"""What a source gives of a unit, many positions at a time: rows of tables, records, rejections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from storage.source import Record, Rejected, Source, Unit

BLOCK_RECORDS = 256
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Rows:
    """Rows of a unit under one set of column names; their strings are sound Unicode.

    Attributes:
        places: each row's place in its block, ascending.
        numbers: each row's number in its unit.
        columns: each column's values, one a row.
        record: makes the record of a row with a number, or says why it is none.
    """

    places: Sequence[int]
    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    record: Callable[[dict[str, Any], int], Record | Rejected]

    def found(self, row: int) -> Record | Rejected:
        """Return what one row is."""
        values = {name: column[row] for name, column in self.columns.items()}
        return self.record(values, self.numbers[row])


@dataclass(frozen=True)
class Block:
    """Positions of a unit that follow each other: each is a row of a table or stands alone.

    Attributes:
        count: how many they are.
        alone: what has no table, by its place.
    """

    count: int
    tables: Sequence[Rows] = ()
    alone: Mapping[int, Record | Rejected] = field(default_factory=dict)

    def each(self) -> Iterator[Record | Rejected]:
        """Yield what each position is, in order."""
        found = dict(self.alone)
        for table in self.tables:
            found |= {place: table.found(row) for row, place in enumerate(table.places)}
        return (found[place] for place in range(self.count))


@runtime_checkable
class Tabular(Protocol):
    """A source that gives rows by columns; its `records` are those of its blocks, one by one."""

    def blocks(self, unit: Unit) -> Iterator[Block]:
        """Yield a unit's positions in source order."""
        ...


def blocks(source: Source, unit: Unit) -> Iterator[Block]:
    """Yield a unit's positions in source order, by blocks."""
    if isinstance(source, Tabular):
        yield from source.blocks(unit)
        return
    waiting: list[Record | Rejected] = []
    size = 0
    for found in source.records(unit):
        waiting.append(found)
        if isinstance(found, Record):
            size += len(found.image or b"") + len(found.text or "")
        if len(waiting) >= BLOCK_RECORDS or size >= BLOCK_BYTES:
            yield Block(len(waiting), alone=dict(enumerate(waiting)))
            waiting, size = [], 0
    if waiting:
        yield Block(len(waiting), alone=dict(enumerate(waiting)))
