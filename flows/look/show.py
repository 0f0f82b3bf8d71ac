"""Records in a notebook, each with a picture of its payload and its text."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import ConfigError, nearest
from contracts.payload import KINDS
from contracts.uid import hex_uid
from flows.ingest import quarantine
from flows.look import find
from flows.look.render import readable
from flows.look.views import PoolView, Winnow
from flows.pool_reader import SHADOW, PoolReader
from flows.recipe.expressions import Expression, evaluate_expression
from storage import commit

SIDE_PX = 160


class Gallery:
    """Records as a grid of pictures; text where there is none. Every value is escaped."""

    def __init__(self, rows: pl.DataFrame, payloads: pl.DataFrame) -> None:
        self._rows, self._kind = rows, payloads.columns[1]
        self._payloads: dict[int, bytes] = dict(payloads.iter_rows())

    def _repr_html_(self) -> str:
        cells = [self._cell(row) for row in self._rows.iter_rows(named=True)]
        style = (
            f"display:inline-block;vertical-align:top;width:{SIDE_PX}px;margin:4px;font-size:12px"
        )
        return "".join(f'<div style="{style}">{cell}</div>' for cell in cells)

    def _cell(self, row: dict[str, Any]) -> str:
        picture = ""
        data = self._payloads.get(row["uid"])
        if data is not None:
            from flows.look.preview import preview

            small = base64.b64encode(preview(self._kind, data, side_px=SIDE_PX)).decode()
            picture = f'<img src="data:image/jpeg;base64,{small}"><br>'
        text = html.escape(str(row.get("text") or "")[:200])
        return f"{picture}<bdi>{text}</bdi><br><code>{hex_uid(row['uid'])}</code>"

    def __repr__(self) -> str:
        return repr(self._rows)


def show(records: Any, n: int = 24) -> Gallery:
    """Return the first `n` records as a gallery.

    Args:
        records: a frame with `uid`, such as `run.dropped("clip")`. Its pictures are looked for
            in the pools of the stores that were opened in this process.
        n: how many.

    Raises:
        ConfigError: no open pool has the records.
    """
    rows = records.lazy().head(n).collect()
    if not rows.height:
        return Gallery(rows, pl.DataFrame(schema={"uid": pl.UInt64, "image": pl.Binary}))
    uids = rows["uid"].to_list()
    for pool in _open_pools():
        mine = pool.texts().filter(pl.col("uid").is_in(uids))
        if mine.height:
            if "text" not in rows.columns:
                rows = rows.join(mine, on="uid", how="left", maintain_order="left")
            return Gallery(rows, pool.payloads(uids))
    raise ConfigError("no pool of an open store has these records: winnow.open(STORE) first.")


def records_as_rows(
    opened: Winnow,
    name: str | None,
    *,
    where: str | None,
    dropped: str | None,
    quarantined: str | None,
    n: int,
    images: Path | None,
) -> list[dict[str, Any]]:
    """Return records as plain rows, as `winnow show` prints them.

    Args:
        opened: the store.
        name: a run or a pool, the last run, else the only pool, where it is left out; or what
            names records of that, as `find.records` takes it.
        where: an SQL condition over the records' columns.
        dropped: a rule of the run.
        quarantined: a reason code; what of it is out of the pool. The empty text: each code with
            its count and examples, and what no record was made of.
        n: how many.
        images: a folder to write the records' pictures to, as JPEG, or other payloads as they are.

    Raises:
        ConfigError: nothing has the name, or the condition does not fit the columns.
    """
    runs, pools = opened.store.names("run"), opened.store.names("pool")
    key = name if name not in (*runs, *pools) else None
    if name is None or key is not None:
        own = [pool for pool in pools if not pool.endswith(SHADOW)]
        name = opened.run().name if runs else own[0] if len(own) == 1 else None
    if name is None:
        known = [*runs, *(pool for pool in pools if pool not in runs)]
        asked = "name a run or a pool" if key is None else f"there is no run or pool {key!r}"
        raise ConfigError(f"{asked}.{nearest(key or '', known)}")
    run = None
    if name in runs and (dropped is not None or name not in pools or quarantined is None):
        run = opened.run(name)
    pool = opened.pool(name) if run is None else run.pool
    if quarantined == "":
        return quarantine.left_out(pool.quarantine()) + pool.passed_over()
    if quarantined is not None:
        return _plain(pool.quarantine().filter(pl.col("code") == quarantined).head(n))
    if run is None:
        frame = pool.frame()
    elif dropped is not None:
        frame = run.dropped(dropped)
    elif key is not None:
        fates = run.verdict.select("uid", "dropped_by").lazy()
        frame = pool.frame().join(fates, on="uid", maintain_order="left")
    else:
        frame = run.kept()
    if key is not None:
        match = find.records(pool, key, run)
        if not match.uids and (left_out := find.left_out(pool.quarantine(), key)).height:
            return _plain(left_out.head(n))
        if not match.uids:
            known = [*runs, *pools]
            raise ConfigError(f"there is no run, pool or record {key!r}.{nearest(key, known)}")
        frame = frame.filter(pl.col("uid").is_in(match.uids))
    if where is not None:
        reader = pool.reader if run is None else run.reader
        frame = _hits(frame, reader, pool.columns, where)
    rows = frame.head(n).collect()
    if images is not None:
        for group in pool.reader.payloads(rows["uid"], gone="null"):
            for uid, data in group.select("uid", "payload").drop_nulls().iter_rows():
                suffix, shown = _file(str(pool.reader.pool.kind), data)
                commit.write(images / f"{hex_uid(uid)}.{suffix}", shown)
    hidden = ("digest", "record", "location", "label_image")
    return [readable({k: v for k, v in row.items() if k not in hidden}) for row in rows.to_dicts()]


def _file(kind: str, data: bytes) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a payload as a file that a person opens."""
    if kind == "image":
        from contracts import encode

        return "jpg", encode.jpeg(data)
    return KINDS[kind].suffix(data), data


def _hits(frame: pl.LazyFrame, reader: PoolReader, columns: list[str], where: str) -> pl.LazyFrame:
    """Return the records of which a condition holds, with all the columns that it names."""
    condition = Expression(where)
    known = [*columns, *reader.columns]
    for path in condition.paths:
        if path not in known:
            raise ConfigError(f"--where: there is no column {path!r}.{nearest(path, known)}")
    flat = reader.frame(condition.paths)
    hits = flat.filter(evaluate_expression(flat, condition.polars, where).fill_null(False))
    shown = frame.collect_schema().names()
    further = hits.select("uid", *(path for path in condition.paths if path not in shown))
    return frame.join(further.lazy(), on="uid", maintain_order="left")


def _plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of a quarantine with their digests in hexadecimal digits."""
    return [{**row, "digest": (row["digest"] or b"").hex()} for row in rows.to_dicts()]


def _open_pools() -> list[PoolView]:
    return [opened.pool(name) for opened in Winnow.opened() for name in opened.store.names("pool")]
