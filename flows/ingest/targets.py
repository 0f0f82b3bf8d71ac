"""Targets given as folders: what a method reads beside its own pool, ingested as a pool first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contracts.errors import ConfigError
from flows.ingest.sources import ingest_sources, source_spec
from flows.options import Options
from flows.recipe.sections import Problems, Recipe, SourceSection
from storage import tables
from storage.store import Store

Targets = Mapping[str, SourceSection]


def named(recipe: Recipe, store: Store) -> tuple[Recipe, Targets]:
    """Return a recipe that reads pools alone, and by their names the folders to ingest for it.

    `pool:wanted` is a pool. `pool:./wanted`, with a slash, is a path relative to the recipe, as
    that of a [[source]]; it becomes a pool of the folder's name. What is wrong with one is added
    to the recipe's problems, under its key.

    Raises:
        DataError: nothing is there.
    """
    targets: dict[str, SourceSection] = {}
    problems = Problems()

    def pool_of(value: Any, key: str) -> Any:
        path = value.removeprefix("pool:") if isinstance(value, str) else ""
        if path == value or "/" not in path:
            return value
        section = SourceSection(path=path)
        found = source_spec(section, recipe.recipe_dir).found
        with problems.at(key):
            if targets.get(found.name, section) != section or found.name == recipe.pool:
                raise ConfigError(f"{path}: another pool of this recipe is called {found.name}.")
            pool = tables.load_pool(store, found.name)
            roots = [] if pool is None else [s["roots"] for s in pool.sources.values()]
            here = [str(found.root.resolve())]
            if any([str(store.located(root)) for root in known] != here for known in roots):
                raise ConfigError(
                    f"{path}: there is a pool {found.name} of something else: write "
                    f"pool:{found.name} if it is meant, or give the folder another name."
                )
            targets[found.name] = section
        return f"pool:{found.name}"

    def resolved(section: Mapping[str, Any], key: str) -> dict[str, Any]:
        return {name: pool_of(value, f"{key}.{name}") for name, value in section.items()}

    fields: dict[str, Any] = {
        kind: {
            alias: resolved(section, f"{kind}.{alias}")
            for alias, section in getattr(recipe, kind).items()
        }
        for kind in ("annotate", "fit")
    }
    rules = [replace(rule, section=resolved(rule.section, rule.key)) for rule in recipe.select]
    found = (*recipe.problems, *problems.found)
    return replace(recipe, **fields, select=tuple(rules), problems=found), targets


def ingest_targets(recipe: Recipe, targets: Targets, store: Store, options: Options) -> None:
    """Read each target into its pool; what is there already is found."""
    for name, section in targets.items():
        ingest_sources(replace(recipe, pool=name, sources=(section,)), store, options)
