"""The guard: what holds a version back until a person has looked at it.

A finding is one sentence of what is beyond what the recipe allows; `flows.run` holds the version
where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from contracts.errors import ConfigError
from evaluation.proportions import LEVEL, newcombe
from flows.measure.runtime import Runtime
from flows.pool_reader import HOLDOUT
from flows.recipe.expressions import Expression, bound_roles
from flows.recipe.sections import GroupsSection, GuardSection
from flows.select.verdict import RuleResult, Verdict

SHOWN = 50


@dataclass(frozen=True)
class Gap:
    """How much more a rule drops of a group than of all other records that reached it.

    Attributes:
        rule: its name.
        by: what tells the groups apart.
        group: the value of `by` as text; None where it has none.
        reached: records of the group that reached the rule.
        dropped: of these, by the rule.
        rate: dropped by reached.
        others: that of all other groups together.
        gap: rate less others.
        low: lower end of the gap's interval.
        high: upper end.
        beyond: the whole interval lies above what the recipe allows.
    """

    rule: str
    by: str
    group: str | None
    reached: int
    dropped: int
    rate: float
    others: float
    gap: float
    low: float
    high: float
    beyond: bool


def look(
    runtime: Runtime,
    verdict: Verdict,
    section: GuardSection | None,
    before: Sequence[Mapping[str, Any]] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return what the guard saw, as `result["guard"]` has it, and what it found wrong.

    Args:
        runtime: the run's.
        verdict: the new version's.
        section: [guard].
        before: the funnel of the last version, None where there is none.
    """
    if section is None:
        return {}, []
    rules = [result for result in verdict.results if result.name != HOLDOUT]
    causes = _too_few(verdict, rules, section.min_kept_ratio)
    if before is not None and section.max_change_ratio is not None:
        causes += _changed(rules, before, section.max_change_ratio)
    seen: dict[str, Any] = {}
    if section.groups is not None:
        found = gaps(runtime, verdict, section.groups)
        beyond = [gap for gap in found if gap.beyond][:SHOWN]
        causes += [_sentence(gap, section.groups.max_gap) for gap in beyond]
        seen["groups"] = [asdict(gap) for gap in found[:SHOWN]]
    return seen, causes


def _too_few(verdict: Verdict, rules: Sequence[RuleResult], least: float | None) -> list[str]:
    if least is None or not rules:
        return []
    kept, records = verdict.kept.height, rules[0].reached
    if kept >= least * records:
        return []
    return [
        f"it keeps {kept / records:.1%} of {records:,} records, where min_kept_ratio is {least:.1%}"
    ]


def _changed(
    rules: Sequence[RuleResult], before: Sequence[Mapping[str, Any]], most: float
) -> list[str]:
    """Say which rules drop another share than they did; a rule that is new or met nothing, none."""
    old = {of["name"]: of["dropped"] / of["reached"] for of in before if of["reached"]}
    return [
        f"rule {rule.name!r} drops {rule.dropped / rule.reached:.1%} of {rule.reached:,} records, "
        f"{old[rule.name]:.1%} in the last version, where max_change_ratio is {most:.1%}"
        for rule in rules
        if rule.name in old
        and rule.reached
        and abs(rule.dropped / rule.reached - old[rule.name]) > most
    ]


def gaps(runtime: Runtime, verdict: Verdict, section: GroupsSection) -> list[Gap]:
    """Return the gap of each rule in each group, the largest lower end first.

    Left out are rules that dropped nothing and those of `intended`, and groups of which, or beside
    which, fewer than `min_records` reached the rule. The intervals are Newcombe's, each of the
    level 0.05 by their number, so that all of them together hold in 95 % of versions; in fewer
    where groups of some 60 records lose a few each, which a `max_gap` near 0 then shows.

    Cost: one narrow column and the verdict; a row of whole numbers for each different group.
    """
    rules = [r.name for r in verdict.results if r.name != HOLDOUT]
    labelled = {}
    for by in section.by:
        flat = runtime.frame(Expression(by).paths)
        [labels] = bound_roles(flat, {"group": Expression(by)})
        if labels.dtype.is_nested() or labels.dtype == pl.Binary:
            raise ConfigError(f"guard.groups.by: {by} is {labels.dtype}, and no label.")
        labelled[by] = verdict.rows.select("dropped_by", group=labels.cast(pl.String))
    return compared(labelled, rules, section)


def compared(
    labelled: Mapping[str, pl.DataFrame], rules: Sequence[str], section: GroupsSection
) -> list[Gap]:
    """Return the gaps of records with `dropped_by` and `group`, for each of what groups them."""
    counted = [
        (by, row)
        for by, fates in labelled.items()
        for row in _counts(fates, rules, section.min_records)
        if row.rule not in section.intended
    ]
    if not counted:
        return []
    counts = np.array([row[2:] for _, row in counted])
    reached, dropped, others, others_dropped = counts.T
    gap, low, high = newcombe(dropped, reached, others_dropped, others, LEVEL / len(counted))
    found = [
        Gap(
            row.rule, by, row.group, row.reached, row.dropped, row.dropped / row.reached,
            row.others_dropped / row.others,
            float(gap[i]), float(low[i]), float(high[i]), bool(low[i] > section.max_gap),
        )
        for i, (by, row) in enumerate(counted)
    ]  # fmt: skip
    return sorted(found, key=lambda gap: (-gap.low, gap.rule, gap.by, gap.group or ""))


class _Count(NamedTuple):
    """How many records of a group, and of all others, reached a rule, and how many it dropped."""

    rule: str
    group: str | None
    reached: int
    dropped: int
    others: int
    others_dropped: int


def _counts(fates: pl.DataFrame, rules: Sequence[str], least: int) -> list[_Count]:
    """Return the counts of each rule that dropped something, in each group that is compared.

    Args:
        fates: `dropped_by` and `group`.
        rules: in their order.
        least: so many of the group and of all others reached the rule.
    """
    visible = fates.filter(pl.col("dropped_by").ne_missing(pl.lit(HOLDOUT)))
    fate = pl.col("dropped_by")
    table = (
        visible.group_by("group").agg(
            pl.len(), *((fate == rule).sum().alias(f"{i}") for i, rule in enumerate(rules))
        )
        .sort("group", nulls_last=True)
    )  # fmt: skip
    groups = table["group"]
    counts = table.drop("group", "len").to_numpy().astype(np.int64)
    # A rule is reached by what no rule ahead of it drops.
    ahead = np.cumsum(counts, axis=1) - counts
    reached = table["len"].to_numpy().astype(np.int64)[:, None] - ahead
    others, others_dropped = reached.sum(axis=0) - reached, counts.sum(axis=0) - counts
    is_compared = (np.minimum(reached, others) >= least) & (counts.sum(axis=0) > 0)
    return [
        _Count(
            rules[r], groups[i], int(reached[i, r]), int(counts[i, r]),
            int(others[i, r]), int(others_dropped[i, r]),
        )
        for r, i in zip(*(at.tolist() for at in np.nonzero(is_compared.T)), strict=True)
    ]  # fmt: skip


def _sentence(gap: Gap, most: float) -> str:
    group = "no value" if gap.group is None else repr(gap.group)
    return (
        f"rule {gap.rule!r} drops {gap.rate:.1%} of {gap.reached:,} records with {gap.by} {group}, "
        f"and {gap.others:.1%} of the others: {gap.gap:+.1%} [{gap.low:+.1%}, {gap.high:+.1%}], "
        f"where max_gap is {most:.1%}"
    )
