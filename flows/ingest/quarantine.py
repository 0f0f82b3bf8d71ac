"""What is out of a pool now: the last reading of each unit says what of it was not accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import DataError
from storage import commit, tables
from storage.parts import FILES, QUARANTINE
from storage.source import FOLLOW_ADVICE
from storage.store import Object, Store

MAX_RATIO = 0.2
MAX_RATIO_FROM = 100
# Other content under an id that the pool has: the source grew, nothing is wrong with its records.
KNOWN_IDS = ("CHANGED", "DUP_ID")
_EXAMPLES = 2


def listed(store: Store, pool: tables.Pool, source: str | None = None) -> pl.DataFrame:
    """Return what is out of a pool now, of one source or of all."""
    frames = [_read(store, pool, item) for item in pool.quarantine]
    rows = pl.concat([pl.DataFrame(schema=QUARANTINE), *frames])
    return rows if source is None else rows.filter(pl.col("source") == source)


def replaced(
    store: Store,
    pool: tables.Pool,
    source: str,
    units: pl.Series,
    rows: pl.DataFrame,
    name: str,
) -> tuple[Object, ...]:
    """Return the tables of a pool whose `units` were read again and gave `rows`.

    Tables that stay as they are are not written again.
    """
    kept: list[Object] = []
    stale: list[pl.DataFrame] = []
    for number, item in enumerate(pool.quarantine):
        frame = _read(store, pool, item)
        again = (frame["source"] == source) & frame["unit"].is_in(units.implode())
        stale.append(frame.filter(again))
        if not again.any():
            kept.append(item)
        elif not again.all():
            rest = frame.filter(~again)
            part = f"{name}.{number}"
            kept.append(tables.put(store, rest, pool=pool.name, table="quarantine", part=part))
    if _same(pl.concat([pl.DataFrame(schema=QUARANTINE), *stale]), rows):
        return pool.quarantine
    if rows.height:
        kept.append(tables.put(store, rows, pool=pool.name, table="quarantine", part=name))
    return tuple(kept)


def left_out(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return suffix, reason, count and two examples of what is quarantined, most frequent first."""
    suffix = pl.col("unit").str.extract(r"(\.\w{1,10}(?:\.(?:gz|zst))?)$").str.to_lowercase()
    groups = (
        rows.group_by(suffix=suffix.fill_null("no suffix"), reason=pl.col("code"))
        .agg(count=pl.len(), examples=pl.col("where").head(_EXAMPLES))
        .sort(pl.col("count"), "suffix", "reason", descending=[True, False, False])
    )
    return groups.to_dicts()


def check_share(
    store: Store,
    pool: str,
    source: str,
    fresh: pl.DataFrame,
    accepted: int,
    limit: float | None,
) -> None:
    """Hold an ingest of which too much cannot be used.

    Args:
        store: where the list of it is written.
        pool: the pool.
        source: the source.
        fresh: what is quarantined now and was not before.
        accepted: the records that are new.
        limit: the largest share; None for MAX_RATIO, from MAX_RATIO_FROM records on.

    Raises:
        DataError: the share is larger (65).
    """
    bad = fresh.filter(~pl.col("code").is_in(KNOWN_IDS))
    total = bad.height + accepted
    if not bad.height or (limit is None and total < MAX_RATIO_FROM):
        return
    most = MAX_RATIO if limit is None else limit
    share = bad.height / total
    if share > most:
        needed = -(-bad.height * 1000 // total) / 1000
        raise DataError(
            f"source {source}: {bad.height:,} of {total:,} new records cannot be used, "
            f"{share:.1%}, more than {most:.1%}: nothing of this ingest is visible. "
            f"{_told(store, pool, source, bad)} --accept takes the rest, --max-quarantined "
            f"{needed:g} (in a recipe max_quarantined_ratio of [guard]) allows as much."
        )


def nothing_accepted(store: Store, pool: str, source: str, rows: pl.DataFrame) -> DataError:
    """Return the error of an ingest that brings nothing."""
    return DataError(
        f"source {source}: nothing of it can be used, and nothing of this ingest is visible. "
        f"{_told(store, pool, source, rows)}"
    )


def held(store: Store, pool: str, source: str) -> Path:
    """Return where the quarantine of an ingest that was held is listed."""
    return store.root / "held" / pool / f"{source}.jsonl"


def _told(store: Store, pool: str, source: str, rows: pl.DataFrame) -> str:
    """List the rows of an ingest that is not visible; name codes, counts and one example each."""
    path = held(store, pool, source)
    shown = rows.with_columns(pl.col("digest").bin.encode("hex"))
    commit.write(path, shown.write_ndjson().encode())
    groups = rows.group_by("code", maintain_order=True).agg(
        pl.len(), pl.col("where").first(), pl.col("detail").first().str.slice(0, 120)
    )
    ordered = groups.sort("len", "code", descending=[True, False])
    codes = "; ".join(
        f"{n:,} {code}, as {where}{f': {detail}' if detail else ''}"
        for code, n, where, detail in ordered.iter_rows()
    )
    advice = FOLLOW_ADVICE if "SYMLINK" in rows["code"] else ""
    if (rows["code"] == "NO_CONTENT").all():
        advice = (
            " If a column is the text or the picture, name it: --text COLUMN or --image COLUMN, "
            'text = "COLUMN" in [[source]].'
        )
    return f"{codes}. All of them: {path}.{advice}"


def _read(store: Store, pool: tables.Pool, item: Object) -> pl.DataFrame:
    """Return one table of a pool's quarantine.

    Tables of earlier stores name no unit, and list what a later reading mended: of these the rows
    of units that were not read again since, a unit being what a row's place begins with.
    """
    frame = tables.read(store, item)
    if "unit" in frame.columns:
        return frame.select(list(QUARANTINE))
    unit = pl.col("where").str.replace(r"[#@][^#@]*$", "")
    later = [o for o in pool.files if _version(o) > _version(item)]
    read_again = [tables.read(store, o, ["source", "unit"]) for o in later]
    again = pl.concat([pl.DataFrame(schema=FILES).select("source", "unit"), *read_again])
    return frame.with_columns(unit=unit).join(
        again, on=["source", "unit"], how="anti", maintain_order="left"
    )


def _version(item: Object) -> str:
    """Return the version that wrote a table, from its name: `v00002`."""
    return Path(item.path).name.partition(".")[0]


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    order = list(QUARANTINE)
    return one.sort(order).equals(other.sort(order))
