from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from curation.select.one_per_neighbourhood import explain, one_per_neighbourhood


def frame(rows, measure="cosine", score=None):
    """Rows of (uid, nearest, value)."""
    table = pl.DataFrame(
        rows, schema={"uid": pl.UInt64, "nearest": pl.UInt64, measure: pl.Float32}, orient="row"
    )
    return table if score is None else table.with_columns(score=pl.Series(score))


def kept(candidates, threshold=0.9, **parameters):
    return one_per_neighbourhood(candidates, threshold=threshold, **parameters)["uid"].to_list()


CHAIN = frame([(1, None, 0), (2, 1, 0.95), (3, 2, 0.95)])


def test_of_a_chain_the_ends_stay_and_the_papers_rule_keeps_the_first_alone():
    assert kept(CHAIN) == [1, 3]
    assert kept(CHAIN, mode="semdedup") == [1]


def test_a_record_comes_after_its_nearest_whatever_its_uid():
    # 9 was first in the order of the measure, so 1 and 2 go, not 9.
    assert kept(frame([(1, 9, 0.95), (2, 9, 0.95), (9, None, 0)])) == [9]


def test_a_score_decides_who_stays():
    assert kept(CHAIN.with_columns(score=pl.Series([1.0, 3, 2]))) == [2]
    assert kept(CHAIN.with_columns(score=pl.Series([1.0, 2, 3]))) == [1, 3]
    assert kept(CHAIN.with_columns(score=pl.Series([None, 1.0, float("nan")]))) == [2]
    # Equal scores: the smallest uid first.
    assert kept(frame([(1, 9, 0.95), (9, None, 0)], score=[5, 5])) == [1]


def test_a_neighbour_that_an_earlier_rule_dropped_drops_nothing():
    without_1 = CHAIN.filter(pl.col("uid") != 1)
    assert kept(without_1) == [2]
    assert kept(CHAIN.filter(pl.col("uid") != 2)) == [1, 3]
    assert kept(without_1, mode="semdedup") == []


def test_of_two_that_are_each_others_nearest_the_smaller_uid_stays():
    assert kept(frame([(5, 7, 0.99), (7, 5, 0.99)])) == [5]


def test_of_a_circle_neighbours_do_not_both_stay():
    circle = frame([(1, 2, 0.99), (2, 3, 0.99), (3, 4, 0.99), (4, 5, 0.99), (5, 1, 0.99)])
    tail = frame([(6, 3, 0.99), (7, 6, 0.99)])
    # 1 first; it drops 2 and 5; then 4 and 3 are beside each other; 6 hangs on 3, 7 on 6.
    assert kept(pl.concat([circle, tail])) == [1, 4, 6]


@pytest.mark.parametrize("measure", ["cosine", "similarity"])
def test_cosine_and_similarity_drop_above_the_threshold_only(measure):
    rows = frame([(1, None, 0), (2, 1, 0.5), (3, 1, 0.5000001)], measure)
    assert kept(rows, threshold=0.5) == [1, 2]


def test_a_distance_drops_at_or_below_the_threshold():
    rows = frame([(1, 2, 6), (2, 1, 6), (3, 1, 7)], "distance")
    assert kept(rows, threshold=6) == [1, 3]
    assert kept(rows.with_columns(pl.col("distance").cast(pl.UInt16)), threshold=5) == [1, 2, 3]


def test_an_exact_copy_is_above_any_threshold_below_one_and_not_above_one():
    rows = frame([(1, None, 0), (2, 1, 1)])
    assert kept(rows, threshold=1 - 1e-12) == [1]
    assert kept(rows, threshold=1.0) == [1, 2]


def test_a_bound_similarity_or_distance_goes_before_the_cosine_by_default():
    rows = frame([(1, None, 0), (2, 1, 0.99)])
    assert kept(rows.with_columns(similarity=pl.lit(0.1))) == [1, 2]
    assert kept(rows.with_columns(distance=pl.lit(9.0)), threshold=6) == [1, 2]


def test_no_measure_or_two_bound_ones_are_an_error():
    rows = frame([(1, None, 0)])
    for wrong in (
        rows.drop("cosine"),
        rows.with_columns(similarity="cosine", distance="cosine"),
    ):
        with pytest.raises(ConfigError, match="needs one of cosine, similarity and distance"):
            one_per_neighbourhood(wrong, threshold=0.9)


def test_a_record_without_a_measure_stays():
    assert kept(frame([(1, None, None), (2, 1, None), (3, None, 0.99)])) == [1, 2, 3]


def test_its_own_nearest_is_no_neighbour():
    assert kept(frame([(1, 1, 0.99), (2, 1, 0.99)])) == [1]
    assert kept(frame([(1, 1, 0.99)]), mode="semdedup") == [1]


def test_no_candidate_is_none():
    assert kept(frame([])) == []
    assert explain(frame([]), frame([]).select("uid")).columns == [
        "uid",
        "twin",
        "edge",
        "distance",
    ]


def test_explain_names_the_kept_neighbour_on_either_side():
    rows = frame([(1, None, 0), (2, 1, 0.93), (3, 2, 0.95)], score=[0, 9, 0])
    told = explain(rows, one_per_neighbourhood(rows, threshold=0.9))
    assert told["twin"].to_list() == [2, 2]
    assert told["uid"].to_list() == [1, 3]
    assert told["distance"].to_list() == pytest.approx([0.07, 0.05], abs=1e-6)
    assert set(told["edge"]) == {"cosine"}


def test_explain_follows_a_chain_where_the_papers_rule_kept_no_neighbour():
    told = explain(CHAIN, one_per_neighbourhood(CHAIN, threshold=0.9, mode="semdedup"))
    assert told.select("uid", "twin").rows() == [(2, 1), (3, 1)]


def test_explain_has_no_twin_where_the_papers_rule_dropped_beside_a_stranger():
    rows = CHAIN.filter(pl.col("uid") != 1)
    told = explain(rows, one_per_neighbourhood(rows, threshold=0.9, mode="semdedup"))
    assert told.select("uid", "twin").rows() == [(2, None), (3, None)]


def test_a_long_chain_alternates():
    rows = frame([(i, i - 1 if i else None, 0.99) for i in range(20_000)])
    assert kept(rows) == list(range(0, 20_000, 2))


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 14))
    nearest = draw(st.lists(st.none() | st.integers(0, n + 3), min_size=n, max_size=n))
    values = draw(st.lists(st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0]), min_size=n, max_size=n))
    scores = draw(st.none() | st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n))
    rows = [
        (i, None if m == i else m, v) for i, (m, v) in enumerate(zip(nearest, values, strict=True))
    ]
    measure = draw(st.sampled_from(["cosine", "similarity", "distance"]))
    table = frame(rows, measure)
    if scores is not None:
        table = table.with_columns(score=pl.Series(scores, dtype=pl.Int64))
    return table, measure


def neighbours(candidates, measure, threshold):
    """Return each candidate's neighbours, by plain loops."""
    beside = {uid: set() for uid in candidates["uid"]}
    for uid, nearest, value in candidates.select("uid", "nearest", measure).iter_rows():
        near = value <= threshold if measure == "distance" else value > threshold
        if nearest in beside and near:
            beside[uid].add(nearest)
            beside[nearest].add(uid)
    return beside


@settings(max_examples=150)
@given(graphs(), st.sampled_from([0.5, 0.9]))
def test_kept_ones_are_apart_and_each_dropped_one_is_beside_a_kept_one(graph, threshold):
    candidates, measure = graph
    selection = one_per_neighbourhood(candidates, threshold=threshold)
    survivors = set(selection["uid"])
    beside = neighbours(candidates, measure, threshold)
    assert all(not (beside[uid] & survivors) for uid in survivors)
    assert all(beside[uid] & survivors for uid in beside.keys() - survivors)

    told = explain(candidates, selection)
    assert set(told["uid"]) == beside.keys() - survivors
    assert all(twin in survivors & beside[uid] for uid, twin in told.select("uid", "twin").rows())


@settings(max_examples=100)
@given(graphs())
def test_with_a_score_it_is_greedy_by_score_and_uid(graph):
    candidates, measure = graph
    if "score" not in candidates.columns:
        candidates = candidates.with_columns(score=pl.lit(0))
    beside = neighbours(candidates, measure, 0.9)
    survivors: set[int] = set()
    by_score = candidates.sort("score", "uid", descending=[True, False], nulls_last=True)
    for uid in by_score["uid"]:
        if not beside[uid] & survivors:
            survivors.add(uid)
    assert set(one_per_neighbourhood(candidates, threshold=0.9)["uid"]) == survivors


@settings(max_examples=100)
@given(graphs())
def test_where_nearest_runs_in_no_circle_a_record_is_dropped_only_by_its_nearest(graph):
    candidates, measure = graph
    candidates = candidates.select(
        "uid", measure, nearest=(pl.when(pl.col("nearest") > pl.col("uid")).then("nearest"))
    )
    beside = neighbours(candidates, measure, 0.9)
    parent = dict(candidates.select("uid", "nearest").rows())
    survivors: set[int] = set()
    for uid in sorted(beside, reverse=True):
        if parent[uid] not in survivors or parent[uid] not in beside[uid]:
            survivors.add(uid)
    assert set(one_per_neighbourhood(candidates, threshold=0.9)["uid"]) == survivors
