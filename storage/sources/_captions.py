"""A table of captions beside images: metadata.csv and the like, keyed by its file_name column."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from contracts.errors import DataError
from storage.rows import roles_of
from storage.source import Columns, Refused, Rejected, Unit
from storage.sources._json import parse_object
from storage.sources._stream import LINE_BYTES, Stream, lines
from storage.walk import Tree

NAMES = tuple(
    f"{stem}.{suffix}"
    for stem in ("metadata", "captions")
    for suffix in ("csv", "jsonl", "parquet")
)
_KEY = "file_name"
Row = dict[str, Any]


@dataclass(frozen=True)
class Captions:
    """A table of captions.

    Attributes:
        rows: the other columns of each row under its file name, relative to the table.
        rejected: rows that could not be read.
    """

    rows: dict[str, Row]
    rejected: list[Rejected]


def read_captions(tree: Tree, unit: Unit, columns: Columns) -> Captions:
    """Read a table whole.

    A name is a key and never opened. Several rows of one name give the first one's columns, and
    their texts together.

    Raises:
        DataError: the table cannot be read to its end, or has no column `file_name`.
    """
    found = Captions({}, [])
    try:
        with tree.open(unit.path) as opened:
            for number, row in enumerate(_ROWS[unit.path.suffix](opened)):
                if isinstance(row, Refused):
                    found.rejected.append(Rejected(f"{unit.name}#{number}", row.code, row.detail))
                else:
                    _add(found.rows, row, columns, number)
    except Refused as bad:
        raise DataError(
            f"{unit.path}: {bad.code}: {bad.detail}. A table of this name beside images holds "
            f"their captions under {_KEY!r}: mend it, or take it out of the folder."
        ) from None
    return found


def _add(found: dict[str, Row], row: Row, columns: Columns, number: int) -> None:
    name = row.pop(_KEY, None)
    if not isinstance(name, str):
        raise Refused("SCHEMA_MISMATCH", f"row {number} has no text under {_KEY!r}")
    first = found.setdefault(posixpath.normpath(name.replace("\\", "/")), row)
    text = roles_of(columns, tuple(row)).text
    if first is not row and text is not None:
        before = first.get(text)
        first[text] = [*(before if isinstance(before, list) else [before]), row[text]]


def _csv_rows(opened: BinaryIO) -> Iterator[Row | Refused]:
    from storage.sources.csv_text import rows

    stream = Stream(opened)
    names: list[str] | None = None
    for row in rows(stream, ","):
        fields = row.fields
        if names is None:
            if isinstance(fields, Refused):
                raise fields
            names = fields
        elif isinstance(fields, Refused) or len(fields) == len(names):
            yield fields if isinstance(fields, Refused) else dict(zip(names, fields, strict=True))
        else:
            yield Refused("CSV_RAGGED", f"{len(fields)} fields, {len(names)} in the header")
    if stream.fault is not None:
        raise stream.fault


def _json_rows(opened: BinaryIO) -> Iterator[Row | Refused]:
    stream = Stream(opened)
    for line in lines(stream):
        if line is None:
            yield Refused("ROW_TOO_LARGE", f"a line of more than {LINE_BYTES:,} bytes")
        elif line.strip():
            try:
                yield parse_object(line)
            except Refused as bad:
                yield bad
    if stream.fault is not None:
        raise stream.fault


def _parquet_rows(opened: BinaryIO) -> Iterator[Row | Refused]:
    from storage.sources.parquet import read_rows

    return read_rows(opened)


_ROWS = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
