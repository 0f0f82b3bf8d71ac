"""Values that one brings by file, matched to records by uid, source id or a column of meta."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from contracts.errors import ConfigError, DataError
from contracts.uid import parse_uids


class Matched(NamedTuple):
    """Values beside records.

    Attributes:
        rows: `uid` and the values of every record, null where the file has none.
        without: records to which the file brings nothing.
        unused: rows of the file that no record has the key of.
    """

    rows: pl.DataFrame
    without: int
    unused: int


def match(records: pl.DataFrame, values: pl.DataFrame, key: str, file: Path) -> Matched:
    """Bring values to the records that have their keys.

    A key of another type matches where it names exactly the same value, so 1.0 is the record 1,
    and neither 1.5 nor "unknown" is any.

    Args:
        records: `uid` and the key's column, called `key`.
        values: the values, and the file's keys in the column `key`.
        key: `uid`, `source_id`, `row` or `meta.<column>`.
        file: for messages.

    Raises:
        DataError: a key stands twice, or no record has any of the keys.
    """
    keys = _exact(values[key], records.schema[key], f"{file}: {key}")
    wanted = values.with_columns(keys).filter(keys.is_not_null())
    if wanted[key].n_unique() != wanted.height:
        raise DataError(
            f"{file}: {key.removeprefix('meta.')} repeats: it must name one record "
            f"(such as {wanted[key].filter(wanted[key].is_duplicated())[0]!r})."
        )
    unused = values.height - wanted.join(records, on=key, how="semi").height
    if unused == values.height:
        raise DataError(
            f"{file}: none of its {values.height:,} {key.removeprefix('meta.')} is among the "
            f"{records.height:,} of the pool"
            + (f": it has {values[key][0]!r}" if values.height else "")
            + (f", the pool {records[key][0]!r}." if records.height else ".")
            + _advice(records[key], values[key])
        )
    rows = records.join(wanted, on=key, how="left", maintain_order="left")
    if key != "uid":
        rows = rows.drop(key)
    return Matched(rows, records.join(wanted, on=key, how="anti").height, unused)


def _advice(known: pl.Series, keys: pl.Series) -> str:
    """Say what to do where a pool's ids have the name of their file before the key."""
    if known.dtype != pl.String or keys.dtype != pl.String:
        return ""
    if not known.str.split("/").list.last().is_in(keys.implode()).any():
        return ""
    return (
        " These are ids without the name of their file: put it before them; those of tars are "
        'matched by key = "meta.key" too.'
    )


def _exact(keys: pl.Series, dtype: Any, where: str) -> pl.Series:
    """Return keys in the type of the pool's column, null where that would change their value."""
    if dtype == pl.UInt64 and keys.name == "uid":
        return parse_uids(keys)
    if keys.dtype == dtype:
        return keys
    try:
        if keys.dtype.is_float() and (dtype.is_integer() or dtype == pl.String):
            # Programs that mark a gap with NaN write whole numbers as floats.
            whole = keys.set(keys.is_nan() | (keys != keys.floor()), None)
            return whole.cast(pl.Int64, strict=False).cast(dtype, strict=False)
        cast = keys.cast(dtype, strict=False)
        if dtype.is_float() and keys.dtype.is_integer():
            return cast.set(cast.cast(keys.dtype, strict=False).ne_missing(keys), None)
        return cast
    except pl.exceptions.PolarsError:
        raise ConfigError(f"{where} is {keys.dtype}, and {dtype} in the pool.") from None
