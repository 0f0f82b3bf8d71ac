"""Keep the largest scores."""

from __future__ import annotations

import polars as pl

from contracts.params import Budget, BudgetRatio
from curation.step import Role, budget_of, selector


@selector(version=1, reads={"score": Role()})
def top(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
) -> pl.DataFrame:
    """Keep the largest scores, ties by uid; a null or NaN never.

    A share is of all the candidates, those without a score included, and exact: the released
    code of DataComp keeps one record more, and all that tie with it.

    Reads:
        score: whoever has most is kept.
    Reference: the clip_score baseline of Gadre et al. 2023, DataComp, arXiv:2304.14108.
    Cost: a sort of the candidates.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    scored = candidates.with_columns(pl.col("score").fill_nan(None)).drop_nulls("score")
    return scored.sort("score", "uid", descending=[True, False]).head(wanted).select("uid")
