"""Clusters of semantic duplicates, at a threshold, each named by its first record."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from curation import _graph
from curation.step import Role, poolwise


@poolwise(
    version=1,
    reads={
        "nearest": Role(pl.UInt64, default="semantic_duplicates.nearest"),
        "max_cosine": Role(default="semantic_duplicates.max_cosine"),
    },
    writes={"cluster": pl.UInt64, "size": pl.UInt32},
)
def semantic_clusters(
    rows: pl.DataFrame, *, threshold: Annotated[float, Field(ge=0)]
) -> pl.DataFrame:
    """Join each record to its nearest earlier one if max_cosine > threshold.

    Each record is joined to one before it, so a cluster is a tree, and its root the one record in
    it that is not above the threshold: what SemDeDup at eps = 1 - threshold keeps of it. The root
    names the cluster; so `one_per_cluster` without a score keeps what SemDeDup does, and with a
    score, or by `fair_dedup`, as many records but others. Two records of a cluster may be far from
    each other: each is near to the next of a chain.

    Reads:
        nearest: the earlier record that is most alike.
        max_cosine: the cosine to it.
    Args:
        threshold: the cosine above which a record is joined to its nearest; 1 - epsilon of
            SemDeDup.
    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3; as the neighbourhoods of
    Slyman et al. 2024, FairDeDup, arXiv:2404.16123.
    Writes:
        cluster: the uid of the root; of records that are each other's nearest, which
            `semantic_duplicates` does not write, the smallest uid.
        size: its records, at least 1.
    Cost: linear; some 100 bytes a record.
    """
    near = (pl.col("max_cosine") > threshold) & (pl.col("nearest") != pl.col("uid"))
    known = pl.col("nearest").is_in(rows["uid"].implode())
    joined = rows.select("uid", "nearest", joined=(near & known).fill_null(False))
    edges = joined.filter("joined")
    names = _graph.components(
        joined["uid"].to_numpy(), edges["uid"].to_numpy(), edges["nearest"].to_numpy()
    )
    root = pl.when(~pl.col("joined")).then("uid").max().over("component")
    return joined.with_columns(component=names).select(
        cluster=pl.coalesce(root, "component"), size=pl.len().over("component").cast(pl.UInt32)
    )
