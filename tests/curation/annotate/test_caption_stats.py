"""Counts of a caption, by eye and by Python's own string functions."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.annotate.caption_stats import caption_stats


def stats(*texts: str | None) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    return caption_stats(pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)}))


def test_a_caption_is_counted_as_by_hand():
    row = stats("Two  cats, two dogs 22").row(0, named=True)
    assert (row["words"], row["characters"], row["distinct_words"]) == (5, 22, 4)
    assert row["digit_ratio"] == pl.Series([2 / 22], dtype=pl.Float32)[0]
    assert row["uppercase_ratio"] == pl.Series([1 / 22], dtype=pl.Float32)[0]
    assert row["mean_word_length"] == pl.Series([17 / 5], dtype=pl.Float32)[0]


def test_an_empty_text_has_counts_and_no_shares_and_a_null_has_nothing():
    rows = stats("", None)
    assert rows["words"].to_list() == [0, None]
    assert rows["letter_ratio"].to_list() == [None, None]
    assert rows["mean_word_length"].to_list() == [None, None]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_letters_and_characters_are_those_of_unicode(text: str):
    row = stats(text).row(0, named=True)
    assert row["characters"] == len(text)
    if text:
        import unicodedata

        # Letters that this Python's Unicode does not know yet may be known to the engine.
        assigned = [c for c in text if unicodedata.category(c) != "Cn"]
        if len(assigned) == len(text):
            letters = sum(unicodedata.category(c)[0] == "L" for c in text)
            assert abs(row["letter_ratio"] - letters / len(text)) < 1e-6
