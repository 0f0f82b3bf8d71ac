"""Make a pinned fit or an embedding anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contracts.errors import ConfigError, DataError, nearest
from flows.measure import encoders
from flows.options import Options
from flows.recipe import bootstrap
from flows.recipe.planner import plan
from flows.recipe.sections import Recipe
from flows.recipe.types import check_types, pool_schema
from flows.select.holdout import run_reader
from flows.workers import Workers
from storage import tables
from storage.store import Store


def refit(recipe: Recipe, store: Store, alias: str, options: Options) -> dict[str, Any]:
    """Make a fit anew on the pool as it is, or an embedding anew on this machine.

    The next run uses it; earlier versions keep what they were made with.

    Returns:
        table, pool, version of the pool.

    Raises:
        ConfigError: the recipe has no such fit or embedding.
        DataError: there is no pool.
    """
    recipe = bootstrap.resolved(recipe, store, encoders)
    planned = plan(recipe, options.given)
    fits = [n for n in planned.nodes.values() if n.kind in ("fit", "embed")]
    node = next((n for n in fits if n.alias == alias), None)
    if node is None:
        known = [n.alias for n in fits]
        raise ConfigError(
            f"{alias}: is no fit or embedding of the recipe {recipe.name}.{nearest(alias, known)}"
        )
    with store.lease(), Workers(options.workers, options.dask) as workers:
        pool = tables.load_pool(store, recipe.pool, options.at)
        if pool is None:
            raise DataError(f"there is no pool {recipe.pool!r}: run the recipe first.")
        check_types(planned, pool_schema(store, pool))
        runtime = run_reader(store, pool, planned, options, workers)
        if node.kind == "embed":
            name = runtime.embed_generation_ref(node)
            again = len(store.versions("embed", name)) + 1
            store.create_ref("embed", name, again, {"alias": alias, "made_on": pool.version})
        replace(runtime, refit_alias=alias).make([node.table])
    return {"table": node.table, "pool": pool.name, "version": pool.version}
