"""Conservation: what is read of a unit is accepted, known or quarantined, each position once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from storage.block import Span


class Ledger:
    """Two counts of every unit, kept apart: what its reader gave, and what became of it.

    Positions come to their outcome batch by batch, in the order in which they were read, so one
    number a unit stands for the set of those that did. Only units under way are held in memory.

    Attributes:
        read: positions of all units read.
    """

    def __init__(self) -> None:
        self.read = 0
        self._settled: dict[str, int] = {}

    def settle(self, span: Span, positions: NDArray[np.int64]) -> None:
        """Note that positions of a unit came to their outcomes.

        Args:
            span: what was read together.
            positions: each one of it that came to its outcome, in any order.

        Raises:
            DataError: one that was read came to no outcome, or one came to several.
        """
        name = span.unit.name
        settled = self._settled.get(name, 0)
        wanted = np.arange(span.first, span.first + span.count)
        found = np.sort(positions)
        if settled != span.first or not np.array_equal(found, wanted):
            twice = found[:-1][found[1:] == found[:-1]]
            odd = min([*np.setxor1d(found, wanted), *twice], default=settled)
            raise self._broken(name, int(odd))
        self._settled[name] = settled + span.count
        if span.last:
            self.read += self._settled.pop(name)

    def check(self) -> None:
        """Check that every unit was read to its end.

        Raises:
            DataError: one was not; names it.
        """
        for name, settled in self._settled.items():
            raise self._broken(name, settled)

    def _broken(self, unit: str, position: int) -> DataError:
        return DataError(
            f"{unit}: position {position} was lost or came twice on its way into the pool. Nothing "
            "was made visible. This is a fault of winnow: please report it with this file."
        )
