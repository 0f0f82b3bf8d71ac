"""Lines of texts, with their places, as paragraphs that are the same where their words are."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curation import _shingles, _spans


def of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of texts that are not null: uid, start, end and the stripped line."""
    line = pl.col("line")
    indent = line.str.len_chars() - line.str.strip_chars_start().str.len_chars()
    behind = (line.str.len_chars() + 1).cum_sum().over("uid")
    return (
        rows.select("uid", line=pl.col("text").str.split("\n"))
        .drop_nulls("line")
        .explode("line", empty_as_null=True)
        .with_columns(start=behind - line.str.len_chars() - 1 + indent, line=line.str.strip_chars())
        .with_columns(pl.col("start").cast(pl.UInt32))
        .with_columns(end=pl.col("start") + line.str.len_chars())
    )


def long(paragraphs: pl.DataFrame, min_words: int) -> pl.DataFrame:
    """Return those of so many words or more, with the hash of their words as `key`."""
    keys = np.empty(paragraphs.height, dtype=np.uint64)
    words = np.empty(paragraphs.height, dtype=np.int64)
    for block, tokens in _shingles.blocks(paragraphs["line"], "word"):
        words[block] = length = tokens.ends - tokens.starts
        # An n-gram as long as the longest is in each paragraph the whole of it.
        whole = _shingles.shingles(tokens, max(1, int(length.max())))
        keys[block][length > 0] = whole.hashes[tokens.starts[length > 0]]
    enough = pl.Series(words) >= min_words
    return paragraphs.with_columns(key=keys).filter(enough)


def listed(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.Series:
    """Return the list of keys of each text, of a text without one its uid, of no text null."""
    found = rows.join(keys, on="uid", how="left", maintain_order="left")
    alone = pl.when(pl.col("text").is_not_null()).then(pl.concat_list("uid"))
    return found.select(pl.col("key").fill_null(alone)).to_series()


def folded(partials: pl.DataFrame, **_: Any) -> pl.DataFrame:
    """Return the union of a text's spans, and the most records that one of its lines is in."""
    return _spans.folded(partials, pl.col("records").max())


def forms(paragraphs: pl.DataFrame) -> pl.DataFrame:
    """Return the words of each line whose hash another line has too."""
    lines = paragraphs.select("key", "line").unique().sort("key", "line")
    several = lines.filter(pl.col("key").is_duplicated())
    forms = [" ".join(_shingles.tokens(line, "word")) for line in several["line"]]
    return several.with_columns(pl.Series("form", forms, dtype=pl.String))
