"""How many records of a target pool share a record's group, such as its nearest centroid."""

from __future__ import annotations

import polars as pl

from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"group": Role(default="nearest_centroid.centroid")},
    writes={"count": pl.UInt32},
    tables={"target": Table(("group",), pool=True, wanted=True)},
)
def target_count(rows: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
    """Count the records of a target pool that are in a record's group.

    With clusters as groups a rule keeps the clusters that hold something that is wanted:
    `target_count.count > 0`.

    Reads:
        group: any expression; of the target's records it is measured as of the pool's own.
        target: the records that are wanted, `pool:<name>` or `pool:./folder`.
    Reference: Gadre et al. 2023, DataComp, arXiv:2304.14108, image-based filtering, where groups
        are the nearest of 100,000 centroids and the target is ImageNet's training set.
    Writes:
        count: 0 where the target has none; null where the group is null.
    Cost: a join, and 20 bytes a group of the target.
    """
    counts = target.group_by("group").agg(count=pl.len().cast(pl.UInt32))
    known = counts.drop_nulls().cast({"group": rows.schema["group"]})
    found = rows.select("group").join(known, on="group", how="left", maintain_order="left")
    is_known = pl.col("group").is_not_null()
    return found.select(count=pl.when(is_known).then(pl.col("count").fill_null(0)))
