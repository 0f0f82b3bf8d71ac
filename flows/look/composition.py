"""What the kept set is made of, beside the pool and a random set with as many draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from curation.concepts import Concepts, concepts
from flows.answer.sets import random_arm
from flows.look.examples import distinct
from flows.look.views import RunView
from flows.pool_reader import HOLDOUT

# Labels that are shown of a column, the others as one.
GROUPS = 12
COLUMNS = 8
# Sizes and lengths are grouped by doubling.
KNOWN = ("source", "width", "height", "caption_stats.words", "caption_stats.characters")
SETS = ("kept", "random", "pool")


@dataclass(frozen=True)
class Group:
    """Records of one label: their share of the draws of each set, in [0, 1]."""

    label: str
    kept: float
    random: float
    pool: float


@dataclass(frozen=True)
class Composition:
    """The groups of one column; the shares of each set add up to 1."""

    column: str
    groups: tuple[Group, ...]


def compositions(run: RunView, types: Mapping[str, Any], seed: int) -> list[Composition]:
    """Return what three sets are made of: by source, size, length and measured labels.

    They are the kept records, each as often as it is drawn; the random arm of a seed; the pool
    without the hold-out. A column of which all records are in one group is left out, and so is
    every column of meta.

    Cost: 20 bytes a record, and one narrow column at a time.
    """
    sets = run.verdict.select(
        "uid",
        kept=pl.when(pl.col("dropped_by").is_null()).then("repeats").fill_null(0),
        pool=(~_held(run)).cast(pl.UInt32),
    )
    draws = int(sets["kept"].sum())
    everyone = sets.filter(pl.col("pool") > 0)["uid"]
    drawn = random_arm(everyone, draws, seed).rename({"repeats": "random"})
    sets = sets.join(drawn, on="uid", how="left", maintain_order="left").fill_null(0)
    found = []
    for column in _columns(types):
        values = run.runtime.frame([column])[column]
        groups = _groups(_labelled(values), sets)
        if len(groups) > 1:
            found.append(Composition(column, groups))
    return found


def _columns(types: Mapping[str, Any]) -> list[str]:
    """Return the columns that are looked at: the known ones, and every measured label."""
    measured = [name for name in types if "." in name and not name.startswith("meta.")]
    labels = [name for name in measured if types[name] == pl.String]
    return [name for name in (*KNOWN, *labels) if name in types][:COLUMNS]


def _labelled(values: pl.Series) -> pl.DataFrame:
    """Return the group of each value: `label`, null for a null; `order` where groups have one."""
    if not values.dtype.is_numeric():
        return pl.select(label=values, order=pl.lit(0, dtype=pl.Int64))
    whole = pl.select(pl.when(values >= 1).then(values.cast(pl.Float64).log(2).floor()))
    power = whole.to_series().cast(pl.Int64)
    labels = {
        n: "1" if n == 0 else f"{2**n:,} to {2 ** (n + 1) - 1:,}"
        for n in power.drop_nulls().unique().to_list()
    }
    named = power.replace_strict(labels, default=None, return_dtype=pl.String)
    label = pl.when(values < 1).then(pl.lit("0")).otherwise(named)
    return pl.select(label=label, order=power.fill_null(-1))


def _groups(labelled: pl.DataFrame, sets: pl.DataFrame) -> tuple[Group, ...]:
    counted = (
        labelled.with_columns(sets.select(SETS))
        .group_by("label", "order")
        .agg(pl.col(SETS).cast(pl.Float64).sum())
        .filter(pl.col("pool") > 0)
        .with_columns(pl.col(SETS) / pl.col(SETS).sum())
    )
    ordered = counted.sort("order", -pl.col("pool"), "label")
    shown, rest = ordered[:GROUPS], ordered[GROUPS:]
    groups = [
        Group(distinct(label), *shares) for label, *shares in shown.select("label", *SETS).rows()
    ]
    if len(rest):
        groups.append(Group(f"({len(rest):,} others)", *rest.select(SETS).sum().row(0)))
    return tuple(groups)


@dataclass(frozen=True)
class Named:
    """The concepts of one column: what `curation.concepts` finds, and the first and last of them.

    Attributes:
        column: the lists of entries.
        cap: an entry of at most so many records is of the tail.
        found: counts and entropies of the pool without the hold-out and of the draws.
        rows: the ten entries named most and the ten named least, each with its name.
    """

    column: str
    cap: float
    found: Concepts
    rows: tuple[tuple[str, int, int], ...]


def named(run: RunView, types: Mapping[str, Any]) -> list[Named]:
    """Return what records name, by each column that `entry_matches` wrote.

    The cap is that of the last `balance_entries` of the recipe, or its default.

    Cost: one column of lists at a time.
    """
    rules = [rule for rule in run.recipe.get("select", ()) if rule.get("by") == "balance_entries"]
    cap = float(rules[-1].get("cap", 20_000)) if rules else 20_000.0
    pool = run.verdict.select(
        repeats=pl.when(pl.col("dropped_by").is_null()).then("repeats").fill_null(0),
        held=_held(run),
    )
    tables = []
    for node in run.runtime.plan.nodes.values():
        column = f"{node.alias}.entries"
        if node.method is None or node.method.name != "entry_matches" or column not in types:
            continue
        rows = pool.with_columns(entries=run.runtime.frame([column])[column])
        found = concepts(rows.filter(~pl.col("held")), cap=cap)
        [metadata] = run.runtime.arguments(node)
        names = metadata.select(pl.col("entry").cast(pl.UInt32), "name").unique(
            "entry", keep="first"
        )
        table = found.table
        ends = table if table.height <= 20 else pl.concat([found.head(), found.tail()])
        shown = ends.join(names, on="entry", how="left", maintain_order="left")
        lines = shown.select("name", "pool", "kept").rows()
        tables.append(Named(column, cap, found, tuple((distinct(n), p, k) for n, p, k in lines)))
    return tables


def _held(run: RunView) -> pl.Expr:
    """Return whether a record is held out."""
    if "holdout" not in run.recipe:
        return pl.lit(False)
    return pl.col("dropped_by").eq_missing(pl.lit(HOLDOUT))
