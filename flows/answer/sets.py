"""Which records each arm of a comparison has: uid and repeats, never the payload."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import DataError
from contracts.uid import uid_of, uniform
from flows.measure import encoders
from flows.measure.runtime import Runtime
from flows.pool_reader import Mask
from flows.recipe import bootstrap, sections
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.plan import Plan
from flows.recipe.planner import plan
from flows.recipe.sections import CompareSection, Recipe
from flows.select.verdict import judge
from storage.store import Store

STREAM = "compare.random"
PARTS = "compare.parts"
OTHER = "recipe:"
"""How an arm is called that another recipe keeps."""

Set = tuple[pl.DataFrame | None, int]
"""Uid and repeats, None for the initial weights, and the seed of the training."""


def drawn(
    runtime: Runtime, kept: pl.DataFrame, comparison: CompareSection, seed: int,
    given: Mapping[str, Any],
) -> dict[str, list[Set]]:  # fmt: skip
    """Return for each arm its sets, one a training.

    With `claim = "set"` the i-th random set is drawn with seed + i and trained with it; the other
    arms have one set, `stratified` another for each seed. With `claim = "rule"` there is a set and
    a training a part of the pool.
    """
    if comparison.claim == "rule":
        return _of_parts(runtime, comparison, seed)
    seeds = [seed + i for i in range(comparison.seeds)]
    draws = int(kept["repeats"].sum())
    found: dict[str, list[Set]] = {}
    for arm in comparison.arms:
        if arm == "random":
            everyone = _everyone(runtime)
            many = [seed + i for i in range(comparison.random_sets)]
            found[arm] = [(random_arm(everyone, draws, s), s) for s in many]
        elif arm == "stratified":
            assert comparison.stratify_by is not None
            strata = _strata(runtime, comparison.stratify_by)
            found[arm] = [(stratified_arm(strata, draws, s), s) for s in seeds]
        else:
            fixed = _fixed(runtime, kept, arm, given)
            found[arm] = [(fixed, s) for s in seeds]
    return found


def _fixed(
    runtime: Runtime, kept: pl.DataFrame, arm: str, given: Mapping[str, Any]
) -> pl.DataFrame | None:
    if arm == "untrained":
        return None
    if arm == "recipe":
        return kept
    if arm.startswith(OTHER):
        return _cut_by(runtime, other_plan(runtime.plan.recipe, arm, runtime.store, given))
    return arm_records(runtime, kept, arm, 0)


def random_arm(everyone: pl.Series, draws: int, seed: int) -> pl.DataFrame:
    """Return as many draws of all records, none repeated while records last."""
    uids = everyone.to_numpy()
    order = np.lexsort((uids, uniform(uids, seed, STREAM)))
    rounds, rest = divmod(draws, len(uids))
    repeats = np.full(len(uids), rounds, dtype=np.uint16)
    repeats[order[:rest]] += 1
    frame = pl.DataFrame({"uid": everyone, "repeats": pl.Series(repeats, dtype=pl.UInt16)})
    return frame.filter(pl.col("repeats") > 0)


def stratified_arm(strata: pl.DataFrame, draws: int, seed: int) -> pl.DataFrame:
    """Return as many draws, the same number of every stratum, one more of some drawn by seed.

    Args:
        strata: uid and stratum; null is a stratum of its own.
        draws: of all strata together.
        seed: of the draws within a stratum, and of the strata that get one more.
    """
    names = strata["stratum"].unique().sort()
    keys = np.array([uid_of("stratum", str(name)) for name in names], dtype=np.uint64)
    each, rest = divmod(draws, len(names))
    more = set(np.argsort(uniform(keys, seed, STREAM))[:rest].tolist())
    arms = []
    for place, name in enumerate(names):
        mine = pl.col("stratum").eq_missing(pl.lit(name, dtype=pl.String))
        arms.append(random_arm(strata.filter(mine)["uid"], each + (place in more), seed))
    return pl.concat(arms)


def arm_records(runtime: Runtime, kept: pl.DataFrame, name: str, seed: int) -> pl.DataFrame:
    """Return uid and repeats of the arm `random` or `all`."""
    everyone = _everyone(runtime)
    if name == "random":
        return random_arm(everyone, int(kept["repeats"].sum()), seed)
    once = pl.lit(1, dtype=pl.UInt16)
    return pl.DataFrame({"uid": everyone}).with_columns(repeats=once)


def _everyone(runtime: Runtime) -> pl.Series:
    return runtime.frame([], runtime.visible)["uid"]


def _strata(runtime: Runtime, stratify_by: str) -> pl.DataFrame:
    expression = Expression(stratify_by)
    flat = runtime.frame(expression.paths, runtime.visible)
    values = evaluate_expression(flat, expression.polars, expression.text)
    return flat.select("uid", stratum=values.cast(pl.String))


# ------------------------------------------------------------------ another recipe, parts


def other_plan(recipe: Recipe, arm: str, store: Store, given: Mapping[str, Any]) -> Plan:
    """Return the plan of another recipe over this one's pool.

    Raises:
        ConfigError: it cannot be read or planned, or embeds with an encoder that was trained
            under another hold-out than this recipe's.
    """
    found = sections.read(recipe.recipe_dir / arm.removeprefix(OTHER))
    # Only its rules and what they need are asked for; the hold-out is this recipe's.
    raw = {**found.raw, "holdout": recipe.raw.get("holdout")}
    alone = replace(
        found, raw=raw, pool=recipe.pool, holdout=recipe.holdout, sources=(), canaries=None,
        export=None, pretrain=None, evaluate=(), compare=None,
    )  # fmt: skip
    alone = bootstrap.resolved(alone, store, encoders)
    planned = plan(replace(alone, holdout=None), given)
    return replace(planned, recipe=alone)


def _cut_by(runtime: Runtime, planned: Plan) -> pl.DataFrame:
    other = Runtime(
        runtime.store, runtime.pool, runtime.holdout_masks, plan=planned, workers=runtime.workers,
        device=runtime.device, mixed=runtime.mixed, bar=runtime.bar, on_count=runtime.on_count,
    )  # fmt: skip
    held_out = runtime.frame([], runtime.holdout_masks or [])["uid"]
    bootstrap.refuse_trained(runtime.store, planned.recipe, held_out)
    other.make()
    return judge(other).kept


def _of_parts(runtime: Runtime, comparison: CompareSection, seed: int) -> dict[str, list[Set]]:
    """Cut disjoint parts of the pool, drawn record by record, each by the recipe's rules."""
    found: dict[str, list[Set]] = {arm: [] for arm in comparison.arms}
    masks = _parts(runtime, comparison.parts, seed)
    for number, visible in enumerate(masks):
        part = copy.copy(runtime)
        # What is not in the part is as if it were held out; the notes stay those of the pool.
        part.holdout_masks = [
            live & ~mine for live, mine in zip(runtime.live, visible, strict=True)
        ]
        part.visible = visible
        kept = judge(part).kept
        if not kept.height:
            raise DataError(
                f"[compare] parts: of part {number + 1} of {comparison.parts} the recipe keeps no "
                "record. Ask for fewer parts."
            )
        for arm in comparison.arms:
            frame = None if arm == "untrained" else kept
            if arm in ("random", "all"):
                frame = arm_records(part, kept, arm, seed)
            found[arm].append((frame, seed + number))
    return found


def _parts(runtime: Runtime, parts: int, seed: int) -> list[list[Mask]]:
    masks: list[list[Mask]] = [[] for _ in range(parts)]
    for index, visible in enumerate(runtime.visible):
        of = (uniform(runtime.uids(index).to_numpy(), seed, PARTS) * parts).astype(np.int64)
        for number, mask in enumerate(masks):
            mask.append(visible & (of == number))
    return masks
