"""Keep much of wide, lonely clusters and little of dense ones: density-based pruning."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio, Count, Positive, Ratio
from curation import _neighbours
from curation._turns import in_turn
from curation.step import Role, Table, budget_of, selector

Floats = NDArray[np.float64]
PARTS = {"group": pl.UInt32, "weight": pl.Float64}


@selector(
    version=1,
    reads={
        "centroid": Role(pl.UInt32, default="nearest_centroid.centroid"),
        "cosine": Role((pl.Float32, pl.Float64), default="nearest_centroid.cosine"),
    },
    evidence={"weight": pl.Float64},
    tables={"centroids": Table(("centroid", "vector"), default="fit.kmeans")},
)
def density_quota(
    candidates: pl.DataFrame,
    centroids: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    temperature: Positive = 0.5,
    neighbours: Count = 20,
    floor_ratio: Ratio = 0.5,
) -> pl.DataFrame:
    """Share the budget among clusters by p = softmax(inner * outer / temperature).

    inner is the mean cosine distance of a cluster's candidates to its centroid, outer that of the
    centroid to its nearest others. No cluster's part is below floor_ratio of an even one: part =
    max(p - level, floor_ratio / clusters), with the level at which the parts sum to 1. A cluster
    gives the farthest from its centroid first, ties by uid. Parts are rounded by Webster's
    divisors, so that a smaller budget is a subset of a larger one; what a cluster lacks goes to the
    others in proportion, where the paper's quadratic program adds as many records to each. A null
    centroid or cosine is never kept.

    Reads:
        centroid: of each candidate's cluster.
        cosine: to it.
        centroids: the table that the clusters are of.
    Args:
        temperature: a large one shares evenly.
        neighbours: other centroids that outer is the mean over.
        floor_ratio: the least part of a cluster, in even parts.
    Reference: Abbas et al. 2024, Effective pruning of web-scale datasets based on complexity of
    concept clusters, arXiv:2401.04578, section 3.
    Writes:
        weight: the part of the record's cluster, in [0, 1].
    Cost: a product of all pairs of centroids, a block at a time; two sorts of the candidates.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: a candidate of a centroid that the table lacks.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known = candidates.with_columns(pl.col("cosine").fill_nan(None)).drop_nulls()
    number, of, size = np.unique(known["centroid"], return_inverse=True, return_counts=True)
    strangers = np.setdiff1d(number, centroids["centroid"])
    if len(strangers):
        raise DataError(
            f"density_quota: the table of centroids has no {strangers[:5].tolist()}; bind the "
            "table that `centroid` was measured with."
        )
    inner = 1 - np.bincount(of, weights=known["cosine"], minlength=len(number)) / size
    table = centroids.sort("centroid")
    outer = _distances(table, neighbours)[np.searchsorted(table["centroid"], number)]
    weight = raised(_softmax(inner * outer / temperature), floor_ratio)
    parts = pl.DataFrame({"group": number, "weight": weight}, schema_overrides=PARTS)
    records = known.rename({"centroid": "group"}).sort("cosine", "uid")
    weighted = records.join(parts, on="group", maintain_order="left")
    return in_turn(weighted, pl.col("weight")).head(wanted).select("uid", "weight")


def raised(parts: Floats, floor_ratio: float) -> Floats:
    """Return max(part - level, floor_ratio / count), with the level at which they sum to 1.

    It is the point closest to the parts that sums to 1 above the floor: the quadratic program of
    the paper where no cluster runs out.

    Args:
        parts: (k,), which sum to 1.
        floor_ratio: in [0, 1].
    """
    floor = floor_ratio / max(len(parts), 1)
    descending = np.sort(parts)[::-1]
    # With the m largest parts above the floor, level = (their sum + the others' floors - 1) / m.
    number = np.arange(1, len(parts) + 1)
    levels = (np.cumsum(descending) + (len(parts) - number) * floor - 1) / number
    above = np.flatnonzero(descending - levels > floor)
    level = levels[above[-1]] if len(above) else np.inf
    lifted: Floats = np.maximum(parts - level, floor)
    return lifted


def _softmax(logit: Floats) -> Floats:
    odds: Floats = np.exp(logit - logit.max(initial=-np.inf))
    shares: Floats = odds / odds.sum()
    return shares


def _distances(centroids: pl.DataFrame, neighbours: int) -> Floats:
    """Return each centroid's mean cosine distance to the nearest others; 0 where it is alone."""
    _, x = _neighbours.matrix(centroids["vector"])
    row, _, cosine = _neighbours.nearest_others(x, neighbours)
    found = np.bincount(row, minlength=len(x))
    apart: Floats = np.bincount(row, weights=1 - cosine, minlength=len(x)) / np.maximum(found, 1)
    return apart
