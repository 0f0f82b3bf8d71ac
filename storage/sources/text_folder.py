"""A folder of plain text files, .txt and .md: a record a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from storage.rows import check_columns, record_of
from storage.source import Columns, Record, Refused, Rejected, Unit
from storage.walk import Tree

SUFFIXES = (".txt", ".md")


class TextFolder:
    """Read each file whole; its path below the root is its id.

    Rejects:
        SYMLINK, SPECIAL_FILE, UNREADABLE, TOO_LARGE (64 MiB), CHANGED_WHILE_READING, and what
        `record_of` says of the text.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        text = columns.text or "text"
        check_columns(columns, [text], "a folder of texts")
        self._tree, self._columns, self._text = Tree(root, paths, follow_links), columns, text
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit a file."""
        return self._tree.units(SUFFIXES)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield the file's record."""
        try:
            data = self._tree.read(unit.path)
        except Refused as bad:
            yield Rejected(unit.name, bad.code, bad.detail, unit.name)
            return
        row = {self._text: data}
        yield record_of(self._columns, row, source_id=unit.name, where=unit.name)
