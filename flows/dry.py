"""A dry run: what would be found and measured, and what a sample says of the outcome."""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import hypergeom

from contracts.errors import DataError
from contracts.uid import uniform
from flows.answer import foresee
from flows.answer.check import check_payload, check_stages
from flows.export import destination
from flows.ingest import targets
from flows.ingest.ingest import SourceSpec, ingest
from flows.ingest.sources import source_spec
from flows.measure import encoders
from flows.measure.runtime import Runtime
from flows.measure.targets import pool_of, pools_of
from flows.options import Options
from flows.pool_reader import PoolReader
from flows.recipe import bootstrap
from flows.recipe.expressions import Expression
from flows.recipe.plan import Node, Plan
from flows.recipe.planner import plan
from flows.recipe.sections import Recipe
from flows.recipe.types import check_types, pool_schema
from flows.reporter import Count
from flows.select.holdout import holdout
from flows.select.verdict import RuleResult, judge
from storage import tables
from storage.source import Record, Rejected, Unit, detect, probe
from storage.store import Store

# An end of an interval is missed by the truth in at most this share of draws.
TAIL = 0.025

Bounds = tuple[float | None, float | None]
# What a rule looks at: each record by itself; all that reach it, to choose; a note on several.
ALONE, CHOOSES, RELATES = "alone", "chooses", "relates"


@dataclass(kw_only=True)
class Outcome:
    """What the rules do, and what the tables cost that they rest on.

    Attributes:
        exact: whether a run does the same.
        rules: rule, reached, dropped, kept_ratio, low, high.
        sample: how many records were measured for it.
        seconds: of each table, for the sample; sizes: bytes likewise.
    """

    exact: bool
    rules: list[dict[str, Any]]
    sample: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def dry_run(
    recipe: Recipe, store: Store, options: Options, sample: int, seed: int = 0
) -> dict[str, Any]:
    """Foresee a run; nothing is written but in a temporary folder.

    Where everything is measured, the rules are applied to the whole pool, and what they leave is
    what a run leaves. Else they are applied to a sample: the records with the smallest
    uniform(uid, seed, "dry run"), a draw without replacement whatever the order of the pool; or
    the first records of the sources where there is no pool yet, of which nothing follows for the
    others.

    What a rule leaves is a share of all records. That of the pool lies in [low, high] in 95 of 100
    draws as long as every rule so far looks at a record by itself. A selector keeps one of each
    cluster, or what fits into a budget, of which a sample has its part: of a pool no larger share
    than of a sample. So from the first one on the share is at most `high`, and `low` is null. A
    condition on a note that relates records, such as the size of a cluster, may go either way:
    neither it nor a selector behind it lowers `high`.

    Args:
        sample: how many records to measure.
        seed: of the draw.

    Returns:
        pool, records, exact (whether a run leaves what the rules say), bindings, tables (found,
        computed, seconds and bytes foreseen), training (see `flows.answer.foresee`), rules (rule,
        reached, dropped, kept_ratio: of the pool where exact, else of the sample; low, high),
        sample, seconds, bytes.

    Raises:
        ConfigError: the recipe is wrong, with every problem.
        DataError: there is nothing to look at.
    """
    recipe, folders = targets.named(bootstrap.resolved(recipe, store, encoders), store)
    planned = plan(recipe, options.given)
    check_stages(recipe, store, options.given)
    destination.check(store, recipe)
    pool = tables.load_pool(store, recipe.pool, options.at)
    records = pool.records if pool is not None else None
    counts: Mapping[str, Count] = {}
    outcome = None
    if pool is not None:
        check_types(planned, pool_schema(store, pool))
        check_payload(recipe, pool.kind)
        survey = _survey(planned, store, pool, options)
        counts = survey.counts
        outcome = _of_all(survey)
    if outcome is None:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Store(Path(folder))
            if pool is None:
                small, whole = _probed(recipe, scratch, sample, options)
            else:
                small = _sampled(store, scratch, pool, sample, seed)
                whole = small.records == pool.records
            for name, section in folders.items():
                if tables.load_pool(store, name) is None:
                    target = replace(recipe, pool=name, sources=(section,))
                    whole &= _probed(target, scratch, sample, options)[1]
            for other in _others(planned, store):
                copied = _sampled(store, scratch, other, sample, seed)
                tables.commit_pool(scratch, copied)
                whole &= copied.records == other.records
            # A run takes a fit that is pinned; here each is made anew.
            whole &= not any(counts[t].found for t in counts if t.startswith("fit."))
            scaled = _scaled(planned, small.records / (records or small.records or 1))
            outcome = _of_sample(scaled, scratch, small, records, options, whole=whole)
    foreseen = {
        table: _cost(node, outcome, counts.get(table), records)
        for table, node in planned.nodes.items()
    }
    return {
        "pool": recipe.pool,
        "records": records,
        "exact": outcome.exact,
        "bindings": [list(binding) for binding in planned.bindings],
        "tables": foreseen,
        "training": foresee.foresee(recipe, store, options),
        "sample": outcome.sample,
        "rules": outcome.rules,
        "seconds": round(sum(t["seconds"] for t in foreseen.values()), 1),
        "bytes": sum(t["bytes"] for t in foreseen.values()),
    }


def _cost(node: Node, outcome: Outcome, count: Count | None, records: int | None) -> dict[str, Any]:
    """Return what of a table is found and computed, and what that takes by the sample."""
    scale = 1.0
    if count is not None and records is not None:
        # A fit is counted as one.
        rows = records * count.computed if node.kind == "fit" else count.computed
        scale = rows / max(1, outcome.sample)
    return {
        "found": count.found if count is not None else 0,
        "computed": count.computed if count is not None else records,
        "seconds": round(outcome.seconds.get(node.table, 0.0) * scale, 2),
        "bytes": int(outcome.sizes.get(node.table, 0) * scale),
    }


def text(foreseen: Mapping[str, Any]) -> str:
    """Return a dry run as lines."""
    known = foreseen["records"]
    lines = [f"pool {foreseen['pool']}: " + (f"{known:,} records" if known else "not ingested yet")]
    lines += ["", "bound:"] if foreseen["bindings"] else []
    lines += [f"  {t}.{role} = {e}  ({how})" for t, role, e, how in foreseen["bindings"]]
    lines += ["", f"{'table':32} {'found':>12} {'to measure':>12} {'seconds':>9} {'bytes':>14}"]
    for table, row in foreseen["tables"].items():
        todo = "all" if row["computed"] is None else f"{row['computed']:,}"
        lines.append(
            f"{table:32} {row['found']:>12,} {todo:>12} {row['seconds']:>9,.1f} {row['bytes']:>14,}"
        )
    some = f"{foreseen['sample']:,}"
    if foreseen["exact"]:
        lines += ["", "what a run leaves" + (" of the pool as it is:" if known else ":")]
    elif known:
        lines += ["", f"what is left of a sample of {some} records, and of the pool:"]
    else:
        lines += ["", f"what is left of the first {some} records; the others may differ:"]
    lines.append(f"  {'rule':40} {'reached':>10} {'dropped':>10} {'left':>7}")
    for rule in foreseen["rules"]:
        counted = f"{rule['reached']:>10,} {rule['dropped']:>10,} {rule['kept_ratio']:7.1%}"
        lines.append(f"  {rule['rule']:40} {counted}{_said(rule['low'], rule['high'])}")
    cost = f"{foreseen['seconds']:,} s, {foreseen['bytes']:,} bytes of notes"
    if known:
        lines.append(f"\nforeseen: {cost}")
    else:
        lines.append(f"\nof the sample alone: {cost}; after `--until ingest` that of the whole")
    if foreseen["training"] is not None:
        training = foreseen["training"]
        lines.append(f"training: {training.get('text') or 'unknown: ' + training['unknown']}")
    return "\n".join(lines)


def _said(low: float | None, high: float | None) -> str:
    if high is None:
        return ""
    return f"  at most {high:.1%}" if low is None else f"  [{low:.1%}, {high:.1%}]"


# ------------------------------------------------------------------ what follows for the pool


def share_interval(kept: int, drawn: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `total` records, by a draw without replacement.

    Every number of them under which neither so few nor so many would be drawn in more than 2.5 %
    of draws. No approximation: it holds the truth in at least 95 % of draws, and is a point where
    all are drawn.

    Args:
        kept: how many of the drawn have it.
        drawn: how many of the total were drawn.

    Reference: Clopper and Pearson 1934, Biometrika 26(4), with the hypergeometric distribution in
        the binomial's place.
    Cost: some thirty evaluations for each end.
    """
    if not total:
        return 0.0, 0.0
    possible = range(kept, total - (drawn - kept) + 1)
    first = bisect_left(
        possible, True, key=lambda k: hypergeom.sf(kept - 1, total, k, drawn) > TAIL
    )
    beyond = bisect_left(possible, True, key=lambda k: hypergeom.cdf(kept, total, k, drawn) <= TAIL)
    return possible[first] / total, possible[beyond - 1] / total


def _bounds(runtime: Runtime, results: Sequence[RuleResult], records: int) -> list[Bounds]:
    """Return for each rule between which shares what it leaves of the pool lies."""
    planned, size = runtime.plan, runtime.pool.records
    kinds = _kinds(planned)

    def interval(result: RuleResult) -> tuple[float, float]:
        return share_interval(result.reached - result.dropped, size, records)

    # What is left passes all the rules that look at a record by itself, whatever the others do.
    alone = iter(judge(_alone(runtime, kinds)).results)
    bounds: list[Bounds] = []
    upper, single, sure = 1.0, True, True
    for result, kind in zip(results, kinds, strict=True):
        low = None
        if kind == ALONE:
            low, high = interval(next(alone))
            upper = min(upper, high)
            # Behind a selector: of a cluster the pool may keep another record, which passes.
            sure = sure and single
        elif kind == CHOOSES and sure:
            upper = min(upper, interval(result)[1])
        single = single and kind == ALONE
        sure = sure and kind != RELATES
        bounds.append((low if single else None, upper))
    return bounds


def _kinds(planned: Plan) -> list[str]:
    """Return what each rule looks at, the hold-out first."""
    related: set[str] = set()
    for table, node in planned.nodes.items():
        if node.kind in ("groupwise", "poolwise", "fit") or planned.needs(node) & related:
            related.add(table)

    def kind(paths: Sequence[str]) -> str:
        return RELATES if {planned.columns.get(p) for p in paths} & related else ALONE

    kinds = []
    section = planned.recipe.holdout
    if section is not None:
        where = Expression(section.where).paths if section.where is not None else ()
        kinds.append(kind([*where, *([section.by_group] if section.by_group else ())]))
        widened = section.near is not None or (section.where and section.by_group)
        if kinds[0] == ALONE and widened:
            kinds[0] = CHOOSES
    return kinds + [CHOOSES if r.where is None else kind(r.where.paths) for r, _ in planned.rules]


def _alone(runtime: Runtime, kinds: Sequence[str]) -> Runtime:
    """Return a runtime of the rules alone that look at each record by itself."""
    planned = runtime.plan
    held = len(kinds) - len(planned.rules)
    rules = [r for r, kind in zip(planned.rules, kinds[held:], strict=True) if kind == ALONE]
    recipe = planned.recipe
    if held and kinds[0] != ALONE:
        recipe = replace(recipe, holdout=None)
    return replace(runtime, plan=replace(planned, recipe=recipe, rules=tuple(rules)))


def _rules(
    results: Sequence[RuleResult], records: int, bounds: Sequence[Bounds] | None = None
) -> list[dict[str, Any]]:
    rules = []
    for result, (low, high) in zip(results, bounds or [(None, None)] * len(results), strict=True):
        left = result.reached - result.dropped
        rules.append(
            {
                "rule": result.name,
                "reached": result.reached,
                "dropped": result.dropped,
                "kept_ratio": left / records if records else 0.0,
                "low": low,
                "high": high,
            }
        )
    return rules


# ------------------------------------------------------------------ the pool as it is


def _survey(planned: Plan, store: Store, pool: tables.Pool, options: Options) -> Runtime:
    """Return a runtime with the tables that are found, and counts of what is to be computed."""
    everyone = Runtime(store, pool, plan=planned, device=options.device, dry=True)
    section = planned.recipe.holdout
    if section is not None:
        # The hold-out may rest on notes that are not there; then nothing after it is either.
        try:
            holdout_masks = holdout(everyone, section)
        except KeyError:
            everyone.make()
            return everyone
        everyone = replace(
            everyone, holdout_masks=holdout_masks, notes={}, models={}, counts={}, made_by={}
        )
    everyone.make()
    return everyone


def _of_all(survey: Runtime) -> Outcome | None:
    """Apply the rules to the whole pool; None where something that they rest on is missing."""
    if any(table not in survey.notes | survey.models for table in survey.plan.nodes):
        return None
    if any(survey.lacks_pool(node) for _, node in survey.plan.rules if node is not None):
        return None
    try:
        results = judge(survey).results
    except KeyError:  # notes of a target pool
        return None
    return Outcome(exact=True, rules=_rules(results, survey.pool.records))


# ------------------------------------------------------------------ a sample


def _of_sample(
    planned: Plan,
    scratch: Store,
    small: tables.Pool,
    records: int | None,
    options: Options,
    *,
    whole: bool,
) -> Outcome:
    """Run a recipe up to its verdict over a sample; time each table.

    Args:
        records: of the pool from which it was drawn; None where it was not drawn.
        whole: whether it is all there is.
    """
    runtime = Runtime(scratch, small, plan=planned, device=options.device)
    section = planned.recipe.holdout
    if section is not None:
        masks = holdout(runtime, section)
        runtime = Runtime(scratch, small, masks, plan=planned, device=options.device)
    seconds, sizes = {}, {}
    for table in planned.nodes:
        start = time.perf_counter()
        runtime.make([table])
        seconds[table] = time.perf_counter() - start
        made = runtime.notes.get(table) or (runtime.models[table],)
        sizes[table] = sum(item.size_bytes for item in made)
    results = judge(runtime).results
    bounds = None if whole or records is None else _bounds(runtime, results, records)
    return Outcome(
        exact=whole,
        rules=_rules(results, small.records, bounds),
        sample=small.records,
        seconds=seconds,
        sizes=sizes,
    )


def _scaled(planned: Plan, share: float) -> Plan:
    """Return a plan in which each budget of records is a share of itself, rounded up."""
    rules = []
    for rule, node in planned.rules:
        if node is not None and node.parameters.get("budget") is not None:
            budget = ceil(node.parameters["budget"] * share)
            node = replace(node, parameters={**node.parameters, "budget": budget})
        rules.append((rule, node))
    return replace(planned, rules=tuple(rules))


def _others(planned: Plan, store: Store) -> list[tables.Pool]:
    """Return the other pools that methods read, as far as they are there."""
    nodes = [*planned.nodes.values(), *(node for _, node in planned.rules if node is not None)]
    found = [pool_of(store, reference) for reference in sorted(pools_of(nodes))]
    return [pool for pool in found if pool is not None]


def _sampled(
    store: Store, scratch: Store, pool: tables.Pool, sample: int, seed: int
) -> tables.Pool:
    """Copy the records with the smallest draws into a pool of their own."""
    reader = PoolReader(store, pool)
    everyone = reader.frame([])["uid"]
    draws = pl.Series("draw", uniform(everyone.to_numpy(), seed, "dry run"))
    chosen = pl.DataFrame({"uid": everyone, "draw": draws}).sort("draw", "uid").head(sample)["uid"]
    payloads: dict[int, list[pl.DataFrame]] = {}
    for group in reader.payloads(chosen):
        kind = pool.parts[group["part"][0]].kind
        columns = group.select("uid", pl.col("payload").alias(str(kind)))
        payloads.setdefault(group["part"][0], []).append(columns)
    parts = []
    for index, (part, wanted) in enumerate(zip(pool.parts, reader.where(chosen), strict=True)):
        if not wanted.any():
            continue
        kept = tables.read(store, part.records).filter(wanted)
        at = {"pool": pool.name, "part": part.name}
        payload = None
        if part.payload is not None:
            payload = tables.put(scratch, pl.concat(payloads[index]), table="payload", **at)
        if "location" in kept.columns:
            kept = kept.drop("location")
        records = tables.put(scratch, kept, table="records", **at)
        parts.append(replace(part, records=records, payload=payload))
    return replace(
        pool, parts=tuple(parts), records=chosen.len(), removed=None, quarantine=(), files=()
    )


def _probed(
    recipe: Recipe, scratch: Store, sample: int, options: Options
) -> tuple[tables.Pool, bool]:
    """Ingest the first records of each source into a pool of their own; return if these are all."""
    if not recipe.sources:
        raise DataError(f"there is no pool {recipe.pool!r} and no [[source]] to look at.")
    each = max(1, sample // len(recipe.sources))
    whole = True
    for section in recipe.sources:
        spec = source_spec(section, recipe.recipe_dir, allow_missing=options.allow_missing)
        spec = replace(spec, max_quarantined_ratio=1.0)
        first = _First(spec, each)
        whole = whole and first.whole
        ingest(scratch, recipe.pool, spec, source=first)
    pool = tables.load_pool(scratch, recipe.pool)
    assert pool is not None
    return pool, whole


class _First:
    """The first records of a source, as a source of one unit.

    Attributes:
        whole: whether there are no others.
    """

    def __init__(self, spec: SourceSpec, limit: int) -> None:
        self._spec = spec
        # One more is looked for, to know.
        items, self.passed_over = probe(spec.found, spec.columns, limit + 1)
        self._items, self.whole = items[:limit], len(items) <= limit
        self.kind = spec.kind or detect(spec.found)

    def units(self) -> Iterator[Unit]:
        yield Unit("first records", self._spec.found.root, 0, "")

    def records(self, _unit: Unit) -> Iterator[Record | Rejected]:
        yield from self._items
