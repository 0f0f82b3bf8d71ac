"""The verdict: for every record, kept, or the first rule that dropped it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import DataError
from curation.step import Step
from flows.measure.runtime import Runtime
from flows.pool_reader import HOLDOUT, Mask
from flows.recipe.expressions import clause_values
from flows.recipe.plan import Node, Plan
from flows.recipe.sections import Rule


@dataclass(frozen=True)
class Clause:
    """What one clause of a rule dropped: records whose first failing clause it is."""

    text: str
    dropped: int
    unmeasured: int


@dataclass(frozen=True)
class RuleResult:
    """What one rule did.

    Attributes:
        reached: candidates before it.
        unmeasured: dropped because the rule's value was null.
        repeats: draws after it, where a selector repeats records.
    """

    name: str
    reached: int
    dropped: int
    unmeasured: int = 0
    clauses: tuple[Clause, ...] = ()
    repeats: int | None = None


@dataclass
class Verdict:
    """Every live record of the pool with its fate.

    Attributes:
        rows: uid, dropped_by (null: kept), clause, repeats; one row a live record, in pool order.
        results: rule by rule, the hold-out first.
        evidence: for each selector its columns beyond uid, by rule name.
    """

    rows: pl.DataFrame
    results: list[RuleResult]
    evidence: dict[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def kept(self) -> pl.DataFrame:
        """Uid and repeats of the kept records."""
        return self.rows.filter(pl.col("dropped_by").is_null()).select("uid", "repeats")

    def dropped(self) -> dict[str, int]:
        """Records dropped by each rule, zeros included."""
        return {result.name: result.dropped for result in self.results}

    def check(self, records: int) -> None:
        """Refuse a verdict that lost or doubled a record.

        Raises:
            DataError: in = kept + dropped does not hold.
        """
        total = self.kept.height + sum(self.dropped().values())
        if total != records or self.rows["uid"].n_unique() != records:
            raise DataError(
                f"the verdict covers {total:,} of {records:,} records: nothing is kept."
            )


def judge(runtime: Runtime) -> Verdict:
    """Apply the rules in order to the records that the rules before left.

    A null drops: it is counted as `unmeasured`. A later budget counts draws where an earlier
    selector repeats records, and a later selector's own repeats replace the earlier.
    """
    plan = runtime.plan
    rows = runtime.frame([])
    fate = np.full(rows.height, -1, dtype=np.int32)
    clause = np.full(rows.height, -1, dtype=np.int32)
    repeats = np.ones(rows.height, dtype=np.uint16)
    results: list[RuleResult] = []
    evidence: dict[str, pl.DataFrame] = {}
    names: list[str] = []
    if plan.recipe.holdout is not None:
        held_out = runtime.flat(runtime.holdout_masks or [])
        names.append(HOLDOUT)
        fate[held_out] = 0
        dropped = int(held_out.sum())
        results.append(RuleResult(name=HOLDOUT, reached=rows.height, dropped=dropped))
    for rule, node in plan.rules:
        index = len(names)
        names.append(rule.name)
        candidates = fate < 0
        if rule.where is not None:
            passed, failing, result = _where(runtime, rule, candidates)
            clause[candidates & ~passed] = failing[candidates & ~passed]
        else:
            assert node is not None
            passed, repeats, found, result = _by(
                runtime, rule, node, rows["uid"], candidates, repeats
            )
            evidence[rule.name] = found
        fate[candidates & ~passed] = index
        results.append(result)
    labels = pl.Series([*names, None], dtype=pl.String)
    texts = _clause_texts(plan, len(names) - len(plan.rules))
    judged = rows.select("uid").with_columns(
        dropped_by=labels.gather(np.where(fate < 0, len(names), fate)),
        clause=pl.Series(
            [texts[f][c] if c >= 0 else None for f, c in zip(fate, clause, strict=True)],
            dtype=pl.String,
        ),
        repeats=pl.Series(np.where(fate < 0, repeats, 0), dtype=pl.UInt16),
    )
    verdict = Verdict(judged, results, evidence)
    verdict.check(rows.height)
    return verdict


def _where(
    runtime: Runtime, rule: Rule, candidates: Mask
) -> tuple[Mask, np.ndarray[Any, Any], RuleResult]:
    assert rule.where is not None
    flat = runtime.frame(rule.where.paths)
    passes = clause_values(rule.where, flat)
    results = [passes[c].fill_null(False).to_numpy() for c in passes.columns]
    nulls = [passes[c].is_null().to_numpy() for c in passes.columns]
    passed = np.logical_and.reduce(results)
    failing = np.argmin(np.stack(results), axis=0).astype(np.int32)
    lost = candidates & ~passed
    first_null = np.stack(nulls)[failing, np.arange(len(failing))]
    clauses = tuple(
        Clause(
            text, int((lost & (failing == i)).sum()), int((lost & (failing == i) & nulls[i]).sum())
        )
        for i, text in enumerate(rule.where.clauses)
    )
    result = RuleResult(
        name=rule.name,
        reached=int(candidates.sum()),
        dropped=int(lost.sum()),
        unmeasured=int((lost & first_null).sum()),
        clauses=clauses,
    )
    return passed, failing, result


def _by(
    runtime: Runtime,
    rule: Rule,
    node: Node,
    uids: pl.Series,
    candidates: Mask,
    repeats: np.ndarray[Any, Any],
) -> tuple[Mask, np.ndarray[Any, Any], pl.DataFrame, RuleResult]:
    rows = runtime.candidates(node.roles, runtime.by_part(candidates))
    step = node.step
    if node.of_pool:
        whole = int(sum(mask.sum() for mask in runtime.visible))
        ratio = float(node.parameters["budget_ratio"])
        step = step.bind(budget_ratio=None, budget=max(1, int(whole * ratio + 1e-9)))
    arguments = runtime.arguments(node)
    kept = step(rows, *arguments)
    draws = uids.to_frame("uid").with_columns(draws=repeats).filter(pl.Series(candidates))
    if "repeats" not in kept.columns and draws["draws"].sum() > draws.height:
        kept = _within(step, rows, arguments, kept, draws)
    passed = uids.is_in(kept["uid"].implode()).to_numpy()
    total: int | None = None
    if "repeats" in kept.columns:
        mine = uids.to_frame("uid").join(
            kept.select("uid", "repeats"), on="uid", how="left", maintain_order="left"
        )
        repeats = np.where(passed, mine["repeats"].fill_null(1).to_numpy(), repeats).astype(
            np.uint16
        )
        total = int(repeats[passed].sum())
    found = kept
    if step.explain is not None:
        twins = _measured(runtime, node, step.explain(rows, kept))
        found = pl.concat([kept, twins], how="diagonal_relaxed")
    result = RuleResult(
        name=rule.name,
        reached=int(candidates.sum()),
        dropped=int((candidates & ~passed).sum()),
        repeats=total,
    )
    return passed, repeats, found, result


def _within(
    step: Step, rows: pl.DataFrame, arguments: list[Any], kept: pl.DataFrame, draws: pl.DataFrame
) -> pl.DataFrame:
    """Return what a selector keeps where its budget counts draws: the most that fits into it.

    The budget in records is bisected, so a budget of draws is exact to less than one record's
    repeats for a selector whose smaller budgets are subsets of its larger ones.
    """
    budget, ratio = step.bound.get("budget"), step.bound.get("budget_ratio")
    if budget is None and ratio is None:
        return kept

    def drawn(found: pl.DataFrame) -> int:
        return int(found.select("uid").join(draws, on="uid")["draws"].sum())

    total = int(draws["draws"].sum())
    wanted = budget if budget is not None else int(total * float(ratio or 0.0) + 1e-9)
    fits, low, high = kept.clear(), 0, min(wanted, rows.height)
    while low < high:
        middle = (low + high + 1) // 2
        parameters = {"budget_ratio": None} if "budget_ratio" in step.bound else {}
        found = step(rows, *arguments, budget=middle, **parameters)
        if drawn(found) <= wanted:
            fits, low = found, middle
        else:
            high = middle - 1
    return fits


def _measured(runtime: Runtime, node: Node, twins: pl.DataFrame) -> pl.DataFrame:
    """Name the annotation that joined twins, and their distance where it compared the two.

    Members of a cluster may be joined through others only, whose distance is null; a method that
    states no measure joins what is identical.
    """
    path = next((p for p in node.paths if "." in p and not p.startswith("meta.")), None)
    if path is None or not twins.height:
        return twins
    alias = path.partition(".")[0]
    twins = twins.with_columns(edge=pl.lit(alias))
    known = runtime.plan.columns
    if f"{alias}.nearest" not in known or not path.endswith(".cluster"):
        return twins
    measure = next((m for m in ("distance", "similarity") if f"{alias}.{m}" in known), None)
    if measure is None:
        return twins.with_columns(distance=pl.lit(0.0, dtype=pl.Float32))
    paths = [f"{alias}.nearest", f"{alias}.{measure}"]
    near = runtime.frame(paths).rename(dict(zip(paths, ("twin", "far"), strict=True)))
    near = near.drop_nulls("twin")
    both = pl.concat([near, near.select("far", uid="twin", twin="uid")], how="diagonal")
    far = pl.col("far").cast(pl.Float32)
    both = both.select("uid", "twin", far=far if measure == "distance" else 1 - far)
    return (
        twins.drop("distance")
        .join(both.unique(["uid", "twin"], keep="any"), on=["uid", "twin"], how="left")
        .rename({"far": "distance"})
        .sort("uid")
    )


def _clause_texts(plan: Plan, before: int) -> list[tuple[str, ...]]:
    rules = [rule.where.clauses if rule.where is not None else () for rule, _ in plan.rules]
    return [()] * before + rules
