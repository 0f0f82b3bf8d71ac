"""Which records of a pool a key names, and what of it is out of the pool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from contracts import methods
from contracts.params import names_of
from contracts.uid import digest_of, parse_uid

if TYPE_CHECKING:
    from flows.look.views import PoolView, RunView

LOOKS_ALIKE_BITS = 6


@dataclass(frozen=True)
class Match:
    """The records that a key names.

    Attributes:
        uids: in pool order; none where nothing is named so.
        by: uid, source id, source:id, URL, content, file name, path or perceptual hash.
        bits_apart: of a perceptual hash: in how many of its 64 bits the picture differs.
    """

    uids: tuple[int, ...] = ()
    by: str = ""
    bits_apart: int | None = None


def records(pool: PoolView, key: str, run: RunView | None = None) -> Match:
    """Return the records that a key names: all that the first way finds that finds any.

    Args:
        pool: the pool.
        key: a uid (16 hexadecimal digits, or decimal), a source id, `source:id`, a URL, a file
            (by its bytes), or the end or a longer form of a source id that is a path.
        run: by its perceptual hashes a picture is found by its looks, too.
    """
    reader = pool.reader
    names = reader.frame(["source", "source_id"])
    # 16 digits may be either; the whole column decides that in a file, here the pool does.
    for uid in (parse_uid(key), int(key) if re.fullmatch("[0-9]{1,20}", key) else None):
        if uid is not None and uid < 2**64 and uid in names["uid"]:
            return Match((uid,), "uid")
    ways = [(names, way, where) for way, where in _named(key, "source_id").items()]
    if "meta.url" in pool.columns:
        ways.insert(2, (reader.frame(["meta.url"]), "URL", pl.col("meta.url") == key))
    data = Path(key).read_bytes() if Path(key).is_file() else None
    if data is not None:
        digest = pl.col("digest") == digest_of(data)
        # Before the names of files: a file beside the command may be called as another's record.
        ways.insert(len(ways) - 2, (reader.frame(["digest"]), "content", digest))
    for frame, way, where in ways:
        found = frame.filter(where)["uid"]
        if len(found):
            return Match(tuple(found), way)
    return Match() if data is None or run is None else _by_looks(run, data)


def left_out(quarantine: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows of a pool's quarantine that a key names, by name or by a file's bytes."""
    ways = [*_named(key, "source_id").values(), *_named(key, "where").values()]
    if Path(key).is_file():
        ways.append(pl.col("digest") == digest_of(Path(key).read_bytes()))
    return quarantine.filter(pl.any_horizontal(way.fill_null(False) for way in ways))


def _named(key: str, column: str) -> dict[str, pl.Expr]:
    """Return the ways in which a key names what a column calls, the closest first."""
    name = pl.col(column)
    return {
        "source id": name == key,
        "source:id": pl.concat_str("source", pl.lit(":"), name) == key,
        "file name": name.str.ends_with(f"/{key}"),
        "path": pl.lit(key).str.ends_with("/" + name),
    }


def _by_looks(run: RunView, data: bytes) -> Match:
    """Return the records whose perceptual hash is nearest to a picture's, where it is near."""
    for alias, section in run.recipe.get("annotate", {}).items():
        path = f"{alias}.bits"
        if section.get("step") != "perceptual_hash" or path not in run.reader.columns:
            continue
        step = methods.load("curation.annotate", "perceptual_hash")
        step = step.bind(**{k: v for k, v in section.items() if k in names_of(step.function)})
        mine = step(pl.DataFrame({"uid": pl.Series([0], dtype=pl.UInt64), "image": [data]}))
        bits = mine["bits"][0]
        if bits is None or mine.schema["bits"] != pl.UInt64:
            continue
        theirs = run.reader.frame([path]).drop_nulls()
        apart = np.bitwise_count(theirs[path].to_numpy() ^ np.uint64(bits))
        least = int(apart.min(initial=64))
        if least <= LOOKS_ALIKE_BITS:
            return Match(tuple(theirs["uid"].filter(apart == least)), "perceptual hash", least)
    return Match()
