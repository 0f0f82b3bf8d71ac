"""Funnels, listings and tables as a person reads them.

`winnow` and `winnow ls` need nothing but this and the store's JSON: no table library is imported.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from storage.runs import held_run, held_since, load_run
from storage.store import Store

FUNNEL = {
    "rule": str,
    "clause": str,
    "reached": int,
    "dropped": int,
    "unmeasured": int,
    "kept_ratio": float,
    "draws": int,
}
_WORDS, _AROUND, _DIFFERENCES = 1000, 3, 5
UID_COLUMNS = ("uid", "cluster", "nearest", "twin", "target")


def funnel_rows(results: Sequence[Mapping[str, Any]], records: int) -> list[dict[str, Any]]:
    """Return what each rule did to a pool of so many records: a row for it and each clause."""
    rows: list[tuple[Any, ...]] = [("all records", None, records, 0, 0, 1.0, None)]
    for result in results:
        name, reached, dropped = result["name"], result["reached"], result["dropped"]
        ratio = (reached - dropped) / records if records else 0.0
        rows.append((name, None, reached, dropped, result["unmeasured"], ratio, result["repeats"]))
        if len(result["clauses"]) > 1:
            rows += [
                (name, c["text"], None, c["dropped"], c["unmeasured"], None, None)
                for c in result["clauses"]
            ]
    return [dict(zip(FUNNEL, row, strict=True)) for row in rows]


def funnel_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a funnel as a table of lines."""
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
        pool = store.ref("pool", name)
        assert pool is not None
        objects = [part[kind] for part in pool["parts"] for kind in ("records", "payload")]
        items.append(
            {"kind": "pool", "name": name, "version": pool["version"],
             "records": pool["records"],
             "bytes": sum(item["size_bytes"] for item in objects if item)}
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
    for name in store.names("held"):
        held = held_run(store, name)
        if held is not None:
            items.append(
                {"kind": "held", "name": name, "version": held["version"],
                 "records": held["result"]["kept"], "bytes": 0, "since": held_since(store, name),
                 "why": "; ".join(held["held"])}
            )  # fmt: skip
    return items


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as lines under the names of their columns; numbers stand to the right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    numbers = [
        all(isinstance(row.get(c), int | None) and not isinstance(row.get(c), bool) for row in rows)
        for c in columns
    ]
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in lines
    )


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON shows them: columns that hold a uid as 16 hexadecimal digits."""
    from contracts.uid import hex_uid

    return {
        name: hex_uid(v) if name.rpartition(".")[2] in UID_COLUMNS and isinstance(v, int) else v
        for name, v in row.items()
    }


def marked(text: str, twin: str) -> str:
    """Return where the words of a text differ from those of its twin.

    `[-only here-]` and `{+only in the twin+}`, each with three words around it; the first
    differences, within the first 1,000 words.
    """
    here, there = text.split()[:_WORDS], twin.split()[:_WORDS]
    words = SequenceMatcher(None, here, there, autojunk=False)
    found: list[str] = []
    for group in list(words.get_grouped_opcodes(_AROUND))[:_DIFFERENCES]:
        for tag, a, b, c, d in group:
            if tag == "equal":
                found += here[a:b]
                continue
            found += [f"[-{' '.join(here[a:b])}-]"] if a < b else []
            found += [f"{{+{' '.join(there[c:d])}+}}"] if c < d else []
        found.append("…")
    return " ".join(found[:-1]) or "white space, or words after the first 1,000"


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


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
