from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from curation.fit.entry_counts import entry_counts


def table(entries: list[list[int] | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(entries)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "entries": pl.Series(entries, dtype=pl.List(pl.UInt32))})


def test_a_record_counts_once_for_each_entry_it_matches():
    found = entry_counts(table([[3, 1], [1, 1, 1], [], None]))
    assert found.rows() == [(1, 2), (3, 1)]
    assert found.schema == {"entry": pl.UInt32, "count": pl.UInt64}


def test_counts_equal_those_of_a_counter():
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 30, rng.integers(0, 6)).tolist() for _ in range(500)]
    expected = Counter(entry for entries in lists for entry in set(entries))
    assert dict(entry_counts(table(lists)).rows()) == expected


def test_the_counts_of_parts_add_up_whatever_the_split():
    rows = table([[n % 3, n % 5] for n in range(100)])
    parts = [entry_counts(rows[start : start + 23]) for start in range(0, 100, 23)]
    together = entry_counts.fold([entry_counts.fold(parts[:2]), entry_counts.fold(parts[2:])])
    assert_frame_equal(together, entry_counts(rows))
