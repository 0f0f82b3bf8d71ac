"""From what a source gives to batches of records that are sound: checked, digested, hashed."""

from __future__ import annotations

import itertools
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import digest_of, uid_of, uids_of
from flows.ingest import decoding
from flows.ingest.batch import Batch, Cells, Out, cells_of
from flows.ingest.decoding import Seen
from flows.workers import Workers
from storage import commit
from storage.block import Span, Table, blocks
from storage.parts import ALWAYS, RECORD
from storage.plain import Plain, plain
from storage.records import HASHED, record_hashes
from storage.source import Columns, Record, Rejected, Source, Tally, Unit

_NO_NOTES = pl.Series("normalised", [[]], dtype=RECORD["normalised"])


@dataclass(frozen=True)
class Positions:
    """Positions that follow each other, parted into what goes by columns and the rest.

    Attributes:
        spans: the positions of each unit.
        tables: rows whose records are plain, each of `Plain` at a place of its table.
        alone: all others, by their place among these positions.
    """

    spans: Sequence[Span]
    tables: Sequence[tuple[Table, Plain]]
    alone: Mapping[int, Record | Rejected]

    def payloads(self) -> list[tuple[str, bytes]]:
        """Return kind and bytes of the payloads, hostile until they are checked, in order.

        The label image of a record follows its payload.
        """
        found: list[tuple[str, bytes]] = []
        for place in sorted(self.alone):
            record = self.alone[place]
            if isinstance(record, Record) and record.payload is not None:
                found.append(record.payload)
                if record.label_image is not None:
                    found.append((decoding.LABEL_IMAGE, record.label_image))
        return found


@dataclass(frozen=True)
class Spool:
    """What units gave, in a file: the batches, one pickled after the other.

    A worker of this run wrote it into a folder that this run made: no other's pickle is read.

    Attributes:
        passed_over: what went into no record of them.
    """

    path: Path
    passed_over: Tally

    def batches(self) -> Iterator[Batch]:
        """Yield the batches; the file is gone after the last."""
        with commit.reporting(self.path), self.path.open("rb") as file:
            size = self.path.stat().st_size
            while file.tell() < size:
                yield pickle.load(file)
        self.path.unlink()


@dataclass(frozen=True)
class Reader:
    """How the units of a source become batches, in this process or in another.

    Attributes:
        source: reads them.
        name: of the source.
        columns: what it was made with.
        copy: whether payload is copied into the pool, or stays where it is.
        look: what an isolated worker does with kind and bytes of a payload.
    """

    source: Source
    name: str
    columns: Columns
    copy: bool
    look: Callable[[tuple[str, bytes]], decoding.Fields]

    def batches(self, units: Iterable[Unit], workers: Workers) -> Iterator[Batch]:
        """Yield what units hold, each position once and in order.

        Args:
            units: of the source.
            workers: isolated ones, which meet the payloads.
        """
        looked = workers.map_batches(
            self.look, self._positions(units), Positions.payloads, decoding.crashed
        )
        for these, seen in looked:
            yield checked(these, itertools.starmap(Seen, seen), self.name, copy=self.copy)

    def spool(self, folder: Path, units: Sequence[Unit]) -> Spool:
        """Write what units hold into a new file of a folder."""
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            path = Path(file.name)
            for batch in self.batches(units, _isolated()):
                with commit.reporting(path):
                    pickle.dump(batch, file, protocol=pickle.HIGHEST_PROTOCOL)
        return Spool(path, self.source.passed_over.contents)

    def _positions(self, units: Iterable[Unit]) -> Iterator[Positions]:
        for block, spans in blocks(self.source, units):
            tables: list[tuple[Table, Plain]] = []
            alone = dict(block.alone)
            for table in block.tables:
                found = plain(self.columns, table)
                rows: set[int] = set()
                if found is not None:
                    tables.append((table, found))
                    rows.update(found.rows.tolist())
                if len(rows) < len(table.places):
                    others = ((row, at) for row, at in enumerate(table.places) if row not in rows)
                    alone |= {place: table.found(row) for row, place in others}
            yield Positions(spans, tables, alone)


@lru_cache(maxsize=1)
def _isolated() -> Workers:
    """Return the isolated worker of this process, which ends with it."""
    return Workers(isolated=True)


def checked(these: Positions, seen: Iterator[Seen], source: str, *, copy: bool) -> Batch:
    """Return the records of some positions, and why the others are none.

    Args:
        these: the positions.
        seen: what was found of each of their payloads, in order.
        source: the source's name.
        copy: whether payload is copied into the pool, or stays where it is.
    """
    pieces = [_of_table(table, found, source) for table, found in these.tables]
    singles = _Singles(source, copy)
    for place in sorted(these.alone):
        singles.add(place, these.alone[place], seen)
    if singles.rows:
        pieces.append((singles.frame(), cells_of(singles.metas)))
    records, meta, order = _together(pieces)
    payloads: Sequence[bytes | None] | None = None
    if singles.kinds:
        by_row = [None] * (len(records) - len(singles.payloads)) + singles.payloads
        payloads = [by_row[row] for row in order]
    return Batch(these.spans, records, meta, payloads, tuple(sorted(singles.kinds)), singles.out)


class _Singles:
    """Those of some positions that are looked at one by one.

    Attributes:
        rows: of each record its columns.
        metas: of each record its meta.
        payloads: of each record; None where it has none, or its payload is not copied.
        kinds: of the payloads that they have.
        out: what is no record.
    """

    def __init__(self, source: str, copy: bool) -> None:
        self._source, self._copy = source, copy
        self.rows: list[dict[str, Any]] = []
        self.payloads: list[bytes | None] = []
        self.kinds: set[str] = set()
        self.metas: list[dict[str, Any]] = []
        self.out: list[Out] = []
        self._text_digests: list[bytes | None] = []

    def add(self, place: int, found: Record | Rejected, seen: Iterator[Seen]) -> None:
        """Add a record, or why it is none; takes what was seen of its payload, if it has one."""
        if isinstance(found, Rejected):
            self._reject(place, found, found.code, found.detail, found.digest)
            return
        looked = None if found.payload is None else next(seen)
        labels = None if found.label_image is None else next(seen)
        text_digest = None if found.text is None else digest_of(found.text)
        digest = text_digest if looked is None else looked.digest
        if looked is not None and looked.columns is None:
            self._reject(place, found, looked.code, looked.detail, digest)
            return
        if labels is not None and labels.columns is None:
            self._reject(place, found, labels.code, f"label_image: {labels.detail}", digest)
            return
        if labels is not None and looked is not None and labels.columns != looked.columns:
            detail = f"the labels are {_size(labels)}, the picture is {_size(looked)}"
            self._reject(place, found, "LABEL_SIZE", detail, digest)
            return
        if digest is None:
            self._reject(place, found, "NO_CONTENT", "neither a payload nor a text", None)
            return
        location = None if self._copy else found.location
        row: dict[str, Any] = {
            "place": place,
            "where": found.where,
            "uid": uid_of(self._source, found.source_id),
            "source": self._source,
            "source_id": found.source_id,
            "digest": digest,
            "location": location
            and {"path": location.path, "offset": location.offset, "length": location.length},
            "text": found.text,
            # Both lie in the records, which wait in memory.
            "text_bytes": len((found.text or "").encode()) + len(found.label_image or b""),
            "texts": found.texts,
            "series": found.series,
            "position": found.position,
            "licence": found.licence,
            "label_image": found.label_image,
            "normalised": list(found.notes),
        }
        if looked is not None and looked.columns is not None:
            row |= looked.columns
            row["normalised"] += looked.notes
        self.rows.append(row)
        self._text_digests.append(text_digest)
        self.metas.append(found.meta)
        kind, data = found.payload or ("", None)
        self.payloads.append(data if location is None else None)
        if data is not None:
            self.kinds.add(kind)

    def frame(self) -> pl.DataFrame:
        """Return the records' columns; those that no record has are left out."""
        schema = {"place": pl.Int64, "where": pl.String, "text_bytes": pl.Int64, **RECORD}
        columns: dict[str, Sequence[Any]] = {
            name: [row.get(name) for row in self.rows] for name in schema
        }
        columns["record"] = self._hashes()
        return pl.DataFrame(
            {
                name: pl.Series(values, dtype=schema[name])
                for name, values in columns.items()
                if name in ALWAYS or any(value is not None for value in values)
            }
        )

    def _hashes(self) -> list[bytes]:
        """Return the record hashes, made together for records whose meta has the same names."""
        alike: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for at, meta in enumerate(self.metas):
            alike[tuple(meta)].append(at)
        hashes = [b""] * len(self.rows)
        for names, places in alike.items():
            rows = [self.rows[at] for at in places]
            hashed = record_hashes(
                [row["digest"] for row in rows],
                [self._text_digests[at] for at in places],
                {name: [row.get(name) for row in rows] for name in HASHED},
                {name: [self.metas[at][name] for at in places] for name in names},
            )
            for at, one in zip(places, hashed, strict=True):
                hashes[at] = one
        return hashes

    def _reject(
        self, place: int, found: Record | Rejected, code: str, detail: str, digest: bytes | None
    ) -> None:
        self.out.append(Out(place, found.source_id, found.where, code, detail, digest))


def _size(seen: Seen) -> str:
    assert seen.columns is not None
    return f"{seen.columns['width']} x {seen.columns['height']}"


def _of_table(table: Table, found: Plain, source: str) -> tuple[pl.DataFrame, dict[str, Cells]]:
    """Return the plain records of a table."""
    height = len(found.rows)
    places = np.array(table.places)[found.rows]
    where = [f"{table.unit}#{table.numbers[row]}" for row in found.rows.tolist()]
    source_ids = where if found.source_id is None else found.source_id
    digests = [digest_of(text) for text in found.data]
    given = {
        name: values
        for name in ("series", "position", "licence")
        if (values := getattr(found, name)) is not None
    }
    own = {"source_id": source_ids, **given}
    shared = {"source": source, "normalised": []}
    hashed = record_hashes(digests, digests, own, found.meta, shared)
    columns: dict[str, pl.Series] = {
        "place": pl.Series(places),
        "where": pl.Series(where),
        "uid": pl.Series(uids_of(source, source_ids)),
        "source": pl.Series([source]).new_from_index(0, height),
        "source_id": pl.Series(source_ids, dtype=pl.String),
        "digest": pl.Series(digests, dtype=pl.Binary),
        "record": pl.Series(hashed, dtype=pl.Binary),
        "text": found.text,
        "text_bytes": pl.Series(list(map(len, found.data)), dtype=pl.Int64),
        "normalised": _NO_NOTES.new_from_index(0, height),
        **{name: pl.Series(values, dtype=RECORD[name]) for name, values in given.items()},
    }
    rows = np.arange(height)
    return pl.DataFrame(columns), {
        name: cells for name, values in found.meta.items() if (cells := _cells(rows, values))
    }


def _cells(rows: NDArray[np.int64], values: Sequence[Any]) -> Cells | None:
    if None not in values:
        return Cells(rows, values)
    held = [row for row, value in enumerate(values) if value is not None]
    return Cells(np.array(held), [values[row] for row in held]) if held else None


def _together(
    pieces: Sequence[tuple[pl.DataFrame, dict[str, Cells]]],
) -> tuple[pl.DataFrame, dict[str, Cells], NDArray[np.int64]]:
    """Return pieces in the order of their places, and where each row was before."""
    if len(pieces) == 1:
        [(frame, meta)] = pieces
        return frame, meta, np.arange(len(frame))
    if not pieces:
        return pl.DataFrame(schema={"place": pl.Int64, "uid": pl.UInt64}), {}, np.arange(0)
    frame = pl.concat([frame for frame, _ in pieces], how="diagonal")
    order = np.argsort(frame["place"].to_numpy())
    row_of = np.argsort(order)
    rows: defaultdict[str, list[NDArray[np.int64]]] = defaultdict(list)
    values: defaultdict[str, list[Any]] = defaultdict(list)
    start = 0
    for piece, meta in pieces:
        for name, cells in meta.items():
            rows[name].append(row_of[cells.rows + start])
            values[name] += cells.values
        start += len(piece)
    together: dict[str, Cells] = {}
    for name, parts in rows.items():
        at = np.concatenate(parts)
        ascending = np.argsort(at)
        together[name] = Cells(at[ascending], [values[name][i] for i in ascending.tolist()])
    return frame[order], together, order
