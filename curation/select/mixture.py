"""A mixture of domains by weight, with repeats where a domain is short of records."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import DataError
from contracts.params import Budget, BudgetRatio, Positive, Ratio, Seed, Stream
from curation._turns import NAMES, drawn, group_draws, in_turn
from curation.step import MAX_REPEATS, Role, budget_of, selector

COUNTS = (pl.UInt32, pl.UInt64, pl.Int64, pl.Int32, pl.UInt16)
Floats = NDArray[np.float64]


@selector(
    version=1,
    reads={"group": Role(NAMES), "tokens": Role(COUNTS, optional=True)},
    evidence={"repeats": pl.UInt16, "planned": pl.Float64},
)
def mixture(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    weights: dict[str, Positive] | None = None,
    power: Ratio = 1.0,
    max_repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS)] = 1,
    seed: Seed = 0,
    stream: Stream = "mixture",
) -> pl.DataFrame:
    """Draw from each domain in proportion to weight ** power, the whole domain before any repeat.

    A domain gives its smallest draws uniform(uid, seed, stream) first, then all again in the same
    order, up to max_repeats times; what it then lacks goes to the others by weight. So the plan is
    part = min(level * weight ** power, max_repeats * the domain), with the level at which the
    parts sum to the budget. It is rounded by Webster's divisors: a smaller budget is a subset of a
    larger one, with as many repeats at most. A budget of records is met exactly; one of tokens by
    the draws that come before the first that exceeds it. Power 0 with max_repeats is UniMax.

    Reads:
        group: the domain of each candidate, such as a source or a language; null is a domain.
        tokens: what the budget counts in place of records: tokens, bytes or seconds, a record one
            at least; null is never drawn.
    Args:
        budget: how many records, or tokens, are drawn, each repeat counted.
        budget_ratio: the share of all records or tokens, instead of a budget.
        weights: of each domain by its name, any scale; a domain without one is left out. By itself
            a domain weighs its records, or its tokens.
        power: 1 takes the weights as they are, 0 evenly; 1 / power is the temperature.
        max_repeats: how often a record is drawn at most.
    Reference: Chung et al. 2023, UniMax, arXiv:2304.09151, algorithm 1; powers: Conneau et al.
        2020, XLM-R, arXiv:1911.02116, section 3; rounding: Balinski and Young 1982, Fair
        Representation.
    Writes:
        repeats: how often the record is drawn, 1 to max_repeats.
        planned: records or tokens that the plan draws from the record's domain.
    Cost: two sorts, of the candidates and of the draws; some 200 bytes each.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given.
        DataError: a weight for a domain of which there is no candidate.
    """
    counted = "tokens" in candidates.columns
    amount = pl.col("tokens").cast(pl.Int64).clip(1) if counted else pl.lit(1, dtype=pl.Int64)
    known = candidates.select("uid", "group", amount=amount).drop_nulls("amount")
    whole = int(known["amount"].sum())
    wanted = budget_of(whole, budget, budget_ratio)
    if budget is not None:
        # With repeats there may be more than there is.
        wanted = budget
    domains = plan(known, wanted, weights, power, max_repeats)
    records = drawn(known, seed, stream).join(
        domains, on="group", nulls_equal=True, maintain_order="left"
    )
    most = max(domains["copies"], default=0)
    copies = [records.filter(pl.col("copies") > copy) for copy in range(most)]
    draws = pl.concat([records.clear(), *copies])
    tie = group_draws(draws, seed, stream)
    turns = in_turn(draws, pl.col("weight"), amount=pl.col("amount"), tie=tie)
    taken = turns.filter(pl.col("amount").cum_sum() <= wanted)
    return taken.group_by("uid", maintain_order=True).agg(
        repeats=pl.len().cast(pl.UInt16), planned=pl.col("planned").first()
    )


def plan(
    records: pl.DataFrame,
    budget: int,
    weights: dict[str, float] | None,
    power: float,
    max_repeats: int,
) -> pl.DataFrame:
    """Return what each domain is to give.

    Args:
        records: `group` and `amount`.
        budget: to be met in all.
        weights: by the name of the domain; each one's amount by itself.
        power: of the weights.
        max_repeats: of a record at most.

    Returns:
        group, weight (with the power), available and planned amounts, and copies: how often its
        records may be drawn before a budget is met that is larger by a record of each domain.

    Raises:
        DataError: as `mixture`.
    """
    domains = (
        records.group_by("group")
        .agg(available=pl.col("amount").sum(), longest=pl.col("amount").max())
        .sort("group")
    )
    weight = pl.col("available").cast(pl.Float64)
    if weights is not None:
        name = pl.col("group").cast(pl.String)
        lacking = set(weights) - set(domains.select(name)["group"])
        if lacking:
            raise DataError(
                f"mixture: no candidate is of {sorted(lacking)[:5]}; there is "
                f"{domains['group'].to_list()[:10]}. Leave these weights out, or bind `group` to "
                "the column that has them."
            )
        weight = name.replace_strict(weights, default=None, return_dtype=pl.Float64)
    domains = domains.with_columns(weight=weight.pow(power)).drop_nulls("weight")
    weight_D, available_D = (domains[name].to_numpy() for name in ("weight", "available"))
    most_D = available_D.astype(np.float64) * max_repeats
    longest = float(domains["longest"].sum())
    beyond_D = _parts(weight_D, most_D, budget + longest)
    return domains.select("group", "weight", "available").with_columns(
        planned=pl.Series(_parts(weight_D, most_D, budget), dtype=pl.Float64),
        copies=pl.Series(np.minimum(beyond_D // available_D + 1, max_repeats), dtype=pl.Int64),
    )


def _parts(weight_D: Floats, most_D: Floats, budget: float) -> Floats:
    """Return min(level * weight, most), with the level at which they sum to the budget, or most.

    Args:
        weight_D: (domains,), above 0.
        most_D: (domains,), above 0.
        budget: what they sum to.
    """
    if most_D.sum() <= budget:
        return most_D
    order = np.argsort(most_D / weight_D, kind="stable")
    # With the first m domains at their most, the others' level is what is left over their weights.
    left = budget - np.concatenate([[0.0], np.cumsum(most_D[order])[:-1]])
    levels = left / np.cumsum(weight_D[order][::-1])[::-1]
    level = levels[np.flatnonzero(levels * weight_D[order] <= most_D[order])[0]]
    parts: Floats = np.minimum(level * weight_D, most_D)
    return parts
