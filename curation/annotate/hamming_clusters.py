"""Clusters of records whose bit strings differ in few bits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from contracts.params import Whole
from curation._bits import Words, words
from curation.step import Role, poolwise

Indices = NDArray[np.int32]
Distances = NDArray[np.uint16]

# Up to so many different values all pairs are compared: sooner done than numba is loaded.
_FEW = 4096


@poolwise(
    version=1,
    reads={
        "bits": Role((pl.UInt64, pl.Binary), default="perceptual_hash.bits"),
        "score": Role(optional=True),
    },
    writes={
        "cluster": pl.UInt64,
        "size": pl.UInt32,
        "nearest": pl.UInt64,
        "distance": pl.UInt16,
    },
)
def hamming_clusters(
    rows: pl.DataFrame,
    *,
    max_distance: Whole = 6,
    rule: Literal["components", "exemplar"] = "components",
) -> pl.DataFrame:
    """Cluster records whose bits differ in at most `max_distance` places; the search is exact.

    components: records linked by a chain of such pairs are one cluster; chains can join what is
    far apart, the more the larger the distance. exemplar: records are visited by score, highest
    first, then by uid; one that no earlier exemplar covers becomes an exemplar and covers all
    within the distance that are not covered yet. So two exemplars are always further apart.

    Reads:
        bits: the bit strings to compare.
        score: "exemplar": whoever has more becomes an exemplar first.
    Args:
        max_distance: bits in which two may differ and still be near.
        rule: "components" joins chains of near records; "exemplar" joins what is near to one
            record.
    Reference: exemplar: Wolf et al. 2024, Less is More, arXiv:2410.14524 (HASH); the search:
    Norouzi, Punjani and Fleet 2014, arXiv:1307.2982.
    Writes:
        cluster: components: the smallest uid of the cluster; exemplar: the exemplar's uid. Null
            bits are a cluster of their own.
        size: records in the cluster, at least 1.
        nearest: components: the nearest other record; exemplar: the exemplar that covers the
            record, and for an exemplar the nearest that it covers. Ties by uid; null for a
            record alone.
        distance: to `nearest`, in bits; null where that is.
    Cost: equal values count once. A million random hashes of 64 bits within 6 take a few seconds,
        256 bits within 31 about a minute; n values that all lie within the distance of each
        other take n^2. Some 300 bytes a row, in components above a thousand values up to 300 more.
    Raises:
        DataError: the bit strings are of different lengths.
    """
    known = rows.filter(pl.col("bits").is_not_null())
    if rule == "exemplar" and "score" in rows.columns:
        score = pl.col("score").cast(pl.Float64).fill_nan(None)
        known = known.sort(score, "uid", descending=[True, False], nulls_last=True)
    values = known.group_by("bits", maintain_order=True).agg(first=pl.col("uid").first())
    of_value = _exemplar_of if rule == "exemplar" else _component_of
    found = of_value(known, values, max_distance)
    columns = ("uid", "cluster", "nearest", "distance")
    placed = rows.select("uid").join(
        found.select(columns), on="uid", how="left", maintain_order="left"
    )
    return placed.select(
        cluster=pl.col("cluster").fill_null(pl.col("uid")),
        nearest="nearest",
        distance="distance",
    ).with_columns(size=pl.len().over("cluster").cast(pl.UInt32))


def _component_of(known: pl.DataFrame, values: pl.DataFrame, radius: int) -> pl.DataFrame:
    """Place each record by its value; values, like records, come in the order of their uids."""
    root, nearest, distance = _components(words(values["bits"]), radius)
    firsts = values["first"].to_numpy()
    lonely = nearest < 0
    values = values.with_columns(
        cluster=firsts[root],
        next=pl.Series(firsts[nearest]).set(pl.Series(lonely), None),
        apart=pl.Series(distance).set(pl.Series(lonely), None),
    )
    second = pl.col("uid").get(1, null_on_oob=True).over("bits")
    placed = known.with_columns(second=second).join(
        values, on="bits", how="left", maintain_order="left"
    )
    twin = pl.when(pl.col("uid") == pl.col("first")).then("second").otherwise("first")
    repeated = pl.col("second").is_not_null()
    return placed.with_columns(
        nearest=pl.when(repeated).then(twin).otherwise("next"),
        distance=pl.when(repeated).then(pl.lit(0, pl.UInt16)).otherwise("apart"),
    )


def _exemplar_of(known: pl.DataFrame, values: pl.DataFrame, radius: int) -> pl.DataFrame:
    """Place each record by its value; values come in the order of their best record."""
    exemplar, distance = _exemplars(words(values["bits"]), radius)
    firsts = values["first"].to_numpy()
    values = values.with_columns(cluster=firsts[exemplar], distance=pl.Series(distance))
    placed = known.join(values, on="bits", how="left", maintain_order="left")
    closest = (
        placed.filter(pl.col("uid") != pl.col("cluster"))
        .sort("distance", "uid")
        .unique("cluster", keep="first", maintain_order=True)
        .select("cluster", closest="uid", apart="distance")
    )
    names_it = pl.col("uid") == pl.col("cluster")
    return placed.join(closest, on="cluster", how="left").with_columns(
        nearest=pl.when(names_it).then("closest").otherwise("cluster"),
        distance=pl.when(names_it).then("apart").otherwise("distance"),
    )


def _components(words: Words, radius: int) -> tuple[Indices, Indices, Distances]:
    """Return the first string of each one's component, its nearest other or -1, the distance."""
    if len(words) > _FEW:
        from curation import _hamming

        return _hamming.components(words, radius)
    apart = _all_pairs(words)
    np.fill_diagonal(apart, np.iinfo(np.uint16).max)
    if len(words) < 2:
        nothing = np.full(len(words), -1, dtype=np.int32)
        return np.arange(len(words), dtype=np.int32), nothing, apart.diagonal()
    nearest = apart.argmin(axis=1).astype(np.int32)
    distance = apart.min(axis=1)
    nearest[distance > radius] = -1
    count, label = connected_components(csr_array(apart <= radius), directed=False)
    first = np.zeros(count, dtype=np.int32)
    first[label[::-1]] = np.arange(len(words), dtype=np.int32)[::-1]
    return first[label], nearest, distance


def _exemplars(words: Words, radius: int) -> tuple[Indices, Distances]:
    """Return the exemplar that covers each string, and the distance to it."""
    if len(words) > _FEW:
        from curation import _hamming

        return _hamming.exemplars(words, radius)
    apart = _all_pairs(words)
    exemplar = np.full(len(words), -1, dtype=np.int32)
    for i in range(len(words)):
        if exemplar[i] < 0:
            exemplar[(exemplar < 0) & (apart[i] <= radius)] = i
    return exemplar, apart[exemplar, np.arange(len(words))]


def _all_pairs(words: Words) -> Distances:
    apart = np.empty((len(words), len(words)), dtype=np.uint16)
    for i, row in enumerate(words):
        apart[i] = np.bitwise_count(words ^ row).sum(axis=1, dtype=np.uint16)
    return apart
