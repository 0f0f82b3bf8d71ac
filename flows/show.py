"""Pictures and captions of records in a notebook."""

from __future__ import annotations

import base64
import html
from typing import Any

import polars as pl

from contracts import encode
from contracts.errors import ConfigError
from contracts.uid import hex_uid
from flows.views import PoolView, Winnow

SIDE_PX = 160


class Gallery:
    """Records as a grid of pictures; text where there is none. Every value is escaped."""

    def __init__(self, rows: pl.DataFrame, images: dict[int, bytes]) -> None:
        self._rows, self._images = rows, images

    def _repr_html_(self) -> str:
        cells = [self._cell(row) for row in self._rows.iter_rows(named=True)]
        style = (
            f"display:inline-block;vertical-align:top;width:{SIDE_PX}px;margin:4px;font-size:12px"
        )
        return "".join(f'<div style="{style}">{cell}</div>' for cell in cells)

    def _cell(self, row: dict[str, Any]) -> str:
        picture = ""
        data = self._images.get(row["uid"])
        if data is not None:
            small = base64.b64encode(encode.jpeg(data, max_side_px=SIDE_PX)).decode()
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
        return Gallery(rows, {})
    uids = rows["uid"].to_list()
    for pool in _open_pools():
        mine = pool.frame("text").filter(pl.col("uid").is_in(uids)).collect()
        if mine.height:
            if "text" not in rows.columns:
                rows = rows.join(mine, on="uid", how="left", maintain_order="left")
            found = pool.images(uids)
            return Gallery(rows, dict(zip(found["uid"], found["image"], strict=True)))
    raise ConfigError("no pool of an open store has these records: winnow.open(STORE) first.")


def _open_pools() -> list[PoolView]:
    return [opened.pool(name) for opened in Winnow.opened() for name in opened.store.names("pool")]
