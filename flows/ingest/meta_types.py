"""The types of a source's meta columns: each fixed by its first values, over all ingests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from contracts.errors import ConfigError
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

    def misfit(self, meta: Mapping[str, Any]) -> str | None:
        """Return what of a record does not fit its column, None where all does."""
        for column, value in meta.items():
            known = self.kinds.get(column)
            if value is None or known is None or self._values[column] < TYPING_VALUES:
                continue
            kind = _kind(value)
            if _wider(known, kind) != known:
                return f"meta.{column}: {value!r} is {kind}, the column is {known}"
        return None

    def learn(self, meta: Mapping[str, Any]) -> None:
        """Take the values of a record that is accepted; each counts once.

        Raises:
            ConfigError: as `check`, of a column that this record fixes.
        """
        for column, value in meta.items():
            if value is None or self._values[column] >= TYPING_VALUES:
                continue
            kind = _kind(value)
            self.kinds[column] = _wider(self.kinds.get(column, kind), kind)
            self._values[column] += 1
            if self._values[column] == TYPING_VALUES:
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

    def columns(self, metas: list[dict[str, Any]]) -> dict[str, pl.Series]:
        """Return the columns that some records have, in the types so far."""
        # Each record's own values alone: a thousand columns of which a record has few cost little.
        values: dict[str, list[Any]] = {}
        for row, meta in enumerate(metas):
            for column, value in meta.items():
                if value is not None:
                    at = values.setdefault(column, [None] * len(metas))
                    at[row] = fitting(value, self.kinds[column])
        return {c: pl.Series(of, dtype=DTYPES[self.kinds[c]]) for c, of in values.items()}


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


_HOLDS = {
    frozenset(("integer", "long")): "long",
    frozenset(("integer", "number")): "number",
}


def _wider(one: str, other: str) -> str:
    """Return the type that holds both, to the last digit; text holds anything as JSON."""
    return one if one == other else _HOLDS.get(frozenset((one, other)), "text")
