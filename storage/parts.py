"""A pool's part on disk: the tables of a pool, and the writer of one part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from storage import tables
from storage.meta import widened
from storage.source import Record
from storage.store import Store

PART_ROWS = 100_000
PART_BYTES = 256 << 20
# Texts lie in the records, which are held in memory until the part closes.
PART_TEXT_BYTES = 64 << 20
FLUSH_ROWS = 1000

QUARANTINE = {
    "source": pl.String,
    "source_id": pl.String,
    "where": pl.String,
    "code": pl.String,
    "detail": pl.String,
    "digest": pl.Binary,
    "unit": pl.String,
}
FILES = {
    "source": pl.String,
    "unit": pl.String,
    "fingerprint": pl.String,
    "records": pl.UInt32,
}
REMOVED = {"uid": pl.UInt64, "part": pl.String, "reason": pl.String}
TEXTS = pl.List(pl.Struct({"text": pl.String, "lang": pl.String, "origin": pl.String}))
# The columns of a pool before meta; those of no record of a part are left out.
RECORD: dict[str, Any] = {
    "uid": pl.UInt64,
    "source": pl.String,
    "source_id": pl.String,
    "digest": pl.Binary,
    "record": pl.Binary,
    "location": tables.LOCATION,
    "text": pl.String,
    "texts": TEXTS,
    "series": pl.String,
    "position": pl.Int64,
    "width": pl.UInt32,
    "height": pl.UInt32,
    "licence": pl.String,
    "normalised": pl.List(pl.String),
}
_META = "meta."
ALWAYS = ("uid", "source", "source_id", "digest", "record", "normalised")


class Types(Protocol):
    """The types of a source's meta columns, which widen while its first values come.

    Attributes:
        kinds: each column's type so far, of `storage.meta`.
    """

    kinds: dict[str, str]

    def columns(self, metas: list[dict[str, Any]]) -> dict[str, pl.Series]:
        """Return the columns that some records have, in the types so far."""
        ...


class PartWriter:
    """Write one part: payload as it comes, records when it closes."""

    def __init__(self, store: Store, pool: str, name: str, types: Types) -> None:
        self.store, self.pool, self.name, self.types = store, pool, name, types
        self.rows = 0
        self.payload_bytes = 0
        self.text_bytes = 0
        self.series: str | None = None
        self._waiting: list[dict[str, Any]] = []
        self._batches: list[pl.DataFrame] = []
        self._metas: list[dict[str, Any]] = []
        self._payload: tables.TableWriter | None = None
        self._images: list[tuple[int, bytes | None]] = []
        self._images_bytes = 0

    def full(self, series: str | None) -> bool:
        """Whether the next record begins another part; a series is never split."""
        enough = (
            self.rows >= PART_ROWS
            or self.payload_bytes >= PART_BYTES
            or self.text_bytes >= PART_TEXT_BYTES
        )
        return enough and (series is None or series != self.series)

    def add(self, row: dict[str, Any], record: Record) -> None:
        """Append a record; its picture where the row names no place of it."""
        image = None if row.get("location") is not None else record.image
        has_payload = record.image is not None
        size = len(image or b"")
        if self._images and self._images_bytes + size > tables.ROW_GROUP_BYTES:
            self._flush_images()
        if has_payload or self._payload is not None or self._images:
            if not self._images and self._payload is None and self.rows:
                self._images = [(uid, None) for uid in self._uids_so_far()]
            self._images.append((row["uid"], image))
            self._images_bytes += size
        self._waiting.append(row)
        self._metas.append(record.meta)
        self.rows += 1
        self.payload_bytes += size
        self.text_bytes += len(record.text or "")
        self.series = record.series
        if len(self._waiting) >= FLUSH_ROWS:
            self._flush_rows()
        if len(self._images) >= FLUSH_ROWS:
            self._flush_images()

    def publish(self) -> tables.Part:
        """Finish the part and make its tables objects of the store."""
        self._flush_rows()
        payload = None
        if self._images or self._payload is not None:
            self._flush_images()
            assert self._payload is not None
            payload = self._payload.publish()
        records = tables.put(
            self.store, self._records(), pool=self.pool, table="records", part=self.name
        )
        return tables.Part(self.name, records, payload)

    def discard(self) -> None:
        """Drop what was written."""
        if self._payload is not None:
            self._payload.discard()

    def _uids_so_far(self) -> Iterator[int]:
        for batch in self._batches:
            yield from batch["uid"]
        yield from (row["uid"] for row in self._waiting)

    def _records(self) -> pl.DataFrame:
        """Return all columns that a record of the part has, those of meta as one struct."""
        meta = sorted({c for batch in self._batches for c in batch.columns if c not in RECORD})
        kinds = {c: self.types.kinds[c.removeprefix(_META)] for c in meta}
        frame = pl.concat(
            [
                batch.with_columns(widened(batch[c], kinds[c]) for c in batch.columns if c in kinds)
                for batch in self._batches
            ],
            how="diagonal",
        )
        used = [c for c in RECORD if c in ALWAYS or frame[c].null_count() < len(frame)]
        if not meta:
            return frame.select(used)
        struct = pl.struct(pl.col(c).alias(c.removeprefix(_META)) for c in meta)
        return frame.select(*used, struct.alias("meta"))

    def _flush_rows(self) -> None:
        """Turn what waits into columns, which take a fraction of its memory."""
        if self._waiting:
            rows = self._waiting
            columns = {c: pl.Series([r.get(c) for r in rows], dtype=t) for c, t in RECORD.items()}
            metas = self.types.columns(self._metas)
            columns |= {f"{_META}{c}": values for c, values in metas.items()}
            self._batches.append(pl.DataFrame(columns))
            self._waiting, self._metas = [], []

    def _flush_images(self) -> None:
        if not self._images:
            return
        uids, images = zip(*self._images, strict=True)
        table = pa.table(
            {
                "uid": pa.array(uids, type=pa.uint64()),
                "image": pa.array(images, type=pa.large_binary()),
            }
        )
        if self._payload is None:
            self._payload = tables.TableWriter(
                self.store, table.schema, pool=self.pool, table="payload", part=self.name
            )
        self._payload.write(table)
        self._images, self._images_bytes = [], 0
