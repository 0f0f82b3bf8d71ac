"""The nearest centroid of each vector, and the cosine to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from contracts.errors import DataError
from contracts.params import Count
from curation import _neighbours
from curation.step import Parameters, Role, Table, in_order, rowwise


def written(parameters: Parameters) -> dict[str, Any]:
    """Return the columns: `probes` only where several centroids are asked for."""
    several = {"probes": pl.List(pl.UInt32)} if parameters["probes"] > 1 else {}
    return {"centroid": pl.UInt32, "cosine": pl.Float32, **several}


@rowwise(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes=written,
    tables={"centroids": Table(("centroid", "vector"), default="fit.kmeans")},
)
def nearest_centroid(
    rows: pl.DataFrame, centroids: pl.DataFrame, *, probes: Count = 1
) -> pl.DataFrame:
    """Assign each vector to the centroid of largest cosine, ties to the smallest number.

    Reads:
        vector: what is assigned.
        centroids: numbered vectors of the same encoder.
    Args:
        probes: how many nearest centroids are written down.
    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3; of centroids fitted by
    Euclid's distance too, as DataComp does (Gadre et al. 2023, arXiv:2304.14108, image-based).
    Several probes: Jégou et al. 2011, Product quantization, TPAMI 33(1), section 4.
    Writes:
        centroid: its number; null where the vector is null or zero, as the others.
        cosine: in [-1, 1].
        probes: only with probes > 1: the numbers of so many centroids of largest cosine, nearest
            first; all where there are fewer.
    Cost: D * centroids multiplications a record.
    Raises:
        DataError: no centroid; vectors and centroids of different lengths; NaN or infinity.
    """
    table = centroids.sort("centroid")
    there, c = _neighbours.directions(table["vector"].alias("centroids"))
    numbers = table["centroid"].filter(there).cast(pl.UInt32).to_numpy()
    known, x = _neighbours.in_place(rows["vector"], zeros=False)
    if not len(c) and len(x):
        raise DataError("nearest_centroid: the table of centroids is empty; fit it on vectors.")
    if len(x) and x.shape[1] != c.shape[1]:
        raise DataError(
            f"nearest_centroid: vectors of {x.shape[1]} dimensions, centroids of {c.shape[1]}; "
            "fit the centroids on the same encoder's vectors."
        )
    nearest = np.empty((len(x), max(1, min(probes, len(c)))), dtype=np.uint32)
    cosine = np.empty(len(x), dtype=np.float32)
    for a, b in _neighbours.blocks(len(x)):
        block = _neighbours.unit(x[a:b])
        ranked = _neighbours.ranking(block, c, probes)
        nearest[a:b] = numbers[ranked]
        cosine[a:b] = _neighbours.cosine(block, c[ranked[:, 0]])
    found = (
        rows.select("uid")
        .filter(known)
        .with_columns(centroid=pl.Series(nearest[:, 0]), cosine=pl.Series(cosine))
    )
    if probes > 1:
        lists = pl.Series(nearest, dtype=pl.Array(pl.UInt32, nearest.shape[1]))
        found = found.with_columns(probes=lists.cast(pl.List(pl.UInt32)))
    return in_order(rows["uid"], found)
