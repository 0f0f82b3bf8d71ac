"""Keep exactly one candidate of every cluster."""

from __future__ import annotations

import polars as pl

from curation.step import Role, selector


@selector(
    version=2,
    reads={"cluster": Role(pl.UInt64), "score": Role(optional=True)},
)
def one_per_cluster(candidates: pl.DataFrame) -> pl.DataFrame:
    """Keep the best score of each cluster, then the smallest uid, among the candidates.

    Without a score it keeps the record that names the cluster where that is still a candidate,
    else the smallest uid. A record without a cluster is kept; a null score is the worst.

    Reads:
        cluster: of duplicates, such as `minhash_clusters.cluster`.
        score: whoever has most is kept.
    Reference: the keep rule of Lee et al. 2022, arXiv:2107.06499, made deterministic.
    Cost: a sort of the candidates.
    """
    names_it = (pl.col("uid") == pl.col("cluster")).cast(pl.Float64)
    score = pl.col("score") if "score" in candidates.columns else names_it
    best = (
        candidates.with_columns(alone=pl.when(pl.col("cluster").is_null()).then("uid"), rank=score)
        .sort(["cluster", "rank", "uid"], descending=[False, True, False], nulls_last=True)
        .unique(["cluster", "alone"], keep="first", maintain_order=True)
    )
    return best.select("uid")


def explain(candidates: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Name for each dropped candidate the kept record of its cluster.

    Returns:
        uid, twin, edge ("cluster") and distance (null: a cluster states none).
    """
    keeper = candidates.join(kept.select("uid"), on="uid", how="semi")
    return (
        candidates.join(kept.select("uid"), on="uid", how="anti")
        .join(keeper.select("cluster", twin="uid"), on="cluster")
        .select("uid", "twin", edge=pl.lit("cluster"), distance=pl.lit(None, dtype=pl.Float32))
    )
