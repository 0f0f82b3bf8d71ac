from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.nearest_centroid import nearest_centroid
from curation.annotate.semantic_duplicates import semantic_duplicates
from curation.fit.kmeans import kmeans
from curation.select.d4 import d4
from curation.select.one_per_neighbourhood import one_per_neighbourhood
from curation.select.prototypes import prototypes


def frame(x, uids=None):
    x = np.asarray(x, dtype=np.float64)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(pl.Float16, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def measured(rows, num_clusters=4):
    """The rows with their max_cosine, as the default recipe measures it."""
    centroids = kmeans(rows, num_clusters=num_clusters)
    group = nearest_centroid(rows, centroids)["centroid"]
    found = semantic_duplicates(rows.with_columns(group=group))
    return rows.with_columns(found["max_cosine"])


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((150, 6))
    copies = spread[:3].repeat(50, axis=0) + 0.01 * rng.standard_normal((150, 6))
    return measured(frame(np.vstack([spread, copies]), rng.permutation(10**6)[:300]))


def test_it_is_semdedup_at_the_ratio_then_prototypes_on_what_is_left(candidates):
    kept = d4(candidates, budget_ratio=0.3, num_clusters=5)
    assert kept.height == 90
    threshold = np.sort(candidates["max_cosine"].to_numpy())[225 - 1]
    assert (candidates["max_cosine"] <= threshold).sum() == 225
    as_rule = candidates.rename({"max_cosine": "cosine"}).with_columns(
        nearest=pl.lit(2**64 - 1, dtype=pl.UInt64)
    )
    left = one_per_neighbourhood(as_rule, threshold=float(threshold), mode="semdedup")
    left = candidates.join(left, on="uid")
    assert left.height == 0.75 * 300
    # R_proto = R / R_dedup = 0.4.
    assert kept.equals(prototypes(left, budget_ratio=0.4, num_clusters=5, stream="d4"))


def test_the_ratios_multiply(candidates):
    for dedup_ratio, proto_ratio in ((0.5, 0.5), (0.8, 0.25), (0.9, 0.7)):
        kept = d4(candidates, budget_ratio=dedup_ratio * proto_ratio, dedup_ratio=dedup_ratio)
        assert kept.height == pytest.approx(300 * dedup_ratio * proto_ratio, abs=1)
        least_repeated = candidates.sort("max_cosine", "uid").head(round(300 * dedup_ratio))
        assert set(kept["uid"]) <= set(least_repeated["uid"])


@pytest.mark.parametrize("budget_ratio", [0.75, 0.9])
def test_with_no_share_left_for_prototypes_it_is_semdedup(candidates, budget_ratio):
    kept = d4(candidates, budget_ratio=budget_ratio)
    lowest = candidates.sort("max_cosine", "uid").head(round(300 * budget_ratio))
    assert set(kept["uid"]) == set(lowest["uid"])


def test_with_no_share_for_semdedup_it_is_prototypes(candidates):
    kept = d4(candidates, budget=60, dedup_ratio=1.0, num_clusters=5, seed=2)
    assert kept.equals(prototypes(candidates, budget=60, num_clusters=5, seed=2, stream="d4"))


def test_clustering_again_frees_the_centroids_that_copies_had_drawn(candidates):
    """Three groups of 50 copies draw centroids; of what is left, other clusters are made."""
    before = kmeans(candidates, num_clusters=4, stream="d4")
    kept = d4(candidates, budget_ratio=0.3, dedup_ratio=0.5, num_clusters=4)
    old = nearest_centroid(candidates, before).join(kept, on="uid")
    assert before["size"].max() >= 50
    assert (old["cosine"] - old["cosine_right"]).abs().max() > 0.1


def test_a_budget_is_exact_and_copies_go_by_uid():
    same = measured(frame(np.ones((40, 3))), num_clusters=1)
    assert same["max_cosine"].to_list() == [0] + [1] * 39
    assert d4(same, budget=10)["uid"].to_list() == list(range(10))
    assert d4(same, budget=99).height == 40
    assert d4(same.head(1), budget=1).rows() == [(0, 0, 1.0)]
    assert d4(same, budget_ratio=0.01).height == 0


def test_a_record_without_a_vector_or_a_measure_is_never_kept():
    rows = measured(frame([[1, 0], [0, 0], [0, 1], [1, 1]]), num_clusters=1)
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 3).then("vector"))
    assert d4(rows, budget=4)["uid"].to_list() == [0, 2]
    assert d4(rows.clear(), budget=4).height == 0


def test_it_needs_one_budget(candidates):
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        d4(candidates)
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        d4(candidates, budget=3, budget_ratio=0.5)
