"""Conservation: what is read of a unit is accepted, known or quarantined, each position once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from storage.block import Span


@dataclass
class _UnderWay:
    """A unit of which positions came to their outcomes.

    Attributes:
        settled: how many.
        before: of these, how many lie before its stretch in hand.
        stretch: the index of that.
    """

    settled: int = 0
    before: int = 0
    stretch: int = -1


class Ledger:
    """Two counts of every unit, kept apart: what its reader gave, and what became of it.

    Positions come to their outcome batch by batch, in the order in which they were read, so one
    number a unit stands for the set of those that did. Only units under way are held in memory.

    Attributes:
        read: positions of all units read.
    """

    def __init__(self) -> None:
        self.read = 0
        self._under_way: dict[str, _UnderWay] = {}

    def settle(self, span: Span, positions: NDArray[np.int64]) -> int:
        """Note that positions of a unit came to their outcomes; return how many did by now.

        Args:
            span: what was read together.
            positions: each one of it that came to its outcome, in any order.

        Raises:
            DataError: one that was read came to no outcome, or one came to several.
        """
        name = span.unit.name
        unit = self._under_way.setdefault(name, _UnderWay())
        index = span.unit.stretch.index if span.unit.stretch is not None else 0
        if index == unit.stretch + 1:
            unit.before, unit.stretch = unit.settled, index
        wanted = np.arange(span.first, span.first + span.count)
        found = np.sort(positions)
        if index != unit.stretch or unit.before + span.first != unit.settled:
            raise self._broken(name, unit.settled)
        if not np.array_equal(found, wanted):
            twice = found[:-1][found[1:] == found[:-1]]
            odd = min([*np.setxor1d(found, wanted), *twice])
            raise self._broken(name, unit.before + int(odd))
        unit.settled += span.count
        if span.last:
            self.read += self._under_way.pop(name).settled
        return unit.settled

    def check(self) -> None:
        """Check that every unit was read to its end.

        Raises:
            DataError: one was not; names it.
        """
        for name, unit in self._under_way.items():
            raise self._broken(name, unit.settled)

    def _broken(self, unit: str, position: int) -> DataError:
        return DataError(
            f"{unit}: position {position} was lost or came twice on its way into the pool. Nothing "
            "was made visible. This is a fault of winnow: please report it with this file."
        )
