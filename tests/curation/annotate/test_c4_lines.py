"""C4's lines: each rule by hand on both sides, and what is counted of the lines that stay."""

from __future__ import annotations

import time

import polars as pl
import pytest

from curation.annotate.c4_lines import c4_lines


def lines(*texts: str | None, terminal: bool = True) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    return c4_lines(table, terminal=terminal).drop("uid")


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("One two three.", "One two three."),
        ("One two.", ""),
        ("  One two three?\t", "One two three?"),
        ("One two three!", "One two three!"),
        ('He said "one"', 'He said "one"'),
        ("All the dogs'", "All the dogs'"),
        ("One two three", ""),
        ("One two three...", ""),
        ("One two three…", ""),
        ("One two three।", ""),
        ("a b " + "c" * 999 + ".", "a b " + "c" * 999 + "."),
        ("a b " + "c" * 1000 + ".", ""),
        ("Needs JavaScript to run.", ""),
        ("Read our Privacy Policy.", ""),
        ("This site uses cookies.", ""),
        ("This site used cookies.", "This site used cookies."),
        ("One[1] two[edit] three[citation needed].[٣]", "One two three."),
        # Citations count as words, and white space before them stays behind.
        ("One two [1].", "One two ."),
        ("One two three. [1]", ""),
        ("一 二 三!", "一 二 三!"),
        ("שלום לך עולם!", "שלום לך עולם!"),
    ],
)
def test_a_line_stays_or_goes_by_its_rule(line: str, stays: str):
    row = lines(line).row(0, named=True)
    assert (row["text"], row["lines"]) == (stays, int(stays != ""))


def test_a_line_without_a_mark_at_its_end_stays_where_that_is_asked_for():
    text = "One two three\nOne two\r\nOne two three..."
    assert lines(text, terminal=False)["text"][0] == "One two three\nOne two three..."


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One two three. Four five!\nSix seven eight?", 3),
        ("One 2.5 three.", 1),
        ('He said "one two." Then three... Four five.', 2),
        ("One of R. Two, e.g. Three. Four!) Five.", 3),
        ("One two three. . !", 1),
        ("One. 😀 two three.", 2),
        ("", 0),
    ],
)
def test_sentences_are_counted_in_the_lines_that_stay(text: str, sentences: int):
    assert lines(text)["sentences"][0] == sentences


def test_lorem_ipsum_and_brackets_count_in_lines_that_the_rules_before_them_leave():
    found = lines(
        "Lorem Ipsum dolor sit.",
        "lorem ipsum dolor",
        "f() { return one; }.",
        "f() { javascript one; }.",
        "f() { privacy policy }.",
        "f() { return one; }",
    )
    assert found["lorem_ipsum_lines"].to_list() == [1, 0, 0, 0, 0, 0]
    assert found["curly_bracket_lines"].to_list() == [0, 0, 1, 0, 1, 0]


def test_nothing_stays_of_an_empty_text_and_a_null_has_nothing():
    assert lines("", " \n ", None).rows() == [("", 0, 0, 0, 0), ("", 0, 0, 0, 0), (None,) * 5]


def test_a_hostile_text_takes_no_longer_than_another():
    words = (
        "x" * 1000 + " ",
        "é一" * 500 + " ",
        "[1",
        ". ",
        ".) ",
        "a\n",
        "terms of us ",
        "{[edit",
    )
    for text in (word * (10_000 // len(word)) for word in words):
        took = []
        for _ in range(3):
            start = time.process_time()
            lines(text, terminal=False)
            took.append(time.process_time() - start)
        assert min(took) < 0.05, text[:10]


def test_a_line_of_10_mb_is_read():
    row = lines("one two. " * 1_100_000 + "end.").row(0, named=True)
    assert (row["lines"], row["sentences"]) == (1, 1_100_001)
