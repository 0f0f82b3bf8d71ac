"""Conservation: what is read of a unit is accepted, known or quarantined, each position once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError


class Ledger:
    """Two counts of every unit, kept apart: what its reader gave, and what became of it.

    Positions come to their outcome batch by batch, in the order in which they were read, so one
    number a unit stands for the set of those that did. Only units under way are held in memory.

    Attributes:
        read: positions of all units read.
    """

    def __init__(self) -> None:
        self.read = 0
        self._units = 0
        self._names: dict[int, str] = {}
        self._given: dict[int, int] = {}
        self._settled: dict[int, int] = {}

    def open(self, name: str) -> int:
        """Begin a unit; return its number."""
        number = self._units
        self._units += 1
        self._names[number], self._settled[number] = name, 0
        return number

    def close(self, unit: int, given: int) -> None:
        """Note how many positions the unit's reader gave."""
        self.read += given
        self._given[unit] = given
        self._forget_if_whole(unit)

    def settle(self, unit: int, places: NDArray[np.int64], count: int) -> None:
        """Note that the unit's next `count` positions came to their outcomes.

        Args:
            unit: its number.
            places: each position that did, in any order.
            count: how many were read together.

        Raises:
            DataError: one of them came to none, or one came to several.
        """
        first = self._settled.get(unit, 0)
        wanted = np.arange(first, first + count)
        found = np.sort(places)
        if unit not in self._names or not np.array_equal(found, wanted):
            odd = (
                np.setxor1d(found, wanted) if len(found) != len(wanted) else found[found != wanted]
            )
            twice = found[:-1][found[1:] == found[:-1]]
            raise self._broken(unit, int(min([*odd, *twice], default=first)))
        self._settled[unit] += count
        self._forget_if_whole(unit)

    def check(self) -> None:
        """Check that every position that was read came to an outcome.

        Raises:
            DataError: some did not; names their unit.
        """
        for unit, settled in self._settled.items():
            raise self._broken(unit, settled)

    def _forget_if_whole(self, unit: int) -> None:
        if self._given.get(unit) == self._settled[unit]:
            del self._names[unit], self._given[unit], self._settled[unit]

    def _broken(self, unit: int, position: int) -> DataError:
        name = self._names.get(unit, f"file {unit + 1} of those read")
        return DataError(
            f"{name}: position {position} was lost or came twice on its way into the pool. Nothing "
            "was made visible. This is a fault of winnow: please report it with this file."
        )
