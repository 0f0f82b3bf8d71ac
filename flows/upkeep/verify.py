"""Verify: everything that the store's refs and manifests promise is there and unchanged.

Refs and manifests carry the sha256 of their own bytes and of the objects that they name; a run's
ref that of every file of each arm's export, the manifest too; reports and states of trainings are
sealed. So one changed byte is found, whoever made it fit a neighbour's hash.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import CurationError
from contracts.uid import digest_of
from flows.export import destination
from storage import commit, seals, shards, tables
from storage.runs import load_run
from storage.store import FORMAT, KINDS, MARK, MOVED, Object, Store

# Tables that only the comparison of a new version looks for.
_TRAINED = ("checkpoints", "states", "evaluations", "lengths")
_COPY = "It cannot be made again from the store: put back a copy of it."
# What winnow leaves in the store that holds nothing: locks.
_LOCKS = ("lease", ".export.lease")
_NOTE = "upgrade.json"


def verify(store: Store, *, deep: bool = False) -> list[str]:
    """Return a line for each damaged thing, with what to do about it; none where all is well.

    Names and sizes are checked always; with `deep` every byte of the store and its exports is
    read and hashed, and every file that a record refers to.
    """
    check = _Check(store, deep)
    check.everything()
    return check.damaged


def unknown(store: Store) -> list[str]:
    """Return a line for each file in the store, or in an export, that nothing there names."""
    check = _Check(store, deep=False)
    check.everything()
    return check.unknown()


@dataclass
class _Check:
    """One look at a store: what is damaged, and every file that something named."""

    store: Store
    deep: bool
    damaged: list[str] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    exports: set[Path] = field(default_factory=set)
    format: int = FORMAT
    _objects: dict[str, tuple[Object, str]] = field(default_factory=dict)

    def everything(self) -> None:
        self._own_files()
        manifests = self._manifests()
        for kind in KINDS:
            for name in self.store.names(kind):
                self._versions(kind, name)
        for name in self.store.names("pool"):
            for version in self.store.versions("pool", name):
                self._pool(name, version)
        for name in self.store.names("fit"):
            for version in self.store.versions("fit", name):
                with self._reading(_COPY):
                    content = self.store.ref("fit", name, version)
                    assert content is not None
                    self._manifest(content["manifest"], manifests, f"fit {name}")
        for kind in ("embed", "export", "asked"):
            for name in self.store.names(kind):
                for version in self.store.versions(kind, name):
                    with self._reading(_COPY):
                        self.store.ref(kind, name, version)
        for name in self.store.names("run"):
            self._runs(name, manifests)
        for name in self.store.names("answers"):
            for version in self.store.versions("answers", name):
                with self._reading(_COPY):
                    self._expect((self.store.ref("answers", name, version) or {})["answers"], _COPY)
        for name in self.store.names("held"):
            for number in self.store.versions("held", name):
                with self._reading("Delete it: what it held is found by the next run."):
                    held = load_run(self.store, name, number, kind="held")
                    assert held is not None
                    self._run(held, manifests, last=False)
        for item, remedy in self._objects.values():
            self._object(item, remedy)
        self._arms()
        self._trainings()
        self._read_by_answers()
        if self.deep:
            for name in self.store.names("pool"):
                self._references(name)

    def unknown(self) -> list[str]:
        found = []
        for folder in (self.store.root, *sorted(self.exports)):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path not in self.named and path.name not in _LOCKS:
                    found.append(f"{path}: {_why_unknown(path.relative_to(folder))}")
                    self.named.add(path)
        return found

    def _expect(self, item: Mapping[str, Any] | Object, remedy: str) -> None:
        item = item if isinstance(item, Object) else Object(**item)
        self._objects.setdefault(item.path, (item, remedy))

    def _say(self, path: Path, what: str, remedy: str) -> None:
        self.damaged.append(f"{path}: {what} {remedy}".rstrip())

    @contextmanager
    def _reading(self, remedy: str) -> Iterator[None]:
        try:
            yield
        except CurationError as error:
            self.damaged.append(f"{error} {remedy}".rstrip())

    def _own_files(self) -> None:
        root = self.store.root
        self.named |= {root / MARK, root / MOVED, root / _NOTE}
        with self._reading(f"Delete it, then: {self._command('upgrade')}"):
            self.format = self.store.format
        with self._reading("Delete it and say again what has moved: winnow ls --outside --moved"):
            _ = self.store.moved
        if (root / _NOTE).is_file():
            self._say(root / _NOTE, "is an upgrade not finished:", self._command("upgrade"))
        # Without its mark a store reads as one of format 1.
        if not (root / MARK).is_file() and self._newest_format() == FORMAT:
            self._say(root / MARK, "is missing.", f"This makes it: {self._command('upgrade')}")

    def _newest_format(self) -> int:
        for kind in KINDS:
            for name in self.store.names(kind):
                for version in self.store.versions(kind, name):
                    with self._quietly():
                        return int((self.store.ref(kind, name, version) or {})["format"])
        return 0

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Pass over what is damaged: it is said where it is looked at."""
        try:
            yield
        except CurationError:
            return

    def _manifests(self) -> set[str]:
        """Look at the manifests; return the keys of those that are whole."""
        found = set()
        for path in sorted((self.store.root / "manifests").glob("*.json")):
            self.named.add(path)
            with self._reading(f"Delete it, then: {self._rerun_any()}"):
                content = self.store.sealed(path)
                if content["key"] != path.stem:
                    self._say(path, f"is the manifest of {content['key']}.", "Delete it.")
                    continue
                found.add(path.stem)
                for part in content["parts"]:
                    _, pool, table, *_ = str(part["path"]).split("/")
                    remedy = _again(part, self._rerun_any(pool.removesuffix(".canaries")))
                    if table in _TRAINED:
                        remedy = f"Delete it and {path}: it is made again when it is needed."
                    self._expect(part, remedy)
        return found

    def _manifest(self, key: str, known: set[str], what: str) -> None:
        path = self.store.root / "manifests" / f"{key}.json"
        if key not in known and not path.is_file():
            self._say(path, f"is missing: {what} rests on it.", f"Then: {self._rerun_any()}")

    def _versions(self, kind: str, name: str) -> None:
        """Look for gaps: versions are numbered from 1 on."""
        folder = self.store.root / "refs" / kind / name
        known = self.store.versions(kind, name)
        self.named |= {folder / f"{n}.json" for n in known}
        for number in sorted(set(range(1, max(known, default=0))) - set(known)):
            self._say(folder / f"{number}.json", "is missing.", _COPY)

    def _pool(self, name: str, version: int) -> None:
        with self._reading(_COPY):
            pool = tables.load_pool(self.store, name, version)
            assert pool is not None
            for part in pool.parts:
                self._expect(part.records, _COPY)
                if part.payload is not None:
                    self._expect(part.payload, _COPY)
            removed = [pool.removed] if pool.removed is not None else []
            for item in (*pool.quarantine, *pool.files, *removed):
                self._expect(item, _COPY)

    def _runs(self, name: str, manifests: set[str]) -> None:
        versions = self.store.versions("run", name)
        exported: dict[Path, dict[str, Any]] = {}
        for version in versions:
            last = version == versions[-1]
            remedy = f"Delete it, then: {self._rerun_any()}" if last else _COPY
            with self._reading(remedy):
                run = load_run(self.store, name, version)
                assert run is not None
                self._run(run, manifests, last)
                if "export" in run["result"]:
                    exported[Path(run["result"]["export"]).parent] = run
        for folder, run in exported.items():
            self._latest(folder / "latest.json", run)

    def _run(self, run: dict[str, Any], manifests: set[str], last: bool) -> None:
        notes = [item for objects in run["notes"].values() for item in objects]
        made = (*run["verdict"], *run["evidence"].values(), *run["models"].values(), *notes)
        for item in made:
            self._expect(item, _again(item, self._rerun(run)))
        for table, keys in run["manifests"].items():
            for key in keys:
                self._manifest(key, manifests, table)
        pool = self.store.root / "refs/pool" / run["pool"] / f"{run['pool_version']}.json"
        if run["pool_version"] not in self.store.versions("pool", run["pool"]):
            self._say(pool, f"is missing: run {run['run']} rests on it.", _COPY)
        if "report" in run["result"]:
            self._report(Path(run["result"]["report"]), run)
        if "checkpoint" in run and last:
            # A run looks for its own, whatever the manifests say of those that trainings made.
            for named in (run[what] for what in ("checkpoint", "state") if what in run):
                item = Object(**named)
                self._objects[item.path] = (item, _again(named, self._rerun(run)))
        elif "checkpoint" in run["result"] and not Path(run["result"]["checkpoint"]).is_file():
            self._say(Path(run["result"]["checkpoint"]), "is missing.", self._rerun(run))
        if "export" in run["result"]:
            for arm in (run["recipe"].get("export") or {}).get("arms") or ["recipe"]:
                self._export(run, arm, last)

    def _report(self, path: Path, run: dict[str, Any]) -> None:
        self.named.add(path)
        store = shlex.quote(str(self.store.root))
        to = shlex.quote(str(path))
        again = (
            f"This makes it: winnow report {run['run']} --version {run['version']} --to {to} "
            f"--store {store}"
        )
        if not path.is_file():
            self._say(path, "is missing.", again)
        elif self.deep and run["format"] > 1:
            with self._reading(again):
                seals.opened(path)

    def _latest(self, path: Path, run: dict[str, Any]) -> None:
        self.named.add(path)
        wanted = destination.latest(Path(run["result"]["export"]))
        with self._reading(""), commit.reporting(path):
            if not path.is_file():
                self._say(path, "is missing.", f"This makes it: {self._rerun(run)}")
            elif path.read_bytes() != wanted:
                self._say(
                    path,
                    f"does not say {json.loads(wanted)['version']}.",
                    f"This makes it: {self._rerun(run)}",
                )

    def _export(self, run: dict[str, Any], arm: str, last: bool) -> None:
        """Look at an arm's export: its files against the run's ref, else against its manifest."""
        folder = Path(run["result"]["export"])
        if arm != "recipe":
            folder = folder.parent / arm / folder.name
        quoted = shlex.quote(str(folder))
        again = f"Delete {quoted}, then: {self._rerun(run)}" if last else _COPY
        self.exports.add(folder)
        self.named.add(folder / shards.MANIFEST)
        promised = run.get("exports", {}).get(arm)
        if promised is None:
            promised = self._of_format_1(run, arm, folder, again)
        for item in promised:
            path = folder / item["name"]
            self.named.add(path)
            self._file(path, item["size_bytes"], item["sha256"], again)

    def _of_format_1(
        self, run: dict[str, Any], arm: str, folder: Path, again: str
    ) -> list[dict[str, Any]]:
        """Return an export's files: the ref has the shards alone, the manifest all of them."""
        content = None
        with self._reading(again):
            content = shards.manifest(folder)
            if content is None:
                self._say(folder / shards.MANIFEST, "is missing.", again)
        if arm != "recipe":
            return content["files"] if content is not None else []
        written = {Path(s["path"]): s["sha256"] for s in run["result"]["shards"]}
        return [
            {**item, "sha256": written.get(folder / item["name"], item["sha256"])}
            for item in (content["files"] if content is not None else ())
        ]

    def _file(self, path: Path, size_bytes: int | None, sha256: str, remedy: str) -> None:
        with self._reading(""), commit.reporting(path):
            if not path.is_file():
                self._say(path, "is missing.", remedy)
                return
            size = path.stat().st_size
            if size_bytes is not None and size != size_bytes:
                self._say(path, f"has {size:,} bytes, not {size_bytes:,}.", remedy)
            elif self.deep and shards.file_sha256(path) != sha256:
                self._say(path, "is damaged: its sha256 is not the one that was written.", remedy)

    def _object(self, item: Object, remedy: str) -> None:
        path = self.store.root / item.path
        self.named.add(path)
        self._file(path, item.size_bytes, item.sha256, remedy)

    def _arms(self) -> None:
        """Look at the arms that trainings read; each is made again when it is needed."""
        for folder in sorted((self.store.root / "arms").glob("*/*/")):
            remedy = f"Delete {shlex.quote(str(folder))}: it is made again when it is needed."
            self.named.add(folder / shards.MANIFEST)
            self.exports.add(folder)
            with self._reading(remedy):
                content = shards.manifest(folder)
                if content is None:
                    self._say(folder / shards.MANIFEST, "is missing.", remedy)
                    continue
                for item in content["files"]:
                    path = folder / item["name"]
                    self.named.add(path)
                    self._file(path, item["size_bytes"], item["sha256"], remedy)

    def _trainings(self) -> None:
        folder = self.store.root / "training"
        # Logs promise nothing: no byte of them is looked at, and none is missed.
        self.named |= set(folder.glob("*.jsonl"))
        for path in sorted(folder.glob("*.safetensors")):
            self.named.add(path)
            if self.deep and self.format > 1:
                with self._reading("Delete it: the training begins anew."):
                    seals.opened(path)

    def _read_by_answers(self) -> None:
        """Look at what answers read, which a file's own name tells the sha256 of."""
        root = self.store.root
        for path in sorted(
            [*root.glob("objects/*/holdout.*/*.parquet"), *root.glob("objects/*/arm.*/*.parquet")]
        ):
            self.named.add(path)
            remedy = "Delete it: it is made again when it is needed."
            with self._reading(""), commit.reporting(path):
                if self.deep and not shards.file_sha256(path).startswith(path.suffixes[-2][1:]):
                    self._say(path, "is damaged: its sha256 is not that of its name.", remedy)

    def _references(self, name: str) -> None:
        """Read what the live records of a pool refer to outside of the store."""
        with self._quietly():
            pool = tables.load_pool(self.store, name)
            assert pool is not None
            removed = None if pool.removed is None else tables.read(self.store, pool.removed)
            gone: list[str] = []
            changed: list[str] = []
            for part in pool.parts:
                rows = tables.references(self.store, part)
                if removed is not None:
                    dead = removed.filter(pl.col("part") == part.name)["uid"]
                    rows = rows.filter(~pl.col("uid").is_in(dead.implode()))
                for digest, location in rows.select("digest", "location").iter_rows():
                    path = str(self.store.outside(location["path"]))
                    try:
                        if digest_of(tables.referenced(self.store, location)) != digest:
                            changed.append(path)
                    except CurationError:
                        gone.append(path)
            where = "Say where they are now: winnow ls --outside --moved OLD=NEW, or put them back."
            for paths, what in ((gone, "SOURCE_GONE"), (changed, "changed since it was ingested")):
                if paths:
                    count = f"pool {name}: {len(paths):,} records refer to what is"
                    more = f" {where}" if what == "SOURCE_GONE" else " Put back what was there."
                    shown = ", ".join(dict.fromkeys(paths[:3]))
                    self.damaged.append(f"{shown}: {what}; {count} so.{more}")

    def _command(self, name: str) -> str:
        return f"winnow {name} --store {shlex.quote(str(self.store.root))}"

    def _rerun(self, run: Mapping[str, Any]) -> str:
        """Return the command that makes what a run made."""
        path = Path(run["recipe_dir"]) / f"{run['run']}.toml"
        recipe = shlex.quote(str(path)) if path.is_file() else f"RECIPE (of {run['run']})"
        return f"winnow run {recipe} --store {shlex.quote(str(self.store.root))}"

    def _rerun_any(self, pool: str | None = None) -> str:
        """Return the commands of the recipes that were run, over a pool."""
        commands = [c for of, c in self._reruns if pool in (None, of)]
        return ", ".join(commands) or "winnow run RECIPE"

    @cached_property
    def _reruns(self) -> list[tuple[str, str]]:
        """For each run its pool, and the command that runs its recipe."""
        found = []
        for name in self.store.names("run"):
            with self._quietly():
                run = load_run(self.store, name)
                if run is not None:
                    found.append((run["pool"], self._rerun(run)))
        return found


def _again(item: Mapping[str, Any], command: str) -> str:
    """Return what to do about an object that is derived."""
    if str(item["path"]).split("/")[2].startswith("fit."):
        return f"Put back a copy; without it this says how it is made again: {command}"
    return f"Delete it, then: {command}"


def _why_unknown(path: Path) -> str:
    if path.parts[0] == "objects":
        return "no manifest or ref names it: left by a killed run, or what named it is lost."
    if path.parts[0] == "tmp" or re.search(r"/\.building-", f"/{path.as_posix()}"):
        return "left by a killed run; the next one removes it."
    return "nothing in the store names it."
