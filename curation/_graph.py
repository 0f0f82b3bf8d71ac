"""Clusters out of edges: connected components, named by their smallest uid."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(
    uids: NDArray[np.uint64], a: NDArray[np.uint64], b: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return for each of the sorted uids the smallest uid of its connected component.

    Args:
        uids: (n,) sorted and unique.
        a: (m,) one end of each edge, a uid.
        b: (m,) the other end.

    Cost: O(n + m) time and some 40 bytes a record and an edge.
    """
    if not len(uids):
        return uids
    rows, columns = np.searchsorted(uids, a), np.searchsorted(uids, b)
    graph = coo_array((np.ones(len(a), dtype=bool), (rows, columns)), shape=(len(uids),) * 2)
    count, label = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, label, uids)
    named: NDArray[np.uint64] = smallest[label]
    return named


def fold_edges(uids: pl.Series, edges: pl.DataFrame | None, *, weight: str) -> pl.DataFrame:
    """Return cluster, size, nearest and the best weight of each record, in the given order.

    `nearest` is the other end of the record's best edge, ties by uid; the larger weight is the
    better, except of a `distance`. A record without an edge is a cluster of its own.
    """
    if edges is None or not edges.height:
        size = pl.lit(1, dtype=pl.UInt32)
        dtype = pl.UInt16 if weight == "distance" else pl.Float32
        return uids.to_frame("uid").select(
            "uid",
            cluster="uid",
            size=size,
            nearest=pl.lit(None, dtype=pl.UInt64),
            **{weight: pl.lit(None, dtype=dtype)},
        )
    ordered = uids.sort()
    names = components(ordered.to_numpy(), edges["a"].to_numpy(), edges["b"].to_numpy())
    clusters = pl.DataFrame({"uid": ordered, "cluster": names})
    clusters = clusters.with_columns(size=pl.len().over("cluster").cast(pl.UInt32))
    both = pl.concat(
        [
            edges.select(uid="a", nearest="b", weight=weight),
            edges.select(uid="b", nearest="a", weight=weight),
        ]
    )
    value = pl.col("weight")
    best = both.group_by("uid").agg(value.min() if weight == "distance" else value.max())
    nearest = (
        both.join(best, on=["uid", "weight"], how="semi", nulls_equal=True)
        .group_by("uid")
        .agg(pl.col("nearest").min(), value.first().alias(weight))
    )
    found = clusters.join(nearest, on="uid", how="left", maintain_order="left")
    return uids.to_frame("uid").join(found, on="uid", how="left", maintain_order="left")
