from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.cluster_repeats import cluster_repeats, repeats_of


def clusters(of: dict[int, tuple[int, int]]) -> pl.DataFrame:
    """Return records: for each size so many clusters, of which so many did not pass."""
    size, passed = [], []
    for members, (count, removed) in of.items():
        for cluster in range(count):
            size += [members] * members
            passed += [cluster >= removed] * members
    return pl.DataFrame(
        {
            "uid": pl.Series(range(len(size)), dtype=pl.UInt64),
            "size": pl.Series(size, dtype=pl.UInt32),
            "passed": passed,
        }
    )


def by_size(rows: pl.DataFrame, **parameters: object) -> dict[int, int]:
    found = rows.with_columns(cluster_repeats(rows, **parameters)["repeats"])
    assert found.group_by("size").agg(pl.col("repeats").n_unique())["repeats"].max() == 1
    return dict(found.select("size", "repeats").unique().sort("size").iter_rows())


def test_the_worked_example():
    rates = [0.70, 0.60, 0.50, 0.40, 0.50, 0.60, 0.70]
    assert repeats_of(rates, 0.65, 10).tolist() == [1, 3, 5, 6, 5, 3, 1]


def test_the_curve_of_a_pool_follows_its_rates_of_removal():
    # 700 + 6 * 100 clusters; g = (490 + 60 + 50 + 40 + 50 + 60 + 70) / 1300 = 0.631.
    rows = clusters(
        {1: (700, 490), 2: (100, 60), 3: (100, 50), 4: (100, 40), 5: (100, 50), 6: (100, 60),
         7: (100, 70)}
    )  # fmt: skip
    overall = 820 / 1300
    raw = [max(1.0, 1 + 9 * (r - overall) / (0.4 - overall)) for r in (0.7, 0.6, 0.5, 0.4)]
    raw += [raw[2], raw[1], raw[0]]
    middle = [np.mean(raw[i - 2 : i + 3]) for i in (2, 3, 4)]
    expected = [round(x) for x in [*raw[:2], *middle, *raw[5:]]]
    assert list(by_size(rows).values()) == expected
    assert max(expected) < 10


def test_a_cluster_counts_once_however_large_it_is():
    # All of the 60 single records fail, no cluster of 40 does: g is a half, not 1/41.
    rows = clusters({1: (60, 60), 40: (60, 0)})
    assert by_size(rows) == {1: 1, 40: 10}


def test_sizes_of_few_clusters_are_pooled_with_the_next_larger_ones():
    rows = clusters({1: (100, 80), 2: (20, 0), 3: (20, 20), 4: (20, 10), 9: (3, 3)})
    # 2, 3 and 4 together: 30 of 60; the tail of 3 goes to them: 33 of 63.
    found = by_size(rows)
    assert found[1] == 1
    assert found[2] == found[3] == found[4] == found[9] == 10


def test_equal_rates_repeat_nothing():
    rows = clusters({1: (100, 50), 2: (100, 50), 5: (60, 30)})
    assert set(by_size(rows).values()) == {1}


def test_the_published_table():
    sizes = [1, 2, 3, 4, 5, 99, 100, 999, 1000, 10**6, None]
    rows = pl.DataFrame(
        {
            "uid": pl.Series(range(len(sizes)), dtype=pl.UInt64),
            "size": pl.Series(sizes, dtype=pl.UInt32),
        }
    )
    found = cluster_repeats(rows, curve="fineweb2")["repeats"].to_list()
    assert found == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1, 1]
    found = cluster_repeats(rows, curve="fineweb2", max_repeats=4)["repeats"].to_list()
    assert found == [1, 2, 3, 3, 4, 4, 4, 4, 1, 1, 1]


def test_records_without_a_size_or_a_verdict_are_seen_once_and_fit_nothing():
    rows = clusters({1: (100, 90), 2: (100, 10)})
    unknown = pl.DataFrame(
        {
            "uid": pl.Series([10**6, 10**6 + 1], dtype=pl.UInt64),
            "size": pl.Series([None, 2], dtype=pl.UInt32),
            "passed": pl.Series([True, None], dtype=pl.Boolean),
        }
    )
    both = pl.concat([rows, unknown])
    found = dict(both.select("uid").with_columns(cluster_repeats(both)["repeats"]).iter_rows())
    assert (found[10**6], found[10**6 + 1]) == (1, 10)
    assert [found[u] for u in rows["uid"]] == cluster_repeats(rows)["repeats"].to_list()


def test_without_any_verdict_all_are_seen_once():
    rows = clusters({1: (5, 0), 3: (2, 0)}).with_columns(passed=pl.lit(None, dtype=pl.Boolean))
    assert set(cluster_repeats(rows)["repeats"]) == {1}


def test_the_fit_needs_to_know_what_passed():
    with pytest.raises(ConfigError, match="needs `passed`"):
        cluster_repeats(clusters({1: (3, 0)}).drop("passed"))
    with pytest.raises(ConfigError, match="at most 65,535"):
        cluster_repeats(clusters({1: (3, 0)}), max_repeats=70_000)
