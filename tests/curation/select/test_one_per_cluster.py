"""One record a cluster: which one, and what it says of the others."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.select.one_per_cluster import explain, one_per_cluster


def candidates(rows: list[tuple[int, int | None]], score: list[float | None] | None = None):
    frame = pl.DataFrame(rows, schema={"uid": pl.UInt64, "cluster": pl.UInt64}, orient="row")
    return frame if score is None else frame.with_columns(score=pl.Series(score, dtype=pl.Float64))


def test_the_record_that_names_the_cluster_is_kept():
    assert one_per_cluster(candidates([(9, 3), (3, 3), (1, 3)]))["uid"].to_list() == [3]


def test_where_that_one_is_gone_the_smallest_uid_is_kept():
    assert one_per_cluster(candidates([(9, 3), (7, 3)]))["uid"].to_list() == [7]


def test_the_best_score_wins_then_the_smallest_uid_and_a_null_score_last():
    rows = candidates([(1, 1), (2, 1), (3, 1), (4, 1)], [None, 0.5, 0.9, 0.9])
    assert one_per_cluster(rows)["uid"].to_list() == [3]


def test_a_record_without_a_cluster_is_kept():
    assert one_per_cluster(candidates([(1, None), (2, None)]))["uid"].to_list() == [1, 2]


def test_what_is_dropped_names_its_kept_twin():
    rows = candidates([(9, 3), (3, 3), (5, 5)])
    found = explain(rows, one_per_cluster(rows))
    assert found.select("uid", "twin", "edge").rows() == [(9, 3, "cluster")]


@given(st.dictionaries(st.integers(0, 99), st.integers(0, 5)))
def test_every_cluster_with_a_candidate_keeps_exactly_one(records: dict[int, int]):
    kept = one_per_cluster(candidates(list(records.items())))["uid"].to_list()
    assert sorted(records[uid] for uid in kept) == sorted(set(records.values()))


def test_a_record_without_a_cluster_is_not_that_of_its_own_number():
    rows = pl.DataFrame(
        {"uid": [7, 8, 9], "cluster": [None, 7, 7]}, schema={"uid": pl.UInt64, "cluster": pl.UInt64}
    )
    assert one_per_cluster(rows)["uid"].to_list() == [7, 8]
