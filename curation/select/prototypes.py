"""Keep what is far from the centroids of its cluster, or what is near: prototypicality."""

from __future__ import annotations

from typing import Literal

import polars as pl

from contracts.params import Budget, BudgetRatio, Count, Seed, Stream
from curation import _neighbours
from curation.annotate.nearest_centroid import nearest_centroid
from curation.fit.kmeans import kmeans
from curation.step import Role, Table, budget_of, selector

EVIDENCE = {"centroid": pl.UInt32, "cosine": pl.Float32}
# Candidates whose vectors are copied at a time.
BLOCK = 65_536


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence=EVIDENCE,
    tables={"centroids": Table(("centroid", "vector"), optional=True)},
)
def prototypes(
    candidates: pl.DataFrame,
    centroids: pl.DataFrame | None,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    keep: Literal["hard", "easy"] = "hard",
    num_clusters: Count | None = None,
    seed: Seed = 0,
    stream: Stream = "prototypes",
) -> pl.DataFrame:
    """Rank the candidates by the cosine to their nearest centroid: "hard" keeps the lowest.

    Keep the hard ones, far from every prototype, where data abound, and the easy ones where they
    are scarce (below some 30 % a random subset is better than the hard ones). Ties by uid; a
    smaller budget is a subset of a larger one. A null vector, or one of zeros, is never kept.

    Without the table the candidates are clustered, as `fit.kmeans` does, into num_clusters, by
    default 4 times the square root of their number.

    Reads:
        vector: what is ranked.
        centroids: such as `fit.kmeans`; the candidates are clustered where none is named.
    Args:
        keep: "hard" keeps what is far from its centroid, "easy" what is near.
        num_clusters: centroids, where the candidates are clustered; 4 times the square root of
            their number where not given.
    Reference: Sorscher et al. 2022, Beyond neural scaling laws, arXiv:2206.14486, section 6; the
    limits: Ayed and Hayou 2023, arXiv:2302.06960.
    Writes:
        centroid: the nearest one's number.
        cosine: to it.
    Cost: D * centroids multiplications a candidate, with `fit.kmeans` before where it clusters.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    if centroids is None:
        centroids = kmeans(candidates, num_clusters=num_clusters, seed=seed, stream=stream)
    everyone = pl.int_range(candidates.height, eager=True)
    return by_cosine(candidates, centroids, everyone, descending=keep == "easy").head(wanted)


def by_cosine(
    candidates: pl.DataFrame, centroids: pl.DataFrame, rows: pl.Series, *, descending: bool
) -> pl.DataFrame:
    """Return uid, nearest centroid and the cosine to it in the order of the cosine, then uid.

    Args:
        candidates: `uid` and `vector`.
        centroids: the table of `fit.kmeans`.
        rows: the candidates to look at.
    """
    blocks = [rows[a:b] for a, b in _neighbours.blocks(len(rows), BLOCK)] or [rows]
    found = [
        nearest_centroid(candidates[block].select("uid", "vector"), centroids) for block in blocks
    ]
    return pl.concat(found).drop_nulls().sort("cosine", "uid", descending=[descending, False])
