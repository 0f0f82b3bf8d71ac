"""Where an export may lie: nothing of another's is ever replaced, hidden or read as a source."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError, CurationError, DataError, Problem
from flows.recipe.sections import Recipe
from storage import commit, shards, source
from storage.store import Store

# What of a manifest's facts says whose export it is.
_OWNER = ("run", "version", "arm", "pool")


def folder_of(store: Store, recipe: Recipe) -> Path:
    """Return the folder of a recipe's exports, links resolved."""
    path = recipe.export.path if recipe.export is not None else None
    base = recipe.recipe_dir / path if path else store.root / "shards" / recipe.name
    return base.resolve()


def check(store: Store, recipe: Recipe) -> None:
    """Refuse a place that meets a source, the store, or something of another's.

    Raises:
        ConfigError: with the path and what lies there.
    """
    if recipe.export is None:
        return
    version = (store.versions("run", recipe.name) or [0])[-1] + 1
    base = folder_of(store, recipe)
    if recipe.export.path is not None:
        _check_apart(store, recipe, base)
    for path in (base, *base.parents):
        if path.exists() and not path.is_dir():
            raise _refused(base, f"{path} is a file")
    owner = {"run": recipe.name, "version": version, "pool": recipe.pool}
    _check_neighbours(store, base, owner)
    refuse_foreign(store, base / f"v{version:04d}", owner)
    for arm in recipe.export.arms:
        if arm != "recipe":
            refuse_foreign(store, base / arm / f"v{version:04d}", {**owner, "arm": arm})


def refuse_foreign(store: Store, folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to write where anything lies but an export that this store made for the same version.

    Only a killed run leaves that: its version was shown, and no ref names it.

    Raises:
        ConfigError: with the path and what lies there.
    """
    if not os.path.lexists(folder):
        return
    content = None if folder.is_symlink() else manifest(folder)
    if content is None:
        raise _refused(folder, _kind(folder))
    theirs = content.get("facts", {})
    same = all(theirs.get(key) == facts.get(key) for key in _OWNER)
    if not same or not _is_ours(store, content):
        raise _refused(folder, _described(content))


def write_down(store: Store, sha256: str, facts: Mapping[str, Any]) -> None:
    """Note in the store, before an export is shown, that it is the store's own."""
    name = _log(facts)
    known = store.versions("export", name)
    if not any(_names(store, name, version, sha256) for version in known):
        number = known[-1] + 1 if known else 1
        owner = {key: facts[key] for key in _OWNER if key in facts}
        store.create_ref("export", name, number, {**owner, "manifest": sha256})
        commit.failpoint("export.noted")


def show(store: Store, building: Path, folder: Path, facts: Mapping[str, Any]) -> None:
    """Give a finished export its final name; what a killed run left there goes."""
    refuse_foreign(store, folder, facts)
    if folder.exists():
        shutil.rmtree(folder)
    with commit.reporting(folder):
        building.rename(folder)
        commit.sync_folder(folder.parent)


def point_latest(folder: Path) -> None:
    """Make `latest.json` name a version's folder."""
    data, path = latest(folder), folder.parent / "latest.json"
    if not path.is_file() or path.read_bytes() != data:
        commit.write(path, data)
    commit.failpoint("export.latest")


def latest(folder: Path) -> bytes:
    """Return what `latest.json` says of a version's folder."""
    content = {"version": folder.name, "path": folder.name}
    return json.dumps(content).encode() + b"\n"


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return an export's manifest, None where there is none that can be read."""
    try:
        return shards.manifest(folder)
    except (DataError, OSError):
        return None


def _check_apart(store: Store, recipe: Recipe, base: Path) -> None:
    """Keep an export out of the sources, and out of the store but its folder of shards."""
    root = store.root.resolve()
    problems = []
    in_each_other = base in root.parents or base == root or root in base.parents
    if in_each_other and root / "shards" not in base.parents:
        problems.append(f"{base} and the store {root} lie in each other")
    for section in recipe.sources:
        if "://" in section.path:
            continue
        try:
            paths = source.find(recipe.recipe_dir / section.path).paths
        except CurationError:
            continue  # ingest says what is wrong with it
        for path in {path.resolve() for path in paths}:
            if path == base or base in path.parents or path in base.parents:
                problems.append(f"{base} and the source {path} lie in each other")
                break
    if problems:
        advice = "name a folder apart: an export is never read as a source, nor mixed with one."
        raise ConfigError([Problem("export.path", f"{said}: {advice}") for said in problems])


def _check_neighbours(store: Store, base: Path, owner: Mapping[str, Any]) -> None:
    """Refuse a path whose latest version is another recipe's or another store's."""
    latest = base / "latest.json"
    name = None
    if latest.is_file():
        try:
            name = Path(str(json.loads(latest.read_bytes())["path"])).name
        except (ValueError, KeyError, TypeError, OSError):
            raise _refused(base, f"{latest} is none of winnow's") from None
    elif os.path.lexists(latest):
        raise _refused(base, f"{latest} is {_kind(latest)}")
    versions = sorted(p.name for p in base.glob("v[0-9]*") if p.is_dir()) if base.is_dir() else []
    for version in {name, *versions[-1:]} - {None}:
        content = manifest(base / str(version))
        if content is None:
            continue
        theirs = content.get("facts", {})
        if theirs.get("run") != owner["run"] or not _is_ours(store, content):
            raise _refused(base, _described(content))


def _is_ours(store: Store, content: Mapping[str, Any]) -> bool:
    """Whether this store made an export: it wrote that down, or its run's ref has the shards."""
    facts = content.get("facts", {})
    name = _log(facts)
    if name not in (*store.names("export"), *store.names("run")):
        return False
    for version in reversed(store.versions("export", name)):
        if _names(store, name, version, content["sha256"]):
            return True
    # A store of the first format wrote nothing down.
    if facts.get("version") not in store.versions("run", name):
        return False
    ref = store.ref("run", name, facts["version"])
    promised = {s["sha256"] for s in (ref or {}).get("result", {}).get("shards", [])}
    return bool(promised) and promised <= {f["sha256"] for f in content["files"]}


def _names(store: Store, name: str, version: int, sha256: str) -> bool:
    noted = store.ref("export", name, version)
    return noted is not None and noted["manifest"] == sha256


def _log(facts: Mapping[str, Any]) -> str:
    """Return the name under which a store notes its exports: the run's, for arms the pool's."""
    return str(facts.get("run", facts.get("pool")))


def _refused(path: Path, there: str) -> ConfigError:
    return ConfigError(
        f"{path}: {there}. Nothing of it is touched: give this recipe an [export] path of its own, "
        "or move away what lies there."
    )


def _described(content: Mapping[str, Any]) -> str:
    facts = content.get("facts", {})
    if "run" not in facts:
        return "another export lies there"
    return (
        f"an export of recipe {facts['run']!r} version {facts.get('version')} lies there "
        f"({facts.get('records')} records of pool {facts.get('pool')!r}), not made by this recipe "
        "in this store"
    )


def _kind(path: Path) -> str:
    if path.is_symlink():
        return "a symbolic link lies there"
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        inside = f"holding {', '.join(names[:3])}{' …' * (len(names) > 3)}" if names else "empty"
        return f"a folder without a winnow manifest lies there, {inside}"
    return "a file lies there"
