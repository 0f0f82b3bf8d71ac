"""Bring groups together: rows are hashed into buckets on disk, and no group is ever split.

So a groupwise step over a pool larger than memory holds one bucket at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from curation._groups import repeated
from flows.measure.tasks import Task, rows_of
from flows.recipe.plan import Node
from flows.workers import Workers
from storage import commit

BUCKET_BYTES = 256 << 20
_SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class Scatter:
    """One part's rows to cut into buckets.

    Attributes:
        task: the part, and the step as its only work.
        folder: where the buckets are.
        count: of the buckets.
        only: `keys` writes the keys alone, `repeated` the rows of those that `_keep_repeated`
            found; None writes all rows.
    """

    task: Task
    folder: Path
    count: int
    only: str | None = None


@dataclass(frozen=True)
class Gather:
    """One bucket to run a step on."""

    node: Node
    folder: Path
    arguments: list[Any]


@dataclass(frozen=True)
class Parts:
    """Parts that together hold their groups whole."""

    tasks: Sequence[Task]
    arguments: list[Any]


def run(
    node: Node,
    tasks: Sequence[Task],
    uids: pl.Series,
    arguments: list[Any],
    workers: Workers,
    folder: Path,
) -> pl.DataFrame:
    """Run a groupwise step; one row per uid.

    Args:
        node: of the step.
        tasks: the parts, each with the step as its only work.
        uids: of all rows that the tasks let through, in their order.
        arguments: the step's further tables and scorers.
        workers: where parts are cut and buckets are measured.
        folder: for the buckets; it is removed in the end.
    """
    step = node.step
    if not tasks:
        return step.gather(uids, [])
    first = step.select(rows_of(tasks[0]))
    count = _count(node, first, len(uids))
    if count == 1:
        # One bucket is what lies in the parts: nothing need move, nor need a worker start.
        others = (step.select(rows_of(task)) for task in tasks[1:])
        rows = pl.concat([first, *others], how="vertical_relaxed")
        return step.gather(uids, [step.run_groups(rows, step.scatter(rows), *arguments)])
    del first
    shutil.rmtree(folder, ignore_errors=True)
    commit.make_folder(folder)
    try:
        scatters = [Scatter(task, folder, count) for task in tasks]
        folds = step.edges is not None or step.merge is not None
        if folds and step.keys is not None:
            # Most keys are of one record: its row need not move for each of them.
            keys = [replace(scatter, only="keys") for scatter in scatters]
            _each(workers.map(_scatter, keys))
            _each(workers.map(_keep_repeated, sorted(folder.iterdir())))
            scatters = [replace(scatter, only="repeated") for scatter in scatters]
        _each(workers.map(_scatter, scatters))
        gathers = (Gather(node, path, arguments) for path in sorted(folder.iterdir()))
        return step.gather(uids, list(workers.map(_gather, gathers)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_within_parts(
    node: Node, tasks: Sequence[Task], uids: pl.Series, arguments: list[Any], workers: Workers
) -> pl.DataFrame:
    """Run a groupwise step whose groups each lie in one part, so that nothing need move."""
    parts = (Parts([task], arguments) for task in tasks)
    return node.step.gather(uids, list(workers.map(_parts, parts)))


def _count(node: Node, first: pl.DataFrame, rows: int) -> int:
    """Return how many buckets keep each below BUCKET_BYTES, as the first part's rows go."""
    sample = first[:_SAMPLE_ROWS]
    keyed = node.step.scatter(sample)
    copies = max(1, keyed.height // max(1, sample.height))
    size = int(sample.estimated_size()) * copies + int(keyed.estimated_size())
    return max(1, -(-size * rows // max(1, sample.height) // BUCKET_BYTES))


def _each(results: Iterator[Any]) -> None:
    for _ in results:
        pass


def _scatter(scatter: Scatter) -> None:
    step = scatter.task.work[0].node.step
    rows = step.select(rows_of(scatter.task))
    keyed = step.scatter(rows)
    keyed = keyed.with_columns(lone=step.lone_keys_to_run(keyed))
    # A null key is a group of one: it goes where its uid sends it.
    alone = pl.lit(rows["uid"]).gather(pl.col("row")).hash(0)
    home = pl.when(pl.col("key").is_null()).then(alone).otherwise(pl.col("key").hash(0))
    parts = keyed.with_columns(bucket=home % scatter.count).partition_by(
        "bucket", as_dict=True, include_key=False
    )
    for (bucket,), own in parts.items():
        folder = scatter.folder / f"{bucket:06d}"
        name = scatter.task.part.name
        folder.mkdir(exist_ok=True)
        if scatter.only == "keys":
            _write(own.select("key"), folder / f"{name}.key")
            continue
        if scatter.only == "repeated":
            several = pl.read_ipc(folder / "repeated")["key"]
            own = own.filter(pl.col("lone") | pl.col("key").is_in(several.implode()))
        own = own.drop("lone")
        chosen = own["row"].unique().sort()
        _write(rows[chosen.to_numpy()], folder / f"{name}.rows")
        _write(own.with_columns(row=chosen.search_sorted(own["row"])), folder / f"{name}.keys")


def _keep_repeated(folder: Path) -> None:
    """Replace the keys in a bucket by those that several rows have."""
    paths, whole = sorted(folder.glob("*.key")), folder / "repeated"
    # Where a worker died over this bucket, some of its keys may be gone, but then this is whole.
    if not whole.exists():
        keys = pl.concat([pl.read_ipc(path) for path in paths])
        _write(keys.filter(repeated(keys["key"])).unique(), folder / "repeated.new")
        (folder / "repeated.new").rename(whole)
    for path in paths:
        path.unlink()


def _gather(gather: Gather) -> pl.DataFrame:
    rows, keyed, height = [], [], 0
    for path in sorted(gather.folder.glob("*.rows")):
        rows.append(pl.read_ipc(path))
        own = pl.read_ipc(path.with_suffix(".keys"))
        keyed.append(own.with_columns(pl.col("row") + height))
        height += rows[-1].height
    return gather.node.step.run_groups(
        pl.concat(rows, how="vertical_relaxed"),
        pl.concat(keyed, how="vertical_relaxed"),
        *gather.arguments,
    )


def _parts(parts: Parts) -> pl.DataFrame:
    step = parts.tasks[0].work[0].node.step
    rows = step.select(pl.concat(map(rows_of, parts.tasks), how="vertical_relaxed"))
    return step.run_groups(rows, step.scatter(rows), *parts.arguments)


def _write(frame: pl.DataFrame, path: Path) -> None:
    with commit.reporting(path, needed=int(frame.estimated_size())):
        frame.write_ipc(path, compression="uncompressed")
