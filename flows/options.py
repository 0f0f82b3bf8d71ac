"""How to run, as opposed to what: the options of a run, and the names of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.reporter import Reporter

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
        accept: take an ingest of which much cannot be used.
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
    allow_missing: bool = False
    reporter: Reporter = field(default_factory=Reporter)

    def reaches(self, stage: str) -> bool:
        """Whether a stage is to be done."""
        return STAGES.index(stage) <= STAGES.index(self.until)
