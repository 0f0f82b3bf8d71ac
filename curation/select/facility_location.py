"""Pick the records that best stand for all candidates, or for a target: facility location."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import ConfigError, DataError
from contracts.params import Budget, BudgetRatio, Count, Seed, Stream
from contracts.uid import UIDs, random_bits, shuffled
from curation import _coverage, _neighbours
from curation.step import Parameters, Role, Table, budget_of, selector

CONFIDENCE = 0.6
"""SubZeroCore's: how sure one is that one of a record's K nearest is picked, by a random set."""


def roles(parameters: Parameters) -> dict[str, Role]:
    """Return the roles: vectors, or the lists of neighbours instead."""
    if parameters["similarity"] == "pairs":
        return {"vector": Role((pl.Array, pl.List))}
    return {
        "neighbours": Role(pl.List(pl.UInt64), default="nearest_neighbours.neighbours"),
        "cosines": Role(pl.List(pl.Float32), default="nearest_neighbours.cosines"),
    }


@selector(
    version=1,
    reads=roles,
    evidence={"gain": pl.Float32},
    tables={
        "target": Table(("vector",), optional=True, pool=True, wanted=True),
        "chosen": Table(("vector",), optional=True, pool=True),
    },
)
def facility_location(
    candidates: pl.DataFrame,
    target: pl.DataFrame | None,
    chosen: pl.DataFrame | None,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    similarity: Literal["pairs", "neighbours"] = "pairs",
    optimizer: Literal["lazy", "stochastic"] = "lazy",
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    weights: Literal["none", "density"] = "none",
    parts: Count = 1,
    seed: Seed = 0,
    stream: Stream = "facility_location",
) -> pl.DataFrame:
    """Pick greedily argmax_j F(S + j) - F(S), where F(S) = sum_i max_{j in S} w_j max(0, cos_ij).

    i runs over all candidates, or over the target; ties by uid. The picks are worth at least
    1 - 1/e of the best set of as many. Under "lazy" and one part they come in an order that no
    budget changes, so that fewer are the first of more. Null vectors, and those of zeros, stand
    for nothing and are picked last or never.

    Cosines are those of vectors rounded to a grid of 1/2048, by which every sum is exact.

    Reads:
        vector: what is compared (similarity = "pairs").
        neighbours: uids of each record's nearest (similarity = "neighbours"); those that are no
            candidates are left out.
        cosines: to them, in their order.
        target: a pool to stand for, instead of the candidates.
        chosen: a pool that one has already: what it stands for is no gain.
    Args:
        similarity: "pairs" compares all candidates, "neighbours" counts as 0 what is not among a
            record's nearest: linear in their number.
        optimizer: "lazy" finds the largest gain of all; "stochastic" that of a sample of
            n / budget * ln(1 / epsilon) drawn for each pick, 1 - 1/e - epsilon in expectation.
        epsilon: "stochastic": what may be lost by the sample.
        weights: "density" weighs a record by how near the distance to its K-th neighbour is to the
            mean of all, which passes over outliers and dense duplicates.
        parts: pick in so many random parts by themselves, then from the union of the picks by a
            sample of the rows of one part's size; the best of these sets by that sample is kept.
    Reference: Mirzasoleiman et al. 2020, CRAIG, arXiv:1906.01827; lazy: Minoux 1978; stochastic:
    Mirzasoleiman et al. 2015, arXiv:1409.7938; parts: Mirzasoleiman et al. 2016, GreeDi, JMLR 17;
    density: SubZeroCore 2025, arXiv:2509.21748, where K is the least by which one of a record's K
    nearest is among random picks with probability 0.6.
    Writes:
        gain: what the pick added to F when it came, in cosines; falling from pick to pick.
    Cost: "pairs": D multiplications a pair of row and candidate, and again where the best of a row
    rose since a candidate was looked at; 4 D bytes a candidate, as many a row of a target, and 100
    bytes a row. In parts: that of each part by itself. "neighbours": linear in the lists.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given; "neighbours" with a
            target, chosen or parts; "density" with neighbours fewer than K.
        DataError: the target has no vector; vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    if similarity == "neighbours":
        if target is not None or chosen is not None or parts > 1 or optimizer == "stochastic":
            raise ConfigError(
                'facility_location: similarity = "neighbours" knows the candidates alone, all of '
                'them at once: leave out target, chosen, parts and "stochastic", or take "pairs".'
            )
        known = candidates.drop_nulls()
        return _kept(known["uid"].to_numpy(), _among_neighbours(known, wanted, weights))
    held, x = _neighbours.in_place(candidates["vector"], zeros=False)
    uids = candidates["uid"].to_numpy()[held]
    wanted = min(wanted, len(x))
    covered = None if target is None else _vectors(target, "target", x)
    had = None if chosen is None else _vectors(chosen, "chosen", x)
    if covered is not None and not len(covered):
        raise DataError("facility_location: the target has no vector; name a pool that has some.")

    def pick(some: _neighbours.Indices, rows: _coverage.Whole | None) -> Picks:
        columns = _coverage.on_grid(_neighbours.Rows(x.x, x.chosen[some]))
        count = min(wanted, len(columns))
        weight = _density(_kth_cosine(columns, count)) if weights == "density" else None
        pairs = _coverage.Pairs(columns, columns if rows is None else rows, weight)
        start = _coverage.best(columns[:0], pairs.rows, had)
        if optimizer == "lazy":
            found = _coverage.Greedy(pairs, start).picks(count)
        else:
            size = math.ceil(len(columns) / max(count, 1) * math.log(1 / epsilon))
            found = _sampled(pairs, start, count, size, uids[some], seed, stream)
        return [(int(some[column]), gain) for column, gain in found]

    everyone = np.arange(len(x))
    if parts == 1:
        return _kept(uids, pick(everyone, covered))
    part = random_bits(uids, seed, f"{stream}:parts") % np.uint64(parts)
    if covered is None:
        sample = np.sort(shuffled(uids, seed, f"{stream}:rows")[: -(-len(x) // parts)])
        covered = _coverage.on_grid(_neighbours.Rows(x.x, x.chosen[sample]))
        locally = None
    else:
        locally = covered
    local = [pick(np.flatnonzero(part == number), locally) for number in range(parts)]
    union = np.unique([row for picks in local for row, _ in picks]).astype(np.int64)
    sets = [pick(union, covered), *(picks for picks in local if len(picks) == wanted)]

    def value(picks: Picks) -> float:
        columns = _coverage.on_grid(_neighbours.Rows(x.x, x.chosen[[row for row, _ in picks]]))
        return float(_coverage.best(columns, covered, had).sum(dtype=np.float64))

    picked: Picks = max(sets, key=value)
    return _kept(uids, picked)


Picks = list[tuple[int, float]]
"""Rows in the order in which they were picked, and their gains in parts of `_coverage.ONE`."""


def _kept(uids: UIDs, picks: Iterable[tuple[int, float]]) -> pl.DataFrame:
    found = list(picks)
    rows = np.array([row for row, _ in found], dtype=np.int64)
    gain = np.array([gain for _, gain in found]) / _coverage.ONE
    return pl.DataFrame({"uid": uids[rows], "gain": gain.astype(np.float32)})


def _vectors(table: pl.DataFrame, name: str, x: _neighbours.Rows) -> _coverage.Whole:
    """Return the vectors of a further table, on the grid, of the candidates' length."""
    _, rows = _neighbours.in_place(table["vector"].alias(f"{name} vector"), zeros=False)
    if len(x) and len(rows) and rows.shape[1] != x.shape[1]:
        raise DataError(
            f"facility_location: candidates of {x.shape[1]} dimensions, {name} of "
            f"{rows.shape[1]}; embed both with the same encoder."
        )
    return _coverage.on_grid(rows)


def _sampled(
    pairs: _coverage.Pairs,
    best: _coverage.Whole,
    count: int,
    size: int,
    uids: UIDs,
    seed: int,
    stream: str,
) -> Iterator[tuple[int, float]]:
    """Yield columns and gains: each the first of largest gain of a sample of those left."""
    left = np.arange(len(pairs.columns))
    for number in range(count):
        sample = left
        if size < len(left):
            draws = random_bits(uids[left], seed, f"{stream}:{number}")
            sample = np.sort(left[np.argpartition(draws, size - 1)[:size]])
        gains = pairs.gains(best, sample)
        column = sample[gains.argmax() :][:1]
        np.maximum(best, pairs.of(column)[0], out=best)
        left = left[left != column]
        yield int(column[0]), float(gains.max())


def _among_neighbours(rows: pl.DataFrame, wanted: int, weights: str) -> Iterator[tuple[int, float]]:
    """Yield rows and gains where a record is like itself and those of its list alone."""
    number = pl.DataFrame({"uid": rows["uid"], "column": np.arange(rows.height)})
    lists = rows.with_columns(row=np.arange(rows.height))
    near = lists.explode("neighbours", "cosines").select("row", "cosines", uid=pl.col("neighbours"))
    itself = lists.select("row", "uid", cosines=pl.lit(1.0, pl.Float32))
    near = pl.concat([near, itself.select(near.columns)]).join(number, on="uid")
    near = near.filter(pl.col("cosines") > 0).unique(["row", "column"]).sort("column", "row")
    values = np.rint(near["cosines"].to_numpy() * np.float32(_coverage.ONE))
    columns = near["column"].to_numpy()
    if weights == "density":
        kth = _nearer_than(rows.height, wanted)
        shortest = int(rows["cosines"].list.len().to_numpy().min(initial=kth))
        if shortest < kth:
            raise ConfigError(
                f"facility_location: the density looks at the {kth} nearest of each record; the "
                f"lists hold {shortest}: raise k of nearest_neighbours."
            )
        weight = _density(rows["cosines"].list.get(kth - 1).to_numpy())
        values = np.rint(values * weight[columns])
    starts = np.searchsorted(columns, np.arange(rows.height + 1))
    return _coverage.sparse_picks(columns, starts, values, near["row"].to_numpy(), wanted)


def _nearer_than(candidates: int, picks: int) -> int:
    """Return the least K for which one of a record's K nearest is surely enough picked."""
    none, kth = 1.0, 0
    while 1 - none < CONFIDENCE and kth < candidates - 1:
        kth += 1
        none *= max(0, candidates - picks - kth) / (candidates - kth)
    return max(kth, 1)


def _kth_cosine(columns: _coverage.Whole, picks: int) -> NDArray[np.float32]:
    """Return the cosine of each row to its K-th nearest other."""
    cosine = np.zeros(len(columns), dtype=np.float32)
    if len(columns) < 2:
        return cosine
    kth = _nearer_than(len(columns), picks)
    for a, b in _neighbours.blocks(len(columns), max(1, _neighbours.ROWS**2 * 8 // len(columns))):
        scores = columns[a:b] @ columns.T
        scores[np.arange(b - a), np.arange(a, b)] = -np.inf
        place = len(columns) - kth
        cosine[a:b] = np.partition(scores, place, axis=1)[:, place] / np.float32(_coverage.ONE)
    return cosine


def _density(kth_cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights exp(-(r - mean)^2 / (2 var)) of distances r to the K-th nearest."""
    radius = np.sqrt(np.maximum(2 - 2 * kth_cosine.astype(np.float64), 0))
    if not radius.any() or not (spread := radius.var()):
        return np.ones(len(radius), dtype=np.float32)
    weights: NDArray[np.float64] = np.exp(-((radius - radius.mean()) ** 2) / (2 * spread))
    return weights.astype(np.float32)
