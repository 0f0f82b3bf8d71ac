"""The evaluation records: taken out, with their near-duplicates, before any fit or selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from contracts.uid import uid_of, uniform
from flows.measure.runtime import Runtime
from flows.options import Options
from flows.pool_reader import Mask
from flows.recipe import bootstrap
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.plan import Plan
from flows.recipe.sections import HoldoutSection
from flows.workers import Workers
from storage import tables
from storage.store import Store


def run_reader(
    store: Store, pool: tables.Pool, planned: Plan, options: Options, workers: Workers
) -> Runtime:
    """Return what reads and makes the tables of a run over a pool, with its hold-out taken."""
    how: dict[str, Any] = {
        "plan": planned,
        "workers": workers,
        "device": options.device,
        "on_count": options.reporter.table,
        "mixed": options.mixed,
        "bar": options.reporter.bar,
    }
    holdout_masks = None
    if planned.recipe.holdout is not None:
        # By a reader of its own, to which every record is visible: near-duplicates of held-out
        # records are found before any are held out, and the run's tables never see them.
        holdout_masks = holdout(Runtime(store, pool, **how), planned.recipe.holdout)
    return Runtime(store, pool, holdout_masks, **how)


def holdout(everyone: Runtime, section: HoldoutSection) -> list[Mask]:
    """Return for each part the rows that are held out.

    `where` picks records, `by_group` widens the pick to whole groups; without `where` a group
    is picked if uniform(hash(group), seed, "holdout") < ratio (a record where no group is
    given). With `near` every record that shares a cluster with a picked one leaves too.

    Args:
        everyone: a runtime in which nothing is held out.
        section: [holdout] with `where` or `ratio`; a `pool` of its own holds nothing out.
    """
    if section.pool is not None:
        return [np.zeros(part.rows, dtype=bool) for part in everyone.pool.parts]
    expression = Expression(section.where) if section.where is not None else None
    paths = [
        *(expression.paths if expression else ()),
        *([section.by_group] if section.by_group else ()),
    ]
    wanted = [everyone.plan.columns[p] for p in paths if p in everyone.plan.columns]
    if section.near is not None:
        paths.append(f"{section.near}.cluster")
        wanted.append(everyone.plan.columns[paths[-1]])
    everyone.make(wanted)
    rows = everyone.frame(paths)
    rows = rows.with_columns(picked=_picked(rows, section, expression))
    if section.by_group is not None:
        group = pl.col(section.by_group)
        rows = rows.with_columns(
            picked=pl.when(group.is_null())
            .then(pl.col("picked"))
            .otherwise(pl.col("picked").any().over(section.by_group))
        )
    if section.near is not None:
        rows = rows.with_columns(picked=pl.col("picked").any().over(f"{section.near}.cluster"))
    held_out = rows.filter("picked")["uid"]
    bootstrap.refuse_trained(everyone.store, everyone.plan.recipe, held_out)
    return everyone.where(held_out)


def _picked(
    rows: pl.DataFrame, section: HoldoutSection, expression: Expression | None
) -> pl.Series:
    if expression is not None:
        return evaluate_expression(rows, expression.polars, expression.text).fill_null(False)
    ratio = section.ratio or 0.0
    if section.by_group is None:
        return pl.Series(uniform(rows["uid"].to_numpy(), section.seed, "holdout") < ratio)
    groups = rows[section.by_group].cast(pl.String).fill_null("")
    keys = np.array(
        [uid_of("group", g) if g else u for g, u in zip(groups, rows["uid"], strict=True)],
        dtype=np.uint64,
    )
    return pl.Series(uniform(keys, section.seed, "holdout") < ratio)
