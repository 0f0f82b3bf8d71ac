"""Runs as refs: paths are absolute in memory and relative to the store on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from storage.store import Store, key_of


def load_run(
    store: Store, name: str, version: int | None = None, *, kind: Literal["run", "held"] = "run"
) -> dict[str, Any] | None:
    """Return a run's ref, the latest where no version is given; None where there is none.

    Of a store of format 1 it comes with this format's names and paths.

    Args:
        store: the store.
        name: the recipe's.
        version: of the run; of what was held its own number.
        kind: a version, or what was held instead of becoming one.
    """
    content = store.ref(kind, name, version)
    if content is None:
        return None
    if content["format"] == 1:
        content = from_format_1(content)
    return _with_paths(content, lambda recorded: str(store.located(recorded)))


def commit_run(store: Store, content: Mapping[str, Any]) -> None:
    """Make a version of a run visible.

    Raises:
        BusyError: another run made this version.
    """
    store.create_ref("run", content["run"], content["version"], on_disk(store, content))


def hold_run(store: Store, content: Mapping[str, Any]) -> None:
    """Keep what would be a version but for the guard: to be looked at, and found no latest.

    Its `version` is the number that it gets if it is released. One that is held already stays.
    """
    name = content["run"]
    last = held_run(store, name)
    if last is None or last["content"] != content["content"]:
        number = len(store.versions("held", name)) + 1
        store.create_ref("held", name, number, on_disk(store, content))


def held_run(store: Store, name: str) -> dict[str, Any] | None:
    """Return the newest that is held of a run: None where it was released, or a version came."""
    held = load_run(store, name, kind="held")
    versions = store.versions("run", name)
    return held if held is not None and held["version"] not in versions else None


def held_since(store: Store, name: str) -> str:
    """Return when the newest of a run was held: an ISO time in UTC."""
    path = store.ref_path("held", name, store.versions("held", name)[-1])
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()


def on_disk(store: Store, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's ref with its paths as the store holds them."""
    found = _with_paths(content, lambda path: store.recorded(Path(path)))
    folder, root = Path(content["recipe_dir"]).resolve(), store.root.resolve()
    if root.is_relative_to(folder):
        found["recipe_dir"] = Path(os.path.relpath(folder, root)).as_posix()
    return found


def content_of(
    run: Mapping[str, Any],
    pool_digest: str,
    stages: Sequence[str],
    own_code: Mapping[str, Any] | None = None,
) -> str:
    """Return what tells one version of a run from the next: all that its outputs depend on."""
    return key_of(
        {
            "pool": [run["pool"], pool_digest],
            "recipe": run["recipe"],
            "notes": {t: [o["sha256"] for o in found] for t, found in run["notes"].items()},
            "models": {t: o["sha256"] for t, o in run["models"].items()},
            "verdict": [p["sha256"] for p in run["verdict"]],
            "evidence": {name: item["sha256"] for name, item in run["evidence"].items()},
            "canaries": run["result"].get("canaries"),
            "stages": list(stages),
            **(own_code or {}),
        }
    )


def from_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's ref of format 1 as this format has it.

    There every path was absolute. What lay in the store is known by its name, so that a store
    that was moved since is read where it is now.
    """
    run = {k: v for k, v in content.items() if k not in ("beside", "held")}
    run |= {"recipe_dir": content["beside"], "holdout": content["held"]}
    run["recipe"] = _relative_files(content["recipe"], Path(content["beside"]))
    result = dict(content["result"])
    folder, export = result.get("export"), content["recipe"].get("export") or {}
    version = f"v{content['version']:04d}"
    if folder is not None:
        inside = f"shards/{content['run']}/{version}"
        result["export"] = folder if export.get("path") else inside
        result["shards"] = [
            {**shard, "path": f"{result['export']}{shard['path'].removeprefix(folder)}"}
            for shard in result["shards"]
        ]
    if "report" in result:
        result["report"] = f"reports/{content['run']}/{version}.html"
    if "checkpoint" in result:
        # objects/<pool>/checkpoints/<part>.<sha16>.safetensors
        result["checkpoint"] = "/".join(Path(result["checkpoint"]).parts[-4:])
    return {**run, "result": result, "manifests": {}}


def _with_paths(content: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    result = dict(content["result"])
    for key in ("export", "report", "checkpoint"):
        if key in result:
            result[key] = change(result[key])
    if "shards" in result:
        result["shards"] = [{**s, "path": change(s["path"])} for s in result["shards"]]
    return {
        **content,
        "recipe_dir": change(content["recipe_dir"]),
        "result": result,
    }


def _relative_files(recipe: Mapping[str, Any], recipe_dir: Path) -> dict[str, Any]:
    """Return a recipe whose files of values are named as the recipe's folder sees them."""
    changed = dict(recipe)
    for kind in ("embed", "annotate"):
        if kind in recipe:
            changed[kind] = {
                alias: {
                    key: seen_from(recipe_dir, Path(value)) if key in ("file", "ids") else value
                    for key, value in section.items()
                }
                if "file" in section
                else section
                for alias, section in recipe[kind].items()
            }
    return changed


def seen_from(recipe_dir: Path, path: Path) -> str:
    """Return a path relative to a recipe's folder where it lies in it, else as it is."""
    return path.relative_to(recipe_dir).as_posix() if path.is_relative_to(recipe_dir) else str(path)
