"""What is read in the pool's order and written in another waits on disk, a file a shard."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

from storage import commit

# Appended to the files when so much is in memory.
_WAITING_BYTES = 16 << 20


class Spool:
    """A folder of numbered files that are only appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: defaultdict[int, list[bytes]] = defaultdict(list)
        self._waiting_bytes = 0

    def path(self, number: int) -> Path:
        """Return a numbered file; it is there once something was added and flushed."""
        return self.folder / f"{number:06d}"

    def add(self, number: int, data: bytes) -> None:
        """Append to a numbered file."""
        self._waiting[number].append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        commit.make_folder(self.folder)
        for number, chunks in self._waiting.items():
            path = self.path(number)
            with commit.reporting(path, sum(map(len, chunks))), path.open("ab") as file:
                file.writelines(chunks)
        self._waiting.clear()
        self._waiting_bytes = 0

    def discard(self) -> None:
        """Remove the files."""
        self._waiting.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
