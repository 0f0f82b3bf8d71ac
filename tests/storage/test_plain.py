"""What is taken by columns is what `record_of` makes of each row."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from storage import plain as plains
from storage.block import Table
from storage.plain import plain
from storage.rows import record_of
from storage.source import Columns, Record, Rejected

_TEXTS: tuple[Any, ...] = (
    "a text", "\u00fcber \u00df", "\u4e2d\u6587", "two\nlines\tand a tab", " begins with a space",
    "", " ", "\u200b", "\u0301", "\ufeffmarked", "inner \ufeff mark", "bell\x07", "cr\rlf\r\n",
    "next\x85line", "\u2028", "\u2029 x", "\x7f", "\U0001f600 only", "caf\u00e9 \u00e2\u0080",
    "\xc2\xa0", None, 3, b"bytes", ["a", "b"], {"a": 1},
)  # fmt: skip
_IDS: tuple[Any, ...] = ("r", 7, -1, "", "  ", None, 1.0, 1.5, True, b"x", "\u00e9", 2**70)
_SERIES: tuple[Any, ...] = ("s", None, 3, 2.0, "", b"s")
_POSITIONS: tuple[Any, ...] = (0, None, -5, 2**63, 1.0, 0.5, "7", "x")
_LICENCES: tuple[Any, ...] = ("cc0", None, 4, b"by")
_METAS: tuple[Any, ...] = (
    "x", None, 1, 2**64, True, 0.5, float("nan"), date(2024, 1, 2), datetime(2024, 1, 2, 3), b"raw",
    b"\xff", [1, None], {"k": b"\xff"}, {"k": "\ud800"}, Decimal("0.1"), Decimal("1e400"),
    Decimal(5),
)  # fmt: skip
_VOLUMES: tuple[Any, ...] = (
    3, "12", None, 0.5, True, "AAAA" * 20, "a.nii", "data:,x", b"nifti", {"bytes": b"nifti"}, [1],
)  # fmt: skip


def _given(rng: random.Random, height: int) -> dict[str, list[Any]]:
    """Return columns of which some rows, or none, are odd."""
    odd = rng.choice((0.0, 0.02, 0.5))

    def column(values: tuple[Any, ...]) -> list[Any]:
        return [rng.choice(values) if rng.random() < odd else values[0] for _ in range(height)]

    return {
        "id": column(_IDS),
        "text": [t if rng.random() < odd else f"text {n}" for n, t in enumerate(column(_TEXTS))],
        "series": column(_SERIES),
        "position": column(_POSITIONS),
        "license": column(_LICENCES),
        "Some Value": column(_METAS),
        "url": column(_METAS),
        "volume": column(_VOLUMES),
    }


def test_no_row_is_plain_where_no_text_has_a_character():
    texts = {"text": ["", ""]}
    assert plain(Columns(), Table("u", [0, 1], [0, 1], texts, _alone(Columns()))) is None


@pytest.mark.parametrize(
    "columns", [Columns(), Columns(id="id", series="series", position="position")]
)
def test_by_columns_is_row_by_row(columns: Columns):
    rng = random.Random(1)
    by_columns = 0
    for _ in range(200):
        given = _given(rng, 20)
        table = Table("u", range(20), range(20), given, _alone(columns))
        found = plain(columns, table)
        if found is None:
            continue
        by_columns += len(found.rows)
        for at, row in enumerate(found.rows.tolist()):
            want = table.found(row)
            assert isinstance(want, Record), (want, {k: v[row] for k, v in given.items()})
            meta = {k: v[at] for k, v in found.meta.items() if v[at] is not None}
            got = Record(
                str(row) if found.source_id is None else found.source_id[at],
                str(row),
                text=found.text[at],
                series=found.series and found.series[at],
                position=found.position and found.position[at],
                licence=found.licence and found.licence[at],
                meta=meta,
            )
            assert repr(replace(got, notes=())) == repr(want)
            assert found.data[at] == found.text[at].encode()
    assert by_columns > 200 * 20 / 4


def _alone(columns: Columns) -> Any:
    def record(row: dict[str, Any], number: int) -> Record | Rejected:
        return record_of(columns, row, source_id=str(number), where=str(number))

    return record


def test_rows_of_pictures_are_never_plain():
    given = {"text": ["a"], "image": [None]}
    assert plain(Columns(), Table("u", [0], [0], given, _alone(Columns()))) is None
    named = Columns(image="picture")
    assert plain(named, Table("u", [0], [0], {"text": ["a"]}, _alone(named))) is None


@pytest.mark.parametrize(
    "character", [chr(n) for n in (*range(0x100), 0x2027, 0x2028, 0x2029, 0x202A)]
)
def test_control_characters_are_told_from_bytes(character: str):
    text = f"\u00e9 before {character}after \u00e2"
    told = pl.Series([text]).str.contains(plains._CONTROLS)[0]
    assert plains._has_controls(text.encode()) == told
