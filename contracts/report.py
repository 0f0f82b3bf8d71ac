"""The one shape in which every number of an evaluation is reported."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Metric:
    """A number, what it was measured on, and how sure it is.

    Attributes:
        value: the measurement; shares as fractions of 1.
        n: items, or seeds, that it is computed from.
        low: lower end of the 95 % interval: a bootstrap over items, or Student's t over seeds.
        high: upper end.
    """

    value: float
    n: int
    low: float
    high: float

    def to_dict(self) -> dict[str, float | int]:
        """Return `{"value", "n", "low", "high"}`, as JSON reports show it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"
