"""Counts that describe a caption: words, characters, letters, digits, distinct words."""

from __future__ import annotations

import polars as pl

from curation.step import Role, rowwise


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={
        "words": pl.UInt32,
        "characters": pl.UInt32,
        "distinct_words": pl.UInt32,
        "mean_word_length": pl.Float32,
        "letter_ratio": pl.Float32,
        "digit_ratio": pl.Float32,
        "uppercase_ratio": pl.Float32,
    },
)
def caption_stats(rows: pl.DataFrame) -> pl.DataFrame:
    """Count what a caption rule asks for; words are runs of anything but white space.

    Reference: Gadre et al. 2023, DataComp, arXiv:2304.14108, appendix (basic filtering).
    Writes:
        words: 0 for an empty text; null for a null text, as all columns.
        characters: code points.
        distinct_words: different words, case folded.
        mean_word_length: characters a word; null where there is no word.
        letter_ratio: share of characters that are letters, in [0, 1]; null for an empty text.
        digit_ratio: share that are digits.
        uppercase_ratio: share that are upper-case letters.
    Cost: a few passes over the text.
    """
    text = pl.col("text")
    words = text.str.extract_all(r"\S+")
    characters = text.str.len_chars()
    share = pl.when(characters > 0).then(1 / characters)
    return rows.select(
        words=words.list.len().cast(pl.UInt32),
        characters=characters.cast(pl.UInt32),
        distinct_words=text.str.to_lowercase()
        .str.extract_all(r"\S+")
        .list.n_unique()
        .cast(pl.UInt32),
        mean_word_length=pl.when(words.list.len() > 0)
        .then(text.str.replace_all(r"\s+", "").str.len_chars() / words.list.len())
        .cast(pl.Float32),
        letter_ratio=(text.str.count_matches(r"\p{L}") * share).cast(pl.Float32),
        digit_ratio=(text.str.count_matches(r"\p{Nd}") * share).cast(pl.Float32),
        uppercase_ratio=(text.str.count_matches(r"\p{Lu}") * share).cast(pl.Float32),
    )
