"""A folder of images, each with its caption in a file of its own or in a table beside them."""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.uid import digest_of
from storage.rows import is_unicode, record_of
from storage.source import (
    IMAGE_LIKE_SUFFIXES,
    Columns,
    Location,
    Record,
    Refused,
    Rejected,
    Unit,
    image_kind,
)
from storage.sources._captions import NAMES, Row, read_captions
from storage.sources._json import parse_object
from storage.walk import Folder, Tree, shown

_IMAGE_LIKE = tuple(sorted(IMAGE_LIKE_SUFFIXES))


@dataclass(frozen=True)
class Picture(Unit):
    """An image file and what belongs to it.

    Attributes:
        beside: its `.txt` and `.json`, where there are any.
        row: its row of a table of captions.
        by_content: a `.txt` that is no image's caption: an image if its first bytes say so.
    """

    beside: tuple[str, ...] = ()
    row: Mapping[str, Any] | None = None
    by_content: bool = False


@dataclass(frozen=True)
class Leftover(Unit):
    """A table of captions, for its rows that could not be read."""

    rejected: tuple[Rejected, ...] = ()


class ImageFolder:
    """Read each image file; its path below the root is its id.

    The caption is the text of `<stem>.txt`, or a column of the JSON object `<stem>.json`, or of the
    row of `metadata.csv`, `.jsonl` or `.parquet` (`captions.*` likewise) in the image's folder or
    one above it, whose column `file_name` names the image relative to the table: the layout of
    Hugging Face's ImageFolder. The other columns go to meta; where several have one, the first
    of this list wins. An image without a caption is a record too.

    Files that cannot be images by their suffix are passed over, but a `.txt` beside no image is
    opened: if an image's first bytes begin it, it is one.

    Rejects:
        SYMLINK, SPECIAL_FILE, UNREADABLE, SOURCE_GONE, TOO_LARGE (64 MiB),
        CHANGED_WHILE_READING, of a `.json` JSON_INVALID and its like, what `record_of` says, and
        rows of a table that cannot be read, whose images then have no caption.
    Cost: memory for the names of one folder and the tables of captions.
    """

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit an image.

        Raises:
            DataError: a table of captions cannot be read.
        """
        tables: list[tuple[str, dict[str, Row]]] = []
        for folder in self._tree.folders():
            tables = [t for t in tables if folder.prefix.startswith(t[0])]
            for name in NAMES:
                if name in folder.names:
                    unit = self._tree.unit(folder, name)
                    captions = read_captions(self._tree, unit, self._columns)
                    tables.append((folder.prefix, captions.rows))
                    if captions.rejected:
                        rejected = tuple(captions.rejected)
                        yield Leftover(
                            unit.name, unit.path, unit.size_bytes, unit.fingerprint, rejected
                        )
            yield from self._pictures(folder, tables)

    def _pictures(
        self, folder: Folder, tables: list[tuple[str, dict[str, Row]]]
    ) -> Iterator[Picture]:
        names = set(folder.names)
        images = (name for name in names if name.lower().endswith(_IMAGE_LIKE))
        stems = {name.rpartition(".")[0] for name in images}
        for name in folder.chosen((*_IMAGE_LIKE, ".txt")):
            stem, _, suffix = name.rpartition(".")
            text = suffix.lower() == "txt"
            if text and stem in stems:
                continue
            own = (f"{stem}.txt", f"{stem}.json")
            beside = tuple(n for n in own if n in names and n != name)
            row: Row = {}
            for prefix, table in tables:
                row = row | table.get((folder.prefix + name)[len(prefix) :], {})
            unit = self._tree.unit(folder, name, *beside)
            mark = unit.fingerprint
            if row:
                mark += "+" + digest_of(repr(sorted(row.items()))).hex()
            yield Picture(unit.name, unit.path, unit.size_bytes, mark, beside, row, text)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield the image's record."""
        if isinstance(unit, Leftover):
            yield from unit.rejected
            return
        assert isinstance(unit, Picture)
        where = unit.name
        try:
            if unit.by_content and image_kind(self._head(unit.path)) is None:
                return
            data = self._tree.read(unit.path)
            row = dict(unit.row or {})
            for name in unit.beside[::-1]:
                where = posixpath.join(posixpath.dirname(unit.name), shown(name))
                self._add(row, unit.path.with_name(name))
        except Refused as bad:
            yield Rejected(where, bad.code, bad.detail, unit.name)
            return
        row[self._columns.image or "image"] = {"bytes": data, "path": unit.path.name}
        place = str(unit.path.absolute())
        yield record_of(
            self._columns,
            row,
            source_id=unit.name,
            where=unit.name,
            # A path that is not UTF-8 cannot be remembered: such a payload is copied.
            location=Location(place, 0, len(data)) if is_unicode(place) else None,
        )

    def _add(self, row: Row, path: Path) -> None:
        data = self._tree.read(path)
        if path.suffix == ".json":
            row |= parse_object(data.removeprefix(codecs.BOM_UTF8))
            return
        given = self._columns.text
        key = "text" if given is None or given in row else given
        row[key] = data.rstrip(b"\r\n")

    def _head(self, path: Path) -> bytes:
        with self._tree.open(path) as file:
            return file.read(16)
