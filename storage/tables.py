"""Pools and their notes as tables: aligned parts, glued by column, never joined.

A pool part is two objects of equal rows in source order: `records` (uid, text, meta, …) and
`payload` (the encoded bytes), so that whatever needs no payload reads and verifies none. An
annotation has the same parts with the same rows, so reading it beside the pool glues columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.uid import digest_of
from storage import commit
from storage.meta import DTYPES, widened
from storage.store import Object, Store

Note = tuple[Object, str]
LOCATION = pl.Struct({"path": pl.String, "offset": pl.Int64, "length": pl.Int64})
ROW_GROUP_BYTES = 8 << 20
ROW_GROUP_ROWS = 10_000


@dataclass(frozen=True)
class Part:
    """A part of a pool.

    Attributes:
        payload: None where the records carry text alone.
        kind: of the payload, None where there is none.
        meta: the types of the pool's meta columns: the part may lack some, or was written when
            some were narrower.
    """

    name: str
    records: Object
    payload: Object | None = None
    kind: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def rows(self) -> int:
        """Records, removed ones included."""
        return self.records.rows


@dataclass(frozen=True)
class Pool:
    """One version of a pool.

    Attributes:
        digest: sum modulo 2**128 of blake2b(uid, record hash) over the live records, in hex.
        records: live records.
        removed: table (uid, part, reason) of tombstones, None where there are none.
        quarantine: tables of what could not be accepted.
        files: tables of what was read: unit, fingerprint, records.
        sources: for each source name its roots, its kind, the columns that it was read by, the
            types of its meta columns and how many values these rest on, and what it passed over.
    """

    name: str
    version: int = 0
    digest: str = "0" * 32
    records: int = 0
    parts: tuple[Part, ...] = ()
    removed: Object | None = None
    quarantine: tuple[Object, ...] = ()
    files: tuple[Object, ...] = ()
    sources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        """The kind of its payloads, which is one; None where it has none."""
        return next((part.kind for part in self.parts if part.kind is not None), None)


def load_pool(store: Store, name: str, version: int | None = None) -> Pool | None:
    """Return a version of a pool, the latest where none is given; None where there is none."""
    content = store.ref("pool", name, version)
    if content is None:
        return None
    meta = {c: kind for s in content["sources"].values() for c, kind in s["meta"].items()}
    parts = tuple(
        Part(
            p["name"],
            Object(**p["records"]),
            Object(**p["payload"]) if p["payload"] else None,
            # Before there was audio, no ref named the kind.
            p.get("kind", "image" if p["payload"] else None),
            meta,
        )
        for p in content["parts"]
    )
    return Pool(
        content["name"],
        content["version"],
        content["digest"],
        content["records"],
        parts,
        Object(**content["removed"]) if content["removed"] else None,
        tuple(Object(**item) for item in content["quarantine"]),
        tuple(Object(**item) for item in content["files"]),
        content["sources"],
    )


def commit_pool(store: Store, pool: Pool) -> None:
    """Make a version of a pool visible.

    Raises:
        BusyError: another run made this version.
    """
    content = asdict(pool)
    for part in content["parts"]:
        del part["meta"]  # of the pool's sources
    store.create_ref("pool", pool.name, pool.version, content)


class TableWriter:
    """Write one Parquet object in row groups, in memory for one of them at a time."""

    def __init__(
        self, store: Store, schema: pa.Schema, *, pool: str, table: str, part: str
    ) -> None:
        self._store, self._at = store, {"pool": pool, "table": table, "part": part}
        self._staged: commit.Staged = store.stage()
        self.rows = 0
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._staged, mode="w"), schema, compression="zstd", version="2.6"
        )

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._staged.size_bytes

    def write(self, table: pa.Table) -> None:
        """Append one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def publish(self) -> Object:
        """Finish the file and make it an object of the store."""
        self._writer.close()
        return self._store.publish(self._staged, rows=self.rows, **self._at)

    def discard(self) -> None:
        """Drop what was written."""
        self._staged.discard()


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return a frame in the Arrow types that every Parquet reader knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def put(store: Store, frame: pl.DataFrame, *, pool: str, table: str, part: str) -> Object:
    """Write a frame as one object."""
    # Pages would show where the chunks end, which batches and workers decide.
    arrow = to_arrow(frame.rechunk())
    writer = TableWriter(store, arrow.schema, pool=pool, table=table, part=part)
    try:
        rows = _rows_per_group(arrow)
        for start in range(0, max(1, arrow.num_rows), rows):
            writer.write(arrow.slice(start, rows))
        return writer.publish()
    finally:
        writer.discard()


def read(store: Store, item: Object, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return an object's columns; `meta.url` names a field of a struct and comes as such.

    Raises:
        DataError: the file is damaged, or lacks a column.
    """
    file = pq.ParquetFile(store.path(item), memory_map=True)
    if columns is not None:
        tops = set(file.schema_arrow.names)
        missing = [c for c in columns if c not in tops and c.split(".")[0] not in tops]
        if missing:
            raise DataError(f"{item.path}: has no column {missing}, only {sorted(tops)}.")
    frame = pl.from_arrow(file.read(columns=list(columns) if columns is not None else None))
    assert isinstance(frame, pl.DataFrame)
    return frame


def schema(store: Store, item: Object) -> dict[str, Any]:
    """Return an object's columns and polars types, a struct's fields as `meta.url`.

    Of the file only the footer is parsed, once it is known to be what was written: readers of
    Parquet may fail in any way at a damaged one.

    Raises:
        DataError: the file is damaged.
        StorageError: the file is gone or unreadable.
    """
    # `arrow.empty_table()` makes arrays, for which pyarrow imports pandas where it is installed.
    arrow = pq.ParquetFile(store.path(item)).schema_arrow
    empty = pl.from_arrow(pa.Table.from_batches([], schema=arrow))
    assert isinstance(empty, pl.DataFrame)
    found: dict[str, Any] = {}
    for name, dtype in empty.schema.items():
        found[name] = dtype
        if isinstance(dtype, pl.Struct):
            found |= {f"{name}.{f.name}": f.dtype for f in dtype.fields}
    return found


def part_schema(store: Store, part: Part) -> dict[str, Any]:
    """Return the columns of a part's records and the types that `glued` gives them."""
    found = schema(store, part.records)
    types = {f"meta.{column}": DTYPES[kind] for column, kind in part.meta.items()}
    return {name: types.get(name, dtype) for name, dtype in found.items()}


def widened_to(store: Store, part: Part, path: str) -> str | None:
    """Return the type of a meta column where the part holds it in a narrower one, else None."""
    kind = part.meta.get(path.removeprefix("meta.")) if path.startswith("meta.") else None
    if kind is None:
        return None
    written = schema(store, part.records).get(path, DTYPES[kind])
    return None if written == DTYPES[kind] else kind


def glued(
    store: Store, part: Part, notes: Mapping[str, Note], paths: Sequence[str]
) -> pl.DataFrame:
    """Return `uid` and the named columns of one part, flat: `text`, `meta.url`, `clip.cosine`.

    Args:
        store: where the objects are.
        part: the pool's part.
        notes: for each note's path the object that lies beside this part, and its column.
        paths: a column of the pool, a field of its meta, or a note such as `clip.cosine`.
    """
    wanted = dict.fromkeys(paths)
    tables: dict[Object, dict[str, str]] = {}
    own: list[str] = []
    for path in wanted:
        if path in notes:
            item, column = notes[path]
            tables.setdefault(item, {})[column] = path
        elif path != "uid":
            own.append(path)
    frame = _pool_columns(store, part, own)
    for item, columns in tables.items():
        beside = read(store, item, list(columns))
        if beside.height != frame.height:
            raise DataError(f"{item.path}: {beside.height} rows beside {frame.height}.")
        frame = frame.hstack(beside.rename(columns))
    return frame.select("uid", *[p for p in wanted if p != "uid"])


def _pool_columns(store: Store, part: Part, paths: Sequence[str]) -> pl.DataFrame:
    held = schema(store, part.records)
    known = [p for p in paths if p in held]
    frame = read(store, part.records, ["uid", *known])
    for top in {p.partition(".")[0] for p in known if "." in p}:
        fields = frame[top].struct.unnest()
        frame = frame.hstack(fields.rename({c: f"{top}.{c}" for c in fields.columns}))
    kinds = {p: part.meta[p[5:]] for p in paths if p.startswith("meta.") and p[5:] in part.meta}
    wider = [widened(frame[p], kind) for p, kind in kinds.items() if p in held]
    # What other records of the pool have, of another source or later ones, is null here.
    absent = [
        pl.lit(None, dtype=DTYPES[kinds[p]] if p in kinds else None).alias(p)
        for p in paths
        if p not in held
    ]
    return frame.with_columns(*wider, *absent).select("uid", *paths)


def payloads(
    store: Store,
    part: Part,
    *,
    rows: Sequence[bool] | NDArray[np.bool_] | None = None,
    gone: Literal["refuse", "null"] = "refuse",
) -> Iterator[pl.DataFrame]:
    """Yield `row`, `uid` and `payload` of a part's records, a row group at a time.

    Args:
        store: where the objects are.
        part: the pool's part.
        rows: a mask over the part's rows; unwanted rows are not yielded and, where the payload
            is a reference, not read.
        gone: what is done about a reference whose file is missing.

    Raises:
        DataError: a payload is not what was ingested (SOURCE_GONE where its file is missing).
    """
    assert part.payload is not None
    assert part.kind is not None
    wanted = None if rows is None else pl.Series(rows, dtype=pl.Boolean)
    records = read(
        store,
        part.records,
        [c for c in ("uid", "digest", "location") if c in schema(store, part.records)],
    )
    file = pq.ParquetFile(store.path(part.payload), memory_map=True)
    start = 0
    for group in range(file.num_row_groups):
        height = file.metadata.row_group(group).num_rows
        here = slice(start, start + height)
        start += height
        mask = None if wanted is None else wanted[here]
        if mask is not None and not mask.any():
            continue
        values = pl.from_arrow(file.read_row_group(group, columns=[part.kind]))
        assert isinstance(values, pl.DataFrame)
        frame = (
            records[here]
            .with_row_index("row", offset=here.start)
            .hstack(values.rename({part.kind: "payload"}))
        )
        if mask is not None:
            frame = frame.filter(mask)
        yield _checked(store, frame, gone)


def _checked(store: Store, frame: pl.DataFrame, gone: str) -> pl.DataFrame:
    values = frame["payload"].to_list()
    if "location" in frame.columns:
        for index, location in enumerate(frame["location"]):
            if location is None:
                continue
            if gone == "refuse" or store.outside(location["path"]).is_file():
                values[index] = referenced(store, location)
    for value, digest, uid in zip(values, frame["digest"], frame["uid"], strict=True):
        if value is not None and digest_of(value) != digest:
            raise DataError(f"record {uid:016x}: its payload is not what was ingested.")
    return frame.select("row", "uid").with_columns(pl.Series("payload", values, dtype=pl.Binary))


def references(store: Store, part: Part) -> pl.DataFrame:
    """Return what a part's records refer to outside of the store: uid, digest, location.

    Raises:
        DataError: the records are damaged.
    """
    store.path(part.records)
    if "location" not in schema(store, part.records):
        return pl.DataFrame(schema={"uid": pl.UInt64, "digest": pl.Binary, "location": LOCATION})
    rows = read(store, part.records, ["uid", "digest", "location"])
    return rows.filter(pl.col("location").is_not_null())


def referenced(store: Store, location: Mapping[str, Any]) -> bytes:
    """Return the bytes that a record refers to.

    Raises:
        DataError: SOURCE_GONE, they cannot be read.
    """
    path = store.outside(location["path"])
    try:
        with path.open("rb") as file:
            file.seek(location["offset"])
            data = file.read(location["length"])
    except OSError as error:
        raise DataError(
            f"SOURCE_GONE: {path}: {error.strerror}. Put the file back, say where it is now "
            "(winnow ls --outside --moved OLD=NEW), or ingest the source with payload = "
            '"copy".'
        ) from error
    return data


def _rows_per_group(arrow: pa.Table) -> int:
    if not arrow.num_rows:
        return 1
    row_bytes = max(1, arrow.nbytes // arrow.num_rows)
    return int(max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // row_bytes)))
