from __future__ import annotations

import os
from typing import Any

import polars as pl

from flows.look.render import listing


def test_a_store_lists_pools_and_runs_and_their_files(rows: Any):
    items = {(item["kind"], item["name"]): item for item in listing(rows.store)}
    assert items["pool", "web"]["records"] == 20
    assert items["run", "web"]["version"] == 1
    files = listing(rows.store, files=True)
    assert {"records", "annotate.caption_stats"} <= {item["table"] for item in files}
    for item in files:
        assert pl.read_parquet(item["path"]).height >= 0
        assert os.path.getsize(item["path"]) == item["bytes"]  # noqa: PTH202
