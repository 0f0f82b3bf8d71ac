"""Cover the candidates: pick again and again the record farthest from all picks."""

from __future__ import annotations

import numpy as np
import polars as pl

from contracts.params import Count, Ratio, Seed
from contracts.uid import shuffled
from curation import _neighbours
from curation.step import Role, budget_of, selector


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence={"radius": pl.Float32},
)
def k_center(
    candidates: pl.DataFrame,
    *,
    budget: Count | None = None,
    budget_ratio: Ratio | None = None,
    seed: Seed = 0,
    stream: str = "k_center",
) -> pl.DataFrame:
    """Pick argmax_i min_{j in S} |x_i - x_j|, farthest first, ties by uid.

    The first pick is the record with the smallest draw uniform(uid, seed, stream). The largest
    distance left is at most twice that of the best set of as many; a smaller budget is a subset
    of a larger one. A null vector is never picked. Outliers are picked first: filter them before.

    Reference: Gonzalez 1985, Theoretical Computer Science 38; as a coreset Sener and Savarese
    2018, arXiv:1708.00489.
    Writes:
        radius: Euclid's distance to the nearest earlier pick, not rising from pick to pick; null
            for the first.
    Cost: D multiplications a candidate and pick, and 4 bytes a candidate beside its vector.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: vectors of different lengths; NaN or infinity.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known, x = _neighbours.in_place(candidates["vector"])
    uids = candidates["uid"].to_numpy()[known]
    wanted = min(wanted, len(x))
    square = np.full(len(x), np.inf, dtype=np.float32)
    picks = list(shuffled(uids, seed, stream)[: min(wanted, 1)])
    radii: list[float | None] = [None] * len(picks)
    while len(picks) < wanted:
        pick = _neighbours.single(x[np.array(picks[-1:])])
        for a, b in _neighbours.blocks(len(x)):
            gap = _neighbours.single(x[a:b]) - pick
            np.minimum(square[a:b], np.einsum("ij,ij->i", gap, gap), out=square[a:b])
        square[picks[-1]] = -1
        picks.append(square.argmax())
        radii.append(float(np.sqrt(square[picks[-1]])))
    return pl.DataFrame(
        {"uid": uids[picks], "radius": radii}, schema={"uid": pl.UInt64, "radius": pl.Float32}
    )
