"""Paragraphs that an earlier record has too, and how many records share them."""

from __future__ import annotations

import polars as pl

from contracts.params import Count
from curation import _paragraphs, _spans
from curation.step import Role, groupwise


def _keys(rows: pl.DataFrame, *, min_words: int) -> pl.Series:
    """Return the hashes of each text's paragraphs, of a text without a long one its uid."""
    keys = (
        _paragraphs.long(_paragraphs.of(rows), min_words)
        .group_by("uid")
        .agg(pl.col("key").unique())
    )
    return _paragraphs.listed(rows, keys)


@groupwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={
        "repeated_ratio": pl.Float32,
        "records": pl.UInt32,
        "spans": _spans.SPANS,
        "characters": pl.UInt32,
    },
    keys=_keys,
    merge=_paragraphs.folded,
)
def repeated_paragraphs(groups: pl.DataFrame, *, min_words: Count = 13) -> pl.DataFrame:
    """Mark the paragraphs that a record with a smaller uid also has, and count who shares them.

    A paragraph is a line without the white space around it. Two are the same where their words
    are, after NFKC and case folding and without punctuation (curation/_shingles.py says what a
    word is; in scripts without spaces it is one character). Those of fewer than `min_words`
    words are never marked. Of each paragraph exactly one record keeps its own unmarked, that of
    the smallest uid, with all its copies of it, whatever the order and the parts of the pool.
    A hash brings paragraphs together, their words decide.

    Reads:
        text: whose paragraphs are compared.
    Args:
        min_words: shorter paragraphs are never marked.
    Reference: Li et al. 2024, DataComp-LM, arXiv:2406.11794, section 4.3 and appendix L (the
    Bloom filter BFF, made exact; BFF marks a paragraph of which a share of the 13-word shingles
    was met before, in the order of the files).
    Writes:
        repeated_ratio: share of the characters of the text's paragraphs, short ones included,
            in marked ones; in [0, 1].
        records: that have the paragraph of this text which most have, itself among them; 0
            where no paragraph is long enough.
        spans: `start` and `end` of each marked paragraph, ascending, in characters.
        characters: in paragraphs, so without line breaks and the white space beside them. All
            null for a null text.
    Cost: 12 bytes a paragraph through disk, O(bytes) for the keys, and again for each block of
        paragraphs that has one of the text.
    """
    found = _paragraphs.of(groups.unique("uid").sort("uid"))
    long = _paragraphs.long(found, min_words)
    same = ("key", "form")
    met = long.join(
        _paragraphs.forms(long), on=("key", "line"), how="left", maintain_order="left"
    ).select(
        "uid",
        "start",
        "end",
        first=pl.col("uid").min().over(same),
        records=pl.col("uid").n_unique().over(same),
    )
    most = met.group_by("uid").agg(pl.col("records").max())
    characters = (pl.col("end") - pl.col("start")).sum().cast(pl.UInt32)
    records = found.group_by("uid").agg(characters=characters)
    records = records.join(most, on="uid", how="left").with_columns(pl.col("records").fill_null(0))
    marked = met.filter(pl.col("uid") > pl.col("first")).select("uid", "start", "end")
    return _spans.spanned(records, marked).select(
        "uid", "repeated_ratio", "records", "spans", "characters"
    )
