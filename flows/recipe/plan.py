"""A plan: every table that a recipe needs, in order, with parameters, roles and tables bound.

Its nodes travel to workers; what makes it, `planner`, never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from contracts import methods
from contracts.params import files_of
from contracts.payload import KINDS
from curation.step import Step
from flows.recipe.expressions import Expression
from flows.recipe.sections import Recipe, Rule
from storage.parts import RECORD
from storage.runs import seen_from

POOL_COLUMNS: Mapping[str, Any] = {
    **{name: dtype for name, dtype in RECORD.items() if name not in ("record", "location")},
    **dict.fromkeys(KINDS, pl.Binary),
    # The one of these that the pool has, or the text where it has none.
    "payload": None,
}


@dataclass(frozen=True)
class Method:
    """A method by the words that name it, so that any process finds it again.

    Attributes:
        given: the method itself, where it is a function of a notebook.
    """

    folder: str
    name: str
    recipe_dir: Path | None = None
    given: Any = None

    def load(self) -> Any:
        """Return the step, or the class of an encoder, objective or protocol."""
        return self.given or methods.load(self.folder, self.name, recipe_dir=self.recipe_dir)

    def identity(self) -> dict[str, Any]:
        """Return what a key says of the method."""
        if self.given is not None:
            source: str | None = methods.code_hash(self.given.function)
        else:
            source = methods.source_hash(self.name, recipe_dir=self.recipe_dir)
        return {
            "method": self.name,
            "version": getattr(self.load(), "version", 1),
            "source": source,
        }


@dataclass(frozen=True)
class Node:
    """One table to make.

    Attributes:
        table: `annotate.caption`, `embed.clip`, `fit.kmeans`, `select.clip`.
        alias: what stands before the dot of its columns.
        kind: a step's kind, `embed` for an encoder, `file` for values that one brings.
        method: None for a file.
        writes: its columns; the type is None where only the run knows it.
        roles: role to the expression that it is bound to.
        tables: further table to its reference: `fit.x`, `pool:x`, `file:x`.
        slots: slot to the scorer that fills it.
        gate: records for which it is false or null get nulls and are not measured.
        file: path of the values, and `key`, the column by which they are matched.
    """

    table: str
    alias: str
    kind: str
    method: Method | None
    writes: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, Expression] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[str, tuple[Method, Mapping[str, Any]]] = field(default_factory=dict)
    gate: Expression | None = None
    sample: int | None = None
    of_pool: bool = False
    file: Path | None = None
    key: str = "uid"
    ids: Path | None = None

    @cached_property
    def step(self) -> Step:
        """The bound step."""
        assert self.method is not None
        step: Step = self.method.load()
        return step.bind(**self.parameters)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the step behind: another process loads it by name."""
        return {k: v for k, v in self.__dict__.items() if k != "step"}

    @property
    def paths(self) -> tuple[str, ...]:
        """The columns its roles name."""
        return tuple(dict.fromkeys(p for e in self.roles.values() for p in e.paths))


@dataclass(frozen=True)
class Plan:
    """Everything that a recipe makes, in order.

    Attributes:
        nodes: table to node, each after those it needs.
        columns: `caption.words` to the table that writes it.
        rules: in order; a selector's node is beside it.
        bindings: how each role was bound: recipe, default, namesake.
    """

    recipe: Recipe
    nodes: Mapping[str, Node]
    columns: Mapping[str, str]
    rules: tuple[tuple[Rule, Node | None], ...]
    bindings: tuple[tuple[str, str, str, str], ...]

    def needs(self, node: Node) -> set[str]:
        """Return the tables that a node reads."""
        return needs(node, self.columns, self.nodes)

    def resolved(self) -> dict[str, Any]:
        """Return the recipe with everything that was added or left to a default."""
        content: dict[str, Any] = {"name": self.recipe.name, "pool": self.recipe.pool}
        content |= {k: v for k, v in self.recipe.raw.items() if k not in _METHODS}
        for node in self.nodes.values():
            section, _, alias = node.table.partition(".")
            content.setdefault(section, {})[alias] = _described(node, self.recipe.recipe_dir)
            if node.kind == "embed" and node.file is not None:
                content[section][alias] |= getattr(self.recipe, section)[alias]
        content["select"] = [
            {"name": rule.name, "where": rule.where.text}
            if rule.where is not None
            else {"name": rule.name, "by": rule.by, **_described(node, self.recipe.recipe_dir)}
            for rule, node in self.rules
            if rule.where is not None or node is not None
        ]
        return content


def needs(node: Node, columns: Mapping[str, str], nodes: Mapping[str, Node]) -> set[str]:
    """Return the tables that a node reads: of its columns, its gate's and its further tables."""
    gate = node.gate.paths if node.gate is not None else ()
    named = {columns[p] for p in (*node.paths, *gate) if p in columns}
    return named | {t for t in node.tables.values() if t in nodes}


def files_given(node: Node) -> dict[str, Path]:
    """Return the parameters of a step that are paths of files or folders, where they are given."""
    function = None if node.method is None else getattr(node.method.load(), "function", None)
    names = {} if function is None else files_of(function)
    return {name: Path(node.parameters[name]) for name in names if node.parameters[name]}


_METHODS = ("embed", "annotate", "fit", "select")


def _described(node: Node | None, recipe_dir: Path) -> dict[str, Any]:
    if node is None:
        return {}
    content: dict[str, Any] = dict(node.parameters)
    content |= {role: e.text for role, e in node.roles.items()} | dict(node.tables)
    for name, path in files_given(node).items():
        content[name] = seen_from(recipe_dir, path)
    if node.method is not None and node.kind != "selector":
        content["encoder" if node.kind == "embed" else "step"] = node.method.name
    if node.gate is not None:
        content["only"] = node.gate.text
    if node.sample is not None:
        content["sample"] = node.sample
    if node.of_pool:
        content["of_pool"] = True
    if node.file is not None and node.kind == "file":
        content |= {"file": seen_from(recipe_dir, node.file), "key": node.key}
    if node.ids is not None:
        content["ids"] = seen_from(recipe_dir, node.ids)
    content |= {slot: {"name": m.name, **p} for slot, (m, p) in node.slots.items()}
    return content
