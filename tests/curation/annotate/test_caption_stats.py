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


def test_shares_of_words_and_characters_are_those_by_hand():
    row = stats("Buy Buy buy now \u0915\u093e 7").row(0, named=True)
    assert row["repeated_word_ratio"] == pl.Series([2 / 6], dtype=pl.Float32)[0]
    assert row["title_case_ratio"] == pl.Series([2 / 6], dtype=pl.Float32)[0]
    # Of 20 characters 13 are letters, one is the mark of a letter, one a digit.
    assert row["letter_ratio"] == pl.Series([13 / 20], dtype=pl.Float32)[0]
    assert row["alphanumeric_ratio"] == pl.Series([15 / 20], dtype=pl.Float32)[0]
    nothing = stats("   ").row(0, named=True)
    assert nothing["title_case_ratio"] is None
    assert nothing["repeated_word_ratio"] is None
    assert nothing["alphanumeric_ratio"] == 0


def test_the_script_is_that_of_most_letters():
    scripts = {
        "A dog": "Latin", "Собака": "Cyrillic", "一只棕色的小狗": "Han", "いぬがいる": "Hiragana",
        "كلب بني": "Arabic", "हिन्दी": "Devanagari", "강아지": "Hangul", "ab где": "Cyrillic",
        "abc где": "Latin", "12 🐶🏽!": None, "\u200b": None, "": None, "𓀀": None,
        "e\u0301": "Latin",
    }  # fmt: skip
    assert stats(*scripts)["script"].to_list() == list(scripts.values())


def test_an_address_and_a_file_name_are_told_from_captions_beside_them():
    addresses = ["http://a.b/c", "WWW.shop.de", " shop.com\n", "my-shop.de/dogs?id=1"]
    files = ["a dog.JPG", "IMG_2034", "dsc00123", "20190412_183045", "123456", "кот.png"]
    neither = [
        "see http://a.b/c", "https://", "shop.de", "e.g./i.e.", "IMG 2034", "IMG_20", "12345",
        "2019-04-12", "a .jpg", "a dog.jpg here", "jpg", "",
    ]  # fmt: skip
    rows = stats(*addresses, *files, *neither, None)
    counts = [len(addresses), len(files), len(neither)]
    assert rows["is_url"].to_list() == [True] * counts[0] + [False] * sum(counts[1:]) + [None]
    expected = [False] * counts[0] + [True] * counts[1] + [False] * counts[2] + [None]
    assert rows["is_file_name"].to_list() == expected


def test_a_line_of_ten_megabytes_is_counted():
    row = stats("cat." * 2_500_000 + "jpg").row(0, named=True)
    assert (row["words"], row["is_file_name"], row["script"]) == (1, True, "Latin")
