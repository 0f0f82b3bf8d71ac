from __future__ import annotations

import polars as pl

from curation.annotate.target_count import target_count


def table(*groups: object, dtype: pl.DataType | type[pl.DataType] = pl.UInt32) -> pl.DataFrame:
    group = pl.Series(groups, dtype=dtype)
    return pl.DataFrame({"uid": pl.int_range(len(groups), dtype=pl.UInt64, eager=True),
                         "group": group})  # fmt: skip


def test_it_counts_the_targets_of_each_group_and_of_no_group_nothing():
    found = target_count(table(3, 5, None, 3, 9), table(5, 3, None, 3, 7))
    assert found["count"].to_list() == [2, 1, None, 2, 0]
    assert target_count(table(3), table(None))["count"].to_list() == [0]
    names = target_count(table("a", "b", dtype=pl.String), table("b", dtype=pl.String))
    assert names["count"].to_list() == [0, 1]
