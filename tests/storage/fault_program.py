"""A small writer of a store, to be killed anywhere: `python fault_program.py ROOT [MUTANT]`.

A mutant leaves out one step of the commit protocol; the sweep must catch each.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from storage import commit  # noqa: E402
from storage.store import Object, Store  # noqa: E402


def put(store: Store, table: str, part: int) -> Object:
    with store.stage() as staged:
        staged.write(f"{table} {part}\n".encode() * 100)
        staged.write(b"the end\n")
        return store.publish(staged, pool="p", table=table, part=f"{part:05d}", rows=101)


def work(store: Store) -> None:
    with store.lease():
        records = [put(store, "records", part) for part in range(3)]
        content = {"version": 1, "parts": [vars(item) for item in records]}
        if not store.versions("pool", "p"):
            store.create_ref("pool", "p", 1, content)
        notes = [put(store, "notes", part) for part in range(2)]
        made_by = {"method": "count", "inputs": [item.sha256 for item in records]}
        manifest = store.publish_manifest(made_by, notes)
        if not store.versions("run", "p"):
            store.create_ref("run", "p", 1, {"version": 1, "manifest": manifest.key})
        commit.write(store.root / "latest.json", b'{"version": 1}\n', temporary=store.temporary)


def check(root: Path) -> None:
    """Raise unless everything that can be seen is whole."""
    store = Store(root)
    for version in store.versions("pool", "p"):
        content = store.ref("pool", "p", version)
        for part in content["parts"]:
            store.path(Object(**part))
    for path in (root / "manifests").glob("*.json"):
        manifest = store.find(store.sealed(path)["key"])
        assert manifest is not None, f"{path} names what is not there"
        for item in manifest.parts:
            store.path(item)
    for version in store.versions("run", "p"):
        assert store.find(store.ref("run", "p", version)["manifest"]) is not None
    if (root / "latest.json").exists():
        number = json.loads((root / "latest.json").read_bytes())["version"]
        assert number in store.versions("run", "p")


def mutate(mutant: str) -> None:
    if mutant == "object written in place and trusted when it is there":

        def publish(self: Store, staged: Any, **at: Any) -> Object:
            path = f"objects/{at['pool']}/{at['table']}/{at['part']}.{staged.sha256[:16]}.parquet"
            if (self.root / path).exists():
                return Object(path, at["rows"], staged.size_bytes, staged.sha256)
            commit.make_folder((self.root / path).parent)
            staged._file.flush()
            half = staged.size_bytes // 2
            data = staged.path.read_bytes()
            with (self.root / path).open("wb", buffering=0) as file:
                file.write(data[:half])
                file.write(data[half:])
            return Object(path, at["rows"], staged.size_bytes, staged.sha256)

        Store.publish = publish  # type: ignore[method-assign]
    elif mutant == "version before its objects":
        original = globals()["put"]

        def late(store: Store, table: str, part: int) -> Object:
            if table == "records" and part == 0 and not store.versions("pool", "p"):
                whole = Store(store.root.with_name("elsewhere"))
                items = [original(whole, "records", n) for n in range(3)]
                content = {"version": 1, "parts": [vars(item) for item in items]}
                shutil.rmtree(whole.root)
                store.create_ref("pool", "p", 1, content)
            return original(store, table, part)

        globals()["put"] = late
    elif mutant == "version written in place":

        def in_place(path: Path, data: bytes, *, temporary: Path) -> bool:
            if path.exists():
                return False
            commit.make_folder(path.parent)
            with path.open("wb", buffering=0) as file:
                file.write(data[:20])
                file.write(data[20:])
            return True

        commit.create = in_place
    elif mutant == "temporary files are never removed":

        @contextmanager
        def lease(self: Store) -> Iterator[None]:
            with commit.lease(self.root / "lease"):
                yield

        Store.lease = lease  # type: ignore[method-assign]
    elif mutant == "manifest before its objects":

        def early(self: Store, made_by: Any, parts: Any, recorded: Any = None) -> Any:
            for item in parts:
                (self.root / item.path).rename(self.root / f"{item.path}.late")
            manifest = original_publish(self, made_by, parts, recorded)
            for item in parts:
                (self.root / f"{item.path}.late").rename(self.root / item.path)
            return manifest

        original_publish = Store.publish_manifest
        Store.publish_manifest = early  # type: ignore[method-assign]
    else:
        raise SystemExit(f"no mutant {mutant}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        mutate(sys.argv[2])
    work(Store(Path(sys.argv[1])))
