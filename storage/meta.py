"""The columns of meta: their types, and how a value is written where its column is wider."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from storage.store import canonical

# Integers beyond it are not all doubles: `long` ones share a column with no `number`.
EXACT = 2**53
DTYPES: Mapping[str, Any] = {
    "boolean": pl.Boolean,
    "integer": pl.Int64,
    "long": pl.Int64,
    "number": pl.Float64,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
    "text": pl.String,
}


def fitting(value: Any, kind: str) -> Any:
    """Return a value as a column of a type that holds it keeps it."""
    if value is None:
        return None
    if kind == "number":
        return float(value)
    return _text(value) if kind == "text" else value


def widened(column: pl.Series, kind: str) -> pl.Series:
    """Return a column in a wider type: what `fitting` gives of the values it was made from."""
    dtype = DTYPES[kind]
    if column.dtype == dtype:
        return column
    if kind == "text":
        return pl.Series(column.name, [fitting(v, kind) for v in column], dtype=dtype)
    return column.cast(dtype)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        if not math.isfinite(value):
            return repr(value)
        # As the integer that it may have been before a column of numbers took it.
        value = int(value) if value.is_integer() and abs(value) <= EXACT else value
    return canonical(value).decode()
