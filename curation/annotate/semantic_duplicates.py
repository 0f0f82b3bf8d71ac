"""The largest cosine to an earlier record of the same cluster: SemDeDup's measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.params import Seed, Stream
from contracts.uid import random_bits
from curation import _groups, _neighbours
from curation.step import Role, groupwise, in_order

TILE = 256
"""Rows compared at once: whole small groups together, a large one in slices."""


def group_keys(rows: pl.DataFrame, *, order: str, **_: Any) -> pl.Series:
    """Return the groups of each record, as `_groups.keys` does; the paper's order needs one."""
    if isinstance(rows.schema["group"], pl.List) and order in ("hard", "easy"):
        sign = "-" if order == "hard" else ""
        raise ConfigError(
            f'semantic_duplicates: order = "{order}" is another in each group, and group lists '
            f'several a record. Bind score = "{sign}nearest_centroid.cosine", order = "score".'
        )
    return _groups.keys(rows)


def largest(partials: pl.DataFrame, **_: Any) -> pl.DataFrame:
    """Fold what was found of a record in several groups: the largest cosine, ties by uid."""
    worst_last = partials.sort("max_cosine", "nearest", descending=[True, False], nulls_last=True)
    return worst_last.unique("uid", keep="first", maintain_order=True)


@groupwise(
    version=1,
    by="group",  # A run moves nothing where the groups are series that lie whole in a part.
    keys=group_keys,
    merge=largest,
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
    stream: Stream = "semantic_duplicates",
) -> pl.DataFrame:
    """Measure M_j = max(0, max over i before j of cos(x_i, x_j)) within each group.

    SemDeDup drops j where M_j > 1 - eps; `one_per_neighbourhood` keeps j if what it is near to was
    itself dropped. Which record of a pair is "before", and so stays, is the order: "hard" the
    lowest cosine to the group's mean direction first, "easy" the highest, "random" by draw,
    "score" the highest score, nulls last; ties by uid. Equal vectors have a cosine of exactly 1,
    above any threshold below 1. Duplicates in different groups are missed, unless

    * group is a list: `nearest_centroid.probes`, the r nearest centroids, has a record compared in
      all r groups. The order must then be one for all groups, "random" or "score": the paper's is
      score = "-nearest_centroid.cosine", the farthest from their own centroids first.
    * all are in one group, group = "0": exact; 200,000 records of 512 dimensions take some five
      minutes of one core.

    Reads:
        vector: what is compared.
        group: within what: a cluster's number, a list of them, or "0" for all.
        score: `order = "score"`: whoever has more comes first.
    Args:
        order: which record of a pair comes first, and so stays: the one farther from the group's
            mean ("hard"), the nearer ("easy"), one drawn ("random"), that of more score.
    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3.
    Writes:
        max_cosine: in [0, 1]; 0 for the first of a group and a record without a group; null where
            the vector is null or zero.
        nearest: the uid of that earlier record, the earliest of equals, of those in different
            groups the smallest uid; null for the first.
    Cost: sum of size² / 2 * D multiplications over groups, up to twice that for groups below 256,
    r² times that for lists of r; and some passes over the vectors, 10 microseconds a record of 256
    dimensions, which outweigh the products in groups below some 1,000. Beside the vectors as they
    come, in half or single precision: 50 bytes a record, 8 D a group, and blocks of 12 MiB and 20 D
    KiB, however large a group is.
    Raises:
        DataError: vectors of different lengths; NaN or infinity.
        ConfigError: order = "score" without a score; lists of groups with "hard" or "easy".
    """
    known, x = _neighbours.matrix(groups["vector"], zeros=False)
    rows = groups.drop("vector").filter(known)
    uids, group = rows["uid"].to_numpy(), rows["group"].to_numpy()
    first: NDArray[np.generic]
    if order == "score":
        first = _ranks(rows)
    elif order == "random":
        first = random_bits(uids, seed, stream)
    else:
        first = _cosine_to_mean(x, group) * (1 if order == "hard" else -1)
    sequence = np.lexsort((uids, first, group))
    uids = uids[sequence]
    nearest, cosine = _nearest_before(x, sequence, group)
    found = pl.DataFrame({"uid": uids, "max_cosine": cosine}).with_columns(
        nearest=pl.when(pl.Series(nearest >= 0)).then(pl.Series(uids[nearest], dtype=pl.UInt64))
    )
    return in_order(groups["uid"], found)


def _nearest_before(
    x: NDArray[np.floating], sequence: _neighbours.Indices, group: NDArray[np.uint32]
) -> tuple[_neighbours.Indices, NDArray[np.float32]]:
    """Return for each place of the sequence that of the nearest before it in its group, or -1.

    And the cosine to it, 0 where it is negative or there is none. The sequence is sorted by group.
    """
    nearest = np.full(len(x), -1, dtype=np.int64)
    value = np.zeros(len(x), dtype=np.float32)
    start = np.searchsorted(group, group)
    for a, b in _tiles(start):
        begin = start[a]
        rows = _neighbours.unit(x[sequence[a:b]])
        columns = rows if begin == a else _neighbours.Units(x, sequence[begin:b])
        span = start[a:b] - begin, np.arange(a, b) - begin
        found = _neighbours.closest(rows, columns, span=span)
        at = np.flatnonzero(found >= 0)
        nearest[a + at] = begin + found[at]
        value[a + at] = np.maximum(_neighbours.cosine(rows[at], columns[found[at]]), 0)
    return nearest, value


def _cosine_to_mean(x: NDArray[np.floating], group: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return each row's cosine to the sum of its group, which comes sorted by uid.

    In single precision, so that what is equal by symmetry, such as any two alone, is equal.
    """
    start = np.searchsorted(group, group)
    number = np.cumsum(start == np.arange(len(x))) - 1
    sums = np.zeros((number[-1] + 1 if len(x) else 0, x.shape[1]))
    for a, b in _tiles(start):
        heads = np.unique(np.maximum(start[a:b], a)) - a
        rows = _neighbours.unit_64(_neighbours.unit(x[a:b]))
        sums[number[a + heads]] += np.add.reduceat(rows, heads, axis=0)
    value = np.empty(len(x), dtype=np.float32)
    for a, b in _neighbours.blocks(len(x)):
        value[a:b] = _neighbours.cosine(_neighbours.unit(x[a:b]), sums[number[a:b]])
    return value


def _ranks(rows: pl.DataFrame) -> NDArray[np.float64]:
    if "score" not in rows.columns:
        raise ConfigError('semantic_duplicates: order = "score" needs the role score: bind it.')
    rank = rows["score"].fill_nan(None).rank("dense", descending=True)
    return rank.cast(pl.Float64).fill_null(np.inf).to_numpy()


def _tiles(start: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (a, b): as many whole groups as fit a tile, or a slice of a larger group.

    Where a group is cut depends on that group alone. A group of thousands is cut into longer
    slices, as each of them makes the rows before it anew.
    """
    ends = np.append(np.flatnonzero(start == np.arange(len(start)))[1:], len(start))
    a = 0
    while a < len(start):
        end = ends[np.searchsorted(ends, a, side="right")]
        size = _neighbours.ROWS if end - start[a] > 4 * _neighbours.ROWS else TILE
        if end - a > size:
            b = a + size
        elif start[a] < a or end - a > TILE:
            b = int(end)
        else:
            b = int(ends[np.searchsorted(ends, a + TILE, side="right") - 1])
        yield a, b
        a = b
