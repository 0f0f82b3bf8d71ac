from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation.fit.kmeans import kmeans
from curation.select.prototypes import prototypes


def frame(x, uids=None, dtype=pl.Float32):
    x = np.asarray(x, dtype=np.float64)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def at_degrees(*angles):
    radians = np.radians(angles)
    return np.c_[np.cos(radians), np.sin(radians)]


def table(x):
    return frame(x).select(pl.col("uid").cast(pl.UInt32).alias("centroid"), "vector")


# Centroids at 0 and 90 degrees; the records are 5, 20, 40 and 60 degrees from the nearer one,
# and the last two 1 degree.
RECORDS = at_degrees(5, 110, -40, 150, 1, 91)
CENTROIDS = table(at_degrees(0, 90))


def test_hard_keeps_the_farthest_from_their_centroid_and_easy_the_nearest():
    hard = prototypes(frame(RECORDS), CENTROIDS, budget=3)
    assert hard["uid"].to_list() == [1, 2, 3]
    assert hard["centroid"].to_list() == [1, 0, 1]
    assert hard["cosine"].to_list() == pytest.approx(np.cos(np.radians([20, 40, 60])), abs=1e-6)
    easy = prototypes(frame(RECORDS), CENTROIDS, budget=3, keep="easy")
    assert easy["uid"].to_list() == [0, 4, 5]


def test_equal_cosines_go_by_uid():
    rows = frame([[1, 1], [1, 1], [1, 1], [1, 0]], [7, 3, 5, 1])
    for keep, expected in (("hard", [3, 5]), ("easy", [1, 3])):
        assert prototypes(rows, CENTROIDS, budget=2, keep=keep)["uid"].to_list() == expected


@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_without_a_table_it_clusters_the_candidates_as_the_fit_does(keep):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 8))[rng.integers(6, size=300)] + rng.standard_normal((300, 8))
    rows = frame(x, rng.permutation(10**6)[:300], pl.Float16)
    centroids = kmeans(rows, num_clusters=6, seed=3, stream="prototypes")
    found = prototypes(rows, budget=90, keep=keep, num_clusters=6, seed=3)
    assert found.equals(prototypes(rows, centroids, budget=90, keep=keep))
    # The oracle: the cosine of each record to each centroid in double precision.
    x = rows["vector"].to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    nearest = (x @ centroids["vector"].to_numpy().T.astype(np.float64)).max(axis=1)
    order = np.argsort(nearest if keep == "hard" else -nearest)
    assert set(found["uid"]) == set(rows["uid"].to_numpy()[order[:90]])


def test_a_smaller_budget_is_a_subset_of_a_larger_one():
    rows = frame(np.random.default_rng(1).standard_normal((200, 5)))
    kept = [set(prototypes(rows, budget=b, num_clusters=7).rows()) for b in (1, 9, 50, 199, 200)]
    assert all(a < b for a, b in pairwise(kept))
    assert [len(k) for k in kept] == [1, 9, 50, 199, 200]


def test_the_budget_is_exact_among_copies_and_a_large_one_keeps_all():
    copies = frame(np.ones((50, 3)))
    assert prototypes(copies, budget=20)["uid"].to_list() == list(range(20))
    assert prototypes(copies, budget=80).height == 50
    assert prototypes(frame([[1, 2]]), budget=1).rows() == [(0, 0, 1.0)]
    assert prototypes(copies, budget_ratio=0.5).height == 25
    assert prototypes(copies, budget_ratio=0.0).height == 0


def test_a_null_vector_and_one_of_zeros_are_never_kept():
    rows = frame([[1, 0], [0, 0], [0, 1]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 2).then("vector"))
    assert prototypes(rows, budget=3)["uid"].to_list() == [0]
    assert prototypes(rows.clear(), budget=3).height == 0


def test_a_seed_clusters_otherwise():
    rows = frame(np.random.default_rng(2).standard_normal((300, 4)))
    kept = {tuple(prototypes(rows, budget=50, num_clusters=9, seed=s)["uid"]) for s in range(4)}
    assert len(kept) == 4


def test_wrong_budgets_and_vectors_are_errors():
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        prototypes(frame(RECORDS), CENTROIDS)
    with pytest.raises(DataError, match="3 dimensions, centroids of 2"):
        prototypes(frame(np.eye(3)), CENTROIDS, budget=1)
