"""Drop semantic duplicates, cluster again what is left, and keep what is far from centroids."""

from __future__ import annotations

import polars as pl

from contracts.params import Budget, BudgetRatio, Count, Ratio, Seed, Stream
from curation.fit.kmeans import kmeans
from curation.select.prototypes import EVIDENCE, by_cosine
from curation.step import Role, budget_of, selector


@selector(
    version=1,
    reads={
        "vector": Role((pl.Array, pl.List)),
        "max_cosine": Role(default="semantic_duplicates.max_cosine"),
    },
    evidence=EVIDENCE,
)
def d4(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    dedup_ratio: Ratio = 0.75,
    num_clusters: Count | None = None,
    seed: Seed = 0,
    stream: Stream = "d4",
) -> pl.DataFrame:
    """Keep R_dedup of the candidates by SemDeDup, then R / R_dedup of these by prototypes.

    SemDeDup at the threshold that leaves dedup_ratio of the candidates is: the lowest max_cosine
    first, ties by uid. What is left is clustered anew, since groups of duplicates had drawn the
    first centroids to themselves, and the budget is filled with the records of lowest cosine to
    their nearest new centroid, ties by uid. A budget above dedup_ratio is SemDeDup alone, and
    dedup_ratio = 1 is `prototypes`. With a threshold in place of a ratio, use the two rules
    `one_per_neighbourhood` and `prototypes`. A record without a vector is never kept.

    Reads:
        vector: what is clustered.
        max_cosine: to an earlier record, as `semantic_duplicates` measures it.
    Args:
        dedup_ratio: the share that the deduplication leaves.
        num_clusters: centroids of the second clustering; 4 times the square root of what is left
            where not given.
    Reference: Tirumala et al. 2023, D4, arXiv:2308.12284, section 3.
    Writes:
        centroid: the nearest of the new centroids.
        cosine: to it.
    Cost: that of `prototypes` on dedup_ratio of the candidates.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    distinct = max(wanted, budget_of(candidates.height, None, dedup_ratio))
    measured = candidates.select(
        "uid", "max_cosine", row=pl.int_range(pl.len()), known=pl.col("vector").is_not_null()
    )
    ranked = measured.filter("known").drop_nulls().sort("max_cosine", "uid").head(distinct)
    left = ranked["row"].sort()
    # Of the vectors only those that are drawn are copied.
    drawn, fit = kmeans.bind(num_clusters=num_clusters, seed=seed, stream=stream).drawn(
        candidates["uid"][left]
    )
    centroids = fit.model(candidates[left.filter(drawn)].select("uid", "vector"))
    return by_cosine(candidates, centroids, left, descending=False).head(wanted)
