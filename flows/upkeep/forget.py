"""Forget a source: its records leave the pool, and it can be read anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from contracts.errors import ConfigError, nearest
from flows.ingest import quarantine
from storage import tables
from storage.parts import FILES, REMOVED
from storage.records import members
from storage.store import Object, Store


def forget(store: Store, source: str, pool: str | None = None) -> dict[str, Any]:
    """Make a version of a pool without the records of a source; the caller holds the lease.

    What the pool knows of the source goes too: the files that were read, its quarantine, the
    columns that it was read by and their types. Earlier versions stay as they are.

    Args:
        store: where the pool is.
        source: the source's name.
        pool: may be left out where one pool has the source.

    Returns:
        pool, version, source, and `forgotten`, the number of its records.

    Raises:
        ConfigError: no pool has the source, or several have it and none is named (78).
    """
    old = _pool_of(store, source, pool)
    version = old.version + 1
    name = f"v{version:05d}"
    digest, removed = int(old.digest, 16), [pl.DataFrame(schema=REMOVED)]
    if old.removed is not None:
        removed.append(tables.read(store, old.removed))
    gone = pl.concat(removed).select("uid", "part")
    forgotten = 0
    for part in old.parts:
        rows = tables.read(store, part.records, ["uid", "source", "record"])
        rows = rows.filter(pl.col("source") == source).with_columns(part=pl.lit(part.name))
        rows = rows.join(gone, on=["uid", "part"], how="anti", maintain_order="left")
        digest -= members(rows["uid"].to_numpy(), rows["record"])
        forgotten += rows.height
        removed.append(rows.select("uid", "part", reason=pl.lit("forgotten")))
    removed_rows = pl.concat(removed)
    tables.commit_pool(
        store,
        replace(
            old,
            version=version,
            digest=f"{digest % 2**128:032x}",
            records=old.records - forgotten,
            removed=_put(store, old.name, "removed", name, removed_rows),
            quarantine=_kept(store, old, source, "quarantine", name),
            files=_kept(store, old, source, "files", name),
            sources={known: entry for known, entry in old.sources.items() if known != source},
        ),
    )
    return {"pool": old.name, "version": version, "source": source, "forgotten": forgotten}


def _pool_of(store: Store, source: str, pool: str | None) -> tables.Pool:
    pools = [tables.load_pool(store, name) for name in store.names("pool") if pool in (None, name)]
    if not pools:
        raise ConfigError(f"there is no pool {pool!r}.{nearest(pool or '', store.names('pool'))}")
    having = [p for p in pools if p is not None and source in p.sources]
    if not having:
        known = {name for p in pools if p is not None for name in p.sources}
        raise ConfigError(f"no pool has a source {source!r}.{nearest(source, known)}")
    if len(having) > 1:
        names = ", ".join(p.name for p in having)
        raise ConfigError(f"several pools have a source {source!r}: {names}. Give --pool.")
    return having[0]


def _kept(
    store: Store, pool: tables.Pool, source: str, table: str, name: str
) -> tuple[Object, ...]:
    """Return a table of a pool without the rows of a source, as one object."""
    if table == "quarantine":
        rows = quarantine.listed(store, pool)
    else:
        rows = pl.concat([pl.DataFrame(schema=FILES), *(tables.read(store, o) for o in pool.files)])
        # Of a unit that was read again the last row counts.
        rows = rows.unique(["source", "unit"], keep="last", maintain_order=True)
    item = _put(store, pool.name, table, name, rows.filter(pl.col("source") != source))
    return () if item is None else (item,)


def _put(store: Store, pool: str, table: str, part: str, rows: pl.DataFrame) -> Object | None:
    return tables.put(store, rows, pool=pool, table=table, part=part) if rows.height else None
