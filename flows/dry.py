"""A dry run: what would be found and measured, and what a sample says of the outcome."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import DataError
from contracts.uid import uniform
from flows.answer.check import check_stages
from flows.export import destination
from flows.ingest.ingest import SourceSpec, ingest
from flows.ingest.sources import source_spec
from flows.measure.encoders import towers
from flows.measure.runtime import Runtime
from flows.options import Options
from flows.pool_reader import PoolReader
from flows.recipe import bootstrap
from flows.recipe.plan import Plan
from flows.recipe.planner import plan
from flows.recipe.sections import Recipe
from flows.recipe.types import check_types, pool_schema
from flows.select.holdout import holdout
from flows.select.verdict import judge
from storage import tables
from storage.source import Record, Rejected, Unit, detect, probe
from storage.store import Store

Z_95 = 1.959964


def dry_run(recipe: Recipe, store: Store, options: Options, sample: int) -> dict[str, Any]:
    """Foresee a run; nothing is written but in a temporary folder.

    The sample is the records with the smallest uniform(uid, seed 0, "dry run") of the pool, or
    the first ones of the sources where there is no pool yet. Shares are those of the sample, with
    95 % Wilson intervals: a rule that relates records (duplicates, budgets) drops fewer of a
    sample than of the whole.

    Returns:
        pool, records, bindings, tables (found, computed, seconds and bytes foreseen), rules
        (reached, kept_ratio, low, high of the sample), sample, seconds, bytes.

    Raises:
        ConfigError: the recipe is wrong, with every problem.
        DataError: there is nothing to look at.
    """
    recipe = bootstrap.resolved(recipe, store, towers)
    planned = plan(recipe, options.given)
    check_stages(recipe)
    destination.check(store, recipe)
    pool = tables.load_pool(store, recipe.pool, options.at)
    counts: Mapping[str, Any] = {}
    if pool is not None:
        check_types(planned, pool_schema(store, pool))
        counts = _survey(planned, store, pool, options)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Store(Path(folder))
        if pool is not None:
            small = _sampled(store, scratch, pool, sample)
        else:
            small = _probed(recipe, scratch, sample, options)
        seconds, sizes, rules = _measured(planned, scratch, small, options)
    records = pool.records if pool is not None else None
    foreseen: dict[str, dict[str, Any]] = {}
    for table, took in seconds.items():
        count = counts.get(table)
        todo = count.computed if count is not None else records
        scale = (todo if todo is not None else small.records) / max(1, small.records)
        foreseen[table] = {
            "found": count.found if count is not None else 0,
            "computed": todo,
            "seconds": round(took * scale, 2),
            "bytes": int(sizes[table] * scale),
        }
    return {
        "pool": recipe.pool,
        "records": records,
        "bindings": [list(binding) for binding in planned.bindings],
        "tables": foreseen,
        "sample": small.records,
        "rules": rules,
        "seconds": round(sum(t["seconds"] for t in foreseen.values()), 1),
        "bytes": sum(t["bytes"] for t in foreseen.values()),
    }


def text(foreseen: Mapping[str, Any]) -> str:
    """Return a dry run as lines."""
    known = foreseen["records"]
    lines = [f"pool {foreseen['pool']}: " + (f"{known:,} records" if known else "not ingested yet")]
    lines += ["", "bound:"]
    lines += [f"  {t}.{role} = {e}  ({how})" for t, role, e, how in foreseen["bindings"]]
    lines += ["", f"{'table':32} {'found':>12} {'to measure':>12} {'seconds':>9} {'bytes':>14}"]
    for table, row in foreseen["tables"].items():
        todo = "all" if row["computed"] is None else f"{row['computed']:,}"
        lines.append(
            f"{table:32} {row['found']:>12,} {todo:>12} {row['seconds']:>9,.1f} {row['bytes']:>14,}"
        )
    lines += ["", f"of a sample of {foreseen['sample']:,} records, kept of those that reach it:"]
    for rule in foreseen["rules"]:
        span = f"[{rule['low']:.1%}, {rule['high']:.1%}]"
        lines.append(f"  {rule['rule']:40} {rule['kept_ratio']:7.1%}  {span}")
    cost = f"{foreseen['seconds']:,} s, {foreseen['bytes']:,} bytes of notes"
    if known:
        lines.append(f"\nforeseen: {cost}")
    else:
        lines.append(f"\nof the sample alone: {cost}; after `--until ingest` that of the whole")
    return "\n".join(lines)


def wilson(kept: int, of: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share.

    Reference: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    if not of:
        return 0.0, 1.0
    share, z2 = kept / of, Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def _survey(planned: Plan, store: Store, pool: tables.Pool, options: Options) -> dict[str, Any]:
    everyone = Runtime(store, pool, plan=planned, device=options.device, dry=True)
    section = planned.recipe.holdout
    if section is not None:
        # The hold-out may rest on notes that are not there; then nothing after it is either.
        try:
            holdout_masks = holdout(everyone, section)
        except KeyError:
            everyone.make()
            return everyone.counts
        everyone = replace(
            everyone, holdout_masks=holdout_masks, notes={}, models={}, counts={}, made_by={}
        )
    everyone.make()
    return everyone.counts


def _measured(
    planned: Plan, scratch: Store, small: tables.Pool, options: Options
) -> tuple[dict[str, float], dict[str, int], list[dict[str, Any]]]:
    """Run a recipe up to its verdict over the sample; time each table."""
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
    rules = []
    for result in judge(runtime).results:
        stayed = result.reached - result.dropped
        low, high = wilson(stayed, result.reached)
        rules.append(
            {
                "rule": result.name,
                "reached": result.reached,
                "kept_ratio": stayed / result.reached if result.reached else 0.0,
                "low": low,
                "high": high,
            }
        )
    return seconds, sizes, rules


def _sampled(store: Store, scratch: Store, pool: tables.Pool, sample: int) -> tables.Pool:
    """Copy the records with the smallest draws into a pool of their own."""
    reader = PoolReader(store, pool)
    everyone = reader.frame([])["uid"]
    draws = pl.Series("draw", uniform(everyone.to_numpy(), 0, "dry run"))
    chosen = pl.DataFrame({"uid": everyone, "draw": draws}).sort("draw", "uid").head(sample)["uid"]
    pictures: dict[int, list[pl.DataFrame]] = {}
    for group in reader.pictures(chosen):
        pictures.setdefault(group["part"][0], []).append(group.select("uid", "image"))
    parts = []
    for index, (part, wanted) in enumerate(zip(pool.parts, reader.where(chosen), strict=True)):
        if not wanted.any():
            continue
        kept = tables.read(store, part.records).filter(wanted)
        at = {"pool": pool.name, "part": part.name}
        payload = None
        if part.payload is not None:
            payload = tables.put(scratch, pl.concat(pictures[index]), table="payload", **at)
        if "location" in kept.columns:
            kept = kept.drop("location")
        parts.append(
            tables.Part(
                part.name, tables.put(scratch, kept, table="records", **at), payload, part.meta
            )
        )
    return replace(
        pool, parts=tuple(parts), records=chosen.len(), removed=None, quarantine=(), files=()
    )


def _probed(recipe: Recipe, scratch: Store, sample: int, options: Options) -> tables.Pool:
    """Ingest the first records of each source into a pool of their own."""
    if not recipe.sources:
        raise DataError(f"there is no pool {recipe.pool!r} and no [[source]] to look at.")
    each = max(1, sample // len(recipe.sources))
    for section in recipe.sources:
        spec = source_spec(section, recipe.recipe_dir, allow_missing=options.allow_missing)
        spec = replace(spec, max_quarantined_ratio=1.0)
        ingest(scratch, recipe.pool, spec, source=_First(spec, each))
    pool = tables.load_pool(scratch, recipe.pool)
    assert pool is not None
    return pool


class _First:
    """The first records of a source, as a source of one unit."""

    def __init__(self, spec: SourceSpec, limit: int) -> None:
        self._spec = spec
        self._items, self.passed_over = probe(spec.found, spec.columns, limit)
        self.kind = spec.kind or detect(spec.found)

    def units(self) -> Iterator[Unit]:
        yield Unit("first records", self._spec.found.root, 0, "")

    def records(self, _unit: Unit) -> Iterator[Record | Rejected]:
        yield from self._items
