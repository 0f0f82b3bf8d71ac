"""JSON, plain or compressed: an object a line, or a member of an array, is a record."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from contracts.errors import DataError
from contracts.uid import digest_of
from storage.block import Block, Table
from storage.rows import check_columns
from storage.source import (
    SUFFIXES,
    WEAK_SUFFIXES,
    Columns,
    Record,
    Refused,
    Rejected,
    Stretch,
    Unit,
)
from storage.sources._json import columns_of, parse_object, parse_objects
from storage.sources._json_file import LINES, MEMBERS, Pieces, layout_of, pieces
from storage.sources._rows import record_in
from storage.sources._stream import LINE_BYTES, Stream, marked
from storage.walk import Tree

_LOOKED_AT = 1000
_NO_JSON = ("JSON_INVALID", "JSON_TRUNCATED", "CAPTION_NOT_UTF8")


class JsonLines:
    r"""Files of JSON lines, a unit a file; one object or an array of them, pretty-printed, too.

    Every line, member of an array or object is a record or a rejection of its own, but blank
    lines, which keep their number and are nothing. Of a file in which nothing is JSON, all is one
    rejection. A source id is `<file>#<number>`, counted from 0, or the id column's value. Only
    `\n` and `\r\n` end a line, or `\r` where it ends the first. JSON is read strictly, see
    `parse_object`; `layout_of` says how the layout is told.

    Cost: one pass, and another to the first object; memory for one object, at most 64 MiB.
    Raises:
        ConfigError: none of a file's first 1,000 rows has a column that the recipe names.
        DataError: the only file of the source cannot be opened.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit a file; `.json` only where nothing is called `.jsonl` or `.ndjson`."""
        strong, weak = SUFFIXES["json_lines"], WEAK_SUFFIXES["json_lines"]
        names = (name.lower() for folder in self._tree.folders() for name in folder.names)
        return self._tree.units(strong if any(name.endswith(strong) for name in names) else weak)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a record or a rejection for each object, as `blocks` gives them."""
        for block in self.blocks(unit):
            yield from block.each()

    def blocks(self, unit: Unit) -> Iterator[Block]:
        """Yield the objects, those of one set of keys as a table.

        Rejections: JSON_INVALID, JSON_TRUNCATED (the last line, without its end), JSON_DUP_KEY,
        JSON_DEPTH, VALUE_RANGE, CAPTION_NOT_UTF8, ROW_TOO_LARGE, what `record_in` says, and
        where the file ends before its time SOURCE_TRUNCATED, BOMB_WINDOW, BOMB_RATIO or
        CHANGED_WHILE_READING.
        """
        try:
            with self._tree.open(unit.path) as opened:
                stretch = unit.stretch
                stream = Stream(opened, unit.path.name, stretch)
                layout = LINES
                if stretch is None:
                    layout = layout_of(stream)
                    self._check(unit, stream, layout)
                number = stretch.number if stretch is not None else 0
                for found in pieces(stream, layout):
                    yield self._block(unit, found, number, layout)
                    number += len(found.data)
                if stream.fault is not None:
                    where = f"{unit.name}#{number}"
                    yield _alone(Rejected(where, stream.fault.code, stream.fault.detail))
        except Refused as fault:
            if fault.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: {fault.detail}.") from None
            yield _alone(Rejected(unit.name, fault.code, fault.detail))

    def stretches(self, unit: Unit, size_bytes: int) -> Iterator[Unit]:
        """Yield a unit cut at ends of lines, or as it is: compressed, laid out otherwise, unsound.

        Raises:
            ConfigError: as for the class; from here on it is sound.
        """
        if unit.size_bytes < 2 * size_bytes:
            yield unit
            return
        try:
            with self._tree.open(unit.path) as opened:
                stream = Stream(opened, unit.path.name)
                layout = layout_of(stream)
                self._check(unit, stream, layout)
                stream.rewind()
                if stream.compressed or layout != LINES or marked(stream.read(4))[1]:
                    yield unit
                    return
                yield from _cut(unit, opened, size_bytes)
        except Refused:
            # Whoever reads it will say it.
            yield unit

    def _check(self, unit: Unit, stream: Stream, layout: str) -> None:
        """Refuse a file of which nothing is JSON, and columns that no row has."""
        names: set[str] = set()
        sound, first, count = False, "", 0
        every = (data for found in pieces(stream, layout) for data in found.data)
        for number, data in enumerate(every):
            if sound and number >= _LOOKED_AT:
                break
            if data is not None and not data.strip():
                continue
            count += 1
            try:
                names |= parse_object(data or b"").keys()
                sound = True
            except Refused as fault:
                sound = sound or fault.code not in _NO_JSON
                first = (
                    first or f"{(data or b'')[:200].decode(errors='replace')!r} ({fault.detail})"
                )
        if count > 1 and not sound:
            raise Refused("JSON_INVALID", f"none of its {count:,} {layout} is JSON; first: {first}")
        if names:
            check_columns(self._columns, sorted(names), unit.name)

    def _block(self, unit: Unit, found: Pieces, first: int, layout: str) -> Block:
        """Return the values from number `first` on, blank lines left out."""
        rows, columns = parse_objects([data or b"" for data in found.data])
        if columns is not None:
            numbers = range(first, first + len(rows))
            return Block(len(rows), [self._table(unit, range(len(rows)), numbers, columns)])
        alone: dict[int, Record | Rejected] = {}
        tables: defaultdict[tuple[str, ...], _Waiting] = defaultdict(lambda: _Waiting([], [], []))
        place = 0
        for number, (data, row) in enumerate(zip(found.data, rows, strict=True), start=first):
            if row is None:
                if data is not None and not data.strip() and layout != MEMBERS:
                    continue
                whole = found.whole or number < first + len(rows) - 1
                strict = self._strict(f"{unit.name}#{number}", data, whole)
                if isinstance(strict, Rejected):
                    alone[place] = strict
                    place += 1
                    continue
                row = strict
            table = tables[tuple(row)]
            table.places.append(place)
            table.numbers.append(number)
            table.rows.append(row)
            place += 1
        found_tables = [
            self._table(unit, table.places, table.numbers, columns_of(table.rows))
            for table in tables.values()
        ]
        return Block(place, found_tables, alone)

    def _table(
        self,
        unit: Unit,
        places: Sequence[int],
        numbers: Sequence[int],
        columns: dict[str, Sequence[Any]],
    ) -> Table:
        def record(row: dict[str, Any], number: int) -> Record | Rejected:
            where = f"{unit.name}#{number}"
            folder = unit.path.parent
            return record_in(self._tree, folder, self._columns, row, source_id=where, where=where)

        return Table(unit.name, places, numbers, columns, record)

    def _strict(self, where: str, data: bytes | None, whole: bool) -> dict[str, Any] | Rejected:
        known = where if self._columns.id is None else None
        if data is None:
            detail = f"an object of more than {LINE_BYTES:,} bytes"
            return Rejected(where, "ROW_TOO_LARGE", detail, known)
        try:
            return parse_object(data, whole=whole)
        except Refused as fault:
            return Rejected(where, fault.code, fault.detail, known, digest_of(data))


def _cut(unit: Unit, opened: BinaryIO, size_bytes: int) -> Iterator[Unit]:
    now = os.fstat(opened.fileno())
    start = number = 0
    for index in itertools.count():
        opened.seek(start)
        data = opened.read(size_bytes)
        rest = opened.readline(LINE_BYTES)
        # Behind a line of any length the file is one stretch.
        end = start + len(data) + len(rest) if rest.endswith(b"\n") else now.st_size
        last = end >= now.st_size
        state = (now.st_size, now.st_mtime_ns)
        yield replace(unit, stretch=Stretch(index, start, end, number, last, state))
        if last:
            return
        start = end
        number += data.count(b"\n") + 1


class _Waiting(NamedTuple):
    places: list[int]
    numbers: list[int]
    rows: list[dict[str, Any]]


def _alone(found: Rejected) -> Block:
    return Block(1, alone={0: found})
