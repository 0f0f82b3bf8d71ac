"""Lines and paragraphs of texts as rows, and what was counted of them as one row a text again."""

from __future__ import annotations

import polars as pl

# White space as Python's strip and split see it, as a set and as classes of an expression.
WHITE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
SPACE = r"[\s\x1C-\x1F]"
VISIBLE = r"[^\s\x1C-\x1F]"
BREAKS = r"\r\n|[\v\f\r\x1C-\x1E\u0085\u2028\u2029]"
"""Where Python's splitlines cuts, beside line feeds."""
STOP = r"([^\s\x1C-\x1F.]{2}\.|[\p{Sentence_Terminal}&&[^.]])"
"""A mark that ends a sentence; of full stops that of "e.g." and of an initial is none, nor are
several in a row."""


def pieces(texts: pl.Series, pattern: str) -> pl.DataFrame:
    """Return what a pattern finds in texts as `line`, with the number of its text as `row`."""
    found = pl.DataFrame({"row": _numbers(len(texts)), "line": texts.str.extract_all(pattern)})
    return found.explode("line", empty_as_null=True).drop_nulls("line")


def of_texts(counts: pl.DataFrame, texts: int) -> pl.DataFrame:
    """Return counts by `row` for all of so many texts, null where a text has none."""
    every = pl.DataFrame({"row": _numbers(texts)})
    return every.join(counts, on="row", how="left", maintain_order="left").drop("row")


def _numbers(count: int) -> pl.Series:
    return pl.int_range(count, dtype=pl.UInt32, eager=True)
