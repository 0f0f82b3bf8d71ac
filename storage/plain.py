"""Rows whose record is plain to see: what `record_of` makes of them, by columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from types import NoneType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storage.block import Table
from storage.rows import plain_value, roles_of
from storage.source import TEXT_BYTES, Columns, Refused

# What `clean_text` takes away or changes.
_CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\x{2028}\x{2029}]"
# Values of meta that stay what they are.
_AS_THEY_ARE = frozenset((NoneType, str, bool, int, float, date))


@dataclass(frozen=True)
class Plain:
    """Records of a text alone, without notes, an entry a record.

    Attributes:
        rows: of the table.
        source_id: None where it is the place in the source.
        data: each text in UTF-8.
        series, position, licence: None where no record has one.
    """

    rows: NDArray[np.int64]
    source_id: Sequence[str] | None
    text: pl.Series
    data: Sequence[bytes]
    series: Sequence[str | None] | None
    position: Sequence[int | None] | None
    licence: Sequence[str | None] | None
    meta: dict[str, Sequence[Any]]


def plain(columns: Columns, table: Table) -> Plain | None:
    """Return the records of those rows that are plain to see; of the others `Table.found` tells.

    Plain is a text that `clean_text` leaves as it is, an id that is a text or a whole number, a
    series and a licence that are texts, a position that is a whole number of 64 bits, and no
    payload: where a column is called like one, a number or a short text without a point in it.

    Returns:
        None where no row is plain.
    """
    roles = roles_of(columns, tuple(table.columns))
    if roles.text is None or columns.payload is not None or columns.label_image is not None:
        return None
    doubtful: set[int] = set()
    meta_of = dict(roles.meta)

    def checked(
        name: str | None, kinds: set[type], sound: Callable[[Any], bool] | None = None
    ) -> Any:
        """Return a column; a value is sound by its type and by itself, or its row is doubtful."""
        if name is None:
            return None
        values = table.columns.get(name)
        if values is None:
            doubtful.update(range(len(table.places)))
            return None
        if not kinds.issuperset(map(type, values)) or not (
            sound is None or all(map(sound, values))
        ):
            doubtful.update(
                row
                for row, value in enumerate(values)
                if type(value) not in kinds or not (sound is None or sound(value))
            )
        return values

    if roles.payload is not None:
        _, column = roles.payload
        checked(column, {str, bool, int, float}, _is_no_payload)
        meta_of[column] = roles.other
        if len(doubtful) == len(table.places):
            return None
    texts = checked(roles.text, {str})
    if doubtful:
        texts = [text if type(text) is str else "" for text in texts]
    text = pl.Series("text", texts, pl.String)
    data = [text.encode() for text in texts]
    every = b" ".join(data)
    # The first characters, which are few, tell of most texts.
    if not all(map(_is_visible, {text[:1] for text in texts})):
        doubtful.update(row for row, text in enumerate(texts) if not _is_visible(text))
    if max(map(len, data)) > TEXT_BYTES:
        doubtful.update(row for row, one in enumerate(data) if len(one) > TEXT_BYTES)
    if _has_controls(every):
        doubtful.update(text.str.contains(_CONTROLS).arg_true())
    ids = checked(columns.id, {str, int})
    if ids is not None:
        ids = list(map(str, ids))
        if "" in map(str.strip, ids):
            doubtful.update(row for row, value in enumerate(ids) if not value.strip())
    series = checked(columns.series, {str, NoneType})
    position = checked(columns.position, {int, NoneType}, _fits)
    licence = checked(roles.licence, {str, NoneType})
    meta = {name: _meta(table.columns[column], doubtful) for column, name in meta_of.items()}
    rows = np.arange(len(table.places))
    if doubtful:
        rows = np.delete(rows, sorted(doubtful))
    if not len(rows):
        return None

    def kept(values: Any) -> Any:
        return values if not doubtful or values is None else [values[row] for row in rows]

    return Plain(
        rows=rows,
        source_id=kept(ids),
        text=text[rows] if doubtful else text,
        data=kept(data),
        series=kept(series),
        position=kept(position),
        licence=kept(licence),
        meta={name: kept(values) for name, values in meta.items()},
    )


def _meta(values: Sequence[Any], doubtful: set[int]) -> Sequence[Any]:
    if _AS_THEY_ARE.issuperset(map(type, values)):
        return values
    found: list[Any] = []
    for row, value in enumerate(values):
        dropped: list[str] = []
        try:
            found.append(plain_value(value, dropped))
        except Refused:
            found.append(None)
            doubtful.add(row)
        if dropped:
            doubtful.add(row)
    return found


def _is_no_payload(value: Any) -> bool:
    """Whether a value is neither base64, nor a data URI, nor the path of a file."""
    return type(value) is not str or (
        len(value) < 64 and "." not in value and not value.startswith("data:")
    )


def _has_controls(data: bytes) -> bool:
    """Whether _CONTROLS is in a text in UTF-8, in a tenth of a regular expression's time."""
    one = np.frombuffer(data, dtype=np.uint8)
    if not one.size:
        return False
    if one.min() < 0x20 and ((one < 0x20) & (one != 0x09) & (one != 0x0A)).any():
        return True
    if b"\x7f" in data:
        return True
    if data.isascii():
        return False
    after = np.frombuffer(data + bytes(2), dtype=np.uint8)
    next_line = np.flatnonzero(one == 0xC2) + 1
    if (after[next_line] < 0xA0).any():
        return True
    general = np.flatnonzero(one == 0xE2) + 1
    return bool(((after[general] == 0x80) & (after[general + 1] & 0xFE == 0xA8)).any())


def _is_visible(text: str) -> bool:
    """Whether a text is sure to be visible, and to begin with no mark of its encoding.

    Its first character that is no space tells.
    """
    first = text.lstrip()[:1]
    return "!" <= first <= "~" or first.isalnum()


def _fits(value: int | None) -> bool:
    return value is None or abs(value) < 2**63
