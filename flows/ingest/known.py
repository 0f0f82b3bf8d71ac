"""What a pool knows of a source: the ids of its records, the units that were read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.uid import UIDs
from storage import tables
from storage.store import Store

# What a record is to those known: none has its uid, one has its hash too, or another one.
NEW, SAME, OTHER = 0, 1, 2


class _Run(NamedTuple):
    """Records of this ingest, ascending by uid, each uid once."""

    uids: NDArray[np.uint64]
    hashes: NDArray[np.uint64]
    checksums: NDArray[np.uint32]


def _merged(runs: Sequence[_Run]) -> _Run:
    """Return one run; of equal uids the later run's."""
    uids, *others = (np.concatenate(columns) for columns in zip(*runs, strict=True))
    order = np.argsort(uids, kind="stable")
    ascending = uids[order]
    last = order[np.append(ascending[1:] != ascending[:-1], True)]
    return _Run(uids[last], *(column[last] for column in others))


class Replaced(NamedTuple):
    """A record from before this ingest.

    Attributes:
        part: the part that it lies in.
        ours: whether it has the source and the id that were asked for, not only their uid.
        record: its record hash.
    """

    part: str
    ours: bool
    record: bytes


class _Old(NamedTuple):
    """What more is known of the records from before this ingest, in the order of their uids."""

    parts: NDArray[np.uint32]
    checksums: NDArray[np.uint32]
    rest: NDArray[np.uint64]


class Known:
    """Which uids a pool has and the first 8 bytes of each one's record hash: 16 bytes a record.

    Of records of this ingest also a checksum of the id, by which a collision of two ids is told
    from an id that occurs twice: 20 bytes. Once a record has changed, of every record its part, a
    checksum of its source and id, and the rest of its hash, read in one go: 32 bytes.
    """

    def __init__(self, store: Store, pool: tables.Pool) -> None:
        self._store, self._pool = store, pool
        self._removed = (
            pl.DataFrame(schema={"uid": pl.UInt64, "part": pl.String})
            if pool.removed is None
            else tables.read(store, pool.removed, ["uid", "part"])
        )
        uids, hashes = np.empty((2, sum(part.rows for part in pool.parts)), dtype=np.uint64)
        count = 0
        for part in pool.parts:
            frame = self._alive(part, ["uid", "record"])
            here = slice(count, count := count + len(frame))
            uids[here], hashes[here] = frame["uid"].to_numpy(), hashes_of(frame["record"])[:, 0]
            # Arrow's allocator keeps what a part's columns leave.
            del frame
            pa.default_memory_pool().release_unused()
        order = np.argsort(uids[:count])
        self._uids, self._hashes = uids[order], hashes[order]
        self._old: _Old | None = None
        self._runs: list[_Run] = []

    def compare(self, uids: UIDs, hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Return of each record whether its uid is NEW, or known with the SAME or an OTHER hash."""
        found = np.full(len(uids), NEW, dtype=np.uint8)
        before = _Run(self._uids, self._hashes, np.empty(0, dtype=np.uint32))
        for run in (before, *self._runs):
            at = np.searchsorted(run.uids, uids)
            held = np.flatnonzero(at < len(run.uids))
            held = held[run.uids[at[held]] == uids[held]]
            found[held] = np.where(run.hashes[at[held]] == hashes[held], SAME, OTHER)
        return found

    def add(self, uids: UIDs, hashes: NDArray[np.uint64], source_ids: pl.Series) -> None:
        """Note records of this ingest."""
        if len(uids):
            self._runs.append(_merged([_Run(uids, hashes, _checksums(source_ids))]))
        # Each run is some times as long as the next: few to search, and none is merged often.
        while len(self._runs) > 1 and len(self._runs[-2].uids) < 4 * len(self._runs[-1].uids):
            self._runs[-2:] = [_merged(self._runs[-2:])]

    def _fresh(self, uid: int) -> int | None:
        """Return the checksum of the last record of this ingest that has a uid."""
        for run in reversed(self._runs):
            at = int(np.searchsorted(run.uids, np.uint64(uid)))
            if at < len(run.uids) and run.uids[at] == uid:
                return int(run.checksums[at])
        return None

    def collides(self, uid: int, source_id: str) -> bool:
        """Whether the record of this ingest that has the uid has another id."""
        return self._fresh(uid) != int(_checksums(pl.Series([source_id]))[0])

    def replaced(self, uid: int, source: str, source_id: str) -> Replaced | None:
        """Return the record that had a uid before this ingest, None where none had."""
        at = int(np.searchsorted(self._uids, np.uint64(uid)))
        if self._fresh(uid) is not None or at == len(self._uids) or self._uids[at] != uid:
            return None
        if self._old is None:
            self._old = self._read_old()
        record = int(self._hashes[at]).to_bytes(8, "big") + int(self._old.rest[at]).to_bytes(
            8, "big"
        )
        ours = self._old.checksums[at] == _checksums(pl.Series([f"{source}\0{source_id}"]))[0]
        return Replaced(self._pool.parts[self._old.parts[at]].name, bool(ours), record)

    def _read_old(self) -> _Old:
        old = _Old(
            np.empty(len(self._uids), dtype=np.uint32),
            np.empty(len(self._uids), dtype=np.uint32),
            np.empty(len(self._uids), dtype=np.uint64),
        )
        for number, part in enumerate(self._pool.parts):
            frame = self._alive(part, ["uid", "source", "source_id", "record"])
            at = np.searchsorted(self._uids, frame["uid"].to_numpy())
            old.parts[at] = number
            old.checksums[at] = _checksums(frame["source"] + "\0" + frame["source_id"])
            old.rest[at] = hashes_of(frame["record"])[:, 1]
        return old

    def _alive(self, part: tables.Part, columns: Sequence[str]) -> pl.DataFrame:
        gone = self._removed.filter(pl.col("part") == part.name)["uid"]
        frame = tables.read(self._store, part.records, columns)
        return frame.filter(~pl.col("uid").is_in(gone.implode())) if len(gone) else frame


def hashes_of(records: pl.Series) -> NDArray[np.uint64]:
    """Return the two halves of each record hash: `Known` compares the first."""
    arrow = records.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, _, data = arrow.buffers()
    start = 2 * arrow.offset
    halves = np.frombuffer(data or b"", dtype=">u8")[start : start + 2 * len(records)]
    return halves.astype(np.uint64).reshape(-1, 2)


def known_units(store: Store, pool: tables.Pool, source: str) -> dict[str, tuple[str, int]]:
    """Return the fingerprint and the number of records of each unit of a source that was read."""
    known: dict[str, tuple[str, int]] = {}
    for item in pool.files:
        rows = tables.read(store, item).filter(pl.col("source") == source)
        known |= {unit: (mark, n) for _, unit, mark, n in rows.iter_rows()}
    return known


def _checksums(names: pl.Series) -> NDArray[np.uint32]:
    """Return 32 bits of each name."""
    return np.array([zlib.crc32(name.encode()) for name in names.to_list()], dtype=np.uint32)
