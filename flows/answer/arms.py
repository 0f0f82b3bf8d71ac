"""The arms of a comparison as a trainer reads them: sets over one export of their union."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from flows.answer.columns import of_arm, passed_over
from flows.export import captions, redaction
from flows.export import export as exporting
from flows.measure.runtime import Runtime
from flows.recipe.sections import ExportSection
from storage import shards, tables
from storage.store import Object, canonical

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Arm:
    """A set of records to train on; without records the initial weights.

    Attributes:
        name: such as `random`.
        folders: exports whose tars together hold its records, and others.
        rows: a table of uid and repeats, and of the columns that the training reads besides.
        records: how many.
        draws: of an epoch: the sum of the repeats.
        passed_over: groups that are smaller than what a batch takes of one, and the records that
            are in no batch, see `flows.answer.columns.passed_over`.
        content: a digest of uid, repeats, image, text and further columns of every record: what a
            training depends on.
        of_recipe: whether these are the records that the run's own encoder is trained on.
    """

    name: str
    folders: tuple[Path, ...] = ()
    rows: Object | None = None
    records: int = 0
    draws: int = 0
    passed_over: tuple[int, int] = (0, 0)
    content: str = UNTRAINED
    of_recipe: bool = False

    @property
    def file_name(self) -> str:
        """The name as a part of a file's."""
        return self.name.replace(":", "-").replace("/", "-")


def make(
    runtime: Runtime,
    sets: Mapping[str, Sequence[pl.DataFrame | None]],
    section: ExportSection | None,
    kept: pl.Series,
    exported: exporting.Exported | None = None,
    columns: pl.DataFrame | None = None,
) -> dict[str, list[Arm]]:
    """Return the arms of sets of records, exported where they are not.

    Args:
        runtime: gives the pool.
        sets: for each arm its sets, uid and repeats; None for the initial weights.
        section: the recipe's [export], for what it does to images and texts.
        kept: the uids that this section exported.
        exported: what it made of them: its tars, where it has any, are read in place of others.
        columns: what a training reads beyond payload and text, see `flows.answer.columns`.
    """
    found = [frame for of in sets.values() for frame in of if frame is not None]
    uids = pl.concat([frame["uid"] for frame in found]).unique().sort() if found else kept.clear()
    image = ExportSection(
        format=("webdataset",),
        layout="packed",
        image=section.image if section is not None else "keep",
        max_side_px=section.max_side_px if section is not None else None,
        text=section.text if section is not None else captions.OWN,
        redact=section.redact if section is not None else (),
    )
    folders: tuple[Path, ...] = ()
    rest = uids
    if exported is not None and section is not None and "webdataset" in section.format:
        folders, rest = (exported.folder,), uids.filter(~uids.is_in(kept.implode()))
    if len(rest):
        folders += (_export(runtime, rest, image),)
    digests = exporting.trained(runtime, uids, image)
    known: dict[int, Arm] = {}
    arms: dict[str, list[Arm]] = {}
    for name, of in sets.items():
        arms[name] = []
        for number, frame in enumerate(of):
            # The same frame is the same set: it is written down once.
            if id(frame) not in known:
                arm = Arm(name, folders)
                known[id(frame)] = (
                    Arm(name)
                    if frame is None
                    else _with_records(runtime, arm, number, frame, uids, digests, columns)
                )
            arms[name].append(known[id(frame)])
    return arms


def _with_records(
    runtime: Runtime,
    arm: Arm,
    number: int,
    frame: pl.DataFrame,
    uids: pl.Series,
    digests: shards.Digests,
    columns: pl.DataFrame | None,
) -> Arm:
    """Return an arm with its records, written down; `digests` are those of all `uids`."""
    recipe = runtime.plan.recipe
    frame = frame.select("uid", "repeats").sort("uid")
    passed = 0, 0
    if columns is not None:
        assert recipe.pretrain is not None
        frame = of_arm(columns, frame, recipe.pretrain, recipe.recipe_dir)
        passed = passed_over(recipe.pretrain, frame)
    at = np.searchsorted(uids.to_numpy(), frame["uid"].to_numpy())
    content = exporting.digest_of_arrays(
        [frame["uid"].to_numpy(), frame["repeats"].to_numpy(), digests[at]]
        + [frame[name].to_numpy() for name in frame.columns[2:]]
    )
    rows = tables.put(
        runtime.store, frame, pool=runtime.pool.name,
        table=f"arm.{recipe.name}", part=f"{arm.file_name}-{number}",
    )  # fmt: skip
    draws = int(frame["repeats"].sum())
    return replace(
        arm, rows=rows, records=frame.height, draws=draws, passed_over=passed, content=content
    )


def _export(runtime: Runtime, uids: pl.Series, image: ExportSection) -> Path:
    """Export records once each; what is there from an earlier run is found."""
    key = hashlib.sha256(f"{image.image} {image.max_side_px}".encode())
    if image.text != captions.OWN:
        key.update(exporting.trained(runtime, uids, image).tobytes())
    if image.redact:
        key.update(canonical(redaction.identity(runtime.plan, image)))
    key.update(uids.to_numpy().tobytes())
    folder = runtime.store.root / "arms" / runtime.pool.name / f"union-{key.hexdigest()[:16]}"
    once = pl.DataFrame({"uid": uids}).with_columns(repeats=pl.lit(1, dtype=pl.UInt16))
    facts = {"arm": "union", "pool": runtime.pool.name}
    return exporting.export(runtime, once, image, folder, facts=facts).folder
