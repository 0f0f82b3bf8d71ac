"""Captions and their templates, counted by eye and by plain Python."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.annotate.caption_duplication import caption_duplication


def counted(*texts: str | None, **parameters: Any) -> list[tuple[int | None, int | None]]:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    return caption_duplication(table, **parameters).drop("uid").rows()


def test_captions_and_templates_are_counted_as_by_hand():
    assert counted(
        "Portrait of Ann Lee, 1987",
        "portrait  of ANN LEE, 1987 ",
        "Portrait of Bob, 2001",
        "Portrait of a dog",
        None,
    ) == [(2, 3), (2, 3), (1, 3), (1, 1), (None, None)]


def test_a_caption_in_other_case_counts_though_its_names_are_not_masked():
    assert counted(
        "Photo of Ann, 1987", "Photo of Bob, 2001", "photo of bob, 2001", "PHOTO OF BOB, 2001"
    ) == [(1, 2), (3, 3), (3, 3), (3, 3)]


def test_numbers_of_any_form_are_one_and_words_stay():
    texts = ["at 12:30", "at 7", "at 1.000,50", "at ٣٤", "at noon", "at 2024-02-29"]
    assert [records for _, records in counted(*texts)] == [5, 5, 5, 5, 1, 5]


def test_a_text_of_capitalised_words_alone_has_no_names_and_the_first_word_is_none():
    assert counted("Blue Shirt For Men", "Blue Coat For Boys") == [(1, 1), (1, 1)]
    assert counted("Blue Shirt for men", "Blue Coat for men") == [(1, 2), (1, 2)]
    assert counted("Ann at home", "Bob at home") == [(1, 1), (1, 1)]
    assert counted("Blue Shirt for men", "Blue Coat for men", names=False) == [(1, 1), (1, 1)]


def test_a_caption_that_is_a_template_counts_with_those_made_from_it():
    assert counted("room 0", "room 0", "room 5") == [(2, 3), (2, 3), (1, 3)]
    assert counted("", " ", "\u200b") == [(2, 2), (2, 2), (1, 1)]


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["a 1", "a 2", "A 1", "b", "c 1", "", None]), max_size=12))
def test_counts_are_those_of_a_counter(texts: list[str | None]):
    folded = [None if text is None else text.lower() for text in texts]
    masked = [None if text is None else text.replace("2", "0").replace("1", "0") for text in folded]
    captions, templates = Counter(folded), Counter(masked)
    expected = [
        (None, None) if a is None else (captions[a], templates[b])
        for a, b in zip(folded, masked, strict=True)
    ]
    assert counted(*texts, names=False) == expected
