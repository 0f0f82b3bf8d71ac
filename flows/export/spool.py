"""What is read in the pool's order and written in another waits on disk, a file a shard."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from storage import commit, tables

# Written to the files when so much is in memory.
_WAITING_BYTES = 32 << 20


class Spool:
    """A folder of numbered files of rows that are only appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: list[pl.DataFrame] = []
        self._waiting_bytes = 0.0

    def path(self, number: int) -> Path:
        """Return a numbered file; it is there once rows were added to it and flushed."""
        return self.folder / f"{number:06d}"

    def add(self, rows: pl.DataFrame, numbers: NDArray[np.uint32]) -> None:
        """Append each row to the file of its number; all rows ever added have the same columns."""
        self._waiting.append(rows.with_columns(pl.Series("number", numbers)))
        self._waiting_bytes += rows.estimated_size()
        if self._waiting_bytes > _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        commit.make_folder(self.folder)
        if self._waiting:
            waiting = pl.concat(self._waiting)
            for (number,), rows in waiting.partition_by("number", as_dict=True).items():
                arrow = tables.to_arrow(rows.drop("number"))
                path = self.path(number)
                # Arrow streams, one behind the other.
                with (
                    commit.reporting(path, arrow.nbytes),
                    path.open("ab") as file,
                    pa.ipc.new_stream(file, arrow.schema) as stream,
                ):
                    stream.write_table(arrow)
        self._waiting.clear()
        self._waiting_bytes = 0.0

    def discard(self) -> None:
        """Remove the files."""
        self._waiting.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def read(path: Path) -> pl.DataFrame:
    """Return the rows of one file, which is mapped: they take memory where they are looked at."""
    found = []
    with pa.memory_map(str(path)) as file:
        while file.tell() < file.size():
            found.append(pa.ipc.open_stream(file).read_all())
    frame = pl.from_arrow(pa.concat_tables(found), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame
