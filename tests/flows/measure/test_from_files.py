from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import hex_uid
from flows.measure.from_files import match

FILE = Path("values.csv")
UIDS = pl.Series("uid", [2**64 - 1, 5, 0xE1], dtype=pl.UInt64)


def scores(key: str, ids: pl.Series, keys: pl.Series) -> list[float | None]:
    records = pl.DataFrame({"uid": UIDS}).with_columns(ids.alias(key))
    values = pl.DataFrame({key: keys, "score": pl.arange(len(keys), eager=True).cast(pl.Float64)})
    return match(records, values, key, FILE).rows["score"].to_list()


@pytest.mark.parametrize(
    "keys",
    [
        pl.Series([5, 0xE1], dtype=pl.UInt64),
        pl.Series([5, 0xE1], dtype=pl.Int64),
        pl.Series([hex_uid(5), hex_uid(0xE1)]),
        pl.Series([hex_uid(5).upper(), hex_uid(0xE1).upper()]),
        pl.Series(["5", "225"]),
    ],
)
def test_a_uid_is_known_as_an_integer_and_as_hexadecimal_digits(keys: pl.Series):
    assert scores("uid", UIDS, keys) == [None, 0, 1]


@pytest.mark.parametrize(
    ("ids", "keys"),
    [
        (pl.Series([0, 1, 2]), pl.Series([1.0, 1.5, 2.9, float("nan"), float("inf"), None])),
        (pl.Series([0, 1, 2]), pl.Series(["1", "unknown", "unknown", "1.5", "", None])),
        (pl.Series(["0", "1", "2"]), pl.Series([1, 11])),
        (pl.Series(["0", "1", "2"]), pl.Series([1.0, 1.5, float("nan")])),
        (pl.Series([0, 2**53, 2**53 + 1]), pl.Series([2**53, 7], dtype=pl.UInt64)),
        (pl.Series([0.5, float(2**53), 2.0]), pl.Series([2**53, 2**53 + 1])),
    ],
)
def test_a_key_of_another_type_matches_only_the_same_value(ids: pl.Series, keys: pl.Series):
    records = pl.DataFrame({"uid": UIDS, "meta.id": ids})
    values = pl.DataFrame({"meta.id": keys, "score": pl.Series(range(len(keys)))})
    found = match(records, values, "meta.id", FILE)
    assert found.rows["score"].to_list() == [None, 0, None]
    assert (found.without, found.unused) == (2, len(keys) - 1)


def test_a_key_that_cannot_be_compared_is_said_with_both_types():
    records = pl.DataFrame({"uid": UIDS, "meta.id": [[1], [2], [3]]})
    values = pl.DataFrame({"meta.id": pl.Series([{"a": 1}]), "score": [1.0]})
    with pytest.raises(ConfigError, match=r"values.csv: meta.id is Struct.*List\(Int64\)"):
        match(records, values, "meta.id", FILE)


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(DataError, match=r"id repeats: it must name one record \(such as 7\)"):
        scores("meta.id", pl.Series([7, 8, 9]), pl.Series([7, 8, 7]))


def test_where_nothing_matches_a_key_of_each_side_is_shown():
    with pytest.raises(DataError, match=r"none of its 2 id .* it has 'a', the pool 'r0'"):
        scores("meta.id", pl.Series(["r0", "r1", "r2"]), pl.Series(["a", "b"]))
