"""Ingest: a raw source becomes parts of a pool; every record accepted, known or quarantined."""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts import methods
from contracts.errors import ConfigError, DataError
from contracts.uid import digest_of, uid_of
from flows.ingest import decoding
from flows.reporter import Progress
from flows.workers import Workers
from storage import tables
from storage.commit import failpoint, free_bytes
from storage.source import Columns, Found, Record, Rejected, Source, Unit, detect
from storage.store import Object, Store, canonical, checked_name

PART_ROWS = 100_000
PART_BYTES = 256 << 20
# Texts lie in the records, which are held in memory until the part closes.
PART_TEXT_BYTES = 64 << 20
FLUSH_ROWS = 1000
# Of each new record some bytes stay until the commit; so many at a time wait as Python objects.
RUN_RECORDS = 4096
BATCH_RECORDS = 64
BATCH_BYTES = 8 << 20
TYPING_ROWS = 10_000

QUARANTINE = {
    "source": pl.String,
    "source_id": pl.String,
    "where": pl.String,
    "code": pl.String,
    "detail": pl.String,
    "digest": pl.Binary,
}
FILES = {
    "source": pl.String,
    "unit": pl.String,
    "fingerprint": pl.String,
    "records": pl.UInt32,
}
REMOVED = {"uid": pl.UInt64, "part": pl.String, "reason": pl.String}
# Marks a unit that had a changed record: it is read again, unchanged, where changes are taken.
CHANGED = ":changed"
_COUNTERS = {"accepted", "known", "skipped"}
TEXTS = pl.List(pl.Struct({"text": pl.String, "lang": pl.String, "origin": pl.String}))
LOCATION = pl.Struct({"path": pl.String, "offset": pl.Int64, "length": pl.Int64})
# The columns of a pool before meta; those of no record of a part are left out.
RECORD: dict[str, Any] = {
    "uid": pl.UInt64,
    "source": pl.String,
    "source_id": pl.String,
    "digest": pl.Binary,
    "record": pl.Binary,
    "location": LOCATION,
    "text": pl.String,
    "texts": TEXTS,
    "series": pl.String,
    "position": pl.Int64,
    "width": pl.UInt32,
    "height": pl.UInt32,
    "licence": pl.String,
    "normalised": pl.List(pl.String),
}
ALWAYS = ("uid", "source", "source_id", "digest", "record", "normalised")


@dataclass(frozen=True)
class SourceSpec:
    """How one source is read; the keys of a recipe's [[source]].

    Attributes:
        kind: a file of storage/sources; None looks at the files.
        settle_s: files younger than this wait for the next run.
    """

    found: Found
    name: str
    columns: Columns = field(default_factory=Columns)
    payload: str = "copy"
    kind: str | None = None
    update: bool = False
    rehash: bool = False
    settle_s: float = 0.0


@dataclass
class _Checked:
    """A record proven decodable, with what is known of it; or why it was not accepted."""

    record: Record
    unit: str
    row: dict[str, Any] = field(default_factory=dict)
    code: str | None = None
    detail: str = ""


def ingest(
    store: Store,
    pool: str,
    spec: SourceSpec,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    source: Source | None = None,
) -> dict[str, Any]:
    """Read a source into a pool; the caller holds the store's lease.

    Reading the same source again adds nothing; new files add their records. A version is made
    only when something changed, and shows all of the source's new records or none.

    Args:
        store: where the pool is.
        pool: its name.
        spec: the source.
        workers: processes that decode.
        progress: is told how far it is.
        source: reads the records, in place of the kind that the spec names or the files show.

    Returns:
        pool, version, read, accepted, known and quarantined by reason code, where
        read = accepted + known + quarantined.

    Raises:
        DataError: the source is missing or empty (65).
        StorageError: it cannot be read (74).
        ConfigError: its ids are those of another root, or a column has another type (78).
    """
    checked_name(pool, "pool")
    checked_name(spec.name, "source")
    old = tables.load_pool(store, pool) or tables.Pool(pool)
    kind = spec.kind or detect(spec.found)
    if spec.columns.slices and kind != "volumes":
        raise ConfigError(f"source.slices: only volumes have slices; {spec.found.root} is {kind}.")
    if source is None:
        made: Source = methods.load("storage.sources", kind)(
            spec.found.root, spec.found.paths, spec.columns
        )
        source = made
    run = _Ingest(store, old, spec, kind, workers, progress or Progress())
    try:
        return run.read(source)
    finally:
        run.discard()


class _Ingest:
    """One ingest of one source: what it has seen, and the part being written."""

    def __init__(
        self,
        store: Store,
        old: tables.Pool,
        spec: SourceSpec,
        kind: str,
        workers: int,
        progress: Progress,
    ) -> None:
        self.store, self.old, self.spec, self.kind = store, old, spec, kind
        self.workers, self.progress = workers, progress
        self.counts: Counter[str] = Counter()
        self.known_units = _known_units(store, old, spec.name)
        self.known = _Known(store, old)
        self.root = str(spec.found.root.resolve())
        before = old.sources.get(spec.name, {})
        self.roots: list[str] = list(before.get("roots", []))
        self.new_root = None if self.root in self.roots else self.root
        if self.new_root is not None:
            self.roots.append(self.new_root)
        self.types = _MetaTypes(before.get("meta", {}), old, spec.name)
        self.files = _Rows(FILES)
        self.changed: set[str] = set()
        self.rejected = _Rows(QUARANTINE)
        self.removed: list[tuple[int, str, str]] = []
        self.parts: list[tables.Part] = []
        self.part: _PartWriter | None = None
        self.digest = int(old.digest, 16)
        self.live = old.records
        self.done_bytes = 0
        self.records_read = 0

    def read(self, source: Source) -> dict[str, Any]:
        if self.progress.plan is not None:
            todo = sum(unit.size_bytes for unit in source.units() if not self._unchanged(unit))
            needed = todo if self.spec.payload == "copy" else 0
            self.progress.plan(todo, needed, free_bytes(self.store.root))
        with Workers(self.workers, isolated=True) as workers:
            batches = _batches(self._items(source))
            for item, seen in workers.map_batches(
                decoding.seen, batches, _hostile, decoding.crashed
            ):
                if isinstance(item, _Checked):
                    _check(item, seen)
                self._take(item)
        if not self.records_read and not self.counts["skipped"]:
            raise DataError(f"{self.spec.found.root}: nothing to read for source {self.spec.name}.")
        version = self._commit()
        quarantined = {code: n for code, n in sorted(self.counts.items()) if code not in _COUNTERS}
        accepted, known = self.counts["accepted"], self.counts["known"]
        return {
            "pool": self.old.name,
            "version": version,
            "read": accepted + known + sum(quarantined.values()),
            "accepted": accepted,
            "known": known,
            "quarantined": quarantined,
        }

    def discard(self) -> None:
        if self.part is not None:
            self.part.discard()

    def _mark(self, unit: Unit) -> str:
        # A root's place among the source's: two roots may hold files of one name and date.
        return f"{self.roots.index(self.root)}:{unit.fingerprint}"

    def _unchanged(self, unit: Unit) -> bool:
        """Whether a unit was read before as it is, so that it is skipped unread."""
        mark = self._mark(unit)
        unchanged = (mark,) if self.spec.update else (mark, mark + CHANGED)
        known = self.known_units.get(unit.name)
        return known is not None and known[0] in unchanged and not self.spec.rehash

    def _items(self, source: Source) -> Iterator[_Checked | Rejected]:
        """Yield raw records of the units that are new or changed, and rejections."""
        now = time.time()
        for unit in source.units():
            mark = self._mark(unit)
            if self._unchanged(unit):
                self.counts["known"] += self.known_units[unit.name][1]
                self.counts["skipped"] += 1
                continue
            if self.spec.settle_s and _age(unit, now) < self.spec.settle_s:
                self.counts["skipped"] += 1
                continue
            self.done_bytes += unit.size_bytes
            read = 0
            for item in source.records(unit):
                read += 1
                yield item if isinstance(item, Rejected) else _Checked(item, unit.name)
            # A quarantined unit is remembered too: it is read again when it changes.
            self.files.add((self.spec.name, unit.name, mark, read))

    def _take(self, item: _Checked | Rejected) -> None:
        self.records_read += 1
        if self.records_read % 256 == 0:
            self.progress.show(self.done_bytes, self.records_read)
        if isinstance(item, Rejected):
            self._quarantine(item.source_id, item.where, item.code, item.detail, item.digest)
            return
        record, row = item.record, item.row
        raw = row.get("digest")
        if item.code is not None:
            self._quarantine(record.source_id, record.where, item.code, item.detail, raw)
            return
        uid = uid_of(self.spec.name, record.source_id)
        row |= {"uid": uid, "source": self.spec.name, "source_id": record.source_id}
        if self.spec.payload == "copy":
            row["location"] = None
        row["record"] = _record_hash(row, record.meta)
        misfit = self.types.misfit(record.meta)
        if misfit is not None:
            self._quarantine(record.source_id, record.where, "MISFIT_TYPE", misfit, raw)
            return
        conflict = self.known.conflict(uid, row["record"])
        if conflict == "same":
            self.counts["known"] += 1
            if self.spec.update:  # A second record of this id shall not replace it.
                self.known.add(uid, row["record"], record.source_id)
            return
        if conflict == "other" and not self._replaces(uid, item, raw):
            return
        self.known.add(uid, row["record"], record.source_id)
        self._write(row, record)
        self.counts["accepted"] += 1
        self.live += 1
        self.digest = (self.digest + _member(uid, row["record"])) % 2**128

    def _replaces(self, uid: int, item: _Checked, raw: bytes | None) -> bool:
        """Decide about other content under a known uid: True where it takes the old one's place."""
        record = item.record
        where = self.known.where(uid)
        if where is None:
            if self.known.collides(uid, record.source_id):
                code, detail = "UID_COLLISION", f"another id of this source has the uid {uid:016x}"
            else:
                code, detail = "DUP_ID", "the id occurs twice in this source with other content"
            self._quarantine(record.source_id, record.where, code, detail, raw)
            return False
        part, source, source_id, old_hash = where
        if (source, source_id) != (self.spec.name, record.source_id):
            detail = f"{source}:{source_id} has the same uid {uid:016x}"
            self._quarantine(record.source_id, record.where, "UID_COLLISION", detail, raw)
            return False
        if self.root == self.new_root:
            raise ConfigError(
                f"{self.root}: {record.source_id!r} is known to source {self.spec.name!r} from "
                f"{', '.join(self.roots[:-1])} with other content. If this is another collection, "
                f"give it a name of its own: --source {self.spec.name}-2."
            )
        if not self.spec.update:
            self.changed.add(item.unit)
            detail = "known with other content; --update takes the new one"
            self._quarantine(record.source_id, record.where, "CHANGED", detail, raw)
            return False
        self.removed.append((uid, part, "updated"))
        self.live -= 1
        self.digest = (self.digest - _member(uid, old_hash)) % 2**128
        return True

    def _quarantine(
        self, source_id: str | None, where: str, code: str, detail: str, digest: bytes | None
    ) -> None:
        self.counts[code] += 1
        self.rejected.add((self.spec.name, source_id, where, code, detail[:500], digest))

    def _write(self, row: dict[str, Any], record: Record) -> None:
        if self.part is not None and self.part.full(record.series):
            self._close_part()
        if self.part is None:
            name = f"{len(self.old.parts) + len(self.parts):05d}"
            self.part = _PartWriter(self.store, self.old.name, name, self.types)
        self.part.add(row, record)

    def _close_part(self) -> None:
        if self.part is not None:
            self.parts.append(self.part.publish())
            self.part = None
            failpoint("ingest.part")

    def _commit(self) -> int:
        self._close_part()
        if not (self.parts or self.removed or self.rejected or self.files or self.new_root):
            return self.old.version
        version = self.old.version + 1
        name = f"v{version:05d}"

        def put(table: str, frame: pl.DataFrame) -> list[Object]:
            if not frame.height:
                return []
            return [tables.put(self.store, frame, pool=self.old.name, table=table, part=name)]

        removed = self.old.removed
        if self.removed:
            frame = pl.DataFrame(self.removed, schema=REMOVED, orient="row")
            if removed is not None:
                frame = pl.concat([tables.read(self.store, removed), frame])
            removed = tables.put(self.store, frame, pool=self.old.name, table="removed", part=name)
        changed = pl.col("unit").is_in(sorted(self.changed))
        mark = pl.col("fingerprint")
        files = self.files.frame().with_columns(
            pl.when(changed).then(mark + CHANGED).otherwise(mark)
        )
        source = {
            "kind": self.kind,
            "roots": self.roots,
            "meta": self.types.described(),
        }
        pool = replace(
            self.old,
            version=version,
            digest=f"{self.digest:032x}",
            records=self.live,
            parts=(*self.old.parts, *self.parts),
            removed=removed,
            quarantine=(*self.old.quarantine, *put("quarantine", self.rejected.frame())),
            files=(*self.old.files, *put("files", files)),
            sources={**self.old.sources, self.spec.name: source},
        )
        failpoint("ingest.commit")
        tables.commit_pool(self.store, pool)
        failpoint("ingest.done")
        return version


class _Rows:
    """Rows that are kept until the commit, as columns, in a fraction of the memory of tuples."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._latest: list[tuple[Any, ...]] = []
        self._frames = [pl.DataFrame(schema=schema)]

    def __bool__(self) -> bool:
        return bool(self._latest) or len(self._frames) > 1

    def add(self, row: tuple[Any, ...]) -> None:
        self._latest.append(row)
        if len(self._latest) == RUN_RECORDS:
            self._frames.append(self._recent())
            self._latest.clear()

    def frame(self) -> pl.DataFrame:
        return pl.concat([*self._frames, self._recent()])

    def _recent(self) -> pl.DataFrame:
        return pl.DataFrame(self._latest, schema=self._schema, orient="row")


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


class _Known:
    """Which uids a pool has and the first 8 bytes of each one's record hash: 16 bytes a record.

    Of records of this ingest also a checksum of the id, by which a collision of two ids is told
    from an id that occurs twice: 20 bytes.
    """

    def __init__(self, store: Store, pool: tables.Pool) -> None:
        self._store, self._pool = store, pool
        frames = [tables.read(store, p.records, ["uid", "record"]) for p in pool.parts]
        dead = set()
        if pool.removed is not None:
            dead = set(tables.read(store, pool.removed).select("uid", "part").iter_rows())
        uids, hashes = [], []
        for part, frame in zip(pool.parts, frames, strict=True):
            alive = np.array([(u, part.name) not in dead for u in frame["uid"]], dtype=bool)
            uids.append(frame["uid"].to_numpy()[alive])
            hashes.append(
                np.frombuffer(b"".join(h[:8] for h in frame["record"]), dtype=">u8")[alive]
            )
        self._uids = np.concatenate(uids) if uids else np.empty(0, dtype=np.uint64)
        order = np.argsort(self._uids)
        self._uids = self._uids[order]
        self._hashes = (np.concatenate(hashes) if hashes else np.empty(0, dtype=">u8"))[order]
        self._latest: dict[int, tuple[int, int]] = {}
        self._runs: list[_Run] = []

    def conflict(self, uid: int, record_hash: bytes) -> str | None:
        """Say whether the uid is new (None), known with the `same` record, or with an `other`."""
        fresh = self._fresh(uid)
        if fresh is not None:
            return "same" if fresh[0] == int.from_bytes(record_hash[:8], "big") else "other"
        at = int(np.searchsorted(self._uids, np.uint64(uid)))
        if at == len(self._uids) or self._uids[at] != uid:
            return None
        return (
            "same" if int(self._hashes[at]) == int.from_bytes(record_hash[:8], "big") else "other"
        )

    def add(self, uid: int, record_hash: bytes, source_id: str) -> None:
        self._latest[uid] = int.from_bytes(record_hash[:8], "big"), _checksum(source_id)
        if len(self._latest) < RUN_RECORDS:
            return
        uids = np.fromiter(self._latest, dtype=np.uint64, count=len(self._latest))
        values = np.array(list(self._latest.values()), dtype=np.uint64)
        self._runs.append(_merged([_Run(uids, values[:, 0], values[:, 1].astype(np.uint32))]))
        self._latest.clear()
        # Each run is some times as long as the next: few to search, and none is merged often.
        while len(self._runs) > 1 and len(self._runs[-2].uids) < 4 * len(self._runs[-1].uids):
            self._runs[-2:] = [_merged(self._runs[-2:])]

    def _fresh(self, uid: int) -> tuple[int, int] | None:
        """Return the hash and the checksum of a record of this ingest, the last of its uid."""
        if uid in self._latest:
            return self._latest[uid]
        for run in reversed(self._runs):
            at = int(np.searchsorted(run.uids, np.uint64(uid)))
            if at < len(run.uids) and run.uids[at] == uid:
                return int(run.hashes[at]), int(run.checksums[at])
        return None

    def collides(self, uid: int, source_id: str) -> bool:
        """Whether the record of this ingest that has the uid has another id."""
        fresh = self._fresh(uid)
        assert fresh is not None
        return fresh[1] != _checksum(source_id)

    def where(self, uid: int) -> tuple[str, str, str, bytes] | None:
        """Return part, source, source id and record hash of a uid from before this ingest."""
        if self._fresh(uid) is not None:
            return None
        for part in reversed(self._pool.parts):
            rows = tables.read(self._store, part.records, ["uid", "source", "source_id", "record"])
            found = rows.filter(pl.col("uid") == uid)
            if found.height:
                return (part.name, *found.row(0)[1:])
        return None


class _MetaTypes:
    """The types of a source's meta columns, fixed by its first rows.

    Until they are fixed every value fits: integers widen to floats, a mixture becomes text.
    """

    def __init__(self, known: dict[str, str], pool: tables.Pool, source: str) -> None:
        self.known = dict(known)
        self._others = {
            column: (other, dtype)
            for other, entry in pool.sources.items()
            if other != source
            for column, dtype in entry.get("meta", {}).items()
        }
        self._given = frozenset(known)
        self._rows = 0
        self.fixed = False

    def misfit(self, meta: dict[str, Any]) -> str | None:
        """Look at one record; return what does not fit, or None and learn from it."""
        kinds = {c: _kind(v) for c, v in meta.items() if v is not None}
        for column, kind in kinds.items():
            known = self.known.get(column)
            if known is None and self.fixed:
                return f"meta.{column}: not among the columns of the first {TYPING_ROWS:,} records"
            settled = self.fixed or column in self._given
            if known is not None and settled and _wider(known, kind) != known:
                return f"meta.{column}: {meta[column]!r} is {kind}, the column is {known}"
        if not self.fixed:
            for column, kind in kinds.items():
                self.known[column] = _wider(self.known.get(column, kind), kind)
            self._rows += 1
            if self._rows >= TYPING_ROWS:
                self.fix()
        return None

    def fix(self) -> None:
        """Fix the types, and compare them with the pool's other sources.

        Raises:
            ConfigError: another source has a column of the same name and another type (78).
        """
        self.fixed = True
        for column, dtype in self.known.items():
            other, theirs = self._others.get(column, ("", dtype))
            if theirs != dtype:
                raise ConfigError(
                    f"meta.{column} is {dtype} here and {theirs} in source {other!r} of the same "
                    "pool. Rename the column, or ingest into a pool of its own."
                )

    def described(self) -> dict[str, str]:
        return dict(sorted(self.known.items()))

    def struct(self) -> pl.Struct | None:
        if not self.known:
            return None
        return pl.Struct({c: _DTYPES[k] for c, k in sorted(self.known.items())})


_DTYPES: dict[str, Any] = {
    "boolean": pl.Boolean,
    "integer": pl.Int64,
    "number": pl.Float64,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
    "text": pl.String,
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "number"
    if isinstance(value, datetime):
        return "datetime"
    return "date" if isinstance(value, date) else "text"


def _wider(one: str, other: str) -> str:
    """Return the type that holds both: numbers hold integers, text holds anything as JSON."""
    if one == other:
        return one
    return "number" if {one, other} == {"integer", "number"} else "text"


def _fitting(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "number":
        return float(value)
    if kind == "text" and not isinstance(value, str):
        if isinstance(value, date):
            return value.isoformat()
        no_json = isinstance(value, float) and not math.isfinite(value)
        return repr(value) if no_json else canonical(value).decode()
    return value


class _PartWriter:
    """Write one part: payload as it comes, records once the types of their meta are fixed."""

    def __init__(self, store: Store, pool: str, name: str, types: _MetaTypes) -> None:
        self.store, self.pool, self.name, self.types = store, pool, name, types
        self.rows = 0
        self.payload_bytes = 0
        self.text_bytes = 0
        self.series: str | None = None
        self._waiting: list[dict[str, Any]] = []
        self._batches: list[pl.DataFrame] = []
        self._metas: list[dict[str, Any]] = []
        self._meta_batches: list[pl.Series] = []
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
        if not self.types.fixed:
            self.types.fix()
        self._flush_rows()
        payload = None
        if self._images or self._payload is not None:
            self._flush_images()
            assert self._payload is not None
            payload = self._payload.publish()
        frame = pl.concat(self._batches)
        unused = [
            c for c in frame.columns if c not in ALWAYS and frame[c].null_count() == len(frame)
        ]
        frame = frame.drop(unused)
        if self._meta_batches:
            frame = frame.with_columns(pl.concat(self._meta_batches).alias("meta"))
        records = tables.put(self.store, frame, pool=self.pool, table="records", part=self.name)
        return tables.Part(self.name, records, payload)

    def discard(self) -> None:
        if self._payload is not None:
            self._payload.discard()

    def _uids_so_far(self) -> Iterator[int]:
        for batch in self._batches:
            yield from batch["uid"]
        yield from (row["uid"] for row in self._waiting)

    def _flush_rows(self) -> None:
        """Turn what waits into columns, which take a fraction of its memory."""
        if self._waiting:
            rows = self._waiting
            columns = {c: pl.Series([r.get(c) for r in rows], dtype=t) for c, t in RECORD.items()}
            self._batches.append(pl.DataFrame(columns))
            self._waiting = []
        if not self.types.fixed or not self._metas:
            return
        struct = self.types.struct()
        if struct is not None:
            kinds = sorted(self.types.known.items())
            metas = [{c: _fitting(m.get(c), kind) for c, kind in kinds} for m in self._metas]
            self._meta_batches.append(pl.Series(metas, dtype=struct))
        self._metas = []

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


def _hostile(item: _Checked | Rejected) -> bytes | None:
    return item.record.image if isinstance(item, _Checked) else None


def _check(item: _Checked, seen: decoding.Seen | None) -> None:
    """Write down what is known of a record: its columns, or why it is not accepted."""
    record, row = item.record, item.row
    notes = list(record.notes)
    if seen is not None:
        row["digest"] = seen.digest
        item.code, item.detail = seen.code, seen.detail
        if seen.inspected is None:
            return
        row["width"], row["height"] = seen.inspected.width, seen.inspected.height
        notes += seen.inspected.notes
    elif record.text is not None:
        row["digest"] = digest_of(record.text)
    else:
        item.code, item.detail = "NO_CONTENT", "neither an image nor a text"
        return
    location = record.location
    row |= {
        "text": record.text,
        "texts": record.texts,
        "series": record.series,
        "position": record.position,
        "licence": record.licence,
        "normalised": notes,
        "location": location
        and {"path": location.path, "offset": location.offset, "length": location.length},
    }


def _batches(items: Iterator[_Checked | Rejected]) -> Iterator[list[_Checked | Rejected]]:
    batch: list[_Checked | Rejected] = []
    size = 0
    for item in items:
        batch.append(item)
        if isinstance(item, _Checked):
            size += len(item.record.image or b"") + len(item.record.text or "")
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record_hash(row: dict[str, Any], meta: dict[str, Any]) -> bytes:
    """Return 16 bytes over all ingested columns, wherever the payload lies."""
    columns = {c: row.get(c) for c in RECORD if c not in ("uid", "record", "location", "digest")}
    text = canonical({**columns, "meta": {k: _jsonable(v) for k, v in meta.items()}})
    return hashlib.blake2b(row["digest"] + text, digest_size=16).digest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if isinstance(value, date) else value


def _member(uid: int, record_hash: bytes) -> int:
    digest = hashlib.blake2b(uid.to_bytes(8, "big") + record_hash, digest_size=16)
    return int.from_bytes(digest.digest(), "big")


def _known_units(store: Store, pool: tables.Pool, source: str) -> dict[str, tuple[str, int]]:
    known: dict[str, tuple[str, int]] = {}
    for item in pool.files:
        rows = tables.read(store, item).filter(pl.col("source") == source)
        known |= {unit: (mark, n) for _, unit, mark, n in rows.iter_rows()}
    return known


def _checksum(source_id: str) -> int:
    return zlib.crc32(source_id.encode("utf-8", "surrogateescape"))


def _age(unit: Unit, now: float) -> float:
    return now - Path(unit.path).stat().st_mtime
