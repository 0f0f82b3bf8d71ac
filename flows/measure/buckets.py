"""Bring groups together: rows are hashed into buckets on disk, and no group is ever split.

So a groupwise step over a pool larger than memory holds one bucket at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from flows.measure.tasks import Task, rows_of
from flows.recipe.plan import Node
from storage.commit import make_folder
from storage.store import key_of

if TYPE_CHECKING:
    from flows.measure.runtime import Runtime
    from flows.pool_reader import Mask

BUCKET_BYTES = 256 << 20


@dataclass(frozen=True)
class Scatter:
    """One part's rows to cut into buckets.

    Attributes:
        task: the part, and the step as its only work.
        folder: where the buckets are.
        count: of the buckets.
        only: write the keys alone, or the rows of keys that `_repeated` found; None for all rows.
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
class Part:
    """A part that holds its groups whole."""

    task: Task
    arguments: list[Any]


def run(runtime: Runtime, node: Node, masks: Sequence[Mask]) -> pl.DataFrame:
    """Run a groupwise step over the rows that masks let through; one row per uid."""
    step = node.step
    tasks = [runtime.task(i, node, mask) for i, mask in enumerate(masks) if mask.any()]
    uids = runtime.frame([], masks)["uid"]
    workers = runtime.workers_for(node)
    arguments = runtime.arguments(node)
    if _within_parts(runtime, node, masks):
        whole = (Part(task, arguments) for task in tasks)
        return step.gather(uids, list(workers.map(_part, whole)))
    folder = runtime.store.temporary / f"buckets-{key_of(runtime.fingerprint_of(node))[:16]}"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        count = _count(node, tasks, int(sum(mask.sum() for mask in masks)))
        scatters = [Scatter(task, folder, count) for task in tasks]
        folds = step.edges is not None or step.merge is not None
        if folds and step.keys is not None and count > 1:
            # Most keys are of one record: its row need not move for each of them.
            keys = [replace(scatter, only="keys") for scatter in scatters]
            _each(workers.map(_scatter, keys))
            _each(workers.map(_repeated, sorted(folder.iterdir())))
            scatters = [replace(scatter, only="repeated") for scatter in scatters]
        _each(workers.map(_scatter, scatters))
        gathers = (Gather(node, path, arguments) for path in sorted(folder.iterdir()))
        return step.gather(uids, list(workers.map(_gather, gathers)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _within_parts(runtime: Runtime, node: Node, masks: Sequence[Mask]) -> bool:
    """Whether the groups are series that each lie in one part, so that nothing need move."""
    by = node.step.by
    if by is None or node.roles[by].text.strip() != "series":
        return False
    held = [runtime.frame(["series"], masks, part)["series"].unique() for part in range(len(masks))]
    series = pl.concat(held).drop_nulls() if held else pl.Series([], dtype=pl.String)
    return series.n_unique() == len(series)


def _count(node: Node, tasks: Sequence[Task], rows: int) -> int:
    """Return how many buckets keep each below BUCKET_BYTES, as the first part goes."""
    if not tasks:
        return 1
    sample = node.step.select(rows_of(tasks[0]))
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
    first = pl.col("row").is_first_distinct() if step.merge is not None else pl.lit(False)
    keyed = keyed.with_columns(first=first)
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
            own = own.filter(pl.col("first") | pl.col("key").is_in(several.implode()))
        own = own.drop("first")
        chosen = own["row"].unique().sort()
        _write(rows[chosen.to_numpy()], folder / f"{name}.rows")
        _write(own.with_columns(row=chosen.search_sorted(own["row"])), folder / f"{name}.keys")


def _repeated(folder: Path) -> None:
    """Replace the keys in a bucket by those that several rows have."""
    paths = sorted(folder.iterdir())
    keys = pl.concat([pl.read_ipc(path) for path in paths])
    for path in paths:
        path.unlink()
    _write(keys.filter(pl.col("key").is_duplicated()).unique(), folder / "repeated")


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


def _part(part: Part) -> pl.DataFrame:
    step = part.task.work[0].node.step
    rows = step.select(rows_of(part.task))
    return step.run_groups(rows, step.scatter(rows), *part.arguments)


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_ipc(path, compression="uncompressed")
