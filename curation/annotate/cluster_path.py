"""The clusters of a tree of centroids that a vector belongs to, from the coarsest on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from contracts.errors import DataError
from curation.annotate.nearest_centroid import nearest_centroid
from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={"path": pl.List(pl.UInt32), "cosine": pl.Float32},
    tables={
        "tree": Table(("level", "centroid", "parent", "vector"), default="fit.hierarchical_kmeans")
    },
)
def cluster_path(rows: pl.DataFrame, tree: pl.DataFrame) -> pl.DataFrame:
    """Assign each vector to the finest centroid of largest cosine, and so to those above it.

    Ties go to the smallest number. The centroids stay as they were fitted: a new record gets its
    path, that of no other changes.

    Reads:
        vector: what is assigned.
        tree: such as `fit.hierarchical_kmeans`, of the same encoder's vectors.
    Reference: Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning,
        arXiv:2405.15613, section 3.3.
    Writes:
        path: a centroid of each level, the coarsest first; null where the vector is null or zero.
        cosine: to the last of them, in [-1, 1]; null likewise.
    Cost: D multiplications a record and centroid of the finest level.
    Raises:
        DataError: no centroid, or one whose parent the tree lacks; vectors and centroids of
            different lengths; NaN or infinity.
    """
    levels = [part.sort("centroid") for part in tree.sort("level").partition_by("level")]
    finest = levels[0] if levels else tree
    found = nearest_centroid(rows, finest.select("centroid", "vector"))
    steps = [finest["centroid"].to_numpy()]
    for below, above in pairwise(levels):
        # Of each finest centroid, the row of its ancestor below.
        row = np.searchsorted(below["centroid"], steps[-1])
        parent = below["parent"].gather(row)
        if not parent.is_in(above["centroid"].implode()).all():
            raise DataError("cluster_path: the tree has centroids without a parent; fit it again.")
        steps.append(parent.to_numpy())
    path = np.column_stack(steps[::-1]).astype(np.uint32)
    paths = pl.DataFrame(
        {
            "centroid": finest["centroid"].cast(pl.UInt32),
            "path": pl.Series(path, dtype=pl.Array(pl.UInt32, path.shape[1])),
        }
    ).with_columns(pl.col("path").cast(pl.List(pl.UInt32)))
    return found.join(paths, on="centroid", how="left", maintain_order="left").select(
        "path", "cosine"
    )
