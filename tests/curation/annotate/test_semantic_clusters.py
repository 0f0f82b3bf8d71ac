from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from curation.annotate.semantic_clusters import semantic_clusters
from curation.annotate.semantic_duplicates import semantic_duplicates
from curation.select.one_per_cluster import one_per_cluster
from curation.select.one_per_neighbourhood import one_per_neighbourhood


def frame(rows):
    """Rows of (uid, nearest, max_cosine)."""
    schema = {"uid": pl.UInt64, "nearest": pl.UInt64, "max_cosine": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def clusters(rows, threshold=0.9):
    return semantic_clusters(frame(rows), threshold=threshold).rows()


def test_a_chain_is_one_cluster_named_by_the_record_that_semdedup_keeps():
    # 9 comes first in the order of the measure; 1 is near to it and 5 to 1.
    rows = [(1, 9, 0.95), (5, 1, 0.92), (7, 9, 0.5), (9, None, 0)]
    assert clusters(rows) == [(1, 9, 3), (5, 9, 3), (7, 7, 1), (9, 9, 3)]
    assert clusters(rows, 0.93) == [(1, 9, 2), (5, 5, 1), (7, 7, 1), (9, 9, 2)]


def test_the_threshold_itself_joins_nothing():
    rows = [(1, None, 0), (2, 1, 0.5)]
    assert clusters(rows, 0.5) == [(1, 1, 1), (2, 2, 1)]
    assert clusters(rows, 0.4999999) == [(1, 1, 2), (2, 1, 2)]


def test_no_record_and_one_without_a_measure_or_with_a_strange_neighbour_are_alone():
    assert clusters([]) == []
    assert clusters([(1, None, None), (2, 1, None), (3, 77, 0.99), (4, 4, 0.99)]) == [
        (uid, uid, 1) for uid in (1, 2, 3, 4)
    ]


def test_records_that_are_each_others_nearest_are_named_by_the_smallest_uid():
    assert clusters([(3, 8, 0.99), (5, 3, 0.99), (8, 3, 0.99)]) == [(3, 3, 3), (5, 3, 3), (8, 3, 3)]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["hard", "easy", "random"]))
def test_one_a_cluster_is_what_the_papers_rule_keeps(seed, order):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 3))[rng.integers(12, size=60)] + 0.1 * rng.standard_normal((60, 3))
    rows = pl.DataFrame(
        {
            "uid": pl.Series(rng.permutation(1000)[:60], dtype=pl.UInt64),
            "vector": pl.Series(x, dtype=pl.Array(pl.Float32, 3)),
            "group": rng.integers(3, size=60),
        }
    )
    found = semantic_duplicates(rows, order=order)
    clustered = semantic_clusters(found, threshold=0.97)
    papers = one_per_neighbourhood(
        found.rename({"max_cosine": "cosine"}), threshold=0.97, mode="semdedup"
    )
    assert set(one_per_cluster(clustered)["uid"]) == set(papers["uid"])
    assert clustered["cluster"].n_unique() == papers.height


def test_a_long_chain_is_one_cluster():
    found = semantic_clusters(
        frame([(i, i - 1 if i else None, 0.99) for i in range(20_000)]), threshold=0.9
    )
    assert found["cluster"].unique().to_list() == [0]


def test_it_needs_a_threshold():
    with pytest.raises(ConfigError, match="threshold: is required"):
        semantic_clusters(frame([]))
