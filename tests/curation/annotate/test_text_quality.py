"""Numbers of the document rules: by hand, by Python's own string functions, on hostile texts."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.annotate import text_quality as module
from curation.annotate.text_quality import text_quality


def measured(*texts: str | None, **parameters: object) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    return text_quality(table, **parameters)


def value(column: str, text: str, **parameters: object) -> float | None:
    found: float | None = measured(text, **parameters)[column][0]
    return found


@pytest.mark.parametrize(
    ("text", "tokens", "words", "characters"),
    [
        ("One, two.", 4, 2, 6),
        ("3.14 isn't foo_bar", 4, 4, 16),
        ("well-known a/b x:1", 9, 6, 13),
        ("wait... what?..", 5, 2, 8),
        ("a -- b---c !!", 7, 3, 3),
        ("see http://a.org/b/ x", 3, 3, 19),
        ("Data::Dumper a:b ::", 6, 3, 14),
        ("C++ GTK+ 1+2", 3, 3, 10),
        ("it's don't O'Brien dogs'", 7, 6, 20),
        ("A. U.S. e.g., i.e.) so. x..", 10, 6, 17),
        ("UTF-8 3-D 4-5 a-b", 8, 6, 12),
        ("a.b. c", 2, 2, 5),
        ("小狗 👩🏽 cafe\u0301", 4, 4, 9),
        ("\u200fשלום \u200b", 2, 2, 6),
        ("• * $ €", 4, 2, 2),
    ],
)
def test_words_and_marks_are_told_apart(text: str, tokens: int, words: int, characters: int):
    row = measured(text).row(0, named=True)
    assert (row["tokens"], row["words"]) == (tokens, words)
    assert row["mean_word_length"] == np.float32(characters / words)


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("stop_words", "the cat the dog The", 1),
        ("stop_words", "the cat and the dog", 2),
        ("letter_token_ratio", "a 1 b2 !", 2 / 4),
        ("hashes_per_token", "# # a b", 2 / 4),
        ("ellipses_per_token", "a... b… c......", 4 / 6),
        ("newlines_per_token", "a\n\nb c", 2 / 3),
        ("bullet_line_ratio", "- a\r\n  • b\nc -", 2 / 3),
        ("ellipsis_line_ratio", "a... \nb…\n...c\n\n", 2 / 4),
        ("duplicate_line_ratio", "a\nb\n\na\nc", 1 / 4),
        ("duplicate_line_ratio", "\na\n", 1 / 3),
        ("duplicate_line_character_ratio", "ab\nc\nab", 2 / 7),
        ("duplicate_paragraph_ratio", "a\nb\n\nc\n\n\na\nb\n", 1 / 3),
        ("duplicate_paragraph_ratio", " \n ", 0),
        ("duplicate_paragraph_character_ratio", "a\nb\n\na\nb\n", 3 / 9),
        ("terminal_line_ratio", "a.\n \nb?\nc. \nd।", 3 / 4),
        ("short_line_ratio", "a" * 30 + "\n" + "a" * 31, 1 / 2),
        ("duplicate_character_ratio", "abc\n  \n  \nabc", 3 / 10),
        # specs of the rules, by datatrove's own functions: 27 of 19 and 5 of 19 characters.
        ("top_2_gram_per_character", " ".join("a" * 10), 27 / 19),
        ("duplicate_5_gram_ratio", " ".join("a" * 10), 5 / 19),
        ("duplicate_5_gram_ratio", "the cat sat on the mat and the cat sat on the mat", 14 / 49),
        ("duplicate_6_gram_ratio", "the cat sat on the mat and the cat sat on the mat", 17 / 49),
        # The first of those that occur once; 1-grams have no column.
        ("top_2_gram_per_character", "aaa b c", 5 / 7),
        ("top_3_gram_per_character", "a b", 0),
        # Frequent ones are compared with the spaces between tokens, repeated ones without.
        ("top_2_gram_per_character", "ab c a bc", 4 / 9),
        ("duplicate_5_gram_ratio", "ab c d e f a bc d e f", 6 / 21),
    ],
)
def test_each_number_is_that_of_its_rule_by_hand(column: str, text: str, expected: float):
    assert value(column, text) == np.float32(expected)


def test_stop_words_and_the_length_of_a_short_line_are_parameters():
    assert value("stop_words", "der Hund und die Katze", stop_words="der die das und") == 3
    assert value("short_line_ratio", "abc\nabcd", short_line_characters=3) == 1 / 2


def test_an_empty_text_has_counts_and_no_ratios_white_space_no_words_and_a_null_nothing():
    empty, white, null = measured("", " \n\t", None).drop("uid").rows(named=True)
    assert [empty[name] for name in module.COUNTS] == [0, 0, 0]
    assert {empty[name] for name in module.RATIOS} == {None}
    assert {name for name in module.RATIOS if white[name] is None} == {
        "mean_word_length",
        "letter_token_ratio",
        "hashes_per_token",
        "ellipses_per_token",
        "newlines_per_token",
        "terminal_line_ratio",
        "short_line_ratio",
        "duplicate_character_ratio",
    }
    assert set(null.values()) == {None}


def repeated(pieces: Sequence[str]) -> int:
    """Return the characters of the pieces that an earlier one equals."""
    return sum(len(p) for n, p in enumerate(pieces) if p in pieces[:n])


def by_hand(text: str) -> dict[str, float]:
    """Say what Python's string functions say of a text whose tokens white space separates."""
    words = text.split()
    lines = re.split("\n+", text)
    paragraphs = re.split("\n{2,}", text.strip())
    found = {
        "tokens": len(words),
        "stop_words": len({"the", "of"} & set(words)),
        "duplicate_line_ratio": (len(lines) - len(set(lines))) / len(lines),
        "duplicate_line_character_ratio": repeated(lines) / len(text),
        "duplicate_paragraph_ratio": (len(paragraphs) - len(set(paragraphs))) / len(paragraphs),
        "duplicate_paragraph_character_ratio": repeated(paragraphs) / len(text),
        "bullet_line_ratio": np.mean([s.lstrip()[:1] in ("•", "-") for s in text.splitlines()]),
    }
    for n in module.TOP:
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        gram, times = Counter(grams).most_common(1)[0] if grams else ("", 0)
        found[f"top_{n}_gram_per_character"] = len(gram) * times / len(text)
    for n in module.DUPLICATE:
        met, characters, i = set(), 0, 0
        while i <= len(words) - n:
            gram = "".join(words[i : i + n])
            characters += len(gram) if gram in met else 0
            i += n if gram in met else 1
            met.add(gram)
        found[f"duplicate_{n}_gram_ratio"] = characters / len(text)
    return found


PIECES = ("a ", "ab ", "the ", "of ", "- ", "• ", "\n", "\n\n", "\r\n", "\x1c", "\u2028", " é ")


@settings(max_examples=30)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map("".join))
def test_lines_and_n_grams_are_those_of_pythons_string_functions(text: str):
    row = measured(text).row(0, named=True)
    for column, expected in by_hand(text).items():
        assert row[column] == np.float32(expected), column


HOSTILE = ("a " * 5000, "." * 10_000, "-\n" * 5000, "\n" * 10_000, " " * 10_000, "… " * 5000,
           "a.b" * 3000, "e\u0301" * 5000, "👩\u200d" * 3000, "\u202e\u200b" * 5000,
           "ab " * 3000 + "...   " * 1000 + "x")  # fmt: skip


def test_a_hostile_text_takes_no_longer_than_another():
    measured("warm")
    for text in HOSTILE:
        took = []
        for _ in range(3):
            start = time.process_time()
            measured(text)
            took.append(time.process_time() - start)
        assert min(took) < 0.05, text[:10]


def test_a_line_of_10_mb_is_measured():
    text = ("x" * 99 + " ") * 100_000
    row = measured(text).row(0, named=True)
    assert row["words"] == 100_000
    assert row["top_2_gram_per_character"] == np.float32(199 * 99_999 / 10**7)
    assert row["duplicate_10_gram_ratio"] == np.float32(99 * 99_990 / 10**7)
