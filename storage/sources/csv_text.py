"""CSV and TSV, plain or compressed: a record a row, values as text but plain numbers."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from contracts.errors import DataError
from contracts.uid import digest_of
from storage.rows import check_columns, roles_of
from storage.source import SUFFIXES, Columns, Record, Refused, Rejected, Unit
from storage.sources._rows import record_in
from storage.sources._stream import LINE_BYTES, Stream, lines
from storage.walk import Tree

_LOOKED_AT = 1000
# Longer values are no numbers.
_NUMBER_LENGTH = 32


class CsvText:
    r"""Files of comma- or tab-separated values, a unit a file.

    The first row names the columns. A field in double quotes may hold delimiters, line ends and
    doubled quotes (RFC 4180); a quote inside an unquoted field is a character. `.tsv` is
    separated by tabs, `.csv` by commas, or by semicolons or tabs where its header has no comma.
    A line ends with `\n` or `\r\n`, or with `\r` where the header does.

    Every row is a record or a rejection; blank lines are nothing, but count. A source id is
    `<file>#<row>`, from 0 at the first row after the header, or the id column's value. An
    empty field is null. A column of meta is integer or number if all its values in the file's
    first 1,000 rows come back the same from such a number (`007`, `1e5` and `nan` do not), or
    are decimals of one length (`0.50`); what does not fit below them is left as text.

    Cost: one pass; memory for one row, at most 64 MiB.
    Raises:
        ConfigError: a file lacks a column that the recipe names.
        DataError: a header names a column twice, or the source's only file has no header.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit a file."""
        return self._tree.units(SUFFIXES["csv_text"])

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a record or a rejection for each row.

        Rejections: CSV_RAGGED, CSV_QUOTE (reading goes on with the next line), CAPTION_NOT_UTF8,
        ROW_TOO_LARGE, what `record_in` says, and where the file ends before its time
        SOURCE_TRUNCATED, BOMB_WINDOW, BOMB_RATIO or CHANGED_WHILE_READING.
        """
        try:
            with self._tree.open(unit.path) as opened:
                stream = Stream(opened, unit.path.name)
                types = self._types(unit, stream)
                if types is not None:
                    yield from self._records(unit, stream, types)
        except Refused as fault:
            if fault.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: {fault.detail}.") from None
            yield Rejected(unit.name, fault.code, fault.detail)

    def _types(self, unit: Unit, stream: Stream) -> dict[str, type] | None:
        """Read the header and the first rows: each column's name and type; None in an empty file.

        Raises:
            Refused: SOURCE_UNREADABLE, or the stream's fault before the header's end.
            DataError: CSV_DUP_HEADER.
        """
        found = rows(stream, _delimiter_of(unit.path))
        header = next(found, None)
        if header is None or isinstance(header.fields, Refused):
            if stream.fault is not None:
                raise stream.fault
            if header is None:
                return None
            assert isinstance(header.fields, Refused)
            raise Refused("SOURCE_UNREADABLE", f"no header: {header.fields.detail}")
        names = header.fields
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise DataError(
                f"{unit.path}: CSV_DUP_HEADER: the column {twice[0]!r} occurs twice. Rename one."
            )
        check_columns(self._columns, names, unit.name)
        meta = roles_of(self._columns, tuple(names)).meta
        seen: dict[str, set[Any] | None] = dict.fromkeys(meta)
        for row in islice(found, _LOOKED_AT):
            if isinstance(row.fields, Refused) or len(row.fields) != len(names):
                continue
            for name, value in zip(names, row.fields, strict=True):
                if value and name in seen:
                    before = seen[name]
                    # A text stays one: no more of its values are looked at.
                    if before is None:
                        seen[name] = _readings(value)
                    elif before:
                        before &= _readings(value)
        return {name: _type_of(seen.get(name)) for name in names}

    def _records(
        self, unit: Unit, stream: Stream, types: dict[str, type]
    ) -> Iterator[Record | Rejected]:
        text = roles_of(self._columns, tuple(types)).text
        found = rows(stream, _delimiter_of(unit.path))
        first = next(found).number + 1
        number = -1
        for row in found:
            number = row.number - first
            where = f"{unit.name}#{number}"
            fields = row.fields
            if not isinstance(fields, Refused) and len(fields) != len(types):
                fields = Refused("CSV_RAGGED", f"{len(fields)} fields, {len(types)} in the header")
            if isinstance(fields, Refused):
                known = where if self._columns.id is None else None
                yield Rejected(where, fields.code, fields.detail, known, digest_of(row.raw))
                continue
            values: dict[str, Any] = {}
            for (name, kind), value in zip(types.items(), fields, strict=True):
                # An empty text is told apart by what becomes of it, all else empty is null.
                values[name] = _cast(value, kind) if value or name == text else None
            yield record_in(
                self._tree,
                unit.path.parent,
                self._columns,
                values,
                source_id=where,
                where=where,
                notes=row.notes,
            )
        if stream.fault is not None:
            where = f"{unit.name}#{number + 1}"
            yield Rejected(where, stream.fault.code, stream.fault.detail)


# ------------------------------------------------------------------ numbers

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.([0-9]+)")


def _type_of(readings: set[Any] | None) -> type:
    """Return the type of a column by the readings that all its values have; None: no value."""
    if not readings:
        return str
    return int if int in readings else float


def _readings(value: str) -> set[Any]:
    """Return as what a value comes back unchanged: int, float, n digits after the point.

    Decimals of one length and within the precision of a double stay as different as they are.
    """
    found: set[Any] = set()
    if _is_integer(value):
        found.add(int)
    if _is_float(value):
        found.add(float)
    if len(value) <= 16 and (decimal := _DECIMAL.fullmatch(value)):
        found.add(len(decimal[2]))
    return found


def _is_integer(value: str) -> bool:
    if len(value) > 20 or not _PLAIN.fullmatch(value):
        return False
    return value.lstrip("-").isdigit() and value != "-0" and -(2**63) <= int(value) < 2**63


def _is_float(value: str) -> bool:
    if len(value) > _NUMBER_LENGTH or not _PLAIN.fullmatch(value):
        return False
    number = float(value)
    # Integers stand among numbers as far as a double holds them all.
    return repr(number) == value or (_is_integer(value) and abs(number) <= 2**53)


def _cast(value: str, kind: type) -> int | float | str:
    if kind is int and _is_integer(value):
        return int(value)
    if kind is float and len(value) <= _NUMBER_LENGTH and _PLAIN.fullmatch(value):
        number = float(value)
        return number if math.isfinite(number) else value
    return value


# ------------------------------------------------------------------ the format


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file.

    Attributes:
        number: its place among the rows, blank lines and the header counted.
        raw: its bytes; of a row that is refused, those of its first line.
        fields: or why they cannot be told.
        notes: CONTROL_CHARS where a NUL was removed.
    """

    number: int
    raw: bytes
    fields: list[str] | Refused
    notes: tuple[str, ...] = ()

    @property
    def cr(self) -> bool:
        """Whether a lone carriage return ends it."""
        return self.raw.endswith(b"\r")


def rows(stream: Stream, delimiter: str | None) -> Iterator[Row]:
    """Yield each row that is not blank, from the stream's start on.

    Lines end as the first row does: where it ends with a lone carriage return, each of these ends
    a line, and a newline too; elsewhere it is a character like others.

    A quote that does not close, or closes before something else than a delimiter, costs its own
    line: the lines that were read in search of its end are read again as rows. None as delimiter
    is settled by the first row.
    """
    stream.rewind()
    first = next(_rows(lines(stream, cr=True), delimiter), None)
    stream.rewind()
    yield from _rows(lines(stream, cr=first is not None and first.cr), delimiter)


def _rows(source: Iterator[bytes | None], delimiter: str | None) -> Iterator[Row]:
    ahead: deque[bytes | None] = deque()
    number = -1
    while True:
        line = ahead.popleft() if ahead else next(source, b"")
        if line is not None and not line:
            return
        number += 1
        if line is None:
            fault = Refused("ROW_TOO_LARGE", f"a line of more than {LINE_BYTES:,} bytes")
            yield Row(number, b"", fault)
            continue
        if not line.strip(b"\r\n"):
            continue
        if delimiter is None:
            delimiter = _sniffed(line)
        taken = [line]
        try:
            fields = _fields(taken, ahead, source, delimiter)
            raw = b"".join(taken)
            raw.decode()
        except UnicodeDecodeError as error:
            detail = f"byte {raw[error.start]:#04x} at {error.start}"
            yield Row(number, raw, Refused("CAPTION_NOT_UTF8", detail))
        except Refused as fault:
            ahead.extendleft(reversed(taken[1:]))
            yield Row(number, line, fault)
        else:
            if b"\0" in raw:
                fields = [field.replace("\0", "") for field in fields]
                yield Row(number, raw, fields, ("CONTROL_CHARS",))
            else:
                yield Row(number, raw, fields)


def _fields(
    taken: list[bytes], ahead: deque[bytes | None], source: Iterator[bytes | None], delimiter: str
) -> list[str]:
    """Return the fields of the row that begins with a line, taking more lines as it needs them.

    Raises:
        Refused: CSV_QUOTE.
    """
    fields: list[str] = []
    quoted: list[str] | None = None
    size = 0
    while True:
        size += len(taken[-1])
        line = taken[-1].decode("utf-8", "surrogateescape")
        end = len(line.removesuffix("\n").removesuffix("\r"))
        at = 0
        while quoted is not None or at <= end:
            if quoted is None and (at == end or line[at] != '"'):
                stop = line.find(delimiter, at, end)
                stop = end if stop < 0 else stop
                fields.append(line[at:stop])
                at = stop + 1
                continue
            if quoted is None:
                quoted, at = [], at + 1
            close = line.find('"', at)
            if close < 0:
                quoted.append(line[at:])
                break
            quoted.append(line[at:close])
            at = close + 1
            if line.startswith('"', at):
                quoted.append('"')
                at += 1
                continue
            if at < end and line[at] != delimiter:
                raise Refused("CSV_QUOTE", f"{line[at]!r} after a closing quote")
            fields.append("".join(quoted))
            quoted, at = None, at + 1
        if quoted is None:
            return fields
        following = ahead.popleft() if ahead else next(source, b"")
        if following is None:
            ahead.appendleft(None)
        if not following or size + len(following) > LINE_BYTES:
            if following:
                ahead.appendleft(following)
            raise Refused("CSV_QUOTE", "a quote is not closed")
        taken.append(following)


def _delimiter_of(path: Path) -> str | None:
    return "\t" if ".tsv" in path.suffixes else None


def _sniffed(header: bytes) -> str:
    return next((d for d in ",;\t" if d.encode() in header), ",")
