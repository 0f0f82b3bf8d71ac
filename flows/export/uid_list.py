"""The uid list of an export: the kept ids, each as often as training sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from flows.export import spool
from flows.export.kept import Kept
from storage import shards
from storage.shards import Shard, TableFile

# Sorted in memory at a time.
_RECORDS = 100_000
_SCHEMA = {"uid": pl.UInt64, "source": pl.String, "source_id": pl.String}


def write(kept: Kept, building: Path) -> Shard:
    """Write DataComp's `subset.npy` where all source ids are 32 hexadecimal digits.

    Else `uids.parquet` (uid, source, source_id), in the order of uids.

    Cost: 16 bytes a draw, or nothing that grows with the records.
    """
    ids = np.empty((len(kept.uids), 2), dtype=np.uint64)
    for part in range(len(kept.runtime.pool.parts)):
        rows, positions = kept.of_part(part)
        of_part = kept.columns(part, ["source_id"], rows)["source_id"]
        if not of_part.str.contains(r"^[0-9a-f]{32}$").all():
            del ids
            return _table(kept, building)
        octets = b"".join(of_part.str.decode("hex"))
        ids[positions] = np.frombuffer(octets, dtype=">u8").reshape(-1, 2)
    return shards.write_datacomp_ids(building, np.repeat(ids, kept.repeats, axis=0))


def _table(kept: Kept, building: Path) -> Shard:
    waiting = spool.Spool(building / ".spool")
    try:
        for part in range(len(kept.runtime.pool.parts)):
            rows, positions = kept.of_part(part)
            frame = kept.columns(part, ["source", "source_id"], rows)
            frame = frame.with_columns(repeats=kept.repeats[positions])
            waiting.add(frame, (positions // _RECORDS).astype(np.uint32))
        waiting.flush()
        with TableFile(building, "uids.parquet", _SCHEMA) as table:
            for number in range(-(-len(kept.uids) // _RECORDS)):
                found = spool.read(waiting.path(number)).sort("uid")
                draws = np.repeat(np.arange(len(found)), found["repeats"])
                table.write(found[draws].select(_SCHEMA.keys()))
            return table.publish()
    finally:
        waiting.discard()
