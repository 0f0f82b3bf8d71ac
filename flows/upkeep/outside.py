"""Outside: what a store needs that does not lie in it, where it is, and where it has gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError
from storage import tables
from storage.runs import load_run
from storage.store import Store


def outside(store: Store) -> list[dict[str, Any]]:
    """Return what the latest versions lead to outside of the store.

    Returns:
        For each: kind (source, references, export, recipe), of (the pool and source, or the run),
        path, where it is now; there, whether something is there; records, for references.
    """
    found: list[dict[str, Any]] = []

    def add(kind: str, of: str, path: Path, **more: Any) -> None:
        item = {"kind": kind, "of": of, "path": str(path), "there": path.exists(), **more}
        if item not in found:
            found.append(item)

    for name in store.names("pool"):
        pool = tables.load_pool(store, name)
        assert pool is not None
        roots = {s: entry["roots"] for s, entry in pool.sources.items() if entry["roots"]}
        for source, recorded in roots.items():
            for root in recorded:
                # A pool of canaries is drawn from the store itself.
                if Path(root).is_absolute():
                    add("source", f"{name}:{source}", store.outside(root))
        for folder, records in sorted(_referenced(store, pool, roots).items()):
            add("references", name, store.outside(folder), records=records)
    for name in store.names("run"):
        run = load_run(store, name)
        assert run is not None
        export = run["result"].get("export")
        if export is not None and not Path(export).is_relative_to(store.root.absolute()):
            add("export", name, Path(export))
        if not store.root.absolute().is_relative_to(run["recipe_dir"]):
            add("recipe", name, Path(run["recipe_dir"]))
    return found


def moved(store: Store, rules: Sequence[str]) -> None:
    """Note where what lies outside has gone, by rules OLD=NEW.

    Raises:
        ConfigError: a rule is none, or nothing is where it leads.
    """
    pairs = []
    for rule in rules:
        old, equals, new = rule.partition("=")
        if not equals or not old or not new:
            raise ConfigError(f"--moved {rule}: is OLD=NEW, two paths.")
        if not Path(new).exists():
            raise ConfigError(f"--moved {rule}: there is nothing at {new}.")
        pairs.append((Path(old), Path(new)))
    with store.lease():
        for before, after in pairs:
            store.move(before, after)


def _referenced(store: Store, pool: tables.Pool, roots: dict[str, list[str]]) -> Counter[str]:
    """Return how many records refer below each root, and elsewhere, by folder."""
    known = sorted({root for of in roots.values() for root in of}, key=len, reverse=True)
    counts: Counter[str] = Counter()
    for part in pool.parts:
        for location in tables.references(store, part)["location"]:
            path = Path(location["path"])
            root = next((r for r in known if path.is_relative_to(r)), str(path.parent))
            counts[root] += 1
    return counts
