"""Read the [[source]] sections of a recipe into its pool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.ingest.ingest import SourceSpec, ingest
from flows.options import Options
from flows.recipe.sections import Recipe, SourceSection
from storage import source
from storage.store import Store


def ingest_sources(recipe: Recipe, store: Store, options: Options) -> list[dict[str, Any]]:
    """Read each [[source]] of a recipe into its pool."""
    results = []
    if recipe.sources:
        options.reporter.stage("ingest")
    for section in recipe.sources:
        spec = source_spec(section, recipe.recipe_dir)
        with options.reporter.ingest(spec.name) as progress:
            results.append(
                ingest(store, recipe.pool, spec, workers=options.workers, progress=progress)
            )
        options.reporter.line(ingest_line(results[-1]))
    return results


def ingest_line(result: Mapping[str, Any]) -> str:
    """Return one line about an ingest."""
    bad = ", ".join(f"{n:,} {code}" for code, n in result["quarantined"].items())
    return (
        f"{result['pool']} version {result['version']}: {result['read']:,} read, "
        f"{result['accepted']:,} new, {result['known']:,} known, "
        f"{sum(result['quarantined'].values()):,} quarantined{f' ({bad})' if bad else ''}"
    )


def source_spec(section: SourceSection, recipe_dir: Path) -> SourceSpec:
    """Return how a [[source]] is read; its path is relative to the recipe."""
    path = section.path if "://" in section.path else str(recipe_dir / section.path)
    found = source.find(path)
    columns = source.Columns(
        id=section.id,
        text=section.text,
        image=section.image,
        series=section.series,
        position=section.position,
        slices=section.slices,
    )
    return SourceSpec(found, section.name or found.name, columns, section.payload)
