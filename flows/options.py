"""How to run, as opposed to what: the options of a run, its stages' names, and which store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.reporter import Reporter
from storage.store import Store

STAGES = ("ingest", "embed", "annotate", "select", "export", "pretrain", "evaluate", "report")


@dataclass
class Options:
    """How to run, as opposed to what: nothing here enters a key.

    Attributes:
        until: the last stage to do.
        at: the pool version to use instead of ingesting and taking the latest.
        given: steps by name that a notebook brings.
        mixed: let a table hold vectors of several numerics classes.
        publish: make a version; a flow whose stages are tasks does so with the last.
        accept: take an ingest of which much cannot be used, and a version that the guard
            would hold.
        unseal: answer on the sealed part of the hold-out.
        allow_missing: go on where members of a source's brace range or list are missing.
    """

    workers: int = 1
    dask: str | None = None
    device: str | None = None
    until: str = "report"
    at: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    mixed: bool = False
    publish: bool = True
    accept: bool = False
    unseal: bool = False
    allow_missing: bool = False
    reporter: Reporter = field(default_factory=Reporter)

    def reaches(self, stage: str) -> bool:
        """Whether a stage is to be done."""
        return STAGES.index(stage) <= STAGES.index(self.until)


def open_store(path: Path | None, recipe_dir: Path, environment: Mapping[str, str]) -> Store:
    """Return the store: `--store`, else WINNOW_STORE, else `.winnow` beside the recipe."""
    chosen = path or (
        Path(environment["WINNOW_STORE"]) if environment.get("WINNOW_STORE") else None
    )
    return Store((chosen or recipe_dir / ".winnow").resolve())
