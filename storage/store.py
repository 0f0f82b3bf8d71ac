"""The store: Parquet objects named by content, write-once manifests, refs that count versions.

    objects/<pool>/<table>/<part>.<sha16>.parquet   readable by anything, with nothing of ours
    manifests/<key>.json                            what a table is made of, by what it is made from
    refs/{pool,run,fit}/<name>/<n>.json             version n; a version is created, never moved
    tmp/                                            what a killed run left; emptied by the next

A key is the sha256 of the canonical JSON of everything that a table's content depends on, so the
keys are the cache: what was made once is found by whoever needs the same.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import BusyError, ConfigError, DataError, StorageError
from storage import commit

FORMAT = 1
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
        """Hold the store for writing, after removing what a killed run left behind."""
        with commit.lease(self.root / "lease"):
            commit.empty(self.temporary)
            yield

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
        content = self._read_json(self.root / "manifests" / f"{key}.json")
        if content is None:
            return None
        parts = tuple(Object(**part) for part in content["parts"])
        for part in parts:
            path = self.root / part.path
            if not path.is_file() or path.stat().st_size != part.size_bytes:
                return None
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
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def ref(self, kind: str, name: str, version: int | None = None) -> dict[str, Any] | None:
        """Return a version's content, the latest where none is given; None where there is none."""
        if version is None:
            known = self.versions(kind, name)
            if not known:
                return None
            version = known[-1]
        return self._read_json(self.root / "refs" / kind / name / f"{version}.json")

    def create_ref(self, kind: str, name: str, version: int, content: Mapping[str, Any]) -> None:
        """Create a version: of two writers of the same number, one is told that it lost.

        Raises:
            BusyError: the version exists.
        """
        path = self.root / "refs" / kind / name / f"{version}.json"
        if not commit.create(
            path, _sealed({"format": FORMAT, **content}), temporary=self.temporary
        ):
            raise BusyError(f"{path}: version {version} was made by another run. Run again.")

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        return self.sealed(path) if path.is_file() else None

    def sealed(self, path: Path) -> dict[str, Any]:
        """Return a manifest or ref, checked against its own sha256.

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
