"""Entries of head and tail, counted by hand."""

from __future__ import annotations

import polars as pl

from curation.annotate.caption_specificity import caption_specificity


def test_entries_at_the_cap_are_of_the_tail_and_beyond_of_the_head():
    lists = [[1, 2, 3], [3], [], None, [9]]
    rows = pl.DataFrame(
        {
            "uid": pl.Series(range(5), dtype=pl.UInt64),
            "entries": pl.Series(lists, dtype=pl.List(pl.UInt32)),
        }
    )
    counts = pl.DataFrame({"entry": [1, 2, 3], "count": [10, 11, 5000]})
    found = caption_specificity(rows, counts, cap=10)
    assert found.drop("uid").rows() == [
        (3, 1, 10),
        (1, 0, 5000),
        (0, 0, None),
        (None, None, None),
        (1, 1, 1),
    ]
