"""A tree of centroids: k-means, then k-means of its centroids, resampled to even density."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import ConfigError
from contracts.params import Count, Seed, Stream, Whole
from contracts.uid import UIDs, uniform
from curation import _neighbours
from curation.fit.kmeans import SAMPLE
from curation.step import Parameters, Role, fit

ROUNDS = 8


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw, and the parameters."""
    return SAMPLE * parameters["levels"][0], parameters


@fit(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={
        "level": pl.UInt8,
        "centroid": pl.UInt32,
        "parent": pl.UInt32,
        "vector": pl.Array,
        "size": pl.UInt32,
    },
    plan=plan,
)
def hierarchical_kmeans(
    rows: pl.DataFrame,
    *,
    levels: Annotated[list[Count], Field(min_length=1, max_length=255)],
    resamples: Whole = 10,
    iterations: Count = 25,
    seed: Seed = 0,
    stream: Stream = "hierarchical_kmeans",
) -> pl.DataFrame:
    """Cluster the vectors by cosine, then the centroids, each as one vector, and so on.

    Lloyd's centroids lie where records are dense: as density ** (d / (d + 2)) in d dimensions. To
    even this out, each level is clustered again `resamples` times, each time on the vectors closest
    to each centroid alone, half as many as an average cluster has, ties by uid; then all are
    assigned to the last centroids. The starts are drawn in eight rounds, the first evenly, each
    other in proportion to the squared distance to those before: by uniform(uid, seed, stream), on
    the upper levels by the centroid's number. Null and zero vectors take no part.

    Reads:
        vector: what is clustered.
    Args:
        levels: how many centroids each level has, the finest first.
        resamples: how often a level is clustered again.
        iterations: passes of a k-means over its vectors at most.
    Reference: Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning,
        arXiv:2405.15613, sections 3.2 and 3.3. The released code clusters by Euclid's distance,
        from k-means++, for 50 iterations. Starts in rounds: Bahmani et al. 2012, Scalable
        K-Means++, PVLDB 5(7).
    Writes:
        level: 1 is the finest.
        centroid: 0, 1, 2 and so on within its level, without gaps.
        parent: the centroid of the next level that it belongs to; null on the last.
        vector: Array(Float32, D), at length 1.
        size: records of the sample below it, at least 1.
    Cost: (1 + resamples / 2) iterations * n * levels[0] * D multiplications for a sample of
        n = 256 levels[0] records at most; 6 D bytes a record of the sample, 2 D of a large one.
    Raises:
        ConfigError: levels that do not fall.
        DataError: vectors of different lengths, NaN or infinity.
    """
    if any(fine <= coarse for fine, coarse in pairwise(levels)):
        raise ConfigError(f"hierarchical_kmeans.levels: {levels} must fall, the finest first.")
    known, x = _neighbours.in_place(rows["vector"], zeros=False)
    units = _neighbours.Units(x.x, x.chosen)
    uids = rows["uid"].to_numpy()[known]
    size = np.ones(len(units), dtype=np.int64)
    tables: list[pl.DataFrame] = []
    for level, count in enumerate(levels, start=1):
        centroids, label = units[:0], np.empty(0, dtype=np.int64)
        if len(units):
            centroids, label = _level(
                units,
                uids,
                count,
                resamples=resamples,
                iterations=iterations,
                seed=seed,
                stream=f"{stream}, level {level}",
            )
        if tables:
            parent = pl.Series("parent", label, dtype=pl.UInt32)
            tables[-1] = tables[-1].with_columns(parent)
        size = np.bincount(label, weights=size, minlength=len(centroids)).astype(np.int64)
        tables.append(
            pl.DataFrame(
                {
                    "level": pl.repeat(level, len(size), dtype=pl.UInt8, eager=True),
                    "centroid": pl.Series(range(len(size)), dtype=pl.UInt32),
                    "parent": pl.repeat(None, len(size), dtype=pl.UInt32, eager=True),
                    "vector": pl.Series(centroids, dtype=pl.Array(pl.Float32, x.shape[1])),
                    "size": pl.Series(size, dtype=pl.UInt32),
                }
            )
        )
        units = _neighbours.Units(centroids, np.arange(len(centroids)))
        uids = np.arange(len(centroids), dtype=np.uint64)
    return pl.concat(tables)


def _level(
    units: _neighbours.Units,
    uids: UIDs,
    count: int,
    *,
    resamples: int,
    iterations: int,
    seed: int,
    stream: str,
) -> tuple[_neighbours.Vectors, _neighbours.Indices]:
    """Return the centroids of a level and each row's, none of them empty."""
    chosen = np.arange(len(units))
    each = max(1, len(units) // (2 * count))
    for again in range(resamples + 1):
        name = f"{stream}, again {again}"
        some = _neighbours.Units(units.x, units.chosen[chosen])
        centroids, _ = _neighbours.kmeans(
            some,
            uids[chosen],
            count,
            iterations=iterations,
            spherical=True,
            seed=seed,
            stream=name,
            starts=starts(some, uids[chosen], count, seed, name),
        )
        label = _neighbours.nearest(units, centroids)
        if again < resamples:
            chosen = _closest(units, centroids, label, each)
    used, label = np.unique(label, return_inverse=True)
    return centroids[used], label


def starts(
    units: _neighbours.Units, uids: UIDs, count: int, seed: int, stream: str
) -> _neighbours.Indices:
    """Draw rows that are spread out, ties by uid; fewer where fewer vectors differ.

    Each round takes those of the smallest -ln(1 - uniform) / (squared distance to the nearest row
    of the rounds before): draws without replacement, in proportion to that distance.
    """
    distance = np.full(len(units), 4.0)
    found: list[_neighbours.Indices] = []
    for round_, wanted in enumerate(np.diff(np.arange(ROUNDS + 1) * count // ROUNDS)):
        if not wanted:
            continue
        wait = -np.log1p(-uniform(uids, seed, f"{stream}, round {round_}"))
        apart = distance > _neighbours.TIE
        arrival = np.divide(wait, distance, out=np.full(len(units), np.inf), where=apart)
        some = np.lexsort((uids, arrival))[: min(wanted, np.count_nonzero(apart))]
        if not len(some):
            break
        found.append(some)
        cosine = _cosines(units, units[some], _neighbours.nearest(units, units[some]))
        distance = np.minimum(distance, 2 - 2 * cosine)
    return np.concatenate(found)


def _cosines(
    units: _neighbours.Units, centroids: _neighbours.Vectors, label: _neighbours.Indices
) -> NDArray[np.float64]:
    """Return the cosine of each row to the centroid of its label."""
    found = np.empty(len(units))
    for a, b in _neighbours.blocks(len(units)):
        found[a:b] = _neighbours.cosine(units[a:b], centroids[label[a:b]])
    return found


def _closest(
    units: _neighbours.Units,
    centroids: _neighbours.Vectors,
    label: _neighbours.Indices,
    each: int,
) -> _neighbours.Indices:
    """Return, ascending, the rows that are among the `each` closest to their centroid."""
    order = np.lexsort((-_cosines(units, centroids, label), label))
    place = np.arange(len(order)) - np.searchsorted(label[order], label[order])
    return np.sort(order[place < each])
