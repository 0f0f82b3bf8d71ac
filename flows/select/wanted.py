"""A target that a method keeps what is like it: refused where it holds what is evaluated on."""

from __future__ import annotations

import polars as pl

from contracts.errors import ConfigError, Problem
from flows.measure.runtime import Runtime
from flows.measure.targets import pool_of
from flows.pool_reader import PoolReader


def check_targets(runtime: Runtime) -> None:
    """Check that no target shares a record's digest with the hold-out or an evaluation's pool.

    A set that was picked to be like the test is no fair one, however different its records are.
    Tables that are given as files have no digests and are not looked at.

    Raises:
        ConfigError: with every table that does, and how many of its records.
    """
    nodes = [(node.table, node) for node in runtime.plan.nodes.values()]
    nodes += [(rule.key, node) for rule, node in runtime.plan.rules if node is not None]
    targets = [
        (f"{key}.{name}", reference)
        for key, node in nodes
        for name, reference in node.tables.items()
        if reference.startswith("pool:") and node.step.tables[name].wanted
    ]
    if not targets:
        return
    evaluated = _evaluated(runtime)
    problems = []
    for key, reference in targets:
        pool = pool_of(runtime.store, reference)
        if pool is None:
            continue  # Told where it is read.
        digests = PoolReader(runtime.store, pool).frame(["digest"])["digest"]
        for name, theirs in evaluated.items():
            shared = int(digests.is_in(theirs.implode()).sum())
            if shared:
                problems.append(
                    Problem(
                        key,
                        f"{shared:,} of the {len(digests):,} records of {reference} are in {name} "
                        "too, byte by byte: what is kept would be picked to be like the "
                        "evaluation. Take them out of the target.",
                    )
                )
    if problems:
        raise ConfigError(problems)


def _evaluated(runtime: Runtime) -> dict[str, pl.Series]:
    """Return the digests of what is evaluated on, by what it is called."""
    recipe = runtime.plan.recipe
    found = {}
    if runtime.holdout_masks is not None:
        masks = [
            live & held_out
            for live, held_out in zip(runtime.live, runtime.holdout_masks, strict=True)
        ]
        found["the hold-out"] = runtime.frame(["digest"], masks)["digest"]
    named = [recipe.holdout.pool if recipe.holdout is not None else None]
    named += [section.get("pool") for section in recipe.evaluate]
    for reference in dict.fromkeys(named):
        pool = None if reference is None else pool_of(runtime.store, reference)
        # Of an earlier version of this pool only what was held out is evaluated on.
        if pool is not None and pool.name != runtime.pool.name:
            found[f"the evaluation's pool {pool.name}"] = PoolReader(runtime.store, pool).frame(
                ["digest"]
            )["digest"]
    return found
