"""Pick from an open set, round by round, what is nearest to the centroids of a target set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio, Count, Ratio, Seed, Stream
from contracts.uid import random_bits
from curation import _neighbours
from curation.step import Role, Table, budget_of, selector

EVIDENCE = {"round": pl.UInt32, "centroid": pl.UInt32, "cosine": pl.Float32}


@selector(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    evidence=EVIDENCE,
    tables={"target": Table(columns=("vector",), pool=True, wanted=True)},
)
def simcore(
    candidates: pl.DataFrame,
    target: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    stop_ratio: Ratio | None = None,
    num_centroids: Count = 100,
    rule: Literal["paper", "released"] = "paper",
    patience: Count = 20,
    seed: Seed = 0,
    stream: Stream = "simcore",
) -> pl.DataFrame:
    """Keep what is nearest to the target: a coreset of the open set, sampled in rounds.

    The target is clustered by spherical k-means; with no more vectors than num_centroids each is
    its own centroid, numbered by uid. In round r every centroid q takes its nearest candidate
    u_qr that no earlier round took; two may take the same. The utility is
    f_r = (1/K) sum_q cos(u_qr, q), which never rises. It ends with the budget, when all candidates
    are taken, or (stop_ratio) before the first round with f_r < stop_ratio * f_1 or f_r < 0.
    stop_ratio is 0.95 where no budget is given; with both, the first to be met ends it.

    Within a round the larger cosine comes first, ties by uid, so a smaller budget is a subset of a
    larger one.

    rule = "released" is the authors' code: the utility is compared with that of round `patience`,
    from that round on; with stop_ratio there are at most 50 records a target record; and the last
    round is cut at random, by uniform(uid, seed, stream).

    Reads:
        vector: what is compared with the target.
        target: a pool of what is wanted, `pool:<name>` or `pool:./folder`.
    Args:
        stop_ratio: end where a round's utility falls below this share of the first's; 0.95 where no
            budget is given.
        num_centroids: centroids of the target.
        rule: "paper", or what the authors' code does.
        patience: "released": the round with which later ones are compared.
    Reference: Kim et al. 2023, SimCore, CVPR, arXiv:2303.11101, section 3; released code
    sungnyun/openssl-simcore, sampling.
    Writes:
        round: from 1.
        centroid: the one that took it; of several in a round the nearest.
        cosine: to that centroid.
    Cost: candidates * K * D multiplications for each doubling of the depth of the rounds; the
    candidates' vectors as they are, a byte a candidate, and some 30 bytes a centroid and depth.
    Raises:
        ConfigError: both budget and budget_ratio are given.
        DataError: the target has no vector; vectors of different lengths; NaN or infinity.
    """
    centroids, targets = _centroids(target, num_centroids, seed, stream)
    known, x = _neighbours.in_place(candidates["vector"], zeros=False)
    uids = candidates["uid"].to_numpy()[known]
    if len(x) and x.shape[1] != centroids.shape[1]:
        raise DataError(
            f"simcore: candidates of {x.shape[1]} dimensions, a target of {centroids.shape[1]}; "
            "embed both with the same encoder."
        )
    released = rule == "released"
    wanted = len(x)
    if budget is not None or budget_ratio is not None:
        wanted = min(wanted, budget_of(candidates.height, budget, budget_ratio))
    elif stop_ratio is None:
        stop_ratio = 0.95
    if released and stop_ratio is not None:
        wanted = min(wanted, 50 * targets)

    draws = random_bits(uids, seed, stream)
    picked: list[pl.DataFrame] = []
    floor, left = 0.0, wanted
    for number, (rows, cosines) in enumerate(_rounds(x, centroids, wanted), start=1):
        utility = float(cosines.mean())
        if stop_ratio is not None:
            if number == (patience if released else 1):
                floor = max(0.0, stop_ratio * utility)
            if utility < floor:
                break
        nearest_first = np.lexsort((rows, -cosines))
        first = np.sort(np.unique(rows[nearest_first], return_index=True)[1])
        centroid = nearest_first[first]
        if released:
            centroid = centroid[np.argsort(draws[rows[centroid]], kind="stable")]
        centroid = centroid[:left]
        left -= len(centroid)
        picked.append(
            pl.DataFrame(
                {
                    "uid": uids[rows[centroid]],
                    "round": np.full(len(centroid), number, dtype=np.uint32),
                    "centroid": centroid.astype(np.uint32),
                    "cosine": cosines[centroid].astype(np.float32),
                }
            )
        )
    return pl.concat([pl.DataFrame(schema={"uid": pl.UInt64, **EVIDENCE}), *picked])


def _centroids(
    target: pl.DataFrame, num_centroids: int, seed: int, stream: str
) -> tuple[_neighbours.Vectors, int]:
    """Return the target's centroids at length 1, and how many vectors it has."""
    if "uid" not in target.columns:
        target = target.with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
    target = target.sort("uid")
    known, x = _neighbours.in_place(target["vector"].alias("target vector"), zeros=False)
    if not len(x):
        raise DataError("simcore: the target has no vector; name a pool that has some.")
    if len(x) <= num_centroids:
        return _neighbours.unit(x), len(x)
    uids = target["uid"].to_numpy()[known]
    centroids, _ = _neighbours.kmeans(
        x, uids, num_centroids, iterations=25, spherical=True, seed=seed, stream=stream
    )
    return centroids, len(x)


def _rounds(
    x: _neighbours.Rows, centroids: _neighbours.Vectors, wanted: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield for each round the row that each centroid takes, and its cosine.

    No row is yielded in two rounds; it ends when at least `wanted` were.
    """
    line = np.arange(len(centroids))
    # Centroids that lie close together want the same rows: lists are longer than their shares.
    depth = 8 * wanted // len(centroids) + 64
    rows, cosines, sure = _neighbours.shortlist(x, centroids, depth)
    taken = np.zeros(len(x), dtype=bool)
    at = np.zeros(len(centroids), dtype=np.int64)
    count = 0
    while count < wanted:
        while True:
            while (at >= sure).any():
                depth *= 2
                rows, cosines, sure = _neighbours.shortlist(x, centroids, depth)
            gone = taken[rows[line, at]]
            if not gone.any():
                break
            at[gone] += 1
        yield rows[line, at], cosines[line, at]
        taken[rows[line, at]] = True
        count += len(np.unique(rows[line, at]))
