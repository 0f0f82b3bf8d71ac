"""A table of captions beside pictures or clips, such as metadata.csv, keyed by its file_name."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from contracts.errors import DataError, StorageError
from storage.rows import roles_of
from storage.source import PASSING, Columns, Refused, Rejected, Tally, Unit
from storage.sources._json import Described, parse_beside
from storage.sources._stream import LINE_BYTES, Stream, lines
from storage.walk import Folder, Tree

NAMES = tuple(
    f"{stem}.{suffix}"
    for stem in ("metadata", "captions")
    for suffix in ("csv", "jsonl", "parquet")
)
_KEY = "file_name"
Row = dict[str, Any]


@dataclass
class Captions:
    """A table of captions, and which of its rows name a file.

    Attributes:
        noun: what the files are, such as picture.
        path: the table.
        name: its path below the root of the source.
        folder: the folder whose files it names, below the root, with a slash at its end.
        whole: all files below that folder are asked for.
        rows: the other columns of each row under its file name, relative to that folder.
        rejected: rows that could not be read.
        files: how many files were looked up.
    """

    noun: str
    path: Path
    name: str
    folder: str
    whole: bool
    rows: dict[str, Row] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    files: int = 0
    _composed: dict[str, str] = field(default_factory=dict)
    _matched: set[str] = field(default_factory=set)
    _example: str = ""

    def row(self, file: str, *, counted: bool) -> Row:
        """Return the row of a file below the folder; nothing where there is none.

        A name is the same in every normal form of Unicode, unless it is there as it is written.
        """
        name = file[len(self.folder) :]
        if counted:
            self.files += 1
            self._example = self._example or name
        if name not in self.rows:
            name = _composed(name)
            name = self._composed.get(name, name)
        if name in self.rows:
            self._matched.add(name)
        return self.rows.get(name, {})

    def finish(self, passed_over: Tally) -> None:
        """Count the rows that named no file.

        Raises:
            DataError: none did.
        """
        if not self.rows or not (self.files or self.whole):
            return
        lost = [name for name in self.rows if name not in self._matched]
        if not self._matched:
            none = f"there is no {self.noun}"
            there = f"a {self.noun} is {self._example!r}" if self._example else none
            raise DataError(
                f"{self.path}: none of its {len(lost):,} rows names a {self.noun}: the first says "
                f"{lost[0]!r}, {there}. Names under {_KEY!r} are relative to the folder of their "
                "table: mend them, or take the table out of the folder."
            )
        for name in lost if self.whole else ():
            passed_over.add(f"{self.name}: {name}", f"a row that names no {self.noun}")


def read_captions(tree: Tree, folder: Folder, unit: Unit, columns: Columns, noun: str) -> Captions:
    """Read a table whole.

    A name is a key and never opened. Several rows of one name give the first one's columns, and
    their texts together. Where all names begin with the folder's own and it has no subfolder of
    that name, they are relative to the folder above.

    Raises:
        DataError: the table cannot be read to its end, or has no column `file_name`.
    """
    found = Captions(noun, unit.path, unit.name, folder.prefix, folder.wanted is None)
    rows = found.rows
    try:
        with tree.open(unit.path) as opened:
            for number, row in enumerate(_ROWS[unit.path.suffix.lower()](opened)):
                if isinstance(row, Described) and row.fault is not None:
                    reason = f"{row.notes[0]}: {row.fault.code}"
                    folder.passed_over.add(f"row {number} of {unit.name}", reason)
                if isinstance(row, Refused):
                    found.rejected.append(Rejected(f"{unit.name}#{number}", row.code, row.detail))
                else:
                    _add(rows, row.row if isinstance(row, Described) else row, columns, number)
    except Refused as bad:
        kind = StorageError if bad.code in PASSING else DataError
        raise kind(
            f"{unit.path}: {bad.code}: {bad.detail}. A table of this name beside {noun}s holds "
            f"their captions under {_KEY!r}: mend it, or take it out of the folder."
        ) from None
    own = folder.path.name or folder.path.resolve().name
    lead = f"{_composed(own)}/"
    if own not in folder.folders and all(_composed(name).startswith(lead) for name in rows):
        found.rows = {name.partition("/")[2]: row for name, row in rows.items()}
    for name in found.rows:
        if not name.isascii():
            found._composed.setdefault(_composed(name), name)
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


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


def _json_rows(opened: BinaryIO) -> Iterator[Described | Refused]:
    stream = Stream(opened)
    for line in lines(stream):
        if line is None:
            yield Refused("ROW_TOO_LARGE", f"a line of more than {LINE_BYTES:,} bytes")
        elif line.strip():
            described = parse_beside(line)
            yield described.fault if described.fault and not described.row else described
    if stream.fault is not None:
        raise stream.fault


def _parquet_rows(opened: BinaryIO) -> Iterator[Row | Refused]:
    from storage.sources.parquet import read_rows

    return read_rows(opened)


_ROWS = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
