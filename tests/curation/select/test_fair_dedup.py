from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DataError
from curation._neighbours import unit_64
from curation.annotate.semantic_clusters import semantic_clusters
from curation.annotate.semantic_duplicates import semantic_duplicates
from curation.select.fair_dedup import explain, fair_dedup
from curation.select.one_per_neighbourhood import one_per_neighbourhood


def at_degrees(*angles):
    radians = np.radians(angles)
    return np.c_[np.cos(radians), np.sin(radians)]


def frame(x, cluster, group=None, uids=None):
    x = np.asarray(x, dtype=np.float64)
    uids = np.arange(len(x)) if uids is None else uids
    rows = pl.DataFrame(
        {
            "uid": pl.Series(uids, dtype=pl.UInt64),
            "vector": pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, x.shape[1])),
            "cluster": pl.Series(cluster, dtype=pl.UInt64),
        }
    )
    return rows if group is None else rows.with_columns(group=pl.Series(group, dtype=pl.UInt32))


def concepts(x):
    x = np.asarray(x, dtype=np.float64)
    return pl.DataFrame({"vector": pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, x.shape[1]))})


# Concept 0 at 0 degrees, concept 1 at 90: a record below 45 degrees is most like 0.
TWO = concepts(at_degrees(0, 90))


def test_clusters_take_turns_between_two_concepts():
    # Three clusters of a record near either concept: 0 first by number, then 1, then 0 again.
    rows = frame(at_degrees(10, 80, 20, 70, 30, 60), [0, 0, 2, 2, 4, 4])
    kept = fair_dedup(rows, TWO)
    assert kept["uid"].to_list() == [0, 3, 4]
    assert kept["concept"].to_list() == [0, 1, 0]
    assert kept["favoured"].to_list() == [0, 1, 0]
    assert kept["cosine"].to_list() == pytest.approx(np.cos(np.radians([10, 20, 30])), abs=1e-6)


def test_what_stays_anyway_counts_first():
    # Two records of concept 0 are alone, so both clusters favour concept 1, which then leads.
    rows = frame(at_degrees(10, 80, 20, 70, 5, 6), [0, 0, 2, 2, 4, 5])
    kept = fair_dedup(rows, TWO)
    assert kept["uid"].to_list() == [1, 3, 4, 5]
    assert kept["favoured"].to_list() == [1, 1, None, None]


def test_a_record_counts_for_what_it_is_most_like_not_for_what_it_was_kept_for():
    # The first two clusters have nothing near 90 degrees; 1 is favoured until something has come.
    rows = frame(at_degrees(5, 10, 20, 25, 30, 80, 15, 70), [0, 0, 2, 2, 4, 4, 6, 6])
    kept = fair_dedup(rows, TWO)
    assert kept["uid"].to_list() == [0, 3, 5, 7]
    assert kept["concept"].to_list() == [0, 0, 1, 1]
    assert kept["favoured"].to_list() == [0, 1, 1, 1]


def test_each_group_keeps_counts_of_its_own():
    x, cluster = at_degrees(10, 80, 20, 70), [0, 0, 2, 2]
    assert fair_dedup(frame(x, cluster), TWO)["uid"].to_list() == [0, 3]
    assert fair_dedup(frame(x, cluster, [0, 0, 1, 1]), TWO)["uid"].to_list() == [0, 2]
    assert fair_dedup(frame(x, cluster, [None] * 4), TWO)["uid"].to_list() == [0, 3]


def test_with_one_concept_it_keeps_the_largest_cosine_of_each_cluster():
    rng = np.random.default_rng(0)
    rows = frame(rng.standard_normal((200, 5)), rng.integers(30, size=200))
    one = concepts(rng.standard_normal((1, 5)))
    x = rows["vector"].to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    like = rows.with_columns(like=x @ one["vector"].to_numpy()[0])
    best = like.sort("like", descending=True).unique("cluster", keep="first", maintain_order=True)
    assert set(fair_dedup(rows, one)["uid"]) == set(best["uid"])


def test_it_keeps_as_many_as_semdedup_one_of_each_of_its_neighbourhoods():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 6))[rng.integers(40, size=300)]
    rows = frame(x + 0.15 * rng.standard_normal(x.shape), [0] * 300, rng.integers(4, size=300))
    found = semantic_duplicates(rows)
    rows = rows.with_columns(semantic_clusters(found, threshold=0.95)["cluster"])
    kept = fair_dedup(rows, concepts(rng.standard_normal((3, 6))))
    papers = one_per_neighbourhood(
        found.rename({"max_cosine": "cosine"}), threshold=0.95, mode="semdedup"
    )
    assert kept.height == papers.height < 200
    assert set(kept["uid"]) != set(papers["uid"])
    assert rows.join(kept, on="uid")["cluster"].n_unique() == kept.height


def test_an_underrepresented_concept_gains_against_a_blind_choice():
    rng = np.random.default_rng(2)
    # Of each cluster of four, one record is of concept 1.
    angles = np.where(np.arange(400) % 4 == 3, 90, 0) + rng.uniform(-30, 30, 400)
    rows = frame(at_degrees(*angles), np.arange(400) // 4)
    kept = fair_dedup(rows, TWO)
    assert kept["concept"].value_counts(sort=True)["count"].to_list() == [50, 50]


@st.composite
def pools(draw):
    n = draw(st.integers(0, 25))
    column = st.lists(st.none() | st.integers(0, 6), min_size=n, max_size=n)
    angles = draw(st.lists(st.none() | st.integers(0, 359), min_size=n, max_size=n))
    x = at_degrees(*[a or 0 for a in angles]) if n else np.empty((0, 2))
    rows = frame(x, draw(column), draw(st.none() | column))
    missing = pl.Series([a is not None for a in angles], dtype=pl.Boolean)
    rows = rows.with_columns(vector=pl.when(missing).then("vector"))
    return rows, concepts(at_degrees(*draw(st.lists(st.integers(0, 359), min_size=1, max_size=4))))


def plain(rows, table):
    """The rule in plain loops."""
    c = unit_64(table["vector"].to_numpy())
    like, group, clusters = {}, {}, {}
    for row in rows.iter_rows(named=True):
        vector = row["vector"]
        uid = row["uid"]
        if vector is None:
            like[uid] = None
        else:
            # Equal but for the rounding of double precision is equal.
            like[uid] = (unit_64(np.array([vector]))[0] @ c.T).round(11).tolist()
        group[uid] = row.get("group")
        name = ("own", uid) if row["cluster"] is None else row["cluster"]
        clusters.setdefault(name, []).append(uid)
    counts: dict[object, list[int]] = {g: [0] * len(c) for g in group.values()}
    kept = set()

    def keep(uid, count):
        kept.add(uid)
        if like[uid] is not None:
            count[like[uid].index(max(like[uid]))] += 1

    ordered = sorted(clusters.values(), key=lambda members: (len(members) > 1, members[0]))
    for members in ordered:
        count = counts[group[members[0]]]
        least = count.index(min(count))
        keep(max(members, key=lambda u: like[u][least] if like[u] else -9), count)
    return kept


@settings(max_examples=150)
@given(pools())
def test_it_agrees_with_the_rule_in_plain_loops(pool):
    rows, table = pool
    kept = fair_dedup(rows, table)
    assert set(kept["uid"]) == plain(rows, table)
    told = explain(rows, kept)
    assert set(told["uid"]) == set(rows["uid"]) - set(kept["uid"])


def test_copies_go_by_uid():
    rows = frame(np.ones((300, 64)), np.arange(300) % 3, uids=np.arange(300)[::-1])
    assert fair_dedup(rows, concepts(np.eye(64)[:2]))["uid"].to_list() == [0, 1, 2]


def test_a_record_without_a_cluster_stays_and_one_without_a_vector_gives_way():
    rows = frame(at_degrees(0, 10, 90, 0), [None, 1, 1, 3])
    rows = rows.with_columns(vector=pl.when(pl.col("uid").is_in([1, 3]).not_()).then("vector"))
    kept = fair_dedup(rows, TWO)
    assert kept.rows() == [(0, 0, 1.0, None), (2, 1, 1.0, 1), (3, None, None, None)]


def test_no_record_is_none():
    found = fair_dedup(frame(np.empty((0, 2)), []), TWO)
    assert found.schema == {
        "uid": pl.UInt64,
        "concept": pl.UInt32,
        "cosine": pl.Float32,
        "favoured": pl.UInt32,
    }


def test_explain_names_the_kept_record_of_the_cluster():
    rows = frame(at_degrees(10, 80), [1, 1])
    told = explain(rows, fair_dedup(rows, TWO))
    assert told.rows() == [(1, 0, "cluster", None)]


def test_concepts_of_a_pool_are_numbered_by_uid():
    rows = frame(at_degrees(10, 80), [0, 1])
    pool = TWO.with_columns(uid=pl.Series([9, 2], dtype=pl.UInt64))
    assert fair_dedup(rows, pool)["concept"].to_list() == [1, 0]


def test_wrong_concepts_are_errors():
    rows = frame(at_degrees(10, 80), [0, 1])
    with pytest.raises(DataError, match="2 dimensions, concepts of 3"):
        fair_dedup(rows, concepts(np.eye(3)))
    with pytest.raises(DataError, match="1 of 2 concepts have a vector"):
        fair_dedup(rows, concepts([[1, 0], [0, 0]]))
    with pytest.raises(DataError, match="0 of 0 concepts"):
        fair_dedup(rows, TWO.clear())
