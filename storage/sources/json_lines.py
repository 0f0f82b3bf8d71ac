"""JSON lines, plain or compressed: an object a line is a record."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from contracts.errors import DataError
from contracts.uid import digest_of
from storage.rows import check_columns
from storage.source import SUFFIXES, WEAK_SUFFIXES, Columns, Record, Refused, Rejected, Unit
from storage.sources._json import parse_object
from storage.sources._rows import record_in
from storage.sources._stream import LINE_BYTES, Stream, lines
from storage.walk import Tree

_LOOKED_AT = 1000


class JsonLines:
    r"""Files of JSON lines, a unit a file.

    Every line is a record or a rejection of its own, but blank lines, which keep their number
    and are nothing. A source id is `<file>#<line>`, counted from 0, or the id column's value.
    Only `\n` and `\r\n` end a line. JSON is read strictly, see `parse_object`.

    Cost: one pass; memory for one line, at most 64 MiB.
    Raises:
        ConfigError: none of a file's first 1,000 rows has a column that the recipe names.
        DataError: the only file of the source is a JSON array, or cannot be opened.
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
        """Yield a record or a rejection for each line.

        Rejections: JSON_INVALID, JSON_TRUNCATED (the last line, without its end), JSON_DUP_KEY,
        JSON_DEPTH, VALUE_RANGE, CAPTION_NOT_UTF8, ROW_TOO_LARGE, what `record_in` says, and
        where the file ends before its time SOURCE_TRUNCATED, BOMB_WINDOW, BOMB_RATIO or
        CHANGED_WHILE_READING.
        """
        try:
            with self._tree.open(unit.path) as opened:
                stream = Stream(opened)
                self._check(unit, stream)
                stream.rewind()
                yield from self._records(unit, stream)
        except Refused as fault:
            if fault.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: {fault.detail}.") from None
            yield Rejected(unit.name, fault.code, fault.detail)

    def _check(self, unit: Unit, stream: Stream) -> None:
        """Refuse what is no JSON lines, and columns that no row has."""
        names: set[str] = set()
        for number, line in enumerate(islice(lines(stream), _LOOKED_AT)):
            if number == 0 and line is not None and line.lstrip().startswith(b"["):
                raise Refused(
                    "SOURCE_UNREADABLE", "a JSON array, not an object a line; try: jq -c '.[]'"
                )
            try:
                names |= parse_object(line or b"").keys()
            except Refused:
                continue
        if names:
            check_columns(self._columns, sorted(names), unit.name)

    def _records(self, unit: Unit, stream: Stream) -> Iterator[Record | Rejected]:
        number = -1
        for number, line in enumerate(lines(stream)):
            where = f"{unit.name}#{number}"
            known = where if self._columns.id is None else None
            if line is None:
                detail = f"a line of more than {LINE_BYTES:,} bytes"
                yield Rejected(where, "ROW_TOO_LARGE", detail, known)
                continue
            if not line.strip():
                continue
            try:
                row = parse_object(line, whole=line.endswith(b"\n"))
            except Refused as fault:
                yield Rejected(where, fault.code, fault.detail, known, digest_of(line))
                continue
            yield record_in(
                self._tree, unit.path.parent, self._columns, row, source_id=where, where=where
            )
        if stream.fault is not None:
            where = f"{unit.name}#{number + 1}"
            yield Rejected(where, stream.fault.code, stream.fault.detail)
