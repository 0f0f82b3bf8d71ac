"""The data card that lies beside the shards: sources, licences, funnel, parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from flows.export.kept import Kept
from flows.export.ready_lines import warnings
from flows.ingest import quarantine
from flows.measure.runtime import Runtime
from flows.recipe.toml import dumps
from flows.select.verdict import RuleResult


def card(
    runtime: Runtime,
    kept: pl.DataFrame,
    results: Sequence[RuleResult],
    run: str,
    version: int,
    deep: int = 0,
    redacted: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> str:
    """Return the card as Markdown; what only people know is left as marked gaps.

    Args:
        runtime: gives the pool.
        kept: uid and repeats.
        results: what each rule did.
        run: the recipe's name.
        version: the run's version.
        deep: how many pictures leave with 16 bits a channel.
        redacted: by kind how many spans of texts were replaced, and in how many records.
    """
    pool, records = runtime.pool, Kept.of(runtime, kept)
    draws = int(kept["repeats"].sum())
    lines = [
        f"# {run}, version {version}",
        "",
        f"{kept.height:,} records in {draws:,} draws, selected from the {pool.records:,} of "
        f"pool `{pool.name}` version {pool.version} (digest `{pool.digest}`).",
        "",
        *(line for warning in warnings(deep) for line in (warning, "")),
        "## Sources",
        "",
        *_table(("source", "kind", "records", "kept"), _by(records, "source", pool.sources)),
        "",
        "## Licences",
        "",
        *_table(("licence", "records", "kept"), _by(records, "licence", None)),
        "",
        "## Funnel",
        "",
        *_table(
            ("rule", "reached", "dropped", "unmeasured"),
            [(r.name, f"{r.reached:,}", f"{r.dropped:,}", f"{r.unmeasured:,}") for r in results],
        ),
        "",
        "## Not accepted",
        "",
        *_table(("reason", "records"), _quarantined(runtime)),
        "",
        *_redacted(redacted),
        "## Parameters",
        "",
        "```toml",
        dumps(runtime.plan.resolved()).rstrip(),
        "```",
        "",
        "## To be filled in by people",
        "",
        "- Purpose, and who asked for it: …",
        "- Known biases and limits, personal data: …",
        "- Maintenance, contact, how to have a record removed: …",
        "",
    ]
    return "\n".join(lines)


def _by(kept: Kept, column: str, sources: Any) -> list[tuple[str, ...]]:
    """Count records and kept ones by a column, part by part."""
    runtime = kept.runtime
    records: Counter[str] = Counter()
    stayed: Counter[str] = Counter()
    if column in kept.schema():
        for part in range(len(runtime.pool.parts)):
            live = np.flatnonzero(runtime.live[part])
            for counter, rows in ((records, live), (stayed, kept.of_part(part)[0])):
                values = kept.columns(part, [column], rows)[column].cast(pl.String)
                counter.update(dict(values.fill_null("unknown").value_counts().iter_rows()))
    else:
        records["unknown"], stayed["unknown"] = runtime.pool.records, len(kept.uids)
    found = []
    for name in sorted(records):
        middle = () if sources is None else (str(sources.get(name, {}).get("kind", "")),)
        found.append((name, *middle, f"{records[name]:,}", f"{stayed[name]:,}"))
    return found


def _redacted(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    if not counts:
        return []
    rows = [
        (f"[{kind}]", f"{spans:,}", f"{records:,}") for kind, (spans, records) in counts.items()
    ]
    head = ("in place of what was marked in texts", "spans", "records")
    return ["## Redacted", "", *_table(head, rows), ""]


def _quarantined(runtime: Runtime) -> list[tuple[str, ...]]:
    rows = quarantine.listed(runtime.store, runtime.pool)
    counted = rows.group_by("code").len().sort("code")
    return [(code, f"{count:,}") for code, count in counted.iter_rows()] or [("none", "0")]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; names from data cannot break out of their cell."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return [f"| {line} |" for line in lines]


def _cell(value: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
