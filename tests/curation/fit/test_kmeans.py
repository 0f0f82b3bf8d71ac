from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.cluster.vq import kmeans2

from contracts.errors import DataError
from contracts.uid import shuffled
from curation.annotate.nearest_centroid import nearest_centroid
from curation.fit.kmeans import kmeans


def frame(x, uids=None, dtype=pl.Float16):
    x = np.asarray(x)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series("vector", x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def blobs(seed, n, d, modes, spread):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((modes, d))[rng.integers(modes, size=n)]
    x = x + spread * rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def lloyd(x, start, iterations, spherical):
    """K-means by full matrices of distances, in double precision."""
    centroids = start.copy()
    for _ in range(iterations):
        label = ((x[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        for j in range(len(centroids)):
            centroids[j] = x[label == j].mean(axis=0)
            if spherical:
                centroids[j] /= np.linalg.norm(centroids[j])
    return centroids, np.bincount(((x[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1))


def test_two_bundles_of_directions_get_their_mean_directions():
    angles = np.radians([0, 10, 20, 90, 100, 110])
    found = kmeans(frame(np.c_[np.cos(angles), np.sin(angles)], dtype=pl.Float32), num_clusters=2)
    degrees = np.degrees(np.arctan2(*found["vector"].to_numpy().T[::-1]))
    np.testing.assert_allclose(sorted(degrees), [10, 100], atol=1e-4)
    assert found["size"].to_list() == [3, 3]
    assert found["centroid"].to_list() == [0, 1]
    assert found.schema == {
        "centroid": pl.UInt32,
        "vector": pl.Array(pl.Float32, 2),
        "size": pl.UInt32,
    }


@pytest.mark.parametrize("spherical", [True, False])
def test_it_is_lloyds_algorithm_from_the_smallest_draws(spherical):
    x = blobs(0, 400, 6, 8, 0.5).astype(np.float32).astype(np.float64)
    uids = np.arange(400, dtype=np.uint64)
    start = np.sort(shuffled(uids, 3, "kmeans")[:9])
    expected, sizes = lloyd(x, x[start], 6, spherical)
    found = kmeans(
        frame(x, dtype=pl.Float32), num_clusters=9, iterations=6, spherical=spherical, seed=3
    )
    np.testing.assert_allclose(found["vector"].to_numpy(), expected, atol=1e-5)
    assert found["size"].to_list() == sizes.tolist()


def test_euclid_and_cosine_differ_and_euclid_agrees_with_scipy():
    # Lengths matter to Euclid alone: two directions, two lengths each.
    x = np.array([[1, 0], [1.1, 0], [9, 0], [9.1, 0], [0, 1], [0, 1.1]], dtype=np.float64)
    euclid = kmeans(frame(x, dtype=pl.Float32), num_clusters=3, spherical=False, seed=1)
    spherical = kmeans(frame(x, dtype=pl.Float32), num_clusters=2, seed=2)
    expected, _ = kmeans2(x, x[[0, 2, 4]], minit="matrix")
    np.testing.assert_allclose(sorted(euclid["vector"].to_list()), sorted(expected.tolist()))
    np.testing.assert_allclose(sorted(spherical["vector"].to_list()), [[0, 1], [1, 0]])


def test_its_clusters_are_as_tight_as_those_of_faiss():
    faiss = pytest.importorskip("faiss")
    x = blobs(2, 8000, 32, 100, 0.4).astype(np.float32)
    ours = nearest_centroid(frame(x), kmeans(frame(x), num_clusters=120))["cosine"].mean()
    model = faiss.Kmeans(32, 120, niter=25, spherical=True, seed=0)
    model.train(x)
    theirs = (x @ model.centroids.T).max(axis=1).mean()
    assert 1 - ours < 1.05 * (1 - theirs)


def test_the_order_of_rows_does_not_matter():
    x = blobs(3, 500, 8, 10, 0.5)
    rows = frame(x)
    assert kmeans(rows, num_clusters=20).equals(
        kmeans(rows.sample(fraction=1, shuffle=True, seed=1), num_clusters=20)
    )


def test_a_seed_or_a_stream_starts_elsewhere():
    rows = frame(blobs(4, 500, 8, 10, 0.5))
    tables = [kmeans(rows, num_clusters=20, seed=s, stream=t) for s, t in ((0, "a"), (1, "a"))]
    tables.append(kmeans(rows, num_clusters=20, stream="b"))
    assert not tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_without_a_number_there_are_four_times_the_root_of_the_records():
    mask, bound = kmeans.bind().drawn(pl.Series(range(10_000), dtype=pl.UInt64))
    assert bound.bound["num_clusters"] == 400
    assert mask.sum() == 10_000
    assert kmeans(frame(blobs(5, 100, 8, 50, 0.9))).height == 40


def test_the_fit_looks_at_256_records_a_centroid():
    mask, _ = kmeans.bind(num_clusters=3).drawn(pl.Series(range(10_000), dtype=pl.UInt64))
    assert mask.sum() == 768
    rows = frame(blobs(6, 2000, 4, 5, 0.5))
    assert kmeans(rows, num_clusters=2)["size"].sum() == 512


def test_there_are_no_more_clusters_than_records_and_none_for_no_record():
    x = np.eye(3)
    assert kmeans(frame(x), num_clusters=10)["size"].to_list() == [1, 1, 1]
    for spherical in (True, False):
        none = kmeans(frame(np.empty((0, 3))), num_clusters=10, spherical=spherical)
        assert none.height == 0
        assert none.schema["vector"] == pl.Array(pl.Float32, 3)
    one = kmeans(frame([[3.0, 4.0]]))
    np.testing.assert_allclose(one["vector"].to_numpy(), [[0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize("spherical", [True, False])
def test_equal_vectors_make_one_cluster_and_no_nan(spherical):
    found = kmeans(frame(np.full((50, 4), 0.5)), num_clusters=7, spherical=spherical)
    assert found["size"].to_list() == [50]
    assert found["vector"].to_list() == [[0.5] * 4]


@pytest.mark.parametrize("spherical", [True, False])
def test_a_cluster_that_runs_empty_restarts_at_the_farthest_record(spherical):
    # 100 copies of one vector and three others: the first draws hit copies.
    x = np.vstack([np.repeat([[1.0, 0, 0, 0]], 100, axis=0), np.eye(4)[1:]])
    found = kmeans(frame(x), num_clusters=4, spherical=spherical)
    assert sorted(found["size"].to_list()) == [1, 1, 1, 100]


def test_opposite_vectors_in_one_cluster_do_not_divide_by_zero():
    found = kmeans(frame([[1.0, 0.0], [-1.0, 0.0]]), num_clusters=1)
    assert np.isfinite(found["vector"].to_numpy()).all()


def test_null_vectors_take_no_part_and_zeros_only_in_euclid():
    rows = frame([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 0).then("vector"))
    assert kmeans(rows, num_clusters=5).height == 1
    assert kmeans(rows, num_clusters=5, spherical=False).height == 2


def test_a_vector_that_is_not_finite_is_an_error():
    with pytest.raises(DataError, match="1 of 2"):
        kmeans(frame([[1.0, 0.0], [float("nan"), 0.0]]), num_clusters=1)


def test_its_sizes_are_those_of_nearest_centroid():
    rows = frame(blobs(7, 900, 8, 10, 0.6))
    table = kmeans(rows, num_clusters=15)
    counts = nearest_centroid(rows, table)["centroid"].value_counts().sort("centroid")
    assert counts["count"].to_list() == table["size"].to_list()
