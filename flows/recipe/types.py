"""The types of columns, and whether the expressions of a recipe fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from contracts.errors import ConfigError, nearest
from contracts.payload import KINDS
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.plan import POOL_COLUMNS, Plan
from flows.recipe.sections import Problems
from storage import tables
from storage.store import Store


def check_types(planned: Plan, pool_schema: Mapping[str, Any]) -> None:
    """Try every rule and bound expression on an empty table of the known types.

    Raises:
        ConfigError: a column does not exist, a function is unknown, a rule is no condition, or a
            column is a payload of another kind than the pool has.
    """
    problems = Problems()
    payload = next((kind for kind in KINDS if kind in pool_schema), None)
    known = {k: v for k, v in {**POOL_COLUMNS, **pool_schema}.items() if v is not None}
    for path, table in planned.columns.items():
        alias = planned.nodes[table].alias
        dtype = planned.nodes[table].writes[path.removeprefix(f"{alias}.")]
        known[path] = dtype[0] if isinstance(dtype, tuple) else dtype

    def attempt(expression: Expression, where: str, condition: bool, text: bool = False) -> None:
        other = [p for p in expression.paths if p in KINDS and p not in pool_schema]
        if other and payload is not None:
            slices = payload == "volume" and other[0] == "image"
            advice = ": slices = true in [[source]] reads each axial slice as one" * slices
            problems.add(where, f"the pool has {payload} and no {other[0]}{advice}.")
            return
        if pool_schema:
            unknown = [p for p in expression.paths if p.startswith("meta.") and p not in known]
            if unknown:
                columns = [p for p in known if p.startswith("meta.")]
                problems.add(
                    where, f"there is no column {unknown[0]!r}.{nearest(unknown[0], columns)}"
                )
                return
        if any(not _usable(known.get(p)) for p in expression.paths):
            return
        frame = pl.DataFrame(schema={p: known[p] for p in expression.paths})
        with problems.at(where):
            dtype = evaluate_expression(frame, expression.polars, expression.text).dtype
            if condition and dtype not in (pl.Boolean, pl.Null):
                raise ConfigError(f"{expression.text!r} gives {dtype}, not true or false.")
            if text and dtype not in (pl.String, pl.Null):
                raise ConfigError(f"{expression.text!r} gives {dtype}, no text.")

    for rule, node in planned.rules:
        if rule.where is not None:
            attempt(rule.where, f"{rule.key}.where", condition=True)
        if node is not None:
            for role, expression in node.roles.items():
                attempt(expression, f"{rule.key}.{role}", condition=False)
    for node in planned.nodes.values():
        for role, expression in node.roles.items():
            attempt(expression, f"{node.table}.{role}", condition=False)
        if node.gate is not None:
            attempt(node.gate, f"{node.table}.only", condition=True)
    if planned.recipe.holdout is not None and planned.recipe.holdout.where is not None:
        attempt(Expression(planned.recipe.holdout.where), "holdout.where", condition=True)
    if planned.recipe.guard is not None and planned.recipe.guard.groups is not None:
        for text in planned.recipe.guard.groups.by:
            attempt(Expression(text), "guard.groups.by", condition=False)
    if planned.recipe.export is not None:
        attempt(Expression(planned.recipe.export.text), "export.text", condition=False, text=True)
    if payload not in (None, "image"):
        export = planned.recipe.export
        if export is not None and (export.image != "keep" or export.max_side_px is not None):
            message = f"the pool has {payload}, which leaves with the bytes it has."
            problems.add("export.image", message)
        if planned.recipe.canaries is not None:
            message = f"are copies of pictures and texts, and the pool has {payload}."
            problems.add("canaries", message)
    problems.raise_any()


def pool_schema(store: Store, pool: tables.Pool) -> dict[str, Any]:
    """Return every column of a pool's parts, meta's fields as `meta.url`, with their types."""
    found: dict[str, Any] = {"uid": pl.UInt64}
    if pool.kind is not None:
        found[pool.kind] = pl.Binary
    for part in pool.parts:
        for name, dtype in tables.part_schema(store, part).items():
            found.setdefault(name, dtype)
    return found


def _usable(dtype: Any) -> bool:
    return dtype is not None and dtype not in (pl.List, pl.Array)
