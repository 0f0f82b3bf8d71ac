"""Parquet files, those of Hugging Face with images in them too: a record a row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ConfigError, DataError
from storage.rows import check_columns, record_of
from storage.source import Columns, Record, Refused, Rejected, Unit
from storage.walk import Tree, check_unchanged

SUFFIXES = (".parquet",)
ROW_BYTES = 64 << 20
# A file may unfold to this without question, and beyond it to RATIO times its size: a column of
# one repeated value has no bound.
FREE_BYTES = 256 << 20
RATIO = 1000
# A batch holds at most this much where no value is longer than a column chunk.
BATCH_BYTES = 64 << 20
# What pyarrow raises on bytes that it cannot read.
_DAMAGE = (pa.ArrowException, OSError, MemoryError)


class Parquet:
    """Read files row by row, few at a time; all files have the same columns.

    Types widen over the files (an integer column of one is a float column of another). Times are
    naive, in UTC, and cut to microseconds. Checksums of pages are verified where there are any.

    Rejects:
        ROW_TOO_LARGE (64 MiB), VALUE_RANGE (a time that no calendar has), of whole files
        SOURCE_UNREADABLE, BOMB_ROWS, SYMLINK, SPECIAL_FILE, UNREADABLE, CHANGED_WHILE_READING, and
        what `record_of` says of a row.
    Cost: memory for a page of each column, which most writers end at 1 MiB or at the first 1,024
        rows beyond, and for 64 rows, 8 of them where a column chunk is above 8 MiB.
    """

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over
        self._common: pa.Schema | None = None

    def units(self) -> Iterator[Unit]:
        """Yield a unit a file."""
        return self._tree.units(SUFFIXES)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield the file's rows.

        Raises:
            DataError: the source's only file is damaged, or a column name occurs twice.
            ConfigError: files differ in their columns, or lack one that the recipe names.
        """
        try:
            with self._tree.open(unit.path) as opened:
                for number, row in enumerate(read_rows(opened, self._schema())):
                    where = f"{unit.name}#{number}"
                    if isinstance(row, Refused):
                        known = None if self._columns.id else where
                        yield Rejected(where, row.code, row.detail, known)
                    else:
                        yield record_of(self._columns, row, source_id=where, where=where)
        except Refused as bad:
            if bad.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: is no sound Parquet file: {bad.detail}") from None
            yield Rejected(unit.name, bad.code, bad.detail)

    def _schema(self) -> pa.Schema:
        """Return the columns of all files, which are compared before the first is read."""
        if self._common is not None:
            return self._common
        first, common = None, pa.schema([])
        for unit in self.units():
            try:
                with self._tree.open(unit.path) as opened:
                    found = _plain_schema(pq.read_schema(opened))
            except (Refused, *_DAMAGE):
                continue  # reported when it is read
            twice = sorted({name for name in found.names if found.names.count(name) > 1})
            if twice:
                raise DataError(f"{unit.path}: the column {twice[0]!r} occurs twice. Rename one.")
            if first is None:
                check_columns(self._columns, found.names, str(unit.path))
                first, common = unit.path, found
            common = _united(common, found, first, unit.path)
        self._common = common
        return common


def read_rows(
    opened: BinaryIO, schema: pa.Schema | None = None
) -> Iterator[dict[str, Any] | Refused]:
    """Yield each row of an open file under the types of `schema`, or why it cannot be taken.

    Raises:
        Refused: SOURCE_UNREADABLE, BOMB_ROWS or CHANGED_WHILE_READING: the file, or its rest.
    """
    before = os.fstat(opened.fileno())
    number = 0
    try:
        schema = schema or _plain_schema(pq.read_schema(opened))
        for batch in _batches(opened, before.st_size):
            yield from _rows_of(_as(batch, schema))
            number += batch.num_rows
    except _DAMAGE as error:
        check_unchanged(opened, before)
        raise Refused("SOURCE_UNREADABLE", f"from row {number} on: {error}") from None
    check_unchanged(opened, before)


def _united(common: pa.Schema, found: pa.Schema, first: Path, path: Path) -> pa.Schema:
    """Return the types that hold both files'."""
    for one, other, lacking in ((common, found, path), (found, common, first)):
        missing = [name for name in one.names if name not in other.names]
        if missing:
            having = first if lacking == path else path
            raise ConfigError(f"{lacking}: has no column {missing[0]!r}, which {having} has.")
    fields = []
    for field in common:
        pair = [pa.schema([field]), pa.schema([found.field(field.name)])]
        try:
            fields.append(pa.unify_schemas(pair, promote_options="permissive").field(0))
        except pa.ArrowException:
            raise ConfigError(
                f"{path}: the column {field.name!r} is {found.field(field.name).type}, "
                f"in {first} it is {field.type}. Read them as two sources, or write one type."
            ) from None
    return pa.schema(fields)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(found: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read: no dictionary, no nanosecond, no extension."""
    if isinstance(found, pa.BaseExtensionType) and found != pa.uuid():
        return _plain_type(found.storage_type)
    if pa.types.is_dictionary(found):
        return found.value_type
    if pa.types.is_timestamp(found):
        return pa.timestamp("us")
    if pa.types.is_duration(found):
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time(found) else found


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        column = batch.column(field.name)
        if isinstance(column, pa.ExtensionArray) and column.type != field.type:
            column = column.storage
        columns.append(column if column.type == field.type else column.cast(field.type, safe=False))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _batches(opened: BinaryIO, size_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yield the file in small batches, none of it where it would unfold beyond all measure.

    Raises:
        Refused: BOMB_ROWS.
    """
    cap = max(FREE_BYTES, RATIO * size_bytes)
    # Otherwise pyarrow reads a column chunk, of images a hundred megabytes, at once.
    file = pq.ParquetFile(
        opened, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
    rows = file.metadata.num_rows
    options = {"batch_size": _batch_rows(file.metadata), "use_threads": False}
    # Rows as long as the first few would be too much: look at all before any is given.
    given = 0
    for batch in file.iter_batches(**options):
        given += batch.nbytes
        if given > cap:
            raise Refused("BOMB_ROWS", f"{rows:,} rows unfold {size_bytes:,} bytes beyond {cap:,}")
        if given == batch.nbytes and given * rows <= cap * batch.num_rows:
            break
    given = 0
    for batch in file.iter_batches(**options):
        given += batch.nbytes
        if given > cap:
            raise Refused("BOMB_ROWS", f"{rows:,} rows unfold {size_bytes:,} bytes beyond {cap:,}")
        yield batch


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Return how many rows to read at once: one value may be as long as its column chunk."""
    largest = max(
        (
            metadata.row_group(g).column(c).total_uncompressed_size
            for g in range(metadata.num_row_groups)
            for c in range(metadata.num_columns)
        ),
        default=0,
    )
    return min(64, max(8, BATCH_BYTES // max(largest, 1)))


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Refused]:
    if batch.nbytes <= ROW_BYTES:
        try:
            yield from batch.to_pylist()
            return
        except (ValueError, OverflowError):
            pass  # one of the rows; each alone then
    for at in range(batch.num_rows):
        yield _row_of(batch.slice(at, 1))


def _row_of(row: pa.RecordBatch) -> dict[str, Any] | Refused:
    if row.nbytes > ROW_BYTES:
        return Refused("ROW_TOO_LARGE", f"{row.nbytes:,} bytes, the limit is {ROW_BYTES:,}")
    try:
        found: dict[str, Any] = row.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Refused("CAPTION_NOT_UTF8", str(error))
    except (ValueError, OverflowError) as error:
        return Refused("VALUE_RANGE", str(error))
    return found
