"""A random subset of which each stratum has its part: by size, evenly, or between the two."""

from __future__ import annotations

import polars as pl

from contracts.params import Budget, BudgetRatio, Ratio, Seed, Stream
from curation._turns import NAMES, drawn, group_draws, in_turn
from curation.step import Role, budget_of, selector


@selector(version=1, reads={"group": Role(NAMES)})
def stratified_sample(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    power: Ratio = 1.0,
    seed: Seed = 0,
    stream: Stream = "stratified_sample",
) -> pl.DataFrame:
    """Draw from each stratum in proportion to (its candidates) ** power; null is a stratum.

    Within a stratum the smallest draws uniform(uid, seed, stream) come first. Parts are rounded by
    Webster's divisors, so that a smaller budget is a subset of a larger one: the k-th record of a
    stratum is kept at (k - 1/2) / size ** power, ties by the draw of its smallest uid. What a
    stratum lacks goes to the others in proportion. Another record in a hundred changes some 1 % of
    what is kept.

    Reads:
        group: the stratum of each candidate, such as a source, a language or a cluster.
    Args:
        power: 1 is in proportion to the stratum, 0 evenly, 0.3 what multilingual corpora take;
            1 / power is their temperature.
    Reference: Conneau et al. 2020, XLM-R, arXiv:1911.02116, section 3, for powers; rounding:
    Balinski and Young 1982, Fair Representation.
    Cost: two sorts of the candidates; some 100 bytes each.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    records = drawn(candidates, seed, stream)
    weight = pl.len().over("group").cast(pl.Float64).pow(power)
    tie = group_draws(records, seed, stream)
    return in_turn(records, weight, tie=tie).head(wanted).select("uid")
