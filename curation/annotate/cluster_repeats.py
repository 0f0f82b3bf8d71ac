"""How often training sees the kept record of a duplicate cluster, from the cluster's size."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from contracts.errors import ConfigError
from contracts.params import Count
from curation.step import MAX_REPEATS, Role, poolwise

Floats = NDArray[np.float64]

ENOUGH = 50
"""Clusters whose rate of removal is worth a number of its own."""
FINEWEB2 = ((1, 1), (2, 2), (3, 3), (5, 5), (100, 8), (1000, 1))
"""From each size on, how often."""


@poolwise(
    version=1,
    reads={
        "size": Role((pl.UInt32, pl.UInt64, pl.Int64, pl.UInt16)),
        "passed": Role(pl.Boolean, optional=True),
    },
    writes={"repeats": pl.UInt16},
)
def cluster_repeats(
    rows: pl.DataFrame,
    *,
    curve: Literal["fit", "fineweb2"] = "fit",
    max_repeats: Count = 10,
) -> pl.DataFrame:
    """Turn the size of a record's duplicate cluster into repeats: rehydration.

    No copy and thousands of copies both mark worse text, some copies better. `fit` measures it:
    with r(c) the share of clusters of size c that did not pass the quality rules, and g that of
    all clusters, raw(c) = 1 if r(c) >= g, else 1 + (max_repeats - 1) (r(c) - g) / (min r - g);
    a moving mean over five sizes, the two at each end left raw, rounded. Sizes of fewer than 50
    clusters are pooled with the next larger ones. A cluster counts once, its members for
    1 / size each. `fineweb2` is that corpus' published table, cut at `max_repeats`.

    Reads:
        size: of the record's duplicate cluster.
        passed: whether the record passes the quality rules; `fit` needs it.
    Args:
        curve: "fit" measures the curve on this pool; "fineweb2" is a published table.
        max_repeats: the most repeats that the curve gives.
    Reference: FineWeb2, Penedo et al. 2025, arXiv:2506.20920, the section on rehydration.
    Writes:
        repeats: 1 to max_repeats; 1 for a record without a size.
    Cost: 14 bytes a record and a sort of the distinct sizes.
    Raises:
        ConfigError: `fit` without `passed`, or more repeats than an index holds.
    """
    if max_repeats > MAX_REPEATS:
        raise ConfigError(f"cluster_repeats: max_repeats is at most {MAX_REPEATS:,}.")
    size = rows["size"].cast(pl.Int64)
    if curve == "fineweb2":
        table = pl.DataFrame(FINEWEB2, schema=["from", "repeats"], orient="row")
    elif "passed" not in rows.columns:
        raise ConfigError(
            'cluster_repeats: curve = "fit" needs `passed`, such as passed = "caption_stats.words '
            '>= 5"; without one take curve = "fineweb2".'
        )
    else:
        table = _fitted(rows.select(size=size, passed="passed").drop_nulls(), max_repeats)
    # A size below the first that was seen is taken like the first.
    at = np.searchsorted(table["from"], size.fill_null(1), side="right") - 1
    often = table["repeats"].to_numpy()[np.maximum(at, 0)]
    repeats = np.where(size.is_null(), 1, np.minimum(often, max_repeats))
    return pl.DataFrame({"repeats": pl.Series(repeats, dtype=pl.UInt16)})


def _fitted(rows: pl.DataFrame, max_repeats: int) -> pl.DataFrame:
    """Return from each size on how often, `from` ascending."""
    weight = 1 / pl.col("size")
    by_size = (
        rows.group_by("size")
        .agg(clusters=weight.sum(), removed=(weight * ~pl.col("passed")).sum())
        .sort("size")
    )
    if not by_size.height:
        return pl.DataFrame({"from": [1], "repeats": [1]})
    starts: list[int] = []
    clusters: list[float] = []
    removed: list[float] = []
    for first, count, lost in by_size.iter_rows():
        if clusters and clusters[-1] < ENOUGH:
            clusters[-1] += count
            removed[-1] += lost
        else:
            starts.append(first)
            clusters.append(count)
            removed.append(lost)
    if len(starts) > 1 and clusters[-1] < ENOUGH:
        starts.pop()
        clusters[-2:] = [sum(clusters[-2:])]
        removed[-2:] = [sum(removed[-2:])]
    rates = np.array(removed) / np.array(clusters)
    often = repeats_of(rates, sum(removed) / sum(clusters), max_repeats)
    return pl.DataFrame({"from": starts, "repeats": often})


def repeats_of(rates: ArrayLike, overall: float, max_repeats: int) -> NDArray[np.int64]:
    """Return how often, for each size's rate of removal and that of all.

    Args:
        rates: of each size, ascending sizes.
        overall: of all clusters.
        max_repeats: of the size with the lowest rate, before smoothing.
    """
    rates_C: Floats = np.asarray(rates, dtype=np.float64)
    lowest = rates_C.min(initial=overall)
    raw_C = np.ones(len(rates_C))
    better = rates_C < overall
    raw_C[better] += (max_repeats - 1) * (rates_C[better] - overall) / (lowest - overall)
    smooth_C = raw_C.copy()
    if len(raw_C) >= 5:
        smooth_C[2:-2] = np.convolve(raw_C, np.full(5, 0.2), mode="valid")
    repeats: NDArray[np.int64] = np.rint(smooth_C).astype(np.int64)
    return repeats
