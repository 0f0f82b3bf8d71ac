"""Clusters of records with equal digests."""

from __future__ import annotations

import polars as pl

from curation.step import Role, groupwise


@groupwise(
    version=1,
    by="digest",
    reads={"digest": Role(default="content_hash.digest")},
    writes={"cluster": pl.UInt64, "size": pl.UInt32, "nearest": pl.UInt64},
)
def exact_clusters(groups: pl.DataFrame) -> pl.DataFrame:
    """Put records of equal digest into one cluster; a null digest is a cluster of its own.

    Reads:
        digest: what equal records have in common.
    Reference: identity; no paper.
    Writes:
        cluster: the smallest uid of the cluster.
        size: records in the cluster, at least 1.
        nearest: the cluster's smallest other uid, null for a record alone.
    Cost: a sort of the digests.
    """
    first, second = pl.col("uid").first().over("group"), pl.col("uid").get(1, null_on_oob=True)
    return groups.select(
        cluster=first,
        size=pl.len().over("group").cast(pl.UInt32),
        nearest=pl.when(pl.col("uid") == first).then(second.over("group")).otherwise(first),
    )
