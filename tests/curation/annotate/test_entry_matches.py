from __future__ import annotations

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.annotate.entry_matches import entry_matches

NAMES = [
    "dog",
    "dogs",
    "hot dog",
    "a dog",
    "New York",
    "café",
    "Dog",
    "e.g.",
    "U.S.",
    "don't",
    "rock-n-roll",
]
# The characters of the generated texts, after NFC; as lists, so that an empty one is in none.
MARKS, UNSPACED, APOSTROPHES = [*"\u0301\u0e49"], [*"東京ก\u0e49"], [*"'’"]
LETTERS = [*"abáé\u0301"]
DECOMPOSED = "cafe\u0301 menu"

# The table of specs: text to the names that match under the reference's rule.
REFERENCE = {
    "A photo of a dog.": {"dog", "a dog"},
    "hot dog, dogs": {"dog", "dogs", "hot dog"},
    "dog-house": set(),
    "(dog)": set(),
    '"dog"': set(),
    "dog/cat": set(),
    "dog…": set(),
    "dog’s": set(),
    "DOG": set(),
    "Dog dog": {"Dog", "dog"},
    "dog!dog": {"dog"},
    "dog dog dog": {"dog"},
    "New York": {"New York"},
    "New\nYork": {"New York"},
    "New  York": set(),
    "dog\u00a0park": set(),
    DECOMPOSED: set(),
    "café menu": {"café"},
    "I don't": {"don't"},
    "rock-n-roll": {"rock-n-roll"},
    "U.S. flag": set(),
}  # fmt: skip
# Where the improved rule differs: marks beside and within words, white space, normal form.
IMPROVED = REFERENCE | {
    "dog-house": {"dog"},
    "(dog)": {"dog"},
    '"dog"': {"dog"},
    "dog/cat": {"dog"},
    "dog…": {"dog"},
    "New  York": {"New York"},
    "dog\u00a0park": {"dog"},
    DECOMPOSED: {"café"},
    "U.S. flag": {"U.S."},
}


def metadata(names: list[str], first: int = 0) -> pl.DataFrame:
    entries = pl.Series(range(first, first + len(names)), dtype=pl.UInt32)
    return pl.DataFrame({"entry": entries, "name": names}, schema_overrides={"name": pl.String})


def found(texts: list[str | None], names: list[str], mode: str) -> list[list[int] | None]:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    rows = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    return entry_matches(rows, metadata(names), mode=mode)["entries"].to_list()


def naive(text: str, names: list[str]) -> list[int]:
    """Search every name in the text, as the reference does."""
    spaced = f" {text} "
    for mark in ",.;:?!`":
        spaced = spaced.replace(mark, f" {mark} ")
    for space in "\t\n\r":
        spaced = spaced.replace(space, " ")
    return [entry for entry, name in enumerate(names) if f" {name} " in spaced]


@pytest.mark.parametrize("text", REFERENCE)
def test_the_reference_mode_matches_as_the_papers_code_does(text: str):
    (entries,) = found([text], NAMES, "reference")
    assert {NAMES[entry] for entry in entries or []} == REFERENCE[text]


@pytest.mark.parametrize("text", IMPROVED)
def test_the_improved_mode_also_reaches_names_with_marks_accents_and_odd_spaces(text: str):
    (entries,) = found([text], NAMES, "improved")
    assert {NAMES[entry] for entry in entries or []} == IMPROVED[text]


@settings(max_examples=40)
@given(
    st.lists(st.text("ab .,!\t\u00e9'", max_size=12), max_size=5),
    st.lists(st.text("ab .\u00e9'", max_size=4), max_size=8),
)
def test_the_reference_mode_finds_what_a_search_for_each_name_finds(
    texts: list[str], names: list[str]
):
    assert found([*texts], names, "reference") == [naive(text, names) for text in texts]


TEXTS = st.text("ab .,!'’\t\u00a0\u00e9\u0301東京ก้-", max_size=12)


@settings(max_examples=40)
@given(st.lists(TEXTS, max_size=5), st.lists(st.text("ab .'é東京ก้-", max_size=4), max_size=8))
def test_the_improved_mode_finds_names_between_the_boundaries_of_words(
    texts: list[str], names: list[str]
):
    expected = [
        [e for e, name in enumerate(names) if apart(name).strip() and apart(name) in apart(text)]
        for text in texts
    ]
    assert found([*texts], names, "improved") == expected


def apart(text: str) -> str:
    """Put a space at every boundary of words, one word after another."""
    text = unicodedata.normalize("NFC", text)
    words, i = [""], 0
    while i < len(text):
        end = i + 1
        if text[i] in LETTERS:
            while text[end : end + 1] in LETTERS or (
                text[end : end + 1] in APOSTROPHES and text[end + 1 : end + 2] in LETTERS
            ):
                end += 1
        elif text[i] in UNSPACED:
            while text[end : end + 1] in MARKS:
                end += 1
        words += [] if text[i].isspace() else [text[i:end]]
        i = end
    return " ".join([*words, ""])


@settings(max_examples=40)
@given(TEXTS, st.lists(st.text("ab .'é-", max_size=4).filter(str.strip), max_size=8))
def test_the_improved_mode_finds_all_that_the_reference_finds(text: str, names: list[str]):
    (reference,), (improved,) = (found([text], names, m) for m in ("reference", "improved"))
    assert set(reference or []) <= set(improved or [])


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("一只棕色的小狗在海滩上", ["小狗", "小猫", "狗在", "一 只"], [0, 2, 3]),
        ("สุนัขวิ่งบนชายหาด", ["สุนัข", "ชายหาด", "แมว"], [0, 1]),
        ("小狗dog奔跑", ["dog", "do", "狗dog"], [0, 2]),
        ("می\u200cخواهم", ["می", "می\u200cخواهم"], [1]),
    ],
)
def test_scripts_without_spaces_match_anywhere_and_others_whole_words(
    text: str, names: list[str], expected: list[int]
):
    assert found([text], names, "improved") == [expected]


def test_entries_ascend_without_repeats_and_are_null_for_a_null_text():
    assert found(["b a b a", None, "", "c"], ["b", "a"], "improved") == [[0, 1], None, [], []]


def test_another_table_of_the_same_shape_is_not_mistaken_for_the_first():
    rows = pl.DataFrame({"uid": pl.Series([1], dtype=pl.UInt64), "text": ["a cat and a dog"]})
    assert entry_matches(rows, metadata(["cat", "bird"]))["entries"].to_list() == [[0]]
    assert entry_matches(rows, metadata(["bird", "dog"]))["entries"].to_list() == [[1]]
    assert entry_matches(rows, metadata(["bird", "dog"], first=7))["entries"].to_list() == [[8]]


def test_two_entries_of_one_name_are_both_found():
    assert found(["a dog"], ["dog", "dog"], "improved") == [[0, 1]]
