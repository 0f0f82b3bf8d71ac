"""Answers of people to questions on records of a pool: one table a pool, in versions.

`uid`, `question` and `good`, which is null where the question was passed over.
"""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from storage import tables
from storage.store import Object, Store

SCHEMA = {"uid": pl.UInt64, "question": pl.String, "good": pl.Boolean}


def load(store: Store, pool: str) -> pl.DataFrame:
    """Return all answers on a pool's records."""
    ref = store.ref("answers", pool)
    return pl.DataFrame(schema=SCHEMA) if ref is None else tables.read(store, answers_of(ref))


def add(store: Store, pool: str, answers: pl.DataFrame) -> None:
    """Keep answers; one to a question that was answered before takes the other's place.

    Raises:
        BusyError: another process adds some, too.
    """
    both = pl.concat([load(store, pool), answers.select(*SCHEMA)])
    both = both.unique(["uid", "question"], keep="last").sort("question", "uid")
    item = tables.put(store, both, pool=pool, table="answers", part="answers")
    version = len(store.versions("answers", pool)) + 1
    store.create_ref("answers", pool, version, {"pool": pool, "answers": asdict(item)})


def answers_of(ref: dict[str, object]) -> Object:
    """Return the table of a version."""
    return Object(**ref["answers"])  # type: ignore[arg-type]
