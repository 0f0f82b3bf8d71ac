"""Ingests sources into one store and looks at the pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.ingest.ingest import SourceSpec, ingest
from flows.look.views import PoolView, Winnow
from storage import tables
from storage.source import Columns, Found, PassedOver, Record, Rejected, Unit, find
from storage.store import Store

ID = Columns(id="id")


class Reader:
    """Ingests sources into one store and looks at the pool `web`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / ".winnow")

    def lines(self, path: str, *rows: dict[str, Any] | str) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows)
        target.write_text(text)
        return target

    def read(self, path: str | Path, pool: str = "web", **options: Any) -> dict[str, Any]:
        found = find(self.folder / path)
        spec = SourceSpec(found, options.pop("name", found.name), options.pop("columns", ID))
        spec = replace(spec, **options)
        with self.store.lease():
            return ingest(self.store, pool, spec)

    def given(self, source: Given, **options: Any) -> dict[str, Any]:
        """Ingest what a source of Python objects gives, under the name `given`."""
        spec = SourceSpec(Found(self.folder, [], "given"), "given", kind="given", **options)
        with self.store.lease():
            return ingest(self.store, "web", spec, source=source)

    def pool(self, version: int | None = None) -> PoolView:
        return Winnow(self.store).pool("web", version)

    def stored(self) -> tables.Pool:
        pool = tables.load_pool(self.store, "web")
        assert pool is not None
        return pool

    def rows(self) -> dict[str, Any]:
        frame = self.pool().frame("source_id", "text").collect()
        return dict(zip(frame["source_id"], frame["text"], strict=True))

    def values(self, column: str) -> list[Any]:
        return self.pool().frame(column).collect()[column].to_list()

    def codes(self) -> list[tuple[str, str]]:
        return list(self.pool().quarantine().select("source_id", "code").iter_rows())


class Given:
    """A source of records that a test gives, unit by unit; the fingerprints never change."""

    def __init__(self, units: dict[str, list[Record | Rejected]]) -> None:
        self.of = units
        self.passed_over = PassedOver()

    def units(self) -> Iterator[Unit]:
        for name in self.of:
            yield Unit(name, Path(name), 1, "same")

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        yield from self.of[unit.name]


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "text": f"text {number}"} | more


def record(number: int, **meta: Any) -> Record:
    return Record(f"r{number}", f"here#{number}", text=f"text {number}", meta=meta)
