"""The nearest target by bits and by vector, against all pairs, with its name and how far it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation.annotate.nearest_target import nearest_target


def table(**columns: Any) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    return pl.DataFrame({"uid": pl.int_range(rows, dtype=pl.UInt64, eager=True), **columns})


def bits(*values: int | None) -> pl.Series:
    return pl.Series(values, dtype=pl.UInt64)


def vectors(*values: list[float] | None) -> pl.Series:
    return pl.Series(values, dtype=pl.Array(pl.Float32, 2))


def test_a_picture_is_told_its_nearest_target_by_name_and_bits():
    target = table(bits=bits(0b1111, 0, None)).with_columns(id=pl.Series(["b", "a", "c"]))
    found = nearest_target(table(bits=bits(0b0111, 0b0001, 0b0011, None)), target)
    assert found["distance"].to_list() == [1, 1, 2, None]
    items = [[hit["item"] for hit in hits] for hits in found["hits"]]
    assert items == [["b"], ["a"], ["a"], []]  # of two as near the first name
    assert found["cosine"].to_list() == [None] * 4


def test_a_vector_is_told_its_nearest_target_and_one_without_a_direction_none():
    target = table(vector=vectors([0, 2], [1, 0], [0, 0], None))
    found = nearest_target(table(vector=vectors([3, 4], [0, 0], None, [1, 0.1])), target)
    assert found["cosine"].to_list() == pytest.approx([0.8, None, None, 0.995037], abs=1e-6)
    assert found["hits"].to_list()[0] == [
        {"by": "vector", "item": f"{0:016x}", "distance": None, "cosine": pytest.approx(0.8)}
    ]
    assert found["distance"].to_list() == [None] * 4


def test_both_roles_give_a_hit_each():
    both = table(bits=bits(1), vector=vectors([1, 0]))
    found = nearest_target(both, both).row(0, named=True)
    assert [(hit["by"], hit["item"]) for hit in found["hits"]] == [
        ("bits", f"{0:016x}"), ("vector", f"{0:016x}")
    ]  # fmt: skip
    assert (found["distance"], found["cosine"]) == (0, 1)


@pytest.mark.parametrize("octets", [8, 32])
def test_the_search_equals_the_comparison_of_all_pairs(octets: int):
    rng = np.random.default_rng(octets)
    mine, theirs = (rng.integers(0, 256, (n, octets), dtype=np.uint8) for n in (70, 90))
    theirs[:40] = mine[:40] ^ (rng.random((40, octets)) < 0.1).astype(np.uint8)
    apart = np.bitwise_count(mine[:, None] ^ theirs).sum(axis=2)
    found = nearest_target(
        table(bits=[row.tobytes() for row in mine]), table(bits=[row.tobytes() for row in theirs])
    )
    assert found["distance"].to_list() == apart.min(axis=1).tolist()
    names = [f"{n:016x}" for n in apart.argmin(axis=1)]
    assert [hits[0]["item"] for hits in found["hits"]] == names


def test_no_targets_are_no_hits_and_unlike_kinds_are_refused():
    rows = table(bits=bits(1), vector=vectors([1, 0]))
    assert nearest_target(rows, rows.clear())["hits"].to_list() == [[]]
    with pytest.raises(ConfigError, match="bind bits or vector"):
        nearest_target(rows.select("uid"), rows)
    with pytest.raises(DataError, match="make both by the same hash"):
        nearest_target(table(bits=[bytes(16)]), table(bits=[bytes(8)]))
    short = table(vector=pl.Series([[1.0]], dtype=pl.Array(pl.Float32, 1)))
    with pytest.raises(DataError, match="embed both by the same encoder"):
        nearest_target(rows.drop("bits"), short)
