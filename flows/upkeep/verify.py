"""Verify: everything that the store's refs and manifests promise is there and unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.errors import CurationError
from storage import shards, tables
from storage.store import Object, Store


def verify(store: Store, *, deep: bool = False) -> list[str]:
    """Return a line for each damaged thing, none where all is well.

    Names and sizes are checked always; with `deep` every byte is read and hashed.
    """
    found: list[str] = []
    objects: dict[str, Object] = {}

    def expect(item: Object) -> None:
        objects[item.path] = item

    for path in sorted((store.root / "manifests").glob("*.json")):
        try:
            content = store.sealed(path)
            for part in content["parts"]:
                expect(Object(**part))
        except CurationError as error:
            found.append(str(error))
    for kind in ("pool", "run", "fit", "export"):
        for name in store.names(kind):
            for version in store.versions(kind, name):
                try:
                    found += _ref(store, kind, name, version, expect)
                except CurationError as error:
                    found.append(str(error))
    for item in sorted(objects.values(), key=lambda o: o.path):
        found += _object(store, item, deep)
    return found


def _ref(
    store: Store, kind: str, name: str, version: int, expect: Callable[[Object], None]
) -> list[str]:
    content = store.ref(kind, name, version)
    assert content is not None
    if kind == "pool":
        pool = tables.load_pool(store, name, version)
        assert pool is not None
        for part in pool.parts:
            expect(part.records)
            if part.payload is not None:
                expect(part.payload)
        for item in (*pool.quarantine, *pool.files, *([pool.removed] if pool.removed else [])):
            expect(item)
    if kind == "run":
        for part in content["verdict"]:
            expect(Object(**part))
        for item in content["evidence"].values():
            expect(Object(**item))
        folder = content["result"].get("export")
        if folder:
            return [f"{path}: is damaged or missing." for path in shards.damaged(Path(folder))]
    return []


def _object(store: Store, item: Object, deep: bool) -> list[str]:
    path = store.root / item.path
    if not path.is_file():
        return [f"{path}: is missing."]
    if path.stat().st_size != item.size_bytes:
        return [f"{path}: has {path.stat().st_size:,} bytes, not {item.size_bytes:,}."]
    if deep and shards.file_sha256(path) != item.sha256:
        return [f"{path}: is damaged: its sha256 is not the one that was written."]
    return []
