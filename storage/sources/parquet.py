"""Parquet files, those of Hugging Face with images in them too: a record a row."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import ConfigError, DataError
from storage.block import Block, Table
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
# So many rows, or so many bytes of them, come together.
TABLE_ROWS = 1024
TABLE_BYTES = 1 << 20
# What pyarrow raises on bytes that it cannot read.
_DAMAGE = (pa.ArrowException, OSError, MemoryError)


class Parquet:
    """Read files row by row, few at a time; a column that a file lacks is null there.

    Types widen over the files and at every depth, never so that two values become one: an integer
    column of one file and a float column of another are floats where a double holds each of the
    integers, else an error. Columns of ids, series and positions keep the type of their file.
    Times are naive, in UTC, and cut to microseconds, which NANOSECONDS_CUT notes. Checksums of
    pages are verified where there are any.

    Rejects:
        ROW_TOO_LARGE (64 MiB), VALUE_RANGE (a time that no calendar or no 64 bits have), of whole
        files SOURCE_UNREADABLE, BOMB_ROWS, SYMLINK, SPECIAL_FILE, UNREADABLE,
        CHANGED_WHILE_READING, and what `record_of` says of a row.
    Raises:
        DataError: the source's only file is damaged, or a column name occurs twice.
        ConfigError: a file lacks a column that the recipe names, or no type holds what two files
            have in one column.
    Cost: memory for a page of each column, which most writers end at 1 MiB or at the first 1,024
        rows beyond, and for 64 rows, 8 of them where a column chunk is above 8 MiB.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over
        self._common: dict[str, pa.DataType] | None = None
        # Of each column its different types, and the first file of each.
        self._seen: defaultdict[str, dict[pa.DataType, Path]] = defaultdict(dict)

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process reads some of the files under the types of all.
        self._types()
        return self.__dict__

    def units(self) -> Iterator[Unit]:
        """Yield a unit a file."""
        return self._tree.units(SUFFIXES)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield the file's rows, as `blocks` gives them."""
        for block in self.blocks(unit):
            yield from block.each()

    def blocks(self, unit: Unit) -> Iterator[Block]:
        """Yield the file's rows as tables, but those that cannot be read with their neighbours."""
        common = self._types()
        try:
            with self._tree.open(unit.path) as opened:
                number = 0
                for found in _tables(opened, common):
                    yield self._block(unit, found, number)
                    number += found.height
        except Refused as bad:
            if bad.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: is no sound Parquet file: {bad.detail}") from None
            yield Block(1, alone={0: Rejected(unit.name, bad.code, bad.detail)})
        except _Narrowed as narrowed:
            column, value = narrowed.column, narrowed.value
            other = self._clash(column, lambda kind: _widened(value, kind))
            raise ConfigError(
                f"{unit.path}: the column {column!r} holds {value!r:.100}, "
                f"whose numbers no double holds, in {other}. "
                "Read them as two sources, or write one type."
            ) from None

    def _block(self, unit: Unit, found: _Values, first: int) -> Block:
        def record(row: dict[str, Any], number: int) -> Record | Rejected:
            where = f"{unit.name}#{number}"
            return record_of(self._columns, row, source_id=where, where=where, notes=found.notes)

        height = found.height
        if found.refused is None:
            numbers = range(first, first + height)
            rows = Table(unit.name, range(height), numbers, found.columns, record)
            return Block(height, [rows])
        where = f"{unit.name}#{first}"
        known = None if self._columns.id else where
        bad = found.refused
        return Block(height, alone={0: Rejected(where, bad.code, bad.detail, known)})

    def _types(self) -> Mapping[str, pa.DataType]:
        """Return the types that hold each column of all files, compared before the first is read.

        Cost: a read of each file's footer.
        """
        if self._common is not None:
            return self._common
        common: dict[str, pa.DataType] = {}
        for unit in self.units():
            try:
                with self._tree.open(unit.path) as opened:
                    found = pq.read_schema(opened)
            except (Refused, *_DAMAGE):
                continue  # reported when it is read
            twice = sorted(name for name, count in Counter(found.names).items() if count > 1)
            if twice:
                raise DataError(f"{unit.path}: the column {twice[0]!r} occurs twice. Rename one.")
            check_columns(self._columns, found.names, str(unit.path))
            for field in found:
                self._unite(common, field.name, _plain_type(field.type), unit.path)
        self._common = common
        return common

    def _unite(
        self, common: dict[str, pa.DataType], name: str, found: pa.DataType, path: Path
    ) -> None:
        if name in (self._columns.id, self._columns.series, self._columns.position):
            return
        try:
            common[name] = _common_type(common.get(name, found), found)
        except pa.ArrowException:
            other = self._clash(name, lambda kind: _common_type(kind, found))
            raise ConfigError(
                f"{path}: the column {name!r} is {found}, in {other}. "
                "Read them as two sources, or write one type."
            ) from None
        self._seen[name].setdefault(found, path)

    def _clash(self, name: str, meet: Callable[[pa.DataType], Any]) -> str:
        """Return the first file whose type of a column does not `meet` with another's."""
        for kind, path in self._seen[name].items():
            try:
                meet(kind)
            except (pa.ArrowException, ValueError):
                return f"{path} it is {kind}"
        return "other files it has other types"


def read_rows(opened: BinaryIO) -> Iterator[dict[str, Any] | Refused]:
    """Yield each row of an open file under its own types, or why it cannot be taken.

    Raises:
        Refused: SOURCE_UNREADABLE, BOMB_ROWS or CHANGED_WHILE_READING: the file, or its rest.
    """
    for found in _tables(opened, {}):
        if found.refused is not None:
            yield found.refused
        else:
            for row in range(found.height):
                yield {name: values[row] for name, values in found.columns.items()}


class _Values(NamedTuple):
    """Rows that follow each other, or one row that is refused.

    Attributes:
        columns: each column's values, a row each.
        height: rows.
        notes: of each of the rows.
    """

    columns: dict[str, list[Any]]
    height: int
    notes: tuple[str, ...] = ()
    refused: Refused | None = None


def _tables(opened: BinaryIO, common: Mapping[str, pa.DataType]) -> Iterator[_Values]:
    """Yield the rows as they are under the types of `common`.

    Raises:
        _Narrowed: a value is not the same under the type of `common`.
        Refused: as `read_rows`.
    """
    before = os.fstat(opened.fileno())
    number = 0
    plain: list[pa.DataType] = []
    wider: dict[str, pa.DataType] = {}
    try:
        for batch in _batches(opened, before.st_size):
            if not plain:
                plain = [_plain_type(field.type) for field in batch.schema]
                pairs = zip(batch.schema.names, plain, strict=True)
                wider = {n: common[n] for n, own in pairs if common.get(n, own) != own}
            for table in _tables_of(batch, plain):
                for name, target in wider.items():
                    for row, value in enumerate(table.columns.get(name, ())):
                        try:
                            table.columns[name][row] = _widened(value, target)
                        except ValueError:
                            raise _Narrowed(name, value) from None
                yield table
            number += batch.num_rows
    except _DAMAGE as error:
        check_unchanged(opened, before)
        raise Refused("SOURCE_UNREADABLE", f"from row {number} on: {error}") from None
    check_unchanged(opened, before)


# ------------------------------------------------------------------ types


class _Narrowed(Exception):
    """A column's value with a number in it that the column's common type does not hold."""

    def __init__(self, column: str, value: Any) -> None:
        self.column, self.value = column, value
        super().__init__(column, value)


def _plain_type(found: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read: no dictionary, no nanosecond, no extension."""
    if isinstance(found, pa.BaseExtensionType) and found != pa.uuid():
        return _plain_type(found.storage_type)
    if pa.types.is_dictionary(found):
        return _plain_type(found.value_type)
    if pa.types.is_struct(found):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in found])
    if pa.types.is_map(found):
        return pa.map_(_plain_type(found.key_type), _plain_type(found.item_type))
    if _is_list(found) and not _is_view(found):
        inner = found.value_field.with_type(_plain_type(found.value_type))
        if pa.types.is_fixed_size_list(found):
            return pa.list_(inner, found.list_size)
        return pa.large_list(inner) if pa.types.is_large_list(found) else pa.list_(inner)
    if pa.types.is_timestamp(found):
        return pa.timestamp("us")
    if pa.types.is_duration(found):
        return pa.duration("us")
    if pa.types.is_time(found):
        return pa.time64("us")
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(found, found)


def _is_list(found: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, _is_view)
    return any(kind(found) for kind in kinds)


def _is_view(found: pa.DataType) -> bool:
    # Arrow 26 loses the last list where it casts these, so their values stay as they are.
    return bool(pa.types.is_list_view(found) or pa.types.is_large_list_view(found))


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that the values of both have together.

    Raises:
        pa.ArrowException: there is none.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if _is_list(one) and _is_list(other):
        return pa.large_list(_common_type(one.value_type, other.value_type))
    if pa.types.is_map(one) and pa.types.is_map(other):
        return pa.map_(
            _common_type(one.key_type, other.key_type), _common_type(one.item_type, other.item_type)
        )
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            fields[field.name] = _common_type(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items()))
    # Of int64 and uint64 Arrow takes int64, which no integer is cast to: see `_widened`.
    pair = [pa.schema([("", one)]), pa.schema([("", other)])]
    return pa.unify_schemas(pair, promote_options="permissive").field(0).type


def _widened(value: Any, target: pa.DataType) -> Any:
    """Return a value as it is beside others of a common type: a whole number may become a float.

    Raises:
        ValueError: it holds a number that no double holds.
    """
    if isinstance(value, dict) and pa.types.is_struct(target):
        types = {field.name: field.type for field in target}
        return {k: _widened(v, types.get(k, pa.null())) for k, v in value.items()}
    if isinstance(value, list) and pa.types.is_map(target):
        key, item = target.key_type, target.item_type
        return [(_widened(k, key), _widened(v, item)) for k, v in value]
    if isinstance(value, list) and _is_list(target):
        return [_widened(v, target.value_type) for v in value]
    if isinstance(value, int | Decimal) and pa.types.is_floating(target):
        number = float(value)
        if number != value and Decimal(repr(number)) != value:
            raise ValueError(value)
        return number
    return value


def _as(batch: pa.RecordBatch, plain: list[pa.DataType], **allowed: bool) -> pa.RecordBatch:
    """Return a batch under plain types.

    Raises:
        pa.ArrowInvalid: a value is not in the range of its type, or not `allowed` to be cut.
    """
    columns = []
    for column, target in zip(batch.columns, plain, strict=True):
        if isinstance(column, pa.ExtensionArray) and column.type != target:
            column = column.storage
        if column.type != target:
            column = pc.cast(column, options=pc.CastOptions(target_type=target, **allowed))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


# ------------------------------------------------------------------ rows


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
    given = size = 0
    held: list[pa.RecordBatch] = []
    for batch in file.iter_batches(**options):
        given += batch.nbytes
        size += batch.nbytes
        if given > cap:
            raise Refused("BOMB_ROWS", f"{rows:,} rows unfold {size_bytes:,} bytes beyond {cap:,}")
        if held and (size > TABLE_BYTES or len(held) * held[0].num_rows >= TABLE_ROWS):
            yield pa.concat_batches(held)
            # Arrow's allocator keeps what joined batches leave, some 30 MB in a long file.
            pa.default_memory_pool().release_unused()
            held, size = [], batch.nbytes
        held.append(batch)
    if held:
        yield pa.concat_batches(held)


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


def _tables_of(batch: pa.RecordBatch, plain: list[pa.DataType]) -> Iterator[_Values]:
    if batch.nbytes <= ROW_BYTES:
        try:
            table = _table(_as(batch, plain))
        except (pa.ArrowInvalid, ValueError, OverflowError):
            pass  # one of the rows; each alone then
        else:
            yield table
            return
    for at in range(batch.num_rows):
        yield _table_of_one(batch.slice(at, 1), plain)


def _table(batch: pa.RecordBatch, notes: tuple[str, ...] = ()) -> _Values:
    columns = {
        name: column.to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return _Values(columns, batch.num_rows, notes)


def _table_of_one(row: pa.RecordBatch, plain: list[pa.DataType]) -> _Values:
    size = row.nbytes
    if size > ROW_BYTES:
        detail = f"{size:,} bytes, the limit is {ROW_BYTES:,}"
        return _Values({}, 1, refused=Refused("ROW_TOO_LARGE", detail))
    notes: tuple[str, ...] = ()
    try:
        # A cast of a slice fails at what its neighbours hold inside of lists and structs.
        alone = [pa.concat_arrays([column, column])[:1] for column in row.columns]
        row = pa.RecordBatch.from_arrays(alone, names=row.schema.names)
        try:
            cast = _as(row, plain)
        except pa.ArrowInvalid:
            cast = _as(row, plain, allow_time_truncate=True)
            notes = ("NANOSECONDS_CUT",)
        return _table(cast, notes)
    except UnicodeDecodeError as error:
        return _Values({}, 1, refused=Refused("CAPTION_NOT_UTF8", str(error)))
    except (pa.ArrowInvalid, ValueError, OverflowError) as error:
        return _Values({}, 1, refused=Refused("VALUE_RANGE", str(error)))
