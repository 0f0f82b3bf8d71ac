"""An even sample of a tree of clusters: the budget is cut fairly on each level."""

from __future__ import annotations

from typing import Literal

import polars as pl

from contracts.errors import ConfigError
from contracts.params import Budget, BudgetRatio, Seed, Stream
from curation._turns import drawn, group_draws, in_turn
from curation.step import Role, budget_of, selector


@selector(
    version=1,
    reads={
        "path": Role(pl.List(pl.UInt32), default="cluster_path.path"),
        "cosine": Role((pl.Float32, pl.Float64), default="cluster_path.cosine", optional=True),
    },
)
def hierarchical_sample(
    candidates: pl.DataFrame,
    *,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    strategy: Literal["random", "closest"] = "random",
    seed: Seed = 0,
    stream: Stream = "hierarchical_sample",
) -> pl.DataFrame:
    """Keep min(cut, size) of each coarsest cluster, and of each such part again by finer ones.

    The cut is the largest that fits; what is left goes one each to the clusters larger than it
    whose smallest uids have the smallest draws, so that a smaller budget is a subset of a larger
    one, where the released code draws them anew. A finest cluster gives its smallest draws
    uniform(uid, seed, stream), or the closest to its centroid, ties by uid. A null path is never
    kept, by "closest" no null or NaN cosine either.

    Reads:
        path: the clusters of each candidate, the coarsest first; a number names one on its level.
        cosine: to the centroid of the finest.
    Args:
        strategy: what a finest cluster gives first.
    Reference: Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning,
        arXiv:2405.15613, section 3.3.
    Cost: a sort of the candidates for each level and one more; some 100 bytes each.
    Raises:
        ConfigError: unless exactly one of budget and budget_ratio is given; "closest" without
            `cosine`.
    """
    wanted = budget_of(candidates.height, budget, budget_ratio)
    known = candidates.drop_nulls("path")
    if strategy == "closest":
        if "cosine" not in known.columns:
            raise ConfigError('hierarchical_sample: strategy = "closest" needs `cosine`; bind it.')
        known = known.with_columns(pl.col("cosine").fill_nan(None)).drop_nulls("cosine")
        records = known.sort("cosine", "uid", descending=[True, False])
    else:
        records = drawn(known, seed, stream)
    depth = records["path"].list.len().max() or 0
    assert isinstance(depth, int)
    # A cluster whose parts took turns gives its own records in that order.
    for level in reversed(range(depth)):
        records = records.with_columns(group=pl.col("path").list.get(level, null_on_oob=True))
        tie = group_draws(records, seed, f"{stream}, level {level}")
        records = in_turn(records, pl.lit(1.0), tie=tie)
    return records.head(wanted).select("uid")
