"""Pick records whose mean stays as near as can be to the mean of all: herding."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio
from curation import _neighbours
from curation.step import Role, Table, budget_of, selector


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence={"rank": pl.UInt32, "distance": pl.Float32},
    tables={"chosen": Table(("vector",), optional=True, pool=True)},
)
def herding(
    candidates: pl.DataFrame,
    chosen: pl.DataFrame | None,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
) -> pl.DataFrame:
    """Pick argmin_x |t mu - sum of the t - 1 picks before - x|, ties by uid.

    mu is the mean of all candidates, and the picks are those whose mean comes nearest to it at each
    step: the set stands for the average, not for what is rare. Nothing is drawn; a smaller budget
    is a subset of a larger one. A null vector is never picked. Many papers' figures of herding rest
    on code that takes the argmax instead.

    Reads:
        vector: what is averaged, of any length.
        chosen: a pool that one has already: its records are the first picks.
    Reference: Welling 2009, Herding dynamical weights to learn, ICML; as a choice of samples Chen,
        Welling and Smola 2010, Super-samples from kernel herding, arXiv:1203.3472.
    Writes:
        rank: the order of the picks, from 1.
        distance: Euclid's, of the mean of this and all earlier picks, chosen ones too, to mu.
    Cost: D multiplications a candidate and pick; 12 bytes a candidate beside its vector, and 4 D
        bytes a candidate where that is 256 MiB at most.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known, x = _neighbours.in_place(candidates["vector"])
    wanted = min(wanted, len(x))
    had = None if chosen is None else _neighbours.matrix(chosen["vector"].alias("chosen"))[1]
    if had is not None and len(had) and len(x) and had.shape[1] != x.shape[1]:
        raise DataError(
            f"herding: candidates of {x.shape[1]} dimensions, chosen of {had.shape[1]}; embed "
            "both with the same encoder."
        )
    picks, distances = _nearest_means(x, had, wanted)
    return pl.DataFrame(
        {
            "uid": candidates["uid"].to_numpy()[known][picks],
            "rank": np.arange(1, len(picks) + 1, dtype=np.uint32),
            "distance": np.array(distances, dtype=np.float32),
        }
    )


def _nearest_means(
    x: _neighbours.Rows, had: NDArray[np.floating] | None, wanted: int
) -> tuple[list[int], list[float]]:
    """Return rows in the order in which they are picked, and how far their mean is from all.

    |w - x|² is least where w x - |x|²/2 is largest. Single precision finds what may be; of the rows
    within its rounding error double precision takes the first of the best.
    """
    picks: list[int] = []
    distances: list[float] = []
    if not wanted:
        return picks, distances
    is_small = 4 * len(x) * x.shape[1] <= _neighbours.IN_MEMORY_BYTES
    rows = _neighbours.single(x[:]) if is_small else x
    total, half = np.zeros(x.shape[1]), np.empty(len(x))
    for a, b in _neighbours.blocks(len(x)):
        block = x[a:b].astype(np.float64)
        total += block.sum(axis=0)
        half[a:b] = np.einsum("ij,ij->i", block, block) / 2
    mean, longest = total / len(x), np.sqrt(2 * half.max())
    count, before = 0, np.zeros(x.shape[1])
    if had is not None and len(had):
        count, before = len(had), had.sum(axis=0, dtype=np.float64)
    score = np.empty(len(x), dtype=np.float32)
    while len(picks) < wanted:
        count += 1
        wish = count * mean - before
        towards = wish.astype(np.float32)
        for a, b in _neighbours.blocks(len(x)):
            score[a:b] = _neighbours.single(rows[a:b]) @ towards - half[a:b]
        score[picks] = -np.inf
        error = _neighbours.rounding(x.shape[1]) * longest * (np.sqrt(wish @ wish) + longest)
        near = np.flatnonzero(score >= score.max() - 2 * error)
        exact = np.empty(len(near))
        for a, b in _neighbours.blocks(len(near)):
            exact[a:b] = np.einsum("ij,j->i", x[near[a:b]].astype(np.float64), wish)
        pick = near[[(exact - half[near]).argmax()]]
        before += x[pick][0]
        picks.append(int(pick[0]))
        distances.append(float(np.linalg.norm(before / count - mean)))
    return picks, distances
