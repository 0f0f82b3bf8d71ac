"""What lies beside a tar: the Parquet file that img2dataset writes, and counts of its samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from storage.source import Refused, Rejected, Unit
from storage.sources._json import parse_object
from storage.sources.parquet import read_rows
from storage.walk import Tree

INDEX_BYTES = 16 << 20
_SUFFIX = re.compile(r"\.(tar|tgz|tar\.gz|tar\.zst)$", re.IGNORECASE)


def stem_of(name: str) -> str:
    """Return a tar's name without its suffix."""
    return _SUFFIX.sub("", name)


class SidecarRows:
    """The rows of the Parquet file beside a tar by their key, read as they are asked for.

    Attributes:
        known: there is such a file, and it has keys.
        fault: why it cannot be read: SOURCE_UNREADABLE, BOMB_ROWS or as `Tree.open`.

    Cost: memory for the rows that come before those asked for, all of them in the worst case.
    """

    def __init__(self, tree: Tree, unit: Unit) -> None:
        self.known = False
        self.fault: Rejected | None = None
        self._tree = tree
        self._path = unit.path.with_name(stem_of(unit.path.name) + ".parquet")
        self._name = stem_of(unit.name) + ".parquet"
        self._waiting: dict[str, dict[str, Any]] = {}
        self._rows = self._read()

    def row(self, key: str) -> dict[str, Any]:
        """Return the other columns of a key's row, nothing where there is none."""
        while key not in self._waiting:
            following = next(self._rows, None)
            if following is None:
                return {}
            self._waiting[following[0]] = following[1]
        return self._waiting.pop(key)

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with self._tree.open(self._path) as opened:
                for row in read_rows(opened):
                    if isinstance(row, Refused):
                        continue  # its sample is noted INDEX_MISMATCH
                    if "key" not in row:
                        return
                    self.known = True
                    yield str(row.pop("key")), row
        except Refused as fault:
            self.known = False
            if fault.code != "SOURCE_GONE":
                self.fault = Rejected(self._name, fault.code, fault.detail)


class SampleCounts:
    """How many samples the files beside a tar say that it has.

    They are `<stem>_stats.json` of img2dataset (`successes`), `sizes.json` of open_clip (name to
    count) and webdataset's `index.json` (`shardlist` of `url` and `nsamples`).
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folder: Path | None = None
        self._counts: dict[str, Any] = {}

    def of(self, path: Path) -> int | None:
        """Return the count of one tar; None where none can be read."""
        stats = self._read(path.with_name(stem_of(path.name) + "_stats.json"))
        if path.parent != self._folder:
            self._folder, self._counts = path.parent, self._read(path.with_name("sizes.json"))
            shards = self._read(path.with_name("index.json")).get("shardlist")
            for shard in shards if isinstance(shards, list) else []:
                if isinstance(shard, dict):
                    name = str(shard.get("url")).rpartition("/")[2]
                    self._counts[name] = shard.get("nsamples")
        count = stats.get("successes", self._counts.get(path.name))
        return count if isinstance(count, int) else None

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return parse_object(self._tree.read(path, INDEX_BYTES))
        except Refused:
            return {}
