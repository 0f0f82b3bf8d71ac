"""The types of a source's meta columns: each fixed by its first values, over all ingests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl

from contracts.errors import ConfigError
from flows.ingest.batch import Cells
from storage.meta import DTYPES, EXACT, fitting
from storage.tables import Pool

TYPING_VALUES = 10_000


class MetaTypes:
    """The types of a source's meta columns.

    A column widens with its first values that are not null, whichever ingests bring them:
    integers to numbers, a mixture to text. After TYPING_VALUES of them its type is fixed.

    Attributes:
        kinds: each column's type so far.
    """

    def __init__(self, entry: Mapping[str, Any], pool: Pool, source: str) -> None:
        self.kinds: dict[str, str] = dict(entry.get("meta", {}))
        # A pool that did not count them yet had fixed its types.
        counts = entry.get("values", dict.fromkeys(self.kinds, TYPING_VALUES))
        self._values = Counter(counts)
        self._others = {
            column: (other, kind)
            for other, theirs in pool.sources.items()
            if other != source
            for column, kind in theirs.get("meta", {}).items()
        }

    def undecided(self, meta: Mapping[str, Cells]) -> bool:
        """Whether a column's type is fixed by some of these records for the others."""
        return any(
            0 < TYPING_VALUES - self._values[column] < len(cells.values)
            for column, cells in meta.items()
        )

    def misfits(self, meta: Mapping[str, Cells]) -> dict[int, str]:
        """Return of each row that does not fit its column what does not."""
        found: dict[int, str] = {}
        for column, cells in meta.items():
            known = self.kinds.get(column)
            if known is None or self._values[column] < TYPING_VALUES:
                continue
            if all(_wider(known, kind) == known for kind in _kinds(cells.values)):
                continue
            for row, value in zip(cells.rows.tolist(), cells.values, strict=True):
                kind = _kind(value)
                if _wider(known, kind) != known:
                    said = f"meta.{column}: {value!r} is {kind}, the column is {known}"
                    found.setdefault(row, said)
        return found

    def learn(self, meta: Mapping[str, Cells]) -> None:
        """Take the values of records that are accepted; each counts once.

        Raises:
            ConfigError: as `check`, of a column that these records fix.
        """
        for column, cells in meta.items():
            if self._values[column] >= TYPING_VALUES:
                continue
            for kind in _kinds(cells.values):
                self.kinds[column] = _wider(self.kinds.get(column, kind), kind)
            self._values[column] += len(cells.values)
            if self._values[column] >= TYPING_VALUES:
                self._check(column)

    def check(self) -> None:
        """Compare the types with those of the pool's other sources.

        Raises:
            ConfigError: another source has a column of the same name and another type (78).
        """
        for column in self.kinds:
            self._check(column)

    def _check(self, column: str) -> None:
        kind = self.kinds[column]
        other, theirs = self._others.get(column, ("", kind))
        if DTYPES[theirs] != DTYPES[kind]:
            raise ConfigError(
                f"meta.{column} is {kind} here and {theirs} in source {other!r} of the same "
                "pool. Rename the column, or ingest into a pool of its own."
            )

    def entry(self) -> dict[str, Any]:
        """Return what the pool remembers of them: each column's type and its count of values."""
        return {
            "meta": dict(sorted(self.kinds.items())),
            "values": {column: self._values[column] for column in sorted(self.kinds)},
        }

    def columns(self, meta: Mapping[str, Cells], height: int) -> dict[str, pl.Series]:
        """Return the columns of some records, in the types so far."""
        return {
            column: _column(cells, height, self.kinds[column]) for column, cells in meta.items()
        }


def _column(cells: Cells, height: int, kind: str) -> pl.Series:
    values = cells.values
    if set(map(type, values)) != {_TYPES[kind]}:
        values = [fitting(value, kind) for value in values]
    if len(values) < height:
        every: list[Any] = [None] * height
        for row, value in zip(cells.rows.tolist(), values, strict=True):
            every[row] = value
        values = every
    return pl.Series(values, dtype=DTYPES[kind])


def _kinds(values: Sequence[Any]) -> set[str]:
    """Return the types of some values, none of them null."""
    types = set(map(type, values))
    if types == {int} and min(values) >= -EXACT and max(values) <= EXACT:
        return {"integer"}
    if types <= _KIND_OF.keys():
        return {_KIND_OF[found] for found in types}
    return set(map(_kind, values))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        if abs(value) <= EXACT:
            return "integer"
        return "long" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "number"
    if isinstance(value, datetime):
        return "datetime"
    return "date" if isinstance(value, date) else "text"


# Of an integer its size decides.
_KIND_OF: dict[type, str] = {bool: "boolean", float: "number", str: "text"}
# The values that a column takes as they are.
_TYPES: dict[str, type] = {
    "boolean": bool,
    "integer": int,
    "long": int,
    "number": float,
    "date": date,
    "datetime": datetime,
    "text": str,
}
_HOLDS = {
    frozenset(("integer", "long")): "long",
    frozenset(("integer", "number")): "number",
}


def _wider(one: str, other: str) -> str:
    """Return the type that holds both, to the last digit; text holds anything as JSON."""
    return one if one == other else _HOLDS.get(frozenset((one, other)), "text")
