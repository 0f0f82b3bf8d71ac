"""Read the [[source]] sections of a recipe into its pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.ingest.ingest import SourceSpec, ingest
from flows.options import Options
from flows.recipe.sections import Recipe, SourceSection
from flows.reporter import Reporter
from storage import source
from storage.store import Store

# More than this share in quarantine is said in colour.
WARNED_RATIO = 0.01


def ingest_sources(recipe: Recipe, store: Store, options: Options) -> list[dict[str, Any]]:
    """Read each [[source]] of a recipe into its pool."""
    results = []
    if recipe.sources:
        options.reporter.stage("ingest")
    for section in recipe.sources:
        spec = source_spec(section, recipe.recipe_dir, allow_missing=options.allow_missing)
        limit = recipe.guard.max_quarantined_ratio if recipe.guard is not None else None
        spec = replace(spec, max_quarantined_ratio=1.0 if options.accept else limit)
        with options.reporter.ingest(spec.name) as progress:
            results.append(
                ingest(store, recipe.pool, spec, workers=options.workers, progress=progress)
            )
        report_ingest(results[-1], options.reporter)
    return results


def report_ingest(result: Mapping[str, Any], reporter: Reporter) -> None:
    """Say what an ingest read, and once of what it left out how much and for example what."""
    out = sum(result["quarantined"].values())
    say = reporter.warning if out > WARNED_RATIO * result["read"] else reporter.line
    say(ingest_line(result))
    for group in result["left_out"]:
        examples = ", ".join(group["examples"])
        reporter.line(f"  {group['count']:,} {group['suffix']} {group['reason']}: {examples}")
    if result["left_out"]:
        reporter.line(f"  listed by: winnow show {result['pool']} --quarantined")


def ingest_line(result: Mapping[str, Any]) -> str:
    """Return one line about an ingest."""
    bad = ", ".join(f"{n:,} {code}" for code, n in result["quarantined"].items())
    waiting = f", {result['waiting']:,} files wait" if result["waiting"] else ""
    return (
        f"{result['pool']} version {result['version']}: {result['read']:,} read, "
        f"{result['accepted']:,} new, {result['known']:,} known, "
        f"{sum(result['quarantined'].values()):,} quarantined{f' ({bad})' if bad else ''}{waiting}"
    )


def source_spec(
    section: SourceSection, recipe_dir: Path, *, allow_missing: bool = False
) -> SourceSpec:
    """Return how a [[source]] is read; its path is relative to the recipe."""
    path = section.path if "://" in section.path else str(recipe_dir / section.path)
    found = source.find(path, allow_missing=allow_missing)
    columns = source.Columns(
        id=section.id,
        text=section.text,
        image=section.image,
        series=section.series,
        position=section.position,
        slices=section.slices,
        audio=section.audio,
        volume=section.volume,
        label_image=section.label_image,
    )
    name = section.name or found.name
    return SourceSpec(found, name, columns, section.payload, settle_s=section.settle)
