"""A tree of centroids: bundles of bundles, its sums, and how resampling evens the density."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation import _neighbours
from curation.annotate.cluster_path import cluster_path
from curation.fit.hierarchical_kmeans import hierarchical_kmeans, starts


def frame(x: object, dtype: object = pl.Float32) -> pl.DataFrame:
    x = np.asarray(x, dtype=np.float64)
    vector = pl.Series("vector", x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame(
        {"uid": pl.int_range(len(x), dtype=pl.UInt64, eager=True), "vector": vector}
    )


def at(degrees: object) -> pl.DataFrame:
    angle = np.radians(np.asarray(degrees, dtype=np.float64))
    return frame(np.c_[np.cos(angle), np.sin(angle)])


def level(tree: pl.DataFrame, number: int) -> pl.DataFrame:
    return tree.filter(level=number)


def test_four_bundles_in_two_halves():
    rows = at([0, 2, 30, 32, 180, 182, 184, 210, 212, 214])
    tree = hierarchical_kmeans(rows, levels=[4, 2], resamples=0)
    assert tree.schema == {
        "level": pl.UInt8,
        "centroid": pl.UInt32,
        "parent": pl.UInt32,
        "vector": pl.Array(pl.Float32, 2),
        "size": pl.UInt32,
    }
    angle = np.degrees(np.arctan2(*tree["vector"].to_numpy().T[::-1])) % 360
    fine, coarse = angle[:4], angle[4:]
    assert sorted(fine) == pytest.approx([1, 31, 182, 212], abs=1e-3)
    # The mean of the centroids, each as one, whatever its records.
    assert sorted(coarse) == pytest.approx([16, 197], abs=1e-3)
    parents = tree["parent"].to_list()
    assert parents[4:] == [None, None]
    assert [coarse[p] < 90 for p in parents[:4]] == [a < 90 for a in fine]
    assert sorted(level(tree, 2)["size"]) == [4, 6]


def test_a_single_level_is_k_means_and_every_level_counts_the_sample():
    x = np.random.default_rng(0).standard_normal((600, 5)).astype(np.float32)
    rows = frame(x)
    one = hierarchical_kmeans(rows, levels=[12], resamples=0)
    units, uids = _neighbours.Units(x, np.arange(600)), rows["uid"].to_numpy()
    name = "hierarchical_kmeans, level 1, again 0"
    options = {"iterations": 25, "spherical": True, "seed": 0, "stream": name}
    first = starts(units, uids, 12, 0, name)
    centroids, sizes = _neighbours.kmeans(units, uids, 12, **options, starts=first)
    assert np.array_equal(one["vector"].to_numpy(), centroids)
    assert one["size"].to_list() == sizes.tolist()
    tree = hierarchical_kmeans(rows, levels=[40, 9, 3], resamples=2)
    for number in (1, 2, 3):
        assert level(tree, number)["size"].sum() == 600
        assert level(tree, number)["centroid"].to_list() == list(range(level(tree, number).height))
    for below, above in pairwise(level(tree, number) for number in (1, 2, 3)):
        sums = below.group_by("parent").agg(pl.col("size").sum()).sort("parent")["size"]
        assert sums.to_list() == above["size"].to_list()


def test_resampling_evens_the_centroids():
    # Nine in ten on a quarter of the circle: Lloyd's centroids there are as the cube root of 27.
    rng = np.random.default_rng(1)
    rows = at([*rng.uniform(0, 90, 2700), *rng.uniform(90, 360, 300)])

    def there(resamples: int) -> int:
        x, y = hierarchical_kmeans(rows, levels=[60], resamples=resamples)["vector"].to_numpy().T
        return int(((x > 0) & (y > 0)).sum())

    # 60 * 27 ** (1 / 3) / (27 ** (1 / 3) + 3) is 30 and an even spread 15; records alone have 54.
    assert there(10) + 4 < there(0) < 50
    assert 15 <= there(10) <= 27


def test_a_bundle_drawn_for_the_sample_and_the_order_of_rows():
    rows = frame(np.random.default_rng(2).standard_normal((700, 4)))
    mask, _ = hierarchical_kmeans.bind(levels=[2]).drawn(rows["uid"])
    assert mask.sum() == 512
    tree = hierarchical_kmeans(rows, levels=[20, 4], resamples=1)
    mixed = rows.sample(fraction=1, shuffle=True, seed=1)
    assert hierarchical_kmeans(mixed, levels=[20, 4], resamples=1).equals(tree)
    assert not hierarchical_kmeans(rows, levels=[20, 4], resamples=1, seed=1).equals(tree)


def test_degenerate_pools():
    same = hierarchical_kmeans(frame(np.full((9, 3), 0.5)), levels=[4, 2])
    assert same["size"].to_list() == [9, 9]
    one = hierarchical_kmeans(frame([[3.0, 4.0]]), levels=[4, 2])
    assert one["parent"].to_list() == [0, None]
    np.testing.assert_allclose(one["vector"].to_numpy(), [[0.6, 0.8]] * 2, atol=1e-6)
    zeros = frame([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    zeros = zeros.with_columns(vector=pl.when(pl.col("uid") < 2).then("vector"))
    assert hierarchical_kmeans(zeros, levels=[2])["size"].to_list() == [1]
    none = hierarchical_kmeans(zeros.filter(pl.col("uid") == 0), levels=[2, 1])
    assert none.height == 0
    with pytest.raises(DataError, match="table of centroids is empty"):
        cluster_path(zeros, none)


def test_wrong_levels_and_vectors_are_errors():
    with pytest.raises(ConfigError, match="must fall"):
        hierarchical_kmeans(at([0, 1]), levels=[2, 2])
    with pytest.raises(ConfigError, match="levels"):
        hierarchical_kmeans(at([0, 1]), levels=[])
    with pytest.raises(DataError, match="1 of 1"):
        hierarchical_kmeans(frame([[float("nan"), 1.0]]), levels=[1])
