"""Scales that the report draws on: where a value stands, and where ticks do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A linear scale: `low` is drawn at `start`, `high` at `end`, in pixels or percent."""

    low: float
    high: float
    start: float
    end: float
    whole: bool = False

    def at(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[float]:
        """At most six multiples of 1, 2 or 5 times a power of ten; of 1 for whole numbers."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 5))
        step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= 5)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def around(values: Iterable[float], start: float = 7, end: float = 93) -> Axis:
    """Return an axis over the finite values, with a margin at both ends."""
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    margin = (high - low) * 0.06 or abs(low) * 0.06 or 1.0
    return Axis(low - margin, high + margin, start, end)
