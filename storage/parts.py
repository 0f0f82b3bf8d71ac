"""A pool's part on disk: the tables of a pool, and the writer of one part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from storage import tables
from storage.meta import widened
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
    "depth": pl.UInt32,
    "duration_s": pl.Float64,
    "sample_rate": pl.UInt32,
    "channels": pl.UInt32,
    "spacing_x_mm": pl.Float64,
    "spacing_y_mm": pl.Float64,
    "spacing_z_mm": pl.Float64,
    "label_image": pl.Binary,
    "licence": pl.String,
    "normalised": pl.List(pl.String),
}
_META = "meta."
ALWAYS = ("uid", "source", "source_id", "digest", "record", "normalised")


class PartWriter:
    """Write one part: payload as it comes, records when it closes."""

    def __init__(self, store: Store, pool: str, name: str, kinds: Mapping[str, str]) -> None:
        """Begin a part.

        Args:
            store: where the pool is.
            pool: its name.
            name: of the part.
            kinds: each meta column's type of `storage.meta`, which widens while values come.
        """
        self.store, self.pool, self.name, self.kinds = store, pool, name, kinds
        self.rows = 0
        self.payload_bytes = 0
        self.text_bytes = 0
        self.series: str | None = None
        self._frames: list[pl.DataFrame] = []
        self._kind: str | None = None
        self._payload: tables.TableWriter | None = None
        self._waiting: list[tuple[int, bytes | None]] = []
        self._waiting_bytes = 0

    def add(
        self,
        records: pl.DataFrame,
        payloads: Sequence[bytes | None] | None,
        text_bytes: NDArray[np.int64],
        kind: str | None = None,
    ) -> int:
        """Append records, and their payloads, until the part is full; return how many it took.

        It is full at PART_ROWS, PART_BYTES or PART_TEXT_BYTES; a series is never split.

        Args:
            records: columns of RECORD, and those of meta as `meta.<name>`.
            payloads: None where a payload stays where it is; None at all where there is none.
            text_bytes: of each record's text.
            kind: of the payloads; a part has payloads of one kind.
        """
        sizes = np.array([len(payload or b"") for payload in payloads or ()], dtype=np.int64)
        count = self._room(records, sizes, text_bytes)
        if not count:
            return 0
        records, sizes = records[:count], sizes[:count]
        if payloads is not None or self._payload is not None or self._waiting:
            self._kind = self._kind or kind
            self._add_payloads(records["uid"].to_list(), payloads or [None] * count)
        self._frames.append(records)
        self.rows += count
        self.payload_bytes += int(sizes.sum())
        self.text_bytes += int(text_bytes[:count].sum())
        self.series = records["series"][-1] if "series" in records.columns else None
        return count

    def _room(
        self, records: pl.DataFrame, sizes: NDArray[np.int64], text_bytes: NDArray[np.int64]
    ) -> int:
        """Return how many of these records come before the part is full."""
        rows = self.rows + np.arange(len(records))
        full = rows >= PART_ROWS
        if len(sizes):
            full |= self.payload_bytes + np.cumsum(sizes) - sizes >= PART_BYTES
        full |= self.text_bytes + np.cumsum(text_bytes) - text_bytes >= PART_TEXT_BYTES
        if full.any() and "series" in records.columns:
            before = pl.concat([pl.Series([self.series], dtype=pl.String), records["series"][:-1]])
            full &= (records["series"] != before).fill_null(True).to_numpy()
        return int(np.argmax(full)) if full.any() else len(records)

    def _add_payloads(self, uids: list[int], payloads: Sequence[bytes | None]) -> None:
        if not self._waiting and self._payload is None and self.rows:
            self._waiting = [(uid, None) for frame in self._frames for uid in frame["uid"]]
        for uid, payload in zip(uids, payloads, strict=False):
            size = len(payload or b"")
            if self._waiting and self._waiting_bytes + size > tables.ROW_GROUP_BYTES:
                self._flush_payloads()
            self._waiting.append((uid, payload))
            self._waiting_bytes += size
            if len(self._waiting) >= FLUSH_ROWS:
                self._flush_payloads()

    def publish(self) -> tables.Part:
        """Finish the part and make its tables objects of the store."""
        payload = None
        if self._waiting or self._payload is not None:
            self._flush_payloads()
            assert self._payload is not None
            payload = self._payload.publish()
        records = tables.put(
            self.store, self._records(), pool=self.pool, table="records", part=self.name
        )
        return tables.Part(self.name, records, payload, self._kind)

    def discard(self) -> None:
        """Drop what was written."""
        if self._payload is not None:
            self._payload.discard()

    def _records(self) -> pl.DataFrame:
        """Return all columns that a record of the part has, those of meta as one struct."""
        meta = sorted({c for frame in self._frames for c in frame.columns if c not in RECORD})
        kinds = {c: self.kinds[c.removeprefix(_META)] for c in meta}
        frame = pl.concat(
            [
                frame.with_columns(widened(frame[c], kinds[c]) for c in frame.columns if c in kinds)
                for frame in self._frames
            ],
            how="diagonal",
        )
        used = [c for c in RECORD if c in frame.columns]
        if not meta:
            return frame.select(used)
        struct = pl.struct(pl.col(c).alias(c.removeprefix(_META)) for c in meta)
        return frame.select(*used, struct.alias("meta"))

    def _flush_payloads(self) -> None:
        if not self._waiting:
            return
        assert self._kind is not None
        uids, payloads = zip(*self._waiting, strict=True)
        table = pa.table(
            {
                "uid": pa.array(uids, type=pa.uint64()),
                self._kind: pa.array(payloads, type=pa.large_binary()),
            }
        )
        if self._payload is None:
            self._payload = tables.TableWriter(
                self.store, table.schema, pool=self.pool, table="payload", part=self.name
            )
        self._payload.write(table)
        self._waiting, self._waiting_bytes = [], 0
