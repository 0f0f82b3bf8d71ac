"""Paths down a tree of centroids: by hand, and against every centroid compared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.cluster_path import cluster_path
from curation.fit.hierarchical_kmeans import hierarchical_kmeans

TREE = pl.DataFrame(
    {
        "level": [1, 1, 1, 2, 2, 3],
        "centroid": [0, 1, 2, 0, 1, 0],
        "parent": [1, 0, 1, 0, 0, None],
        "vector": [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]],
    },
    schema_overrides={
        "level": pl.UInt8, "centroid": pl.UInt32, "parent": pl.UInt32,
        "vector": pl.Array(pl.Float32, 2),
    },
)  # fmt: skip


def frame(x: object) -> pl.DataFrame:
    x = np.asarray(x, dtype=np.float32)
    vector = pl.Series("vector", list(x), dtype=pl.Array(pl.Float32, x.shape[1]))
    return pl.DataFrame(
        {"uid": pl.int_range(len(x), dtype=pl.UInt64, eager=True), "vector": vector}
    )


def test_a_path_goes_from_the_coarsest_to_the_nearest_of_the_finest():
    rows = frame([[3.0, 0.0], [1.0, 2.0], [-2.0, 0.1], [0.0, 0.0], [1.0, 1.0]])
    found = cluster_path(rows, TREE.sample(fraction=1, shuffle=True, seed=0))
    # The last is as close to 0 as to 1.
    assert found["path"].to_list() == [[0, 1, 0], [0, 0, 1], [0, 1, 2], None, [0, 1, 0]]
    assert found["cosine"].to_list()[0] == 1.0
    assert found["cosine"].to_list()[3] is None


def test_a_path_is_that_of_every_centroid_compared():
    x = np.random.default_rng(3).standard_normal((400, 6)).astype(np.float32)
    rows = frame(x)
    tree = hierarchical_kmeans(rows, levels=[30, 6, 2], resamples=1)
    by_level = [tree.filter(level=number) for number in (1, 2, 3)]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    fine = (unit @ by_level[0]["vector"].to_numpy().T).argmax(axis=1)
    middle = by_level[0]["parent"].to_numpy()[fine]
    coarse = by_level[1]["parent"].to_numpy()[middle]
    found = cluster_path(rows, tree)
    assert found["path"].to_list() == np.column_stack([coarse, middle, fine]).tolist()
    sizes = found["path"].list.get(0).value_counts().sort("path")["count"]
    assert sizes.to_list() == by_level[2]["size"].to_list()


def test_a_tree_without_a_parent_is_an_error():
    with pytest.raises(DataError, match="without a parent"):
        cluster_path(
            frame([[1.0, 0.0]]), TREE.filter((pl.col("level") != 2) | (pl.col("centroid") == 0))
        )
