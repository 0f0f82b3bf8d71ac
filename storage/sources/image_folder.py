"""A folder of images, each with its caption in a file of its own or in a table beside them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError
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
from storage.sources._captions import NAMES, Captions, Row, read_captions
from storage.sources._json import parse_beside
from storage.walk import Folder, Tree, shown

_SIDECARS = (".txt", ".json")


@dataclass(frozen=True)
class MediaFile(Unit):
    """A file and what belongs to it.

    Attributes:
        beside: its `.txt` and `.json`, in any case of letters, where there are any.
        row: its row of a table of captions.
        by_content: a `.txt` that is no file's caption: a picture if its first bytes say so.
        labels: its label image, relative to its folder; where the source has some.
    """

    beside: tuple[str, ...] = ()
    row: Mapping[str, Any] | None = None
    by_content: bool = False
    labels: str | None = None


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
    of this list wins. An image without a caption is a record too. Suffixes and the names of tables
    are read in any case of letters, the lower one first; names of images in any normal form of
    Unicode. A JSON that cannot be taken costs no image (notes JSON_VALUE_DROPPED, JSON_DROPPED).

    `label_image` says where the label image of a picture lies, by `{path}`, the picture's path
    below the root without suffix, or `{stem}`, its last part. What lies there is no picture.

    Files that cannot be images by their suffix are passed over, but a `.txt` beside no image is
    opened: if an image's first bytes begin it, it is one. Passed over are rows that name no image
    too, and label images of no image; images without a row or a text are counted beside them.

    Rejects:
        SYMLINK, SPECIAL_FILE, UNREADABLE, SOURCE_GONE, TOO_LARGE (64 MiB),
        CHANGED_WHILE_READING, what `record_of` says, and rows of a table that cannot be read, whose
        images then have no caption.
    Cost: memory for the names of one folder and the tables of captions; for those of all label
        images where these lie apart.
    """

    kind = "image"
    noun = "picture"
    suffixes = tuple(sorted(IMAGE_LIKE_SUFFIXES))
    kind_of_head = staticmethod(image_kind)

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self._labels = _labels_like(columns.label_image)
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit an image.

        Raises:
            DataError: a table of captions is damaged, or none of its rows names a picture.
            StorageError: it cannot be read.
        """
        tables: list[Captions] = []
        # Labels that lie somewhere and were not asked for yet, and the other way round.
        lying: set[str] = set()
        asked: set[str] = set()
        for folder in self._tree.folders():
            for table in tables:
                if not folder.prefix.startswith(table.folder):
                    table.finish(folder.passed_over)
            tables = [table for table in tables if folder.prefix.startswith(table.folder)]
            names = sorted((n for n in folder.names if n.lower() in NAMES), key=_rank)
            for name in names:
                unit = self._tree.unit(folder, name)
                captions = read_captions(self._tree, folder, unit, self._columns, self.noun)
                tables.append(captions)
                if captions.rejected:
                    rejected = tuple(captions.rejected)
                    yield Leftover(
                        unit.name, unit.path, unit.size_bytes, unit.fingerprint, rejected
                    )
            labels = {n for n in folder.names if self._is_label(folder, n)}
            used = {*names, *labels}
            for name in labels if folder.wanted is None else labels & folder.wanted:
                _pair(folder.prefix + name, asked, lying)
            for found in self._described(folder, tables):
                used |= {found.path.name, *found.beside}
                if found.labels is not None:
                    _pair(posixpath.normpath(folder.prefix + found.labels), lying, asked)
                yield found
            folder.pass_over_rest(used)
        for table in tables:
            table.finish(self.passed_over.names)
        for name in sorted(lying):
            self.passed_over.names.add(shown(name), f"the labels of no {self.noun}")

    def _described(self, folder: Folder, tables: Sequence[Captions]) -> Iterator[MediaFile]:
        files = [
            name
            for name in folder.names
            if name.lower().endswith(self.suffixes) and not self._is_label(folder, name)
        ]
        stems = {name.rpartition(".")[0] for name in files}
        # Of several spellings the one in lower case comes last, and is the one that stays.
        sidecars = {_split(name): name for name in folder.names if _split(name)[1] in _SIDECARS}
        for name in folder.chosen((*self.suffixes, ".txt")):
            if self._is_label(folder, name):
                continue
            stem, suffix = _split(name)
            text = suffix == ".txt"
            if text and stem in stems:
                continue
            own = [sidecars.get((stem, s)) for s in _SIDECARS]
            beside = tuple(n for n in own if n is not None and n != name)
            row: Row = {}
            for table in tables:
                row = row | table.row(folder.prefix + name, counted=not text)
            if tables and not text and not row and not beside:
                folder.pass_over(name, f"a {self.noun} without a row or a text")
            label_image, where = self._columns.label_image, None
            if label_image is not None:
                place = label_image.format(path=folder.prefix + stem, stem=stem)
                where = posixpath.relpath(place, folder.prefix or ".")
            unit = self._tree.unit(folder, name, *beside, *([] if where is None else [where]))
            mark = unit.fingerprint
            if row:
                mark += "+" + digest_of(repr(sorted(row.items()))).hex()
            yield MediaFile(unit.name, unit.path, unit.size_bytes, mark, beside, row, text, where)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield the file's record."""
        if isinstance(unit, Leftover):
            yield from unit.rejected
            return
        assert isinstance(unit, MediaFile)
        where = unit.name
        row = dict(unit.row or {})
        notes: tuple[str, ...] = ()
        try:
            if unit.by_content and self.kind_of_head(self._head(unit.path)) is None:
                for name in (unit.path.name, *unit.beside):
                    place = posixpath.join(posixpath.dirname(unit.name), shown(name))
                    self.passed_over.contents.add(place, f"beside no {self.noun}")
                return
            data = self._tree.read(unit.path)
            for name in unit.beside[::-1]:
                where = posixpath.join(posixpath.dirname(unit.name), shown(name))
                content = self._tree.read(unit.path.with_name(name))
                if _split(name)[1] == ".json":
                    said = parse_beside(content)
                    row |= said.row
                    notes = said.notes
                    if said.fault is not None:
                        if self._columns.id not in (None, *row):
                            raise said.fault
                        reason = f"{notes[0]}: {said.fault.code}"
                        self.passed_over.contents.add(where, reason)
                else:
                    given = self._columns.text
                    key = "text" if given is None or given in row else given
                    row[key] = content.rstrip(b"\r\n")
            if unit.labels is not None:
                row[str(self._columns.label_image)] = self._labels_of(unit)
        except Refused as bad:
            yield Rejected(where, bad.code, bad.detail, unit.name)
            return
        column = getattr(self._columns, self.kind) or self.kind
        row[column] = {"bytes": data, "path": unit.path.name}
        place = str(unit.path.absolute())
        yield record_of(
            self._columns.naming(self.kind, column),
            row,
            source_id=unit.name,
            where=unit.name,
            # A path that is not UTF-8 cannot be remembered: such a payload is copied.
            location=Location(place, 0, len(data)) if is_unicode(place) else None,
            notes=notes,
        )

    def _is_label(self, folder: Folder, name: str) -> bool:
        return self._labels.fullmatch(folder.prefix + name) is not None

    def _labels_of(self, unit: MediaFile) -> bytes | None:
        """Return the encoded label image, None where there is none."""
        try:
            return self._tree.read(Path(os.path.normpath(unit.path.parent / str(unit.labels))))
        except Refused as bad:
            if bad.code == "SOURCE_GONE":
                return None
            raise

    def _head(self, path: Path) -> bytes:
        with self._tree.open(path) as file:
            return file.read(16)


def _labels_like(place: str | None) -> re.Pattern[str]:
    """Return what matches a path below the root at which a label image may lie.

    Raises:
        ConfigError: the place is the same for all pictures, has another field, or is elsewhere.
    """
    if place is None:
        return re.compile(r"(?!)")
    if ".." in place.split("/") or posixpath.isabs(place):
        raise ConfigError(
            f"source.label_image: {place!r} leads out of the source's path: name a place below it, "
            "such as 'masks/{stem}.png', and let `path` be the folder of both."
        )
    parts = re.split(r"\{(path|stem)\}", posixpath.normpath(place))
    if len(parts) == 1 or any(c in "{}" for part in parts[::2] for c in part):
        raise ConfigError(
            f"source.label_image: {place!r} must say where a picture's labels lie by {{path}} or "
            "{stem}, such as 'masks/{stem}.png'."
        )
    fields = {"path": "(.+)", "stem": "([^/]+)"}
    pattern = [fields[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)]
    return re.compile("".join(pattern))


def _pair(place: str, waiting: set[str], other: set[str]) -> None:
    """Take a label image off those that wait for it, or let it wait among the others."""
    if place in waiting:
        waiting.remove(place)
    else:
        other.add(place)


def _rank(name: str) -> tuple[int, str]:
    return NAMES.index(name.lower()), name


def _split(name: str) -> tuple[str, str]:
    """Return a file's stem and its suffix in lower case."""
    stem, dot, suffix = name.rpartition(".")
    return stem, dot + suffix.lower()
