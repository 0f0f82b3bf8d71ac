"""The one shape in which every number of an evaluation is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean", "median"]


@dataclass(frozen=True)
class Metric:
    """A number, what it was measured on, and how sure it is.

    Attributes:
        value: the measurement; shares as fractions of 1.
        n: items, or trainings, that it is computed from.
        low: lower end of the 95 % interval: a bootstrap over items, or Student's t over trainings.
        high: upper end.
        higher_is_better: which way it points; None where it is no score, as of a setting chosen.
        items: one value an item, in an order that is the same for every encoder; None where the
            number is no statistic over items.
        statistic: what of the items the value is.
    """

    value: float
    n: int
    low: float
    high: float
    higher_is_better: bool | None = True
    items: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    statistic: Statistic = "mean"

    def to_dict(self) -> dict[str, Any]:
        """Return `{"value", "n", "low", "high", "higher_is_better"}`, as JSON reports show it."""
        names = ("value", "n", "low", "high", "higher_is_better")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"
