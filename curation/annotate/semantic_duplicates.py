"""The largest cosine to an earlier record of the same cluster: SemDeDup's measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.params import Seed
from contracts.uid import random_bits
from curation import _neighbours
from curation.step import Role, groupwise, in_order

TILE = 256
"""Rows compared at once: whole small groups together, a large one in slices."""


@groupwise(
    version=1,
    by="group",
    reads={
        "vector": Role((pl.Array, pl.List)),
        "group": Role(default="nearest_centroid.centroid"),
        "score": Role(optional=True),
    },
    writes={"max_cosine": pl.Float32, "nearest": pl.UInt64},
)
def semantic_duplicates(
    groups: pl.DataFrame,
    *,
    order: Literal["hard", "easy", "random", "score"] = "hard",
    seed: Seed = 0,
    stream: str = "semantic_duplicates",
) -> pl.DataFrame:
    """Measure M_j = max(0, max over i before j of cos(x_i, x_j)) within each group.

    SemDeDup drops j where M_j > 1 - eps; `one_per_neighbourhood` keeps j if what it is near to was
    itself dropped. Which record of a pair is "before", and so stays, is the order: "hard" the
    lowest cosine to the group's mean direction first, "easy" the highest, "random" by draw,
    "score" the highest score, nulls last; ties by uid. Equal vectors have a cosine of exactly 1,
    above any threshold below 1. Duplicates in different groups are missed.

    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3.
    Writes:
        max_cosine: in [0, 1]; 0 for the first of a group and a record without a group; null where
            the vector is null or zero.
        nearest: the uid of that earlier record, the earliest of equals; null for the first.
    Cost: sum of size² / 2 * D multiplications over groups, up to twice that for groups below 256;
    and some passes over the vectors, 10 microseconds a record of 256 dimensions, which outweigh
    the products in groups below some 1,000. 8 D bytes a record of the bucket, 8 D a group, and a
    block of 2 MiB.
    Raises:
        DataError: vectors of different lengths; NaN or infinity.
        ConfigError: order = "score" without a score.
    """
    known, x = _neighbours.directions(groups["vector"])
    rows = groups.filter(known).drop("vector")
    uids, group = rows["uid"].to_numpy(), rows["group"].to_numpy()
    first: NDArray[np.generic]
    if order == "score":
        first = _ranks(rows)
    elif order == "random":
        first = random_bits(uids, seed, stream)
    else:
        first = _cosine_to_mean(x, group) * (1 if order == "hard" else -1)
    sequence = np.lexsort((uids, first, group))
    x, uids = x[sequence], uids[sequence]

    nearest = _nearest_before(x, group)
    compared = np.flatnonzero(nearest >= 0)
    value = np.zeros(len(x), dtype=np.float32)
    for a, b in _neighbours.blocks(len(compared)):
        at = compared[a:b]
        cosine = _neighbours.cosine(x[at], x[nearest[at]])
        value[at] = np.maximum(cosine, 0)
    found = pl.DataFrame({"uid": uids, "max_cosine": value}).with_columns(
        nearest=pl.when(pl.Series(nearest >= 0)).then(pl.Series(uids[nearest], dtype=pl.UInt64))
    )
    return in_order(groups["uid"], found)


def _nearest_before(x: _neighbours.Vectors, group: NDArray[np.uint32]) -> _neighbours.Indices:
    """Return for each row, grouped and ordered, the nearest earlier row of its group, or -1."""
    nearest = np.empty(len(x), dtype=np.int64)
    start = np.searchsorted(group, group)
    for a, b in _tiles(start):
        begin = start[a]
        span = start[a:b] - begin, np.arange(a, b) - begin
        found = _neighbours.closest(x[a:b], x[begin:b], span=span)
        nearest[a:b] = np.where(found < 0, -1, found + begin)
    return nearest


def _cosine_to_mean(x: _neighbours.Vectors, group: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return each row's cosine to the sum of its group, which comes sorted by uid.

    In single precision, so that what is equal by symmetry, such as any two alone, is equal.
    """
    start = np.searchsorted(group, group)
    number = np.cumsum(start == np.arange(len(x))) - 1
    sums = np.zeros((number[-1] + 1 if len(x) else 0, x.shape[1]))
    for a, b in _tiles(start):
        heads = np.unique(np.maximum(start[a:b], a)) - a
        sums[number[a + heads]] += np.add.reduceat(_neighbours.unit_64(x[a:b]), heads, axis=0)
    value = np.empty(len(x), dtype=np.float32)
    for a, b in _neighbours.blocks(len(x)):
        value[a:b] = _neighbours.cosine(x[a:b], sums[number[a:b]])
    return value


def _ranks(rows: pl.DataFrame) -> NDArray[np.float64]:
    if "score" not in rows.columns:
        raise ConfigError('semantic_duplicates: order = "score" needs the role score: bind it.')
    rank = rows["score"].fill_nan(None).rank("dense", descending=True)
    return rank.cast(pl.Float64).fill_null(np.inf).to_numpy()


def _tiles(start: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (a, b): as many whole groups as fit a tile, or a slice of a larger group.

    Where a group is cut depends on that group alone.
    """
    ends = np.append(np.flatnonzero(start == np.arange(len(start)))[1:], len(start))
    a = 0
    while a < len(start):
        end = ends[np.searchsorted(ends, a, side="right")]
        if end - a > TILE:
            b = a + TILE
        elif start[a] < a:
            b = int(end)
        else:
            b = int(ends[np.searchsorted(ends, a + TILE, side="right") - 1])
        yield a, b
        a = b
