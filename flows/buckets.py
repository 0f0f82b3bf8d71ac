"""Bring groups together: rows are hashed into buckets on disk, and no group is ever split.

So a groupwise step over a pool larger than memory holds one bucket at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from flows.plan import Node
from storage.commit import make_folder
from storage.store import key_of

if TYPE_CHECKING:
    from flows.runtime import Mask, Runtime

BUCKET_BYTES = 256 << 20


@dataclass(frozen=True)
class Scatter:
    """One part's rows to cut into buckets."""

    node: Node
    rows: pl.DataFrame
    folder: Path
    part: str
    count: int


@dataclass(frozen=True)
class Gather:
    """One bucket to run a step on."""

    node: Node
    folder: Path
    arguments: list[Any]


def run(runtime: Runtime, node: Node, masks: Sequence[Mask]) -> pl.DataFrame:
    """Run a groupwise step over the rows that masks let through; one row per uid."""
    step = node.step
    rows = int(sum(mask.sum() for mask in masks))
    arguments = runtime.arguments(node)
    first = next((i for i, mask in enumerate(masks) if mask.any()), None)
    folder = runtime.store.temporary / f"buckets-{key_of(runtime.described(node))[:16]}"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        count = 1
        if first is not None:
            sample = runtime.roles(node, masks, first)
            keyed = step.scatter(sample)
            size = int(keyed.estimated_size()) * rows // max(1, sample.height)
            count = max(1, -(-size // BUCKET_BYTES))
        parts = (
            Scatter(node, runtime.roles(node, masks, i), folder, part.name, count)
            for i, part in enumerate(runtime.pool.parts)
            if masks[i].any()
        )
        workers = runtime.hands(node)
        for _ in workers.map(_scatter, parts):
            pass
        filled = sorted(path for path in folder.iterdir())
        gathers = (Gather(node, path, arguments) for path in filled)
        partials = [found for found in workers.map(_gather, gathers) if found is not None]
        uids = runtime.frame([], masks)["uid"]
        return step.gather(uids, partials)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scatter(task: Scatter) -> int:
    keyed = task.node.step.scatter(task.rows)
    # A null key is a group of one: it goes where its uid sends it.
    key = pl.when(pl.col("key").is_null()).then(pl.col("uid").hash(0))
    home = key.otherwise(pl.col("key").hash(0)) % task.count
    for (bucket,), rows in (
        keyed.with_columns(bucket=home)
        .partition_by("bucket", as_dict=True, include_key=False)
        .items()
    ):
        path = task.folder / f"{bucket:06d}" / f"{task.part}.arrow"
        path.parent.mkdir(exist_ok=True)
        rows.write_ipc(path, compression="uncompressed")
    return keyed.height


def _gather(task: Gather) -> pl.DataFrame:
    rows = pl.concat([pl.read_ipc(p) for p in sorted(task.folder.iterdir())])
    return task.node.step.run_groups(rows, *task.arguments)
