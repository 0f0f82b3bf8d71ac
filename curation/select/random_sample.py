"""A random subset: what every other selection is compared with."""

from __future__ import annotations

import polars as pl

from contracts.errors import ConfigError
from contracts.params import Budget, BudgetRatio, Seed, Stream
from contracts.uid import uniform
from curation.step import Role, budget_of, selector


@selector(
    version=1,
    reads={"probability": Role((pl.Float32, pl.Float64), optional=True)},
)
def random_sample(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    seed: Seed = 0,
    stream: Stream = "random_sample",
) -> pl.DataFrame:
    """Keep the candidates with the smallest draws; a smaller budget is a subset of a larger one.

    The draw is u = uniform(uid, seed, stream). With a probability and no budget a record is
    kept if u < probability; with both, the smallest -ln(1 - u) / probability are kept: sampling
    without replacement, each next record drawn in proportion to its probability.

    Reads:
        probability: of each candidate to be kept.
    Reference: Efraimidis and Spirakis 2006, Information Processing Letters 97(5), weighted
    for the case with both.
    Cost: a sort of the candidates.
    Raises:
        ConfigError: neither a budget, a share, nor a probability is given.
    """
    draw = pl.Series("draw", uniform(candidates["uid"].to_numpy(), seed, stream))
    drawn = candidates.with_columns(draw)
    weighted = "probability" in candidates.columns
    if budget is None and budget_ratio is None:
        if not weighted:
            raise ConfigError("random_sample: give budget, budget_ratio, or bind probability.")
        return drawn.filter(pl.col("draw") < pl.col("probability")).select("uid")
    wanted = budget_of(candidates.height, budget, budget_ratio)
    if weighted:
        arrival = -(1 - pl.col("draw")).log() / pl.col("probability")
        drawn = drawn.filter(pl.col("probability") > 0).with_columns(draw=arrival)
    return drawn.sort("draw", "uid").head(wanted).select("uid")
