"""Measure a part, or a piece of one: here, in a child process, on a cluster, the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.step import null_type
from flows.measure.encoders import encoder, scorer
from flows.pool_reader import flat_columns
from flows.recipe.expressions import bound_roles
from flows.recipe.plan import Node
from flows.workers import one_thread
from storage import files, tables
from storage.store import Object, Store

BATCH_ROWS = 64
TEXT_ROWS = 4096
CHUNK_ROWS = 512
PIECE_ROWS = 1024
PIECES = 16
CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class Work:
    """One node to measure on a part.

    Attributes:
        tables: the node's further tables: objects of the store, or files.
        rows: the part's rows that its gate lets through, as packed bits; None for all.
    """

    node: Node
    tables: tuple[tuple[str, Object | Path], ...] = ()
    rows: bytes | None = None


@dataclass(frozen=True)
class Task:
    """A part and what to measure on it in one pass over its payload.

    Attributes:
        piece: the part's rows from, to where only these are measured; None for all.
    """

    root: Path
    pool: str
    part: tables.Part
    notes: Mapping[str, tables.Note]
    work: tuple[Work, ...]
    device: str | None = None
    piece: tuple[int, int] | None = None


WrittenNotes = list[tuple[Object, dict[str, Any]]]
"""For each node its object and what is recorded of the making."""
MeasuredRows = list[tuple[list[pl.DataFrame], str]]
"""For each node its rows, in order, and their numerics class."""


def pieces(task: Task) -> list[Task]:
    """Cut a task, where it is worth it, so that several workers share a part.

    Encoders and steps on payload take long for few bytes, so what pieces measured can travel.
    """
    costly = _reads_payload(task) or any(w.node.kind == "embed" for w in task.work)
    if not costly or task.part.rows <= PIECE_ROWS:
        return [task]
    # Each piece reads the part's narrow columns anew: a part has few.
    rows = max(PIECE_ROWS, -(-task.part.rows // PIECES))
    starts = range(0, task.part.rows, rows)
    return [replace(task, piece=(n, min(n + rows, task.part.rows))) for n in starts]


def measure(task: Task) -> WrittenNotes | MeasuredRows:
    """Measure a part and write it, or a piece of one and return it."""
    found = _measure(task)
    return found if task.piece is not None else join(task, [found])


def join(task: Task, found: Sequence[MeasuredRows]) -> WrittenNotes:
    """Write what the pieces of a part measured, in their order."""
    store = Store(task.root)
    uids = tables.read(store, task.part.records, ["uid"])
    made = []
    for index, work in enumerate(task.work):
        parts = [frame for piece in found for frame in piece[index][0]]
        frame = _aligned(uids, parts, work.node)
        item = tables.put(store, frame, pool=task.pool, table=work.node.table, part=task.part.name)
        made.append((item, {"numerics": found[0][index][1]}))
    return made


def _measure(task: Task) -> MeasuredRows:
    one_thread()
    store = Store(task.root)
    masks = [_mask(work, task.part.rows) for work in task.work]
    if task.piece is not None:
        here = np.zeros(task.part.rows, dtype=bool)
        here[slice(*task.piece)] = True
        masks = [mask & here for mask in masks]
    measurers = [measurer(store, work, task.device) for work in task.work]
    found: list[list[pl.DataFrame]] = [[] for _ in task.work]
    for chunk in _chunks(store, task, masks):
        flat = [
            _roles(work.node, chunk.filter(mask[chunk["row"].to_numpy()]))
            for work, mask in zip(task.work, masks, strict=True)
        ]
        for index, work in enumerate(task.work):
            if work.node.kind == "embed":
                found[index].append(_measured(measurers[index], flat[index]))
        # Steps take turns over small batches, so that an image is decoded once for all of them.
        size = BATCH_ROWS if _reads_payload(task) else TEXT_ROWS
        steps = [i for i, work in enumerate(task.work) if work.node.kind != "embed"]
        for start in range(0, chunk.height, size):
            rows = chunk["row"][start : start + size]
            for index in steps:
                batch = flat[index].filter(pl.col("row").is_in(rows.implode()))
                if batch.height:
                    found[index].append(_measured(measurers[index], batch))
    classes = [getattr(measured, "numerics", "cpu") for measured in measurers]
    return list(zip(found, classes, strict=True))


def rows_of(task: Task) -> pl.DataFrame:
    """Return `uid` and the roles of a task's only node, of the rows that its mask lets through."""
    (work,) = task.work
    mask = _mask(work, task.part.rows)
    chunks = _chunks(Store(task.root), task, [mask])
    frames = [_roles(work.node, c.filter(mask[c["row"].to_numpy()])) for c in chunks]
    return pl.concat(frames, how="vertical_relaxed").drop("row")


class StepMeasurer:
    """A step with its tables and scorers, called on a batch."""

    numerics = "cpu"

    def __init__(self, node: Node, arguments: list[Any]) -> None:
        self.step, self.arguments = node.step, arguments

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Return the written columns of a batch."""
        return self.step(batch, *self.arguments).drop("uid")


def measurer(store: Store, work: Work, device: str | None) -> Callable[[pl.DataFrame], Any]:
    """Return the callable that measures a batch; weights and tables are loaded once a process."""
    node = work.node
    if node.kind == "embed":
        embed: Callable[[pl.DataFrame], Any] = encoder(node, device)
        return embed
    named = dict(work.tables)
    arguments: list[Any] = [
        load_table(store, named[name]) if name in named else None for name in node.step.tables
    ]
    arguments += [scorer(node, slot, device) for slot in node.step.slots]
    return StepMeasurer(node, arguments)


def load_table(store: Store, table: Object | Path) -> pl.DataFrame:
    """Return a model table of the store, or a file."""
    return files.load(table) if isinstance(table, Path) else tables.read(store, table)


def _reads_payload(task: Task) -> bool:
    """Whether a task reads the part's payload, by its kind or as `payload`."""
    named = {p for work in task.work for p in work.node.paths}
    return task.part.payload is not None and bool(named & {task.part.kind, "payload"})


def _chunks(store: Store, task: Task, masks: list[np.ndarray[Any, Any]]) -> Iterator[pl.DataFrame]:
    """Yield the part's rows as flat frames with `row`, a bounded number of bytes at a time."""
    paths = dict.fromkeys(p for work in task.work for p in work.node.paths)
    flat = flat_columns(store, task.part, task.notes, list(paths)).with_row_index("row")
    if not _reads_payload(task):
        first, last = task.piece or (0, flat.height)
        for start in range(first, last, TEXT_ROWS):
            yield flat[start : min(start + TEXT_ROWS, last)]
        return
    wanted = np.logical_or.reduce(masks)
    waiting: list[pl.DataFrame] = []
    for group in tables.payloads(store, task.part, rows=wanted):
        for start in range(0, group.height, CHUNK_ROWS):
            waiting.append(group[start : start + CHUNK_ROWS])
            rows = sum(frame.height for frame in waiting)
            size = sum(int(frame.estimated_size()) for frame in waiting)
            if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield glue(flat, pl.concat(waiting), task.part.kind, paths)
                waiting = []
    if waiting:
        yield glue(flat, pl.concat(waiting), task.part.kind, paths)


def glue(
    flat: pl.DataFrame, payload: pl.DataFrame, kind: str | None, paths: Mapping[str, None]
) -> pl.DataFrame:
    """Return the rows of a chunk with their payload under the names that steps ask for."""
    rows = flat[payload["row"].to_numpy()]
    names = [p for p in (kind, "payload") if p in paths]
    return rows.with_columns(payload["payload"].alias(str(name)) for name in names)


def _roles(node: Node, flat: pl.DataFrame) -> pl.DataFrame:
    return flat.select("row", "uid", *bound_roles(flat, node.roles))


def _measured(measure_batch: Callable[[pl.DataFrame], Any], batch: pl.DataFrame) -> pl.DataFrame:
    measured: pl.DataFrame = measure_batch(batch.drop("row"))
    return batch.select("row").hstack(measured.drop("uid", strict=False))


def _aligned(uids: pl.DataFrame, parts: list[pl.DataFrame], node: Node) -> pl.DataFrame:
    """Return `uid` and the written columns for every row of the part, nulls where unmeasured."""
    if not parts:
        columns = [pl.lit(None, dtype=null_type(t)).alias(c) for c, t in node.writes.items()]
        return uids.with_columns(columns)
    found = pl.concat(parts)
    rows = uids.with_row_index("row")
    return rows.join(found, on="row", how="left", maintain_order="left").drop("row")


def _mask(work: Work, rows: int) -> np.ndarray[Any, Any]:
    if work.rows is None:
        return np.ones(rows, dtype=bool)
    return np.unpackbits(np.frombuffer(work.rows, dtype=np.uint8), count=rows).astype(bool)
