"""How the training of a run went, as the report draws it: its log over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from flows.look.drawing import Axis, around

POINTS = 300
"""So many points of a curve are drawn at most; of more lines each is the mean of some."""
DRAWN = {
    "loss": "loss",
    "lr": "learning rate",
    "records_per_s": "records a second",
    "waiting_ratio": "share of the time waiting for records",
}


@dataclass(frozen=True)
class Curve:
    """One column of the log over steps.

    Attributes:
        name: what it is.
        points: step and value.
        probes: of the loss, that on the records of probes.
    """

    name: str
    points: Sequence[tuple[float, float]]
    probes: Sequence[tuple[float, float]]

    @property
    def x(self) -> Axis:
        """Of steps, from none."""
        return Axis(0, max(step for step, _ in self.points), 52, 318, whole=True)

    @property
    def y(self) -> Axis:
        """Of the values, downwards."""
        return around([value for _, value in (*self.points, *self.probes)], 128, 6)

    @property
    def line(self) -> str:
        """The points as SVG takes them."""
        return " ".join(f"{self.x.at(step)},{self.y.at(value)}" for step, value in self.points)


def curves(log: pl.DataFrame) -> list[Curve]:
    """Return what of a training's log is drawn; nothing of an empty one."""
    return [
        Curve(name, points, _points(log, "probe_loss") if column == "loss" else [])
        for column, name in DRAWN.items()
        if (points := _points(log, column))
    ]


def _points(log: pl.DataFrame, column: str) -> list[tuple[float, float]]:
    if column not in log.columns:
        return []
    known = log.select("step", column).drop_nulls().rows()
    pairs: list[Any] = [(step, value) for step, value in known if math.isfinite(value)]
    each = -(-len(pairs) // POINTS)
    groups = [pairs[at : at + each] for at in range(0, len(pairs), each or 1)]
    return [(group[-1][0], sum(v for _, v in group) / len(group)) for group in groups]
