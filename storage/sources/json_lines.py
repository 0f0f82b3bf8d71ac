"""JSON, plain or compressed: an object a line, or a member of an array, is a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from contracts.errors import DataError
from contracts.uid import digest_of
from storage.rows import check_columns
from storage.source import SUFFIXES, WEAK_SUFFIXES, Columns, Record, Refused, Rejected, Unit
from storage.sources._json import parse_object
from storage.sources._json_file import MEMBERS, layout_of, pieces
from storage.sources._rows import record_in
from storage.sources._stream import LINE_BYTES, Stream
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
        """Yield a record or a rejection for each object.

        Rejections: JSON_INVALID, JSON_TRUNCATED (the last line, without its end), JSON_DUP_KEY,
        JSON_DEPTH, VALUE_RANGE, CAPTION_NOT_UTF8, ROW_TOO_LARGE, what `record_in` says, and
        where the file ends before its time SOURCE_TRUNCATED, BOMB_WINDOW, BOMB_RATIO or
        CHANGED_WHILE_READING.
        """
        try:
            with self._tree.open(unit.path) as opened:
                stream = Stream(opened, unit.path.name)
                layout = layout_of(stream)
                self._check(unit, stream, layout)
                yield from self._records(unit, stream, layout)
        except Refused as fault:
            if fault.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: {fault.detail}.") from None
            yield Rejected(unit.name, fault.code, fault.detail)

    def _check(self, unit: Unit, stream: Stream, layout: str) -> None:
        """Refuse a file of which nothing is JSON, and columns that no row has."""
        names: set[str] = set()
        sound, first, count = False, "", 0
        for number, (data, _) in enumerate(pieces(stream, layout)):
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

    def _records(self, unit: Unit, stream: Stream, layout: str) -> Iterator[Record | Rejected]:
        number = -1
        for number, (data, whole) in enumerate(pieces(stream, layout)):
            where = f"{unit.name}#{number}"
            known = where if self._columns.id is None else None
            if data is None:
                detail = f"an object of more than {LINE_BYTES:,} bytes"
                yield Rejected(where, "ROW_TOO_LARGE", detail, known)
                continue
            if not data.strip() and layout != MEMBERS:
                continue
            try:
                row = parse_object(data, whole=whole)
            except Refused as fault:
                yield Rejected(where, fault.code, fault.detail, known, digest_of(data))
                continue
            yield record_in(
                self._tree, unit.path.parent, self._columns, row, source_id=where, where=where
            )
        if stream.fault is not None:
            where = f"{unit.name}#{number + 1}"
            yield Rejected(where, stream.fault.code, stream.fault.detail)
