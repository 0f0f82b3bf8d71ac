"""The store: Parquet objects named by content, write-once manifests, refs that count versions.

    objects/<pool>/<table>/<part>.<sha16>.parquet   readable by anything, with nothing of ours
    manifests/<key>.json                            what a table is made of, by what it is made from
    refs/<kind>/<name>/<n>.json                     version n of what `KINDS` names, never moved
    store.json                                      the format of all this
    moved.json                                      where what lies outside has gone, if it has
    tmp/                                            what a killed run left; emptied by the next

A key is the sha256 of the canonical JSON of everything that a table's content depends on, so the
keys are the cache: what was made once is found by whoever needs the same.

A store is one movable thing: a path in it is relative to it. Three lead outside and are absolute:
roots of sources (and what records refer to below them), an `[export] path` elsewhere, and the
folder of a recipe, unless the store lies in it: that is `..`, so that a project moves as one.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from contracts.errors import BusyError, ConfigError, DataError, StorageError
from storage import commit

FORMAT = 2
MARK = "store.json"
MOVED = "moved.json"
KINDS = ("pool", "run", "fit", "embed", "export", "asked", "held", "answers")
FIRST_KEY = "key before the upgrade"
# Files whose content was checked, whichever Store of this process did: each task opens one.
_VERIFIED: set[tuple[Path, str, int, int, int]] = set()


@dataclass(frozen=True)
class Object:
    """An immutable file of the store: path below its root, rows, bytes, sha256."""

    path: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a key stands for: the objects of a table, part by part, and how it was made.

    Attributes:
        key: `key_of(made_by)`.
        made_by: method, version, parameters, roles, tables, gate, sha256 of the inputs.
        parts: one object a part of the pool; a model table has one.
        recorded: what is known of the making but not part of the key: library versions and the
            numerics class (device type, dtype).
    """

    key: str
    made_by: Mapping[str, Any]
    parts: tuple[Object, ...]
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pinned_as(self) -> str:
        """The key that what rests on a fit knows it by: an upgrade renames, and unpins nothing."""
        return str(self.recorded.get(FIRST_KEY, self.key))


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def key_of(made_by: Mapping[str, Any]) -> str:
    """Return the key of what a table is made from."""
    return hashlib.sha256(canonical(made_by)).hexdigest()


def checked_name(name: str, what: str) -> str:
    """Return a name that is safe as a folder.

    Raises:
        ConfigError: for anything but lower-case letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(
            f"{what} {name!r}: use letters, digits, '.', '-' and '_', 100 at most, "
            "beginning with a letter or a digit."
        )
    return name


class Store:
    """A folder of objects, manifests and refs; open it anywhere, write it under `lease`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def temporary(self) -> Path:
        """Where files are staged; on the same file system as the objects."""
        return self.root / "tmp"

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the store for writing, after removing what a killed run left behind.

        Raises:
            BusyError: another process holds it.
            ConfigError: it was written by an older winnow.
        """
        with commit.lease(self.root / "lease"):
            if self.format < FORMAT:
                raise ConfigError(
                    f"{self.root}: is a store of format {self.format}, as it has no "
                    f"{self.root / MARK}: it can be read, not written. Bring it to format "
                    f"{FORMAT}: winnow upgrade --store {shlex.quote(str(self.root))}"
                )
            commit.empty(self.temporary)
            self.mark()
            yield

    @property
    def format(self) -> int:
        """The format of what is in the store; this winnow's where nothing is."""
        mark = self._read_json(self.root / MARK)
        if mark is not None:
            return int(mark["format"])
        return 1 if (self.root / "refs").is_dir() else FORMAT

    def mark(self) -> None:
        """Write down the store's format, once."""
        path = self.root / MARK
        if not path.is_file():
            self.write_sealed(path, {"format": FORMAT})

    def recorded(self, path: Path) -> str:
        """Return a path as the store's files hold it.

        It is relative to the store where it lies in it, absolute where it leads outside.
        """
        full, root = path.resolve(), self.root.resolve()
        return full.relative_to(root).as_posix() if full.is_relative_to(root) else str(full)

    def located(self, recorded: str) -> Path:
        """Return where a path is now that one of the store's files holds."""
        root = self.root.absolute()
        full = os.path.normpath(root / recorded)
        return Path(full) if Path(full).is_relative_to(root) else self.outside(full)

    def outside(self, path: str) -> Path:
        """Return where something outside of the store is now, by what `move` was told."""
        known = [old for old in self.moved if Path(path).is_relative_to(old)]
        if not known:
            return Path(path)
        old = max(known, key=len)
        return Path(self.moved[old]) / Path(path).relative_to(old)

    @cached_property
    def moved(self) -> dict[str, str]:
        """What lay outside and has gone elsewhere: old path to new."""
        content = self._read_json(self.root / MOVED) or {"moved": {}}
        return dict(content["moved"])

    def move(self, old: Path, new: Path) -> None:
        """Note that what lay below a path outside of the store is now elsewhere.

        The caller holds the lease. Where something was said to be that moves now, that follows.

        Raises:
            ConfigError: the new path lies below the old one, so that one could not be told from
                the other.
        """
        before, after = (Path(os.path.normpath(p.absolute())) for p in (old, new))
        if after.is_relative_to(before):
            raise ConfigError(f"--moved {old}={new}: the new path lies below the old one.")
        moved: dict[str, str] = {}
        for known, target in self.moved.items():
            moved[known] = target
            if Path(target).is_relative_to(before):
                moved[known] = str(after / Path(target).relative_to(before))
            elif before.is_relative_to(target):
                # A part of what had moved before goes elsewhere.
                moved.setdefault(str(known / before.relative_to(target)), str(after))
        moved[str(before)] = str(after)
        moved = {known: target for known, target in moved.items() if known != target}
        content = {"format": FORMAT, "moved": dict(sorted(moved.items()))}
        self.write_sealed(self.root / MOVED, content)
        del self.moved

    def stage(self) -> commit.Staged:
        """Return a file to write an object into."""
        return commit.Staged(self.temporary)

    def publish(
        self,
        staged: commit.Staged,
        *,
        pool: str,
        table: str,
        part: str,
        rows: int,
        suffix: str = "parquet",
    ) -> Object:
        """Give a staged file its name, which holds its content's hash."""
        sha256, size = staged.sha256, staged.size_bytes
        path = f"objects/{pool}/{table}/{part}.{sha256[:16]}.{suffix}"
        staged.publish(self.root / path)
        return Object(path, rows, size, sha256)

    def path(self, item: Object) -> Path:
        """Return an object's file, its content checked against its sha256 once a process.

        Raises:
            DataError: the file is damaged.
            StorageError: the file is gone or unreadable.
        """
        path = self.root / item.path
        with commit.reporting(path):
            state = path.stat()
            seen = (path, item.sha256, state.st_ino, state.st_mtime_ns, state.st_size)
            if seen in _VERIFIED:
                return path
            if state.st_size != item.size_bytes or _sha256(path) != item.sha256:
                raise DataError(
                    f"{path}: is not what was written (expected {item.size_bytes:,} bytes, sha256 "
                    f"{item.sha256[:16]}…). If it is derived, delete it and run again."
                )
        _VERIFIED.add(seen)
        return path

    def find(self, key: str) -> Manifest | None:
        """Return the manifest of a key, None where it or one of its objects is missing."""
        found = self._found(key)
        return found if isinstance(found, Manifest) else None

    def lost(self, key: str) -> Path | None:
        """Return the file for want of which `find` finds nothing."""
        found = self._found(key)
        return found if isinstance(found, Path) else None

    def _found(self, key: str) -> Manifest | Path:
        manifest = self.root / "manifests" / f"{key}.json"
        content = self._read_json(manifest)
        if content is None:
            return manifest
        parts = tuple(Object(**part) for part in content["parts"])
        for part in parts:
            path = self.root / part.path
            if not path.is_file() or path.stat().st_size != part.size_bytes:
                return path
        return Manifest(content["key"], content["made_by"], parts, content["recorded"])

    def publish_manifest(
        self,
        made_by: Mapping[str, Any],
        parts: Sequence[Object],
        recorded: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Create the manifest of what was made; equal content made twice is found, not replaced.

        Raises:
            StorageError: the key already stands for other content.
        """
        manifest = Manifest(key_of(made_by), made_by, tuple(parts), recorded or {})
        path = self.root / "manifests" / f"{manifest.key}.json"
        if commit.create(path, _sealed(asdict(manifest)), temporary=self.temporary):
            return manifest
        known = self._read_json(path) or {}
        if [p["sha256"] for p in known["parts"]] != [p.sha256 for p in parts]:
            raise StorageError(
                f"{path}: {made_by.get('method', 'it')} was made before with other content. It is "
                "not deterministic, or it changed without a new version: raise its version."
            )
        return manifest

    def versions(self, kind: str, name: str) -> list[int]:
        """Return the version numbers of a ref, ascending."""
        folder = self.root / "refs" / kind / name
        if not folder.is_dir():
            return []
        return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())

    def names(self, kind: str) -> list[str]:
        """Return the names that have versions."""
        folder = self.root / "refs" / kind
        # A run that was killed leaves a folder without a version.
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(path.name for path in found if self.versions(kind, path.name))

    def ref(self, kind: str, name: str, version: int | None = None) -> dict[str, Any] | None:
        """Return a version's content, the latest where none is given; None where there is none."""
        if version is None:
            known = self.versions(kind, name)
            if not known:
                return None
            version = known[-1]
        return self._read_json(self.ref_path(kind, name, version))

    def ref_path(self, kind: str, name: str, version: int) -> Path:
        """Return where a version's content lies."""
        return self.root / "refs" / kind / name / f"{version}.json"

    def replace_ref(self, kind: str, name: str, version: int, content: Mapping[str, Any]) -> None:
        """Write a version that exists in this format; only an upgrade does."""
        self.write_sealed(self.ref_path(kind, name, version), {**content, "format": FORMAT})

    def create_ref(self, kind: str, name: str, version: int, content: Mapping[str, Any]) -> None:
        """Create a version: of two writers of the same number, one is told that it lost.

        Raises:
            BusyError: the version exists.
        """
        path = self.ref_path(kind, name, version)
        if not commit.create(
            path, _sealed({"format": FORMAT, **content}), temporary=self.temporary
        ):
            raise BusyError(f"{path}: version {version} was made by another run. Run again.")

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        return self.sealed(path) if path.is_file() else None

    def write_sealed(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the store with the sha256 of its own other bytes."""
        commit.write(path, _sealed(content), temporary=self.temporary)

    def sealed(self, path: Path) -> dict[str, Any]:
        """Return a JSON file of the store, checked against its own sha256.

        Raises:
            DataError: it is damaged.
        """
        with commit.reporting(path):
            data = path.read_bytes()
        try:
            content: dict[str, Any] = json.loads(data)
            seal = content.pop("sha256")
        except (ValueError, KeyError, AttributeError):
            raise DataError(f"{path}: is damaged: not a sealed JSON file.") from None
        if hashlib.sha256(canonical(content)).hexdigest() != seal:
            raise DataError(f"{path}: is damaged: its content does not match its own sha256.")
        if content.get("format", FORMAT) > FORMAT:
            raise ConfigError(f"{path}: format {content['format']} needs a newer winnow.")
        return content


def _sealed(content: Mapping[str, Any]) -> bytes:
    """Return the JSON with the sha256 of its own other bytes."""
    return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()})


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.stat().st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                for start in range(0, len(view), 1 << 24):
                    digest.update(view[start : start + (1 << 24)])
    return digest.hexdigest()
