"""What a source gives of a unit, many positions at a time: rows of tables, records, rejections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from storage.source import Record, Rejected, Source, Unit

BLOCK_RECORDS = 256
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Table:
    """Rows of a unit under one set of column names; their strings are sound Unicode.

    Attributes:
        unit: its name.
        places: each row's place in its block, ascending.
        numbers: each row's number in its unit.
        columns: each column's values, one a row.
        record: makes the record of a row with a number, or says why it is none.
    """

    unit: str
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
    tables: Sequence[Table] = ()
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


@runtime_checkable
class Divisible(Protocol):
    """A source of which several processes can read one unit."""

    def stretches(self, unit: Unit, size_bytes: int) -> Iterator[Unit]:
        """Yield a unit cut into stretches of at least so many bytes, or as it is."""
        ...


@dataclass(frozen=True)
class Span:
    """Positions of a unit, or of a stretch of it, that follow each other.

    Attributes:
        first: the position that they begin with, counted from the stretch's first.
        count: how many they are.
        last: whether the unit ends with them.
    """

    unit: Unit
    first: int
    count: int
    last: bool


def blocks(source: Source, units: Iterable[Unit]) -> Iterator[tuple[Block, list[Span]]]:
    """Yield the positions of units in source order, by blocks; small units share one.

    Every unit's last span is marked, that of an empty one too.
    """
    if isinstance(source, Tabular):
        for unit in units:
            first = 0
            for block in source.blocks(unit):
                yield block, [Span(unit, first, block.count, False)]
                first += block.count
            last = unit.stretch is None or unit.stretch.last
            yield Block(0), [Span(unit, first, 0, last)]
        return
    found: list[Record | Rejected] = []
    spans: list[Span] = []
    size = 0
    for unit in units:
        first = count = 0
        for item in source.records(unit):
            found.append(item)
            count += 1
            if isinstance(item, Record):
                size += len(item.payload[1] if item.payload else b"") + len(item.text or "")
                size += len(item.label_image or b"")
            if len(found) >= BLOCK_RECORDS or size >= BLOCK_BYTES:
                yield _block(found), [*spans, Span(unit, first, count, False)]
                first, count = first + count, 0
                found, spans, size = [], [], 0
        spans.append(Span(unit, first, count, True))
        if len(spans) >= BLOCK_RECORDS:
            yield _block(found), spans
            found, spans, size = [], [], 0
    if spans:
        yield _block(found), spans


def _block(found: list[Record | Rejected]) -> Block:
    return Block(len(found), alone=dict(enumerate(found)))
