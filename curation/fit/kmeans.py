"""Centroids of k-means, spherical or Euclidean, over a bounded sample of vectors."""

from __future__ import annotations

import math

import polars as pl

from contracts.params import Count, Seed, Stream
from curation import _neighbours
from curation.step import Parameters, Role, fit

SAMPLE = 256
"""Records a centroid that the fit looks at, as faiss does."""


def plan(rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw, and the parameters with the number of clusters."""
    clusters = parameters["num_clusters"] or max(1, round(4 * math.sqrt(rows)))
    return SAMPLE * clusters, {**parameters, "num_clusters": clusters}


@fit(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={"centroid": pl.UInt32, "vector": pl.Array, "size": pl.UInt32},
    plan=plan,
)
def kmeans(
    rows: pl.DataFrame,
    *,
    num_clusters: Count | None = None,
    seed: Seed = 0,
    iterations: Count = 25,
    spherical: bool = True,
    stream: Stream = "kmeans",
) -> pl.DataFrame:
    """Cluster the vectors: spherical by cosine, otherwise by Euclid's distance.

    The first centroids are the records with the smallest draws uniform(uid, seed, stream); then
    Lloyd's iterations, centroid = mean of its members (spherical: at length 1), until nothing
    moves or `iterations` are done. The table is the same whatever the threads or the device.
    Without num_clusters there are 4 times the square root of the records; there are never more
    than different vectors. Null vectors, and for spherical those of zeros, take no part.

    Reads:
        vector: what is clustered.
    Args:
        num_clusters: how many centroids; 4 times the square root of the records where not given.
        iterations: passes over the sample at most.
        spherical: whether the cosine decides, or Euclid's distance.
    Reference: Lloyd 1982, IEEE Transactions on Information Theory 28(2); Dhillon and Modha 2001,
    Machine Learning 42 (spherical); the sample and the use for duplicates: Abbas et al. 2023,
    SemDeDup, arXiv:2303.09540, section 3.
    Writes:
        centroid: 0, 1, 2 and so on, without gaps.
        vector: Array(Float32, D), at length 1 if spherical.
        size: records of the sample that are nearest to it, at least 1.
    Cost: iterations * n * num_clusters * D multiplications for a sample of n = 256 *
    num_clusters records at most; 6 D bytes a record of the sample, 2 D of a large one.
    Raises:
        DataError: vectors of different lengths, NaN or infinity.
    """
    assert num_clusters is not None, "plan fills it in"
    known, x = _neighbours.in_place(rows["vector"], zeros=not spherical)
    centroids, sizes = _neighbours.kmeans(
        x,
        rows["uid"].to_numpy()[known],
        num_clusters,
        iterations=iterations,
        spherical=spherical,
        seed=seed,
        stream=stream,
    )
    return pl.DataFrame(
        {
            "centroid": pl.Series(range(len(sizes)), dtype=pl.UInt32),
            "vector": pl.Series(centroids, dtype=pl.Array(pl.Float32, centroids.shape[1])),
            "size": pl.Series(sizes, dtype=pl.UInt32),
        }
    )
