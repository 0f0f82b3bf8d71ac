"""The nearest centroid of each vector, and the cosine to it."""

from __future__ import annotations

import polars as pl

from contracts.errors import DataError
from curation import _neighbours
from curation.step import Role, Table, in_order, rowwise


@rowwise(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={"centroid": pl.UInt32, "cosine": pl.Float32},
    tables={"centroids": Table(("centroid", "vector"), default="fit.kmeans")},
)
def nearest_centroid(rows: pl.DataFrame, centroids: pl.DataFrame) -> pl.DataFrame:
    """Assign each vector to the centroid of largest cosine, ties to the smallest number.

    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3; of centroids fitted by
    Euclid's distance too, as DataComp does (Gadre et al. 2023, arXiv:2304.14108, image-based).
    Writes:
        centroid: its number; null where the vector is null or zero, as cosine.
        cosine: in [-1, 1].
    Cost: D * centroids multiplications a record.
    Raises:
        DataError: no centroid; vectors and centroids of different lengths; NaN or infinity.
    """
    table = centroids.sort("centroid")
    there, c = _neighbours.directions(table["vector"].alias("centroids"))
    known, x = _neighbours.directions(rows["vector"])
    if not len(c) and len(x):
        raise DataError("nearest_centroid: the table of centroids is empty; fit it on vectors.")
    if len(x) and x.shape[1] != c.shape[1]:
        raise DataError(
            f"nearest_centroid: vectors of {x.shape[1]} dimensions, centroids of {c.shape[1]}; "
            "fit the centroids on the same encoder's vectors."
        )
    best = _neighbours.nearest(x, c)
    found = rows.filter(known).select(
        "uid",
        centroid=table["centroid"].filter(there).gather(best).cast(pl.UInt32),
        cosine=pl.Series(_neighbours.cosine(x, c[best]), dtype=pl.Float32),
    )
    return in_order(rows["uid"], found)
