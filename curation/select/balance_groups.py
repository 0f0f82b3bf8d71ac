"""As many of each group as of any other, as far as each has them."""

from __future__ import annotations

import polars as pl

from contracts.params import Budget, BudgetRatio, Seed, Stream
from curation._turns import NAMES, drawn, group_draws, in_turn
from curation.step import Role, budget_of, selector


@selector(
    version=1,
    reads={"group": Role(NAMES), "score": Role(optional=True)},
)
def balance_groups(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    seed: Seed = 0,
    stream: Stream = "balance_groups",
) -> pl.DataFrame:
    """Keep min(cut, size) of each group, with the largest cut that fits: the max-min fair one.

    What is left of the budget goes one each to the groups larger than the cut whose smallest uids
    have the smallest draws. A group gives its best scores first, ties by uid; without a score its
    smallest draws uniform(uid, seed, stream). So a smaller budget is a subset of a larger one. A
    null group, score or NaN is never kept.

    Of groups of 10, 3 and 1 a budget of 9 keeps 5, 3 and 1, one of 8 keeps 4, 3 and 1.

    Reads:
        group: what is balanced, such as a label, a language or a cluster.
        score: whoever has most comes first.
    Reference: Vo et al. 2024, Automatic Data Curation, arXiv:2405.15613, section 3.3: the cut of
    one level.
    Cost: two sorts of the candidates; some 100 bytes each.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known = candidates.drop_nulls("group")
    if "score" in candidates.columns:
        known = known.with_columns(pl.col("score").fill_nan(None)).drop_nulls("score")
        records = known.sort("score", "uid", descending=[True, False])
    else:
        records = drawn(known, seed, stream)
    tie = group_draws(records, seed, stream)
    return in_turn(records, pl.lit(1.0), tie=tie).head(wanted).select("uid")
