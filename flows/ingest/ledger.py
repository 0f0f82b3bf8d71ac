"""Conservation: what is read of a unit is accepted, known or quarantined, each position once."""

from __future__ import annotations

from contracts.errors import DataError


class Ledger:
    """Two counts of every unit, kept apart: what its reader gave, and what became of it.

    Positions come to their outcome in the order in which they were read, so one number a unit
    stands for the set of those that did. Only units under way are held in memory.

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

    def name(self, unit: int) -> str:
        """Return the name of a unit under way.

        Raises:
            DataError: every position of it came to an outcome before.
        """
        if unit not in self._names:
            raise self._broken(unit, 0)
        return self._names[unit]

    def settle(self, unit: int, position: int) -> None:
        """Note that a position came to its outcome.

        Raises:
            DataError: it came to one before, or one before it came to none.
        """
        if position != self._settled.get(unit):
            raise self._broken(unit, position)
        self._settled[unit] += 1
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
