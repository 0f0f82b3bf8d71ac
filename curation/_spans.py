"""Columns of spans, and the folding of what buckets found of one text.

A span is `start` and `end` in characters of the Python string (code points): `text[start:end]`.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curation import _texts

SPANS = pl.List(pl.Struct({"start": pl.UInt32, "end": pl.UInt32}))
_MARK = {"kind": pl.String, "start": pl.UInt32, "end": pl.UInt32}
MARKS = pl.List(pl.Struct(_MARK))
"""Spans that say of what kind they are."""


class Mark(NamedTuple):
    """A span of a kind in the octets of several texts, joined by one octet of 0."""

    start: int
    end: int
    kind: str


def apart(marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks in order without those that overlap one ahead of them in the list."""
    kept: list[Mark] = []
    starts: list[int] = []
    for mark in marks:
        place = bisect(starts, mark.start)
        if place and kept[place - 1].end > mark.start:
            continue
        if place < len(kept) and kept[place].start < mark.end:
            continue
        kept.insert(place, mark)
        starts.insert(place, mark.start)
    return kept


def marked(
    texts: pl.Series, find: Callable[[bytes], Sequence[Mark]], columns: Mapping[str, str]
) -> pl.DataFrame:
    """Return the marks of each text in characters, and how many there are of each kind.

    Args:
        texts: the column.
        find: returns the marks, in order, of the UTF-8 of some texts with an octet of 0 between
            them; a null is an empty text there.
        columns: of the counts, each with the kind that it counts.

    Returns:
        The counts and `spans`, as `MARKS`; all null for a null text.
    """
    found = [pl.DataFrame(schema={"row": pl.Int64, **_MARK})]
    for here in _texts.blocks(texts):
        octets = texts[here].fill_null("").str.join("\0")[0].encode()
        if marks := find(octets):
            found.append(_in_characters(texts[here], octets, marks, here.start))
    listed = pl.concat(found).group_by("row", maintain_order=True).agg(spans=pl.struct(*_MARK))
    every = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.Int64, eager=True)})
    spans = every.join(listed, on="row", how="left", maintain_order="left")["spans"]
    spans = spans.fill_null(pl.Series([[]], dtype=MARKS)).set(texts.is_null(), None)
    kinds = spans.list.eval(pl.element().struct.field("kind"))
    counts = [
        kinds.list.count_matches(kind).cast(pl.UInt32).alias(name) for name, kind in columns.items()
    ]
    return pl.DataFrame([*counts, spans])


def _in_characters(
    texts: pl.Series, octets: bytes, marks: Sequence[Mark], first: int
) -> pl.DataFrame:
    sizes = texts.str.len_bytes().fill_null(0).cast(pl.Int64).to_numpy()
    begins = np.concatenate([[0], (sizes + 1).cumsum()])
    starts, ends = np.array([mark[:2] for mark in marks], dtype=np.int64).T
    rows = np.searchsorted(begins, starts, side="right") - 1
    begun = begins[rows]
    if not octets.isascii():
        # Every octet but those that go on with a character, counted between the places asked for.
        is_first = (np.frombuffer(octets + b"\0", dtype=np.uint8) & 0xC0) != 0x80
        places = np.unique(np.concatenate([begun, starts, ends]))
        between = np.add.reduceat(is_first.view(np.uint8), places, dtype=np.int64)
        ahead = np.concatenate([[0], between[:-1].cumsum()])
        starts, ends, begun = (ahead[np.searchsorted(places, at)] for at in (starts, ends, begun))
    kinds = [mark.kind for mark in marks]
    values = {"row": rows + first, "kind": kinds, "start": starts - begun, "end": ends - begun}
    return pl.DataFrame(values).cast({"start": pl.UInt32, "end": pl.UInt32})


def spanned(records: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Give each record the union of its spans, and the share of its characters in them.

    Args:
        records: `uid`, `characters` and whatever else, a row a record.
        spans: `uid`, `start`, `end`; any number for a record, in any order, overlapping or not.

    Returns:
        The records by uid with `spans` and `repeated_ratio`; spans that touch stay two.
    """
    ordered = spans.sort("uid", "start", "end")
    reached = pl.col("end").cum_max().shift(1).over("uid")
    apart = reached.is_null() | (pl.col("start") >= reached)
    united = (
        ordered.with_columns(number=apart.cum_sum())
        .group_by("uid", "number")
        .agg(pl.col("start").min(), pl.col("end").max())
        .sort("uid", "start")
        .group_by("uid", maintain_order=True)
        .agg(
            spans=pl.struct("start", "end"),
            covered=(pl.col("end").cast(pl.UInt64) - pl.col("start")).sum(),
        )
    )
    covered = pl.col("covered").fill_null(0) / pl.col("characters")
    return (
        records.sort("uid")
        .join(united, on="uid", how="left", maintain_order="left")
        .with_columns(
            spans=pl.col("spans").fill_null(pl.lit([], dtype=SPANS)),
            repeated_ratio=covered.fill_nan(0.0).cast(pl.Float32),
        )
        .drop("covered")
    )


def folded(partials: pl.DataFrame, *others: pl.Expr, **_: Any) -> pl.DataFrame:
    """Return one row a record: the union of its spans, and how the other columns aggregate.

    The union does not depend on the order of its members, so the fold is associative.
    """
    records = partials.group_by("uid").agg(pl.col("characters").first(), *others)
    spans = partials.select("uid", "spans").explode("spans", empty_as_null=True)
    return spanned(records, spans.drop_nulls("spans").unnest("spans")).select(partials.columns)
