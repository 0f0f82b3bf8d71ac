"""A language model of n-grams of words: how likely each word is after those before it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from contracts.errors import DataError
from curation import _history
from curation.step import Parameters, Role, fit

SAMPLE = 100_000
"""Records that the fit looks at."""


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw."""
    return SAMPLE, parameters


@fit(
    version=1,
    reads={"text": Role(pl.String)},
    writes={
        "order": pl.UInt8,
        "ngram": pl.UInt64,
        "probability": pl.Float32,
        "backoff": pl.Float32,
    },
    plan=plan,
)
def ngram_model(
    rows: pl.DataFrame, *, order: Annotated[int, Field(ge=1, le=5)] = 3
) -> pl.DataFrame:
    """Estimate p(w | h) by interpolated Kneser-Ney, with h the order - 1 words before w.

    p(w | h) = (c(h w) - D) / c(h) + D n(h) / c(h) p(w | h without its first word), with c(h)
    the sum of c(h w) and n(h) the number of different w after h. c is a count for the longest
    n-grams and for those at the start of a text, else the number of different words before the
    n-gram. D is (n1 + 1) / (n1 + 2 n2 + 2), from how many n-grams of its length have a c of 1 and
    of 2; below single words lies 1 / (words + 1), one of them for what was never seen. Words are
    compared after NFKC and case folding and without punctuation.

    Reads:
        text: what is learned from; null takes no part.
    Args:
        order: the most words of an n-gram.
    Reference: Kneser and Ney 1995, ICASSP; interpolated, and the discount: Chen and Goodman 1999,
        Computer Speech and Language 13(4), sections 2.7 and 4.1.
    Returns:
        order: words of the n-gram, 0 in one row, of no words.
        ngram: a hash of its words; ascending.
        probability: (c(h w) - D) / c(h); 0 of what only begins n-grams.
        backoff: D n(h) / c(h) with the n-gram as h; 1 where no word follows it.
    Cost: linear in the text; 25 bytes for each word and length of 100,000 texts at most,
        while it is made, and 17 for each n-gram of the table.
    Raises:
        DataError: no text has a word.
    """
    key = ["order", "ngram"]
    parts = [
        pl.DataFrame(
            {
                "order": np.full(len(grams.grams), length, dtype=np.uint8),
                "ngram": grams.grams,
                "context": grams.contexts,
                "suffix": grams.suffixes,
            }
        )
        for _, _, lengths in _history.blocks(rows["text"], order)
        for length, grams in enumerate(lengths, start=1)
    ]
    if not any(part.height for part in parts):
        raise DataError("ngram_model: no text has a word.")
    counted = pl.concat(parts).group_by(key).agg(pl.exclude(key).first(), count=pl.len())
    before = counted.group_by(pl.col("order") - 1, ngram="suffix").agg(before=pl.len())
    c = pl.col("c")
    once, twice = (c == 1).sum(), (c == 2).sum()
    counted = (
        counted.join(before, on=key, how="left")
        .with_columns(c=pl.coalesce(pl.when(pl.col("order") < order).then("before"), "count"))
        .with_columns(discount=((once + 1) / (once + 2 * twice + 2)).over("order"))
    )
    total = c.sum().over("order", "context")
    known = counted.select(*key, probability=(c - pl.col("discount")) / total)
    backoff = counted.group_by(pl.col("order") - 1, ngram="context").agg(
        backoff=(pl.len() * pl.col("discount").first() / c.sum())
    )
    model = (
        known.join(backoff, on=key, how="full", coalesce=True)
        .with_columns(pl.col("probability").fill_null(0), pl.col("backoff").fill_null(1))
        .sort("ngram", "order")
    )
    return model.cast(pl.Schema(ngram_model.writes))
