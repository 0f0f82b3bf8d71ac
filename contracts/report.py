"""The one shape in which every number of an evaluation is reported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A number, what it was measured on, and how sure it is.

    Attributes:
        value: the measurement; shares as fractions of 1.
        n: items, or seeds, that it is computed from.
        low: lower end of the 95 % interval: a bootstrap over items, or Student's t over seeds.
        high: upper end.
        higher_is_better: which way it points; None where it is no score, as of a setting chosen.
    """

    value: float
    n: int
    low: float
    high: float
    higher_is_better: bool | None = True

    def to_dict(self) -> dict[str, Any]:
        """Return `{"value", "n", "low", "high", "higher_is_better"}`, as JSON reports show it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"
