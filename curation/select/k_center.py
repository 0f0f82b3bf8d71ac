"""Cover the candidates: pick again and again the record farthest from all picks."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio, Seed, Stream
from contracts.uid import shuffled
from curation import _neighbours
from curation.step import Role, Table, budget_of, selector

# Rows of a block that are brought up to date together, those with the largest bounds.
AT_ONCE = 32


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence={"radius": pl.Float32},
    tables={"chosen": Table(("vector",), optional=True, pool=True)},
)
def k_center(
    candidates: pl.DataFrame,
    chosen: pl.DataFrame | None,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    seed: Seed = 0,
    stream: Stream = "k_center",
) -> pl.DataFrame:
    """Pick argmax_i min_{j in S} |x_i - x_j|, farthest first, ties by uid.

    The first pick is the record with the smallest draw uniform(uid, seed, stream), or, where there
    are chosen records, the one farthest from these. The largest distance left is at most twice that
    of the best set of as many; a smaller budget is a subset of a larger one. A null vector is never
    picked. Outliers are picked first: filter them before.

    A distance to the nearest pick only falls as picks are added, so that an old one is a bound:
    a record is compared with the picks it has not met only once its bound is the largest
    (Minoux 1978, Optimization Techniques, LNCIS 7, for greedy methods of any kind).

    Reads:
        vector: what is to be covered.
        chosen: a pool that one has already: its records are the first picks.
    Reference: Gonzalez 1985, Theoretical Computer Science 38; as a coreset Sener and Savarese
    2018, arXiv:1708.00489.
    Writes:
        radius: Euclid's distance to the nearest earlier pick, not rising from pick to pick; null
            for one that was drawn.
    Cost: D multiplications a candidate and pick at most, an eighth of that at 2 million random
        vectors and 1,000 picks; 8 bytes a candidate beside its vector, 4 D bytes a pick or
        chosen record.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known, x = _neighbours.in_place(candidates["vector"])
    uids = candidates["uid"].to_numpy()[known]
    wanted = min(wanted, len(x))
    had = x[:0] if chosen is None else _neighbours.matrix(chosen["vector"].alias("chosen"))[1]
    if len(had) and len(x) and had.shape[1] != x.shape[1]:
        raise DataError(
            f"k_center: candidates of {x.shape[1]} dimensions, chosen of {had.shape[1]}; embed "
            "both with the same encoder."
        )
    picks: list[int] = []
    radii: list[float | None] = []
    if wanted and not len(had):
        picks, radii = [int(shuffled(uids, seed, stream)[0])], [None]
        had = x[np.array(picks)]
    if wanted:
        _farthest_first(x, had, picks, radii, wanted)
    return pl.DataFrame(
        {"uid": uids[picks], "radius": radii}, schema={"uid": pl.UInt64, "radius": pl.Float32}
    )


def _farthest_first(
    x: _neighbours.Rows,
    had: NDArray[np.floating],
    picks: list[int],
    radii: list[float | None],
    wanted: int,
) -> None:
    """Add the rows farthest from all before to the picks, with their distances to these.

    Args:
        x: the candidates.
        had: (m, d) what is covered from, the picks so far among them; at least one.
        picks: rows, wanted of them in the end.
        radii: of each pick.
        wanted: how many picks there are to be.
    """
    count = len(had)
    centers = np.empty((count + wanted - len(picks), x.shape[1]), dtype=np.float32)
    centers[:count] = _neighbours.single(had)
    # Of each row to the nearest of the centers that it has met: at least what it is to all of them.
    spans = list(_neighbours.blocks(len(x)))
    square = np.concatenate([_squares(_neighbours.single(x[a:b]) - centers[0]) for a, b in spans])
    met = np.ones(len(x), dtype=np.int32)
    square[picks] = -1
    highest = np.array([square[a:b].max() for a, b in spans])
    while len(picks) < wanted:
        block = highest.argmax()
        a, b = spans[block]
        rows = a + np.argsort(-square[a:b], kind="stable")[:AT_ONCE]
        farthest = int(rows[0])
        if met[farthest] < count:
            for row, vector in zip(rows, _neighbours.single(x[rows]), strict=True):
                for c, d in _neighbours.blocks(count - met[row]):
                    unmet = centers[met[row] + c : met[row] + d]
                    square[row] = min(square[row], _squares(unmet - vector).min())
                met[row] = count
            highest[block] = square[a:b].max()
        else:
            radii.append(float(np.sqrt(square[farthest])))
            square[farthest] = -1
            centers[count] = _neighbours.single(x[rows[:1]])[0]
            picks.append(farthest)
            count += 1


def _squares(gaps: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.einsum("ij,ij->i", gaps, gaps)
    return found
