"""A random subset, or multiset, in which high scores are likelier."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts.params import Budget, BudgetRatio, NotNegative, Positive, Seed, Stream
from contracts.uid import uniform
from curation.step import MAX_REPEATS, Role, budget_of, selector


@selector(version=1, reads={"score": Role()}, evidence={"repeats": pl.UInt16})
def sample_by_score(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    temperature: Positive = 1.0,
    repeat_penalty: NotNegative = 0.0,
    max_repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS)] = 1,
    seed: Seed = 0,
    stream: Stream = "sample_by_score",
) -> pl.DataFrame:
    """Draw records one after another with odds exp(score / temperature); null and NaN never.

    A record that was drawn may be drawn again up to `max_repeats` times, its score less
    `repeat_penalty` for each time before. Drawing once is Gumbel top-k. The odds of two records
    depend on the difference of their scores alone: a score of another scale, such as a z-score,
    needs another temperature. Copy k of record i arrives at
    t = sum over j < k of -ln(u_j) exp(repeat_penalty j - score / temperature) with
    u_j = uniform(uid, seed, stream and j), and the draws are those that arrive first, ties by uid.
    So a smaller budget is a subset of a larger one, with as many repeats at most.

    Reads:
        score: in units of the temperature.
    Args:
        budget: how many draws are taken, each repeat one.
        temperature: near 0 it keeps the largest scores, a large one draws evenly.
        repeat_penalty: taken from a record's score over the temperature each time it is drawn.
        max_repeats: how often a record is drawn at most.
    Reference: Wettig et al. 2024, QuRating, arXiv:2402.09739, section 3, and Xie et al. 2023,
        DSIR, arXiv:2302.03169, for Gumbel top-k; Shechter and Carmon 2025, FLYT,
        arXiv:2503.08805, for soft caps (SCS), there in batches of 100,000 draws.
    Writes:
        repeats: how often a record was drawn, 1 to `max_repeats`.
    Cost: a sort of the candidates, and one of the draws.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
    """
    draws = budget_of(candidates.height, budget, budget_ratio)
    if budget is not None:
        # With repeats there may be more draws than candidates.
        draws = budget
    score = candidates["score"].cast(pl.Float64).fill_nan(None)
    uids = candidates["uid"].filter(score.is_not_null()).to_numpy()
    log_odds = score.drop_nulls().to_numpy() / temperature
    arrivals = np.full(len(uids), -np.inf)
    who = np.arange(len(uids))
    times: list[NDArray[np.float64]] = []
    whose: list[NDArray[np.intp]] = []
    latest = np.inf
    for copy in range(max_repeats):
        name = stream if copy == 0 else f"{stream}, copy {copy}"
        # Of logarithms, or large scores would all arrive at 0.
        draw = np.maximum(uniform(uids[who], seed, name), 2.0**-54)
        wait = np.log(-np.log1p(-draw))
        arrivals = np.logaddexp(arrivals, wait + repeat_penalty * copy - log_odds[who])
        # Whose copy comes after all that are taken has no further one.
        early = arrivals <= latest
        who, arrivals = who[early], arrivals[early]
        if not len(who):
            break
        times.append(arrivals)
        whose.append(who)
        latest = _latest(np.concatenate(times), draws)
    if not times:
        return candidates.clear().select("uid", repeats=pl.lit(None, dtype=pl.UInt16))
    owner = np.concatenate(whose)
    first = np.lexsort((uids[owner], np.concatenate(times)))[:draws]
    kept, often = np.unique(uids[owner[first]], return_counts=True)
    return pl.DataFrame({"uid": kept, "repeats": pl.Series(often, dtype=pl.UInt16)})


def _latest(times: NDArray[np.float64], draws: int) -> float:
    """Return when the last of the draws arrives, infinity where there are fewer."""
    if draws > len(times):
        return np.inf
    return float(np.partition(times, draws - 1)[draws - 1]) if draws else -np.inf
