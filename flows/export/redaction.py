"""Redaction: what methods marked in a text leaves as its kind in brackets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from contracts.errors import DataError
from contracts.uid import hex_uid
from flows.export import captions
from flows.export.kept import Kept
from flows.recipe.plan import Plan
from flows.recipe.sections import ExportSection

Span = tuple[str, int, int]


def columns(section: ExportSection) -> list[str]:
    """Return the columns of spans that are read."""
    return [f"{name}.spans" for name in section.redacted_by]


def identity(plan: Plan, section: ExportSection) -> list[Any]:
    """Return what decides, with a record's text, how it is redacted; nothing where none is."""
    if not section.redact:
        return []
    methods = [plan.nodes[f"annotate.{name}"].method for name in section.redacted_by]
    return [sorted(section.redact), *(method.identity() for method in methods if method)]


def redacted(frame: pl.DataFrame, section: ExportSection) -> pl.Series:
    """Return the texts, each span replaced by its kind in brackets.

    Spans that overlap are one, of the kind that begins first.

    Args:
        frame: `uid`, `text` and `columns(section)`.
        section: names the kinds.

    Raises:
        DataError: a text has not been looked through.
    """
    text = frame["text"]
    if not section.redact:
        return text
    found = _spans(frame, section)
    rows = list(found)
    changed = [_replaced(text[row], found[row]) for row in rows]
    return text.scatter(rows, changed) if rows else text


def counted(kept: Kept, section: ExportSection) -> Mapping[str, tuple[int, int]]:
    """Return for each kind that is redacted how many spans of it are, and in how many records."""
    spans: Counter[str] = Counter()
    records: Counter[str] = Counter()
    if section.redact and captions.there(kept.schema(), section):
        for part in range(len(kept.runtime.pool.parts)):
            rows, _ = kept.of_part(part)
            if len(rows):
                paths = dict.fromkeys([*captions.columns(section), *columns(section)])
                frame = kept.columns(part, list(paths), rows)
                frame = frame.with_columns(captions.of(frame, section))
                for found in _spans(frame, section).values():
                    kinds = Counter(kind for kind, _, _ in found)
                    spans += kinds
                    records += Counter(kinds.keys())
    return {kind: (spans[kind], records[kind]) for kind in section.redact}


def _spans(frame: pl.DataFrame, section: ExportSection) -> dict[int, list[Span]]:
    """Return the spans of each row that has any, in order, none overlapping another."""
    marks = []
    for column in columns(section):
        unread = frame["text"].is_not_null() & frame[column].is_null()
        if unread.any():
            uid = hex_uid(frame["uid"].filter(unread)[0])
            raise DataError(f"record {uid} has a text without {column}: it cannot be redacted.")
        spans = frame.select(pl.col(column).alias("span")).with_row_index("row")
        marks.append(spans.explode("span").drop_nulls("span").unnest("span"))
    wanted = pl.concat(marks).filter(pl.col("kind").is_in(list(section.redact)))
    found: dict[int, list[Span]] = {}
    for row, kind, start, end in wanted.sort("row", "start", "end", "kind").iter_rows():
        of_row = found.setdefault(row, [])
        if of_row and start < of_row[-1][2]:
            first, begun, ended = of_row[-1]
            of_row[-1] = (first, begun, max(ended, end))
        else:
            of_row.append((kind, start, end))
    return found


def _replaced(text: str, spans: list[Span]) -> str:
    pieces, reached = [], 0
    for kind, start, end in spans:
        pieces += [text[reached:start], f"[{kind}]"]
        reached = end
    return "".join([*pieces, text[reached:]])
