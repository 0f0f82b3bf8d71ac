"""Ingest: a raw source becomes parts of a pool; every record accepted, known or quarantined."""

from __future__ import annotations

import copy
import itertools
import math
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError, DataError, nearest
from flows.ingest import decoding, quarantine
from flows.ingest.batch import Batch, Out, cells_of
from flows.ingest.known import NEW, OTHER, SAME, Known, hashes_of, known_units
from flows.ingest.ledger import Ledger
from flows.ingest.meta_types import MetaTypes
from flows.ingest.reading import Reader
from flows.reporter import Progress
from flows.workers import Workers
from storage import tables
from storage.block import Divisible
from storage.commit import failpoint, free_bytes, make_folder
from storage.parts import FILES, QUARANTINE, RECORD, REMOVED, PartWriter
from storage.records import members
from storage.rows import META_COLUMNS, REST, folded, overfull
from storage.source import (
    PASSING,
    Columns,
    Found,
    PassedOver,
    Source,
    Tally,
    Unit,
    detect,
    open_source,
)
from storage.store import Store, checked_name

# Marks a unit that had a changed record: it is read again, unchanged, where changes are taken.
CHANGED = ":changed"
# Marks one of which something could not be read for a reason that may pass: it is read again.
PASSED = ":passing"
PAYLOADS = ("copy", "reference")
# Rows that wait as Python objects before they become columns.
_WAITING_ROWS = 4096
_SHARE_BYTES = 8 << 20
_SHARE_UNITS = 256
# Beside NEW, SAME and OTHER: an other record that takes nobody's place.
_OUT = 3


@dataclass(frozen=True)
class SourceSpec:
    """How one source is read; the keys of a recipe's [[source]].

    Attributes:
        kind: a file of storage/sources; None looks at the files.
        settle_s: files younger than this wait for the next run.
        max_quarantined_ratio: of the new records; with more the ingest is held. None is 0.2, from
            100 records on.
    """

    found: Found
    name: str
    columns: Columns = field(default_factory=Columns)
    payload: str = "copy"
    kind: str | None = None
    update: bool = False
    rehash: bool = False
    settle_s: float = 0.0
    max_quarantined_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.payload not in PAYLOADS:
            raise ConfigError(
                f"payload {self.payload!r}: is copy or reference.{nearest(self.payload, PAYLOADS)}"
            )
        if not self.settle_s >= 0:
            raise ConfigError(f"settle {self.settle_s}: is a number of seconds, 0 or more.")
        if not 0 <= (self.max_quarantined_ratio or 0) <= 1:
            raise ConfigError(
                f"max_quarantined_ratio {self.max_quarantined_ratio}: is a share from 0 to 1."
            )

    def read_by(self) -> dict[str, Any]:
        """Return what decides the ids and the content of its records."""
        return {**asdict(self.columns), "payload": self.payload}


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
        read = accepted + known + quarantined; waiting, the files that are too young; left_out,
        the quarantined and what was passed over by suffix and reason, with examples.

    Raises:
        DataError: the source is missing or empty, nothing of it can be used, or too little (65).
        StorageError: it cannot be read (74).
        ConfigError: its ids are those of another root, it was read by other columns, or a column
            has another type (78).
    """
    checked_name(pool, "pool")
    checked_name(spec.name, "source")
    old = tables.load_pool(store, pool) or tables.Pool(pool)
    _check_read_by(old, spec)
    kind = spec.kind or detect(spec.found)
    if spec.columns.slices and kind != "volumes":
        raise ConfigError(f"source.slices: only volumes have slices; {spec.found.root} is {kind}.")
    source = source or open_source(spec.found, spec.columns, kind)
    run = _Ingest(store, old, spec, kind, workers, progress or Progress())
    try:
        return run.read(source)
    finally:
        run.discard()


def _check_read_by(pool: tables.Pool, spec: SourceSpec) -> None:
    """Refuse to read a known source by other columns: its records would be others."""
    before = pool.sources.get(spec.name, {}).get("read_by")
    now = spec.read_by()
    other = [key for key in now if before is not None and before.get(key) != now[key]]
    if other:
        said = ", ".join(
            f"{key} was {_said(before.get(key))}, is {_said(now[key])}" for key in other
        )
        raise ConfigError(
            f"source {spec.name!r} of pool {pool.name!r} was read otherwise: {said}. Give it as it "
            f"was, or start the source anew: winnow forget --source {spec.name} --pool {pool.name}."
        )


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)


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
        self.taken = self.accepted = self.known_records = self.unread = self.waiting = 0
        self.known_units = known_units(store, old, spec.name)
        self.listed = quarantine.listed(store, old, spec.name)
        self.listed_counts = dict(self.listed["unit"].value_counts().iter_rows())
        self.still_out: list[str] = []
        self.known = Known(store, old)
        self.root = str(spec.found.root.resolve())
        self.before: Mapping[str, Any] = old.sources.get(spec.name, {})
        self.recorded_roots: list[str] = list(self.before.get("roots", []))
        # Where a root lies now is what `ls --outside --moved` said of it.
        self.roots = [str(store.located(root)) for root in self.recorded_roots]
        self.new_root = None if self.root in self.roots else self.root
        if self.new_root is not None:
            _check_stays(store, self.new_root)
            self.recorded_roots.append(store.recorded(Path(self.new_root)))
            self.roots.append(self.new_root)
        self.types = MetaTypes(self.before, old, spec.name)
        self.folded = Tally()
        self.ledger = Ledger()
        # The positions of the batch in hand that came to their outcome.
        self.settled: list[int] = []
        self.files = _Rows(FILES)
        self.changed: set[str] = set()
        self.passing: set[str] = set()
        self.rejected = _Rows(QUARANTINE)
        self.removed: list[tuple[int, str, str]] = []
        self.parts: list[tables.Part] = []
        self.part: PartWriter | None = None
        self.payload_kind = old.kind
        self.digest = int(old.digest, 16)
        self.live = old.records
        self.done_bytes = 0

    def read(self, source: Source) -> dict[str, Any]:
        if self.progress.plan is not None:
            todo = sum(unit.size_bytes for unit in source.units() if not self._unchanged(unit))
            needed = todo if self.spec.payload == "copy" else 0
            self.progress.plan(todo, needed, free_bytes(self.store.root))
        for batch in self._batches(source):
            self._take(batch)
        self._close_part()
        rejected = self.rejected.frame()
        still_out = self.listed.filter(pl.col("unit").is_in(self.still_out))
        rows = pl.concat([still_out, rejected])
        self._check_conserved(rows.height)
        self._check_useful(source, rejected, rows)
        passed_over = _passed_over(source, self.spec.found, self.folded)
        version = self._commit(rejected, passed_over)
        return {
            "pool": self.old.name,
            "version": version,
            "read": self.ledger.read + self.unread,
            "accepted": self.accepted,
            "known": self.known_records,
            "quarantined": dict(rows["code"].value_counts().sort("code").iter_rows()),
            "waiting": self.waiting,
            "left_out": [*quarantine.left_out(rows), *passed_over],
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

    def _batches(self, source: Source) -> Iterator[Batch]:
        """Yield what the units to read hold; units that lie apart are read by several workers."""
        copied = self.spec.payload == "copy"
        reader = Reader(source, self.spec.name, self.spec.columns, copied, decoding.seen)
        units = self._units(source)
        apart = self.workers > 1 and getattr(source, "apart", False)
        if apart and isinstance(source, Divisible):
            units = (part for unit in units for part in source.stretches(unit, _SHARE_BYTES))
        shares = _shares(units) if apart else iter(())
        begun = list(itertools.islice(shares, 2))
        if len(begun) < 2:
            # One share is read here: a worker would take longer to start than it saves.
            units = itertools.chain(*begun, units)
            with Workers(self.workers, isolated=True) as workers:
                yield from reader.batches(units, workers)
            return
        make_folder(self.store.temporary)
        with (
            tempfile.TemporaryDirectory(dir=self.store.temporary) as folder,
            Workers(self.workers) as workers,
        ):
            # A copy in which nothing is counted here, since threads pickle it for the workers.
            reader = replace(reader, source=copy.deepcopy(source))
            work = partial(reader.spool, Path(folder))
            for spool in workers.map(work, itertools.chain(begun, shares)):
                source.passed_over.contents.update(spool.passed_over)
                yield from spool.batches()

    def _units(self, source: Source) -> Iterator[Unit]:
        """Yield the units to read, those that are new or changed."""
        now = time.time()
        for unit in source.units():
            if self._unchanged(unit):
                self._skip(unit.name)
            elif self.spec.settle_s and _age(unit, now) < self.spec.settle_s:
                self.waiting += 1
            else:
                yield unit

    def _skip(self, unit: str) -> None:
        """Count an unread unit by what its last reading gave."""
        read, out = self.known_units[unit][1], self.listed_counts.get(unit, 0)
        self.unread += read
        self.known_records += read - out
        if out:
            self.still_out.append(unit)

    def _take(self, batch: Batch) -> None:
        self.settled = []
        for out in batch.out:
            self._quarantine(batch, out)
        self._place(self._folded(batch))
        places = np.sort(np.array(self.settled, dtype=np.int64))
        start = 0
        for span in batch.spans:
            mine = places[
                np.searchsorted(places, start) : np.searchsorted(places, start + span.count)
            ]
            given = self.ledger.settle(span, mine - start + span.first)
            start += span.count
            if span.last:
                self._finish(span.unit, given)
        self.taken += start
        self.progress.show(self.done_bytes, self.taken)

    def _finish(self, unit: Unit, given: int) -> None:
        """Remember a unit that was read; a quarantined one too is read again when it changes."""
        self.done_bytes += unit.size_bytes
        self.files.add((self.spec.name, unit.name, self._mark(unit), given))

    def _folded(self, batch: Batch) -> Batch:
        """Return the batch with the meta that a pool has no column for in one."""
        known = set(self.types.kinds)
        if not overfull(known | batch.meta.keys()):
            return batch
        metas: list[dict[str, Any]] = [{} for _ in range(len(batch.records))]
        for name, cells in batch.meta.items():
            for row, value in zip(cells.rows.tolist(), cells.values, strict=True):
                metas[row][name] = value
        for row, meta in enumerate(metas):
            metas[row] = folded(meta, known)
            known |= metas[row].keys()
            if metas[row] is not meta:
                reason = f"columns beyond the first {META_COLUMNS:,}: in meta.{REST}"
                self.folded.add(batch.unit_of(batch.records["place"][row]), reason)
        return replace(batch, meta=cells_of(metas))

    def _place(self, batch: Batch) -> None:
        """Take the records that are new into the pool; say of the others what they are."""
        height = len(batch.records)
        if height > 1 and self.types.undecided(batch.meta):
            half = np.arange(height) < height // 2
            self._place(batch.filter(half))
            self._place(batch.filter(~half))
            return
        misfits = self.types.misfits(batch.meta)
        if misfits:
            for row, detail in misfits.items():
                self._refuse(batch, row, "MISFIT_TYPE", detail)
            batch = batch.filter(~np.isin(np.arange(height), list(misfits)))
        records = batch.records
        if not len(records):
            return
        uids = records["uid"].to_numpy()
        hashes = hashes_of(records["record"])[:, 0]
        found = self.known.compare(uids, hashes)
        first = np.zeros(len(uids), dtype=bool)
        first[np.unique(uids, return_index=True)[1]] = True
        for row in np.flatnonzero(first & (found == OTHER)).tolist():
            found[row] = NEW if self._replaces(batch, row) else _OUT
        # A second record of an id that is known is told from a changed one, and replaces nothing.
        ids = records["source_id"]
        kept = np.flatnonzero(first & (found != _OUT))
        self.known.add(uids[kept], hashes[kept], ids if len(kept) == len(ids) else ids[kept])
        for row in np.flatnonzero(~first).tolist():
            one = slice(row, row + 1)
            [found[row]] = self.known.compare(uids[one], hashes[one])
            if found[row] == OTHER:
                found[row] = NEW if self._replaces(batch, row) else _OUT
            if found[row] == NEW:
                self.known.add(uids[one], hashes[one], ids[one])
        same = np.flatnonzero(found == SAME)
        self.known_records += len(same)
        self.settled += records["place"].to_numpy()[same].tolist()
        self._accept(batch.filter(found == NEW))

    def _accept(self, batch: Batch) -> None:
        records = batch.records
        if not len(records):
            return
        self.types.learn(batch.meta)
        meta = self.types.columns(batch.meta, len(records))
        columns = {name: records[name] for name in records.columns if name in RECORD}
        columns |= {f"meta.{name}": values for name, values in meta.items()}
        frame = pl.DataFrame(columns)
        self._check_kinds(batch.kinds)
        self._write(frame, batch.payloads, records["text_bytes"].to_numpy())
        self.settled += records["place"].to_list()
        self.accepted += len(records)
        self.live += len(records)
        added = members(records["uid"].to_numpy(), records["record"])
        self.digest = (self.digest + added) % 2**128

    def _check_kinds(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            self.payload_kind = self.payload_kind or kind
            if kind != self.payload_kind:
                raise ConfigError(
                    f"source {self.spec.name!r} gives {kind}, and pool {self.old.name!r} has "
                    f"{self.payload_kind}: the payloads of a pool are of one kind. Read what is "
                    "of another into a pool of its own."
                )

    def _replaces(self, batch: Batch, row: int) -> bool:
        """Decide about other content under a known uid: True where it takes the old one's place."""
        record = batch.records.row(row, named=True)
        uid, source_id = record["uid"], record["source_id"]
        old = self.known.replaced(uid, self.spec.name, source_id)
        if old is None:
            if self.known.collides(uid, source_id):
                code, detail = "UID_COLLISION", f"another id of this source has the uid {uid:016x}"
            else:
                code, detail = "DUP_ID", "the id occurs twice in this source with other content"
            self._refuse(batch, row, code, detail)
            return False
        if not old.ours:
            self._refuse(batch, row, "UID_COLLISION", f"another record has the uid {uid:016x}")
            return False
        if self.root == self.new_root:
            raise ConfigError(
                f"{self.root}: {source_id!r} is known to source {self.spec.name!r} from "
                f"{', '.join(self.roots[:-1])} with other content. If this is another collection, "
                f"give it a name of its own: --source {self.spec.name}-2."
            )
        if not self.spec.update:
            self.changed.add(batch.unit_of(record["place"]))
            detail = "known with other content; --update takes the new one"
            self._refuse(batch, row, "CHANGED", detail)
            return False
        self.removed.append((uid, old.part, "updated"))
        self.live -= 1
        removed = members(np.array([uid], dtype=np.uint64), [old.record])
        self.digest = (self.digest - removed) % 2**128
        return True

    def _refuse(self, batch: Batch, row: int, code: str, detail: str) -> None:
        """Quarantine a record of a batch."""
        record = batch.records.row(row, named=True)
        place, source_id, where = record["place"], record["source_id"], record["where"]
        self._quarantine(batch, Out(place, source_id, where, code, detail, record["digest"]))

    def _quarantine(self, batch: Batch, out: Out) -> None:
        unit = batch.unit_of(out.place)
        if out.code in PASSING:
            self.passing.add(unit)
        self.rejected.add(
            (self.spec.name, out.source_id, out.where, out.code, out.detail[:500], out.digest, unit)
        )
        self.settled.append(out.place)

    def _write(
        self,
        records: pl.DataFrame,
        payloads: Sequence[bytes | None] | None,
        text_bytes: NDArray[np.int64],
    ) -> None:
        """Append records to the part, and to those that follow where it is full."""
        while len(records):
            if self.part is None:
                name = f"{len(self.old.parts) + len(self.parts):05d}"
                self.part = PartWriter(self.store, self.old.name, name, self.types.kinds)
            fit = self.part.add(records, payloads, text_bytes, self.payload_kind)
            records, text_bytes = records[fit:], text_bytes[fit:]
            payloads = payloads and payloads[fit:]
            if len(records):
                self._close_part()

    def _close_part(self) -> None:
        if self.part is not None:
            self.parts.append(self.part.publish())
            self.part = None
            failpoint("ingest.part")

    def _check_conserved(self, out: int) -> None:
        """Compare what the readers gave with what the tables to be committed hold."""
        self.ledger.check()
        written = sum(part.rows for part in self.parts)
        read, came = self.ledger.read + self.unread, written + self.known_records + out
        if written != self.accepted or read != came:
            raise DataError(
                f"source {self.spec.name}: {read:,} records were read and {came:,} are written, "
                "known or quarantined. Nothing was made visible. This is a fault of winnow: please "
                "report it."
            )

    def _check_useful(self, source: Source, rejected: pl.DataFrame, rows: pl.DataFrame) -> None:
        """Refuse an ingest that brings nothing, or too little of what is new."""
        pool, name = self.old.name, self.spec.name
        at_hand = rows["code"].is_in(quarantine.KNOWN_IDS).any()
        if not (self.accepted or self.known_records or self.waiting or at_hand):
            if not rows.height:
                aside = [f"{n:,} {s} ({why})" for s, why, n, _ in source.passed_over.rows()]
                passed_over = f" Passed over: {', '.join(aside)}." if aside else ""
                raise DataError(
                    f"{self.spec.found.root}: nothing to read for source {name}.{passed_over}"
                )
            raise quarantine.nothing_accepted(self.store, pool, name, rows)
        place = ["unit", "where", "source_id", "code"]
        fresh = rejected.join(self.listed, on=place, how="anti", nulls_equal=True)
        quarantine.check_share(
            self.store, pool, name, fresh, self.accepted, self.spec.max_quarantined_ratio
        )

    def _commit(self, rejected: pl.DataFrame, passed_over: list[dict[str, Any]]) -> int:
        self.types.check()
        version = self.old.version + 1
        name = f"v{version:05d}"
        read_again = self.files.frame()
        files = self._new_files(read_again)
        quarantined = quarantine.replaced(
            self.store, self.old, self.spec.name, read_again["unit"], rejected, name
        )
        changes = (self.parts, self.removed, files.height, self.new_root)
        if not any(changes) and quarantined == self.old.quarantine and "read_by" in self.before:
            return self.old.version
        removed = self.old.removed
        if self.removed:
            frame = pl.DataFrame(self.removed, schema=REMOVED, orient="row")
            if removed is not None:
                frame = pl.concat([tables.read(self.store, removed), frame])
            removed = tables.put(self.store, frame, pool=self.old.name, table="removed", part=name)
        read = self.old.files
        if files.height:
            put = tables.put(self.store, files, pool=self.old.name, table="files", part=name)
            read = (*read, put)
        source = {
            "kind": self.kind,
            "roots": self.recorded_roots,
            "read_by": self.spec.read_by(),
            **self.types.entry(),
            "passed_over": passed_over,
        }
        pool = replace(
            self.old,
            version=version,
            digest=f"{self.digest:032x}",
            records=self.live,
            parts=(*self.old.parts, *self.parts),
            removed=removed,
            quarantine=quarantined,
            files=read,
            sources={**self.old.sources, self.spec.name: source},
        )
        failpoint("ingest.commit")
        tables.commit_pool(self.store, pool)
        failpoint("ingest.done")
        quarantine.held(self.store, self.old.name, self.spec.name).unlink(missing_ok=True)
        return version

    def _new_files(self, files: pl.DataFrame) -> pl.DataFrame:
        """Return the units read, but those that are known just so."""
        column, fingerprint = pl.col("unit"), pl.col("fingerprint")
        marked = files.with_columns(
            pl.when(column.is_in(sorted(self.passing)))
            .then(fingerprint + PASSED)
            .when(column.is_in(sorted(self.changed)))
            .then(fingerprint + CHANGED)
            .otherwise(fingerprint)
        )
        rows = marked.select("unit", "fingerprint", "records").iter_rows()
        new = [self.known_units.get(unit) != (mark, records) for unit, mark, records in rows]
        return marked.filter(pl.Series(new, dtype=pl.Boolean))


class _Rows:
    """Rows that are kept until the commit, as columns, in a fraction of the memory of tuples."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._latest: list[tuple[Any, ...]] = []
        self._frames = [pl.DataFrame(schema=schema)]

    def add(self, row: tuple[Any, ...]) -> None:
        self._latest.append(row)
        if len(self._latest) == _WAITING_ROWS:
            self._frames.append(self._recent())
            self._latest.clear()

    def frame(self) -> pl.DataFrame:
        return pl.concat([*self._frames, self._recent()])

    def _recent(self) -> pl.DataFrame:
        return pl.DataFrame(self._latest, schema=self._schema, orient="row")


def _shares(units: Iterator[Unit]) -> Iterator[list[Unit]]:
    """Yield units as what a worker reads at a time: a large one, or several small ones."""
    share: list[Unit] = []
    size = 0
    for unit in units:
        share.append(unit)
        size += unit.size_bytes
        if size >= _SHARE_BYTES or len(share) == _SHARE_UNITS:
            yield share
            share, size = [], 0
    if share:
        yield share


def _passed_over(source: Source, found: Found, folded: Tally) -> list[dict[str, Any]]:
    """Return what no record or no column was made of, as `quarantine.left_out` does."""
    missing = Tally()
    for name in found.missing:
        missing.add(name, "missing")
    rows = PassedOver(missing, folded).rows() + source.passed_over.rows()
    return [
        {"suffix": suffix, "reason": reason, "count": count, "examples": examples}
        for suffix, reason, count, examples in rows
    ]


def _age(unit: Unit, now: float) -> float:
    try:
        return now - Path(unit.path).stat().st_mtime
    except OSError:  # the reader says what is wrong with it
        return math.inf


def _check_stays(store: Store, root: str) -> None:
    """Check that a new root would be found again where it lies.

    Raises:
        ConfigError: what lies there is said to be elsewhere.
    """
    there = str(store.located(root))
    if there != root:
        raise ConfigError(
            f"{root}: the store was told that it is now {there}. Read it there, or take that back: "
            f"winnow ls --outside --moved {shlex.quote(f'{there}={root}')}"
        )
