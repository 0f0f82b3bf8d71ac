"""Funnels, listings and tables as a person reads them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contracts.uid import hex_uid
from storage import tables
from storage.runs import load_run
from storage.store import Store

UID_COLUMNS = ("uid", "cluster", "nearest", "twin", "target")


def funnel(results: Sequence[Mapping[str, Any]], records: int) -> pl.DataFrame:
    """Return what each rule did to a pool of so many records, as `RunView.funnel` shows it."""
    rows: list[tuple[Any, ...]] = [("all records", None, records, 0, 0, 1.0, None)]
    for result in results:
        left = result["reached"] - result["dropped"]
        ratio = left / records if records else 0.0
        rows.append(
            (
                result["name"],
                None,
                result["reached"],
                result["dropped"],
                result["unmeasured"],
                ratio,
                result["repeats"],
            )
        )
        if len(result["clauses"]) > 1:
            rows += [
                (result["name"], c["text"], None, c["dropped"], c["unmeasured"], None, None)
                for c in result["clauses"]
            ]
    schema = {
        "rule": pl.String, "clause": pl.String, "reached": pl.Int64, "dropped": pl.Int64,
        "unmeasured": pl.Int64, "kept_ratio": pl.Float64, "draws": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def funnel_text(rules: pl.DataFrame) -> str:
    """Return a funnel as a table of lines."""
    rows = rules.to_dicts()
    width = max(len(_label(r)) for r in rows)
    lines = [f"{'rule':{width}}  {'reached':>10}  {'dropped':>10}  {'left':>7}"]
    for row in rows:
        unmeasured = f"  ({row['unmeasured']:,} unmeasured)" if row["unmeasured"] else ""
        draws = f"  ({row['draws']:,} draws)" if row["draws"] is not None else ""
        left = "" if row["kept_ratio"] is None else f"{row['kept_ratio']:7.1%}"
        reached = "" if row["reached"] is None else f"{row['reached']:,}"
        counts = f"{reached:>10}  {row['dropped']:>10,}  {left:>7}"
        lines.append(f"{_label(row):{width}}  {counts}{unmeasured}{draws}")
    return "\n".join(lines)


def listing(store: Store, *, files: bool = False) -> list[dict[str, Any]]:
    """Return pools and runs with versions and sizes, or the Parquet files of each table."""
    if files:
        root = store.root / "objects"
        return [
            {"pool": path.parts[-3], "table": path.parts[-2], "bytes": path.stat().st_size,
             "path": str(path)}
            for path in sorted(root.glob("*/*/*.parquet"))
        ]  # fmt: skip
    items: list[dict[str, Any]] = []
    for name in store.names("pool"):
        pool = tables.load_pool(store, name)
        assert pool is not None
        objects = [o for part in pool.parts for o in (part.records, part.payload) if o is not None]
        items.append(
            {"kind": "pool", "name": name, "version": pool.version, "records": pool.records,
             "bytes": sum(o.size_bytes for o in objects)}
        )  # fmt: skip
    for name in store.names("run"):
        run = load_run(store, name)
        assert run is not None
        paths = [Path(shard["path"]) for shard in run["result"].get("shards", [])]
        items.append(
            {"kind": "run", "name": name, "version": run["version"],
             "records": run["result"]["kept"],
             "bytes": sum(path.stat().st_size for path in paths if path.is_file())}
        )  # fmt: skip
    return items


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON shows them: columns that hold a uid as 16 hexadecimal digits."""
    return {
        name: hex_uid(v) if name.rpartition(".")[2] in UID_COLUMNS and isinstance(v, int) else v
        for name, v in row.items()
    }


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as an HTML table, every value escaped."""
    if not rows:
        return "<p>nothing yet</p>"
    head = "".join(f"<th>{html.escape(str(k))}</th>" for k in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _label(row: Mapping[str, Any]) -> str:
    return str(row["rule"]) if row["clause"] is None else f"    {row['clause']}"
