"""What a table's file rests on."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from storage import tables
from storage.store import Store


def test_the_bytes_of_a_table_say_nothing_of_the_batches_that_it_came_in(tmp_path: Path):
    store = Store(tmp_path)
    frame = pl.DataFrame({"text": [f"{n:0999}" for n in range(5000)]})
    written = set()
    for step in (5000, 700, 1):
        batches = [frame[start : start + step] for start in range(0, 5000, step)]
        whole = pl.concat(batches, rechunk=False)
        written.add(tables.put(store, whole, pool="web", table="records", part="00000"))
    assert len(written) == 1
