"""Retrieve what is nearest to each record of a target set, nothing twice."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import polars as pl

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio, Count
from curation import _neighbours
from curation.step import Role, Table, budget_of, selector

EVIDENCE = {"target": pl.UInt64, "rank": pl.UInt32, "cosine": pl.Float32}
LINES = 1024
"""Targets whose candidates are ranked together."""


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence=EVIDENCE,
    tables={"target": Table(("vector",), pool=True, wanted=True)},
)
def retrieve(
    candidates: pl.DataFrame,
    target: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    k: Count | None = None,
) -> pl.DataFrame:
    """Keep the k candidates of largest cosine to each target, one for each at a time.

    In round r every target gets its r-th: the pair of largest cosine first, ties by the target's
    uid, then the candidate's. A candidate is taken once; a target whose nearest is gone gets its
    next one. It ends after k rounds, with the budget, or when all are taken; k is 4 where no budget
    is given. So a smaller budget is a subset of a larger one, and fewer neighbours of more. Null
    vectors and those of zeros are never taken, and ask for nothing.

    Reads:
        vector: what is compared.
        target: the records that are wanted, `pool:<name>` or `pool:./folder`.
    Args:
        k: records for each target at most; 4 where no budget is given.
    Reference: Oquab et al. 2023, DINOv2, arXiv:2304.07193, section 3, where the nearest four of
        each record of the curated sets are taken, and those of several targets once.
    Writes:
        target: uid of the target that took it.
        rank: of how many that the target took it is the last, from 1.
        cosine: to that target.
    Cost: candidates * targets * D multiplications, again for 1,024 targets one of which has found
        the first 2 k + 64 of its nearest taken; 50 MB, and 16 (2 k + 64) bytes a target. Of more
        than 100,000 targets take the centroids in their place.
    Raises:
        ConfigError: both budget and budget_ratio are given.
        DataError: the target has no vector; vectors of different lengths; NaN or infinity.
    """
    if "uid" not in target.columns:
        target = target.with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
    target = target.sort("uid")
    asks, targets = _neighbours.directions(target["vector"].alias("target vector"))
    if not len(targets):
        raise DataError("retrieve: the target has no vector; name a pool that has some.")
    known, x = _neighbours.in_place(candidates["vector"], zeros=False)
    if len(x) and x.shape[1] != targets.shape[1]:
        raise DataError(
            f"retrieve: candidates of {x.shape[1]} dimensions, a target of {targets.shape[1]}; "
            "embed both with the same encoder."
        )
    wanted = len(x)
    if budget is not None or budget_ratio is not None:
        wanted = min(wanted, budget_of(candidates.height, budget, budget_ratio))
    elif k is None:
        k = 4
    found = list(_taken(x, targets, wanted, k or wanted))
    columns = list(zip(*found, strict=True)) or [()] * 4
    return pl.DataFrame(
        {
            "uid": candidates["uid"].to_numpy()[known][np.array(columns[0], dtype=np.int64)],
            "target": target["uid"].to_numpy()[asks][np.array(columns[1], dtype=np.int64)],
            "rank": np.array(columns[2], dtype=np.uint32),
            "cosine": np.array(columns[3], dtype=np.float32),
        }
    )


def _taken(
    x: _neighbours.Rows, targets: _neighbours.Vectors, wanted: int, rounds: int
) -> Iterator[tuple[int, int, int, float]]:
    """Yield (row, target, rank, cosine), in the order in which rows are taken."""
    depth = 2 * min(rounds, 1 + wanted // len(targets)) + 64
    spans = _neighbours.blocks(len(targets), LINES)
    lines = [_Lines(x, targets[a:b], depth) for a, b in spans]
    taken = np.zeros(len(x), dtype=np.bool_)
    count = 0
    for rank in range(1, rounds + 1):
        # What a target asks for is nearest of what was left when it was looked for.
        asked = [one for t in range(len(targets)) if (one := lines[t // LINES].ask(t, taken))]
        heapq.heapify(asked)
        while asked and count < wanted:
            cosine, t, row = asked[0]
            if taken[row]:
                again = lines[t // LINES].ask(t, taken)
                heapq.heapreplace(asked, again) if again else heapq.heappop(asked)
                continue
            heapq.heappop(asked)
            taken[row] = True
            count += 1
            yield row, t, rank, -cosine
        if count == wanted:
            return


class _Lines:
    """Some targets, each with the candidates in descending order of the cosine to it."""

    def __init__(self, x: _neighbours.Rows, targets: _neighbours.Vectors, depth: int) -> None:
        self.x, self.targets, self.depth = x, targets, depth
        self.rows, self.cosines, self.sure = _neighbours.shortlist(x, targets, depth)
        self.at = np.zeros(len(targets), dtype=np.int64)

    def ask(self, t: int, taken: _neighbours.Mask) -> tuple[float, int, int] | None:
        """Return (-cosine, target, row) of the nearest that is left; None where none is."""
        line = t % LINES
        while True:
            if self.at[line] >= self.sure[line]:
                if self.depth >= len(self.x):
                    return None
                self.depth *= 2
                self.rows, self.cosines, self.sure = _neighbours.shortlist(
                    self.x, self.targets, self.depth
                )
                continue
            row = int(self.rows[line, self.at[line]])
            if not taken[row]:
                return -float(self.cosines[line, self.at[line]]), t, row
            self.at[line] += 1
