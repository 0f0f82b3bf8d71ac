"""The further tables of a method: a fit's model, a file, or another pool's records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from contracts.errors import ConfigError
from flows.measure.keys import file_hash
from flows.measure.tasks import load_table
from flows.recipe.expressions import Expression
from flows.recipe.plan import Node
from storage import tables
from storage.store import Object, Store

Measure = Callable[[tables.Pool, Mapping[str, Expression]], pl.DataFrame]


@dataclass
class Targets:
    """The further tables of one plan's nodes, each by the reference that binds it.

    Attributes:
        pool: name of the pool for whose nodes they are.
        recipe_dir: the folder to which `file:` references are relative.
        models: the models that were found or made, by table.
        measure: returns another pool's `uid` and the roles, measured as the nodes' own are.
    """

    store: Store
    pool: str
    recipe_dir: Path
    models: Mapping[str, Object]
    measure: Measure
    written: dict[str, Object] = field(default_factory=dict)

    def load(self, node: Node, name: str) -> pl.DataFrame | None:
        """Return a further table; None where the recipe binds none."""
        if name not in node.tables:
            return None
        if node.tables[name].startswith("pool:"):
            return self._records(node, name)
        return load_table(self.store, self.place(node, name))

    def place(self, node: Node, name: str) -> Object | Path:
        """Return a further table as an object or a file, which any process can read."""
        reference = node.tables[name]
        if reference.startswith("fit."):
            return self.models[reference]
        if reference.startswith("file:"):
            path = (self.recipe_dir / reference.removeprefix("file:")).resolve()
            if not path.exists():
                raise ConfigError(f"{node.table}.{name}: there is no file {path}.")
            return path
        key = f"{node.table}.{name}"
        if key not in self.written:
            self.written[key] = tables.put(
                self.store, self._records(node, name), pool=self.pool, table=key, part="target"
            )
        return self.written[key]

    def digest(self, node: Node, name: str) -> str:
        """Return what a further table's content is, for keys."""
        reference = node.tables[name]
        if reference.startswith("pool:"):
            pool = self._pool(reference)
            return f"{pool.name}@{pool.version}:{pool.digest}"
        table = self.place(node, name)
        return table.sha256 if isinstance(table, Object) else file_hash(table)

    def _records(self, node: Node, name: str) -> pl.DataFrame:
        """Return another pool's records, bound by the same expressions."""
        columns = node.step.tables[name].columns
        roles = {role: e for role, e in node.roles.items() if not columns or role in columns}
        return self.measure(self._pool(node.tables[name]), roles)

    def _pool(self, reference: str) -> tables.Pool:
        pool = pool_of(self.store, reference)
        if pool is None:
            name = reference.removeprefix("pool:").partition("@")[0]
            raise ConfigError(
                f"{reference}: there is no such pool. Ingest it, or name its folder: pool:./{name}."
            )
        return pool


def pool_of(store: Store, reference: str) -> tables.Pool | None:
    """Return the pool that `pool:name` or `pool:name@version` means; None where there is none."""
    name, _, version = reference.removeprefix("pool:").partition("@")
    return tables.load_pool(store, name, int(version) if version else None)


def pools_of(nodes: Iterable[Node]) -> set[str]:
    """Return the references of nodes to other pools."""
    return {r for node in nodes for r in node.tables.values() if r.startswith("pool:")}
