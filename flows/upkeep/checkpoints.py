"""Encoders and states that trainings left in a store: which there are, which no version needs."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from contracts.errors import StorageError
from flows.answer.pretrain import STATES
from storage.runs import load_run
from storage.store import Object, Store


def listed(store: Store) -> list[dict[str, Any]]:
    """Return each training with what it left.

    Returns:
        pool, objective, what: "encoder", or "state", which `continue_from` takes; steps, seed,
        bytes, needed_by: the versions of recipes whose encoder or state it is, `name@version`;
        path of its safetensors file.

    Raises:
        StorageError: a manifest is no JSON.
    """
    needed = _needed(store)
    return [
        {
            "pool": Path(item.path).parts[1],
            "objective": made_by["section"]["objective"],
            "what": "state" if Path(item.path).parts[2] == STATES else "encoder",
            "steps": made_by["steps"],
            "seed": made_by["seed"],
            "bytes": item.size_bytes,
            "needed_by": ", ".join(needed.get(item.path, ())),
            "path": str(store.path(item)),
        }
        for _, made_by, item in _trained(store)
        if store.path(item).is_file()
    ]


def drop(store: Store) -> dict[str, int]:
    """Delete what no version of a recipe names; the caller holds the lease.

    They are those of other arms and of comparisons that were replaced. What they scored stays, so
    a rerun finds its answer; a new protocol trains them again.

    Returns:
        `dropped`, how many files, and `bytes`.
    """
    needed = _needed(store)
    gone: dict[str, Object] = {}
    for manifest, _, item in _trained(store):
        if item.path not in needed:
            # The promise goes first: a file that nothing names harms nobody.
            manifest.unlink(missing_ok=True)
            gone[item.path] = item
    for item in gone.values():
        store.path(item).unlink(missing_ok=True)
    return {"dropped": len(gone), "bytes": sum(item.size_bytes for item in gone.values())}


def _needed(store: Store) -> dict[str, list[str]]:
    """Return for the object of each encoder and state that is a recipe's own its versions."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in store.names("run"):
        for version in store.versions("run", name):
            run = load_run(store, name, version)
            for what in ("checkpoint", "state"):
                if run is not None and run.get(what):
                    found[run[what]["path"]].append(f"{name}@{version}")
    return found


def _trained(store: Store) -> list[tuple[Path, dict[str, Any], Object]]:
    """Return the manifest of each training, what it was made by, and each file that it left."""
    found = []
    for path in sorted((store.root / "manifests").glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
            if content["made_by"].get("method") == "pretrain":
                found += [(path, content["made_by"], Object(**part)) for part in content["parts"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StorageError(f"{path}: is damaged: winnow verify.") from None
    return found
