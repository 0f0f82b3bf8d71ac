from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _shingles
from curation.annotate.repeated_spans import repeated_spans
from curation.properties import check

Pairs = list[tuple[int, int]]


def table(texts: list[str | None], uids: list[int] | None = None) -> pl.DataFrame:
    uid = pl.Series("uid", uids or list(range(len(texts))), dtype=pl.UInt64)
    return pl.DataFrame([uid, pl.Series("text", texts, dtype=pl.String)])


def spans(found: pl.DataFrame) -> list[Pairs | None]:
    return [
        None if one is None else [(span["start"], span["end"]) for span in one]
        for one in found["spans"].to_list()
    ]


def marked(texts: list[str | None], length: int) -> list[list[str]]:
    """Return the marked passages as they stand in the texts."""
    found = spans(repeated_spans(table(texts), length=length))
    return [
        [(text or "")[a:b] for a, b in own or []] for text, own in zip(texts, found, strict=True)
    ]


def counted(start: int, stop: int) -> str:
    return " ".join(f"w{n}" for n in range(start, stop))


def walked(texts: list[list[tuple[str, int, int]]], length: int) -> Iterator[Pairs]:
    """Yield by definition the spans of texts, given as words with their places."""
    seen: set[tuple[str, ...]] = set()
    for words in texts:
        own: Pairs = []
        for n in range(len(words) - length + 1):
            window = tuple(word for word, _, _ in words[n : n + length])
            start, end = words[n][1], words[n + length - 1][2]
            if window in seen:
                if own and start < own[-1][1]:
                    start = own.pop()[0]
                own.append((start, end))
            seen.add(window)
        yield own


def ascii_words(text: str) -> list[tuple[str, int, int]]:
    """Return the words of an ASCII text, or its visible characters where it has none."""
    words = list(re.finditer("[a-z0-9]+", text.lower())) or list(re.finditer(r"[!-~]", text))
    return [(word[0], *word.span()) for word in words]


def test_the_passage_of_a_record_with_a_smaller_uid_is_marked():
    texts = ["A red dog runs on the beach.", "See: a red  dog runs!"]
    found = repeated_spans(table(texts, [3, 8]), length=4)
    assert found.rows() == [
        (3, [], 0.0, 28),
        (8, [{"start": 5, "end": 20}], np.float32(15 / 21), 21),
    ]
    assert texts[1][5:20] == "a red  dog runs"
    # The other way round the first stays.
    found = repeated_spans(table(texts, [8, 3]), length=4)
    assert spans(found) == [[(0, 14)], []]


def test_a_passage_further_ahead_in_the_same_text_counts_as_earlier():
    assert marked(["one two three, four; one two three five"], 3) == [["one two three"]]
    assert marked(["go go go go go"], 3) == [["go go go go"]]
    assert marked(["go go go"], 3) == [[]]


def test_windows_that_overlap_are_one_span_and_those_that_only_touch_are_two():
    first = "a b c d e"
    assert marked([first, "x a b c d y"], 3)[1] == ["a b c d"]
    assert marked(["a b c", "d e f", "a b c d e f"], 3)[2] == ["a b c", "d e f"]
    assert marked(["一二三", "四五六", "一二三四五六"], 3)[2] == ["一二三", "四五六"]


def test_a_window_is_fifty_words_by_default():
    texts = [counted(0, 60), counted(0, 49) + " end", "begin " + counted(5, 55)]
    found = repeated_spans(table(texts))
    assert spans(found) == [[], [], [(6, len(texts[2]))]]


def test_case_forms_and_punctuation_do_not_tell_passages_apart():
    texts = ["the straße café is fine", "(THE STRASSE, cafe\u0301 is ﬁne!)"]
    assert marked(texts, 5)[1] == ["THE STRASSE, cafe\u0301 is ﬁne"]


def test_places_count_characters_beyond_the_basic_plane_once():
    texts = ["one two three four", "𝔘𐍈🐶🐶 one two three 🐶 four"]
    found = repeated_spans(table(texts), length=3)
    assert spans(found)[1] == [(5, 18)]
    assert found["characters"].to_list() == [18, 25]
    assert marked(texts, 3)[1] == ["one two three"]


@pytest.mark.parametrize(
    "text",
    [
        "一只棕色的小狗在海滩上奔跑，天空很蓝，海水很清，阳光也很温暖，孩子们在沙滩上笑着追逐海浪，"
        "老人坐在椅子上看书，远处的船慢慢地开走了。",
        "茶色の小さな犬が浜辺を走っています。空はとても青く、海の水は澄んでいて、子供たちは波を追いかけて"
        "笑っています。",
        "สุนัขสีน้ำตาลตัวเล็กวิ่งบนชายหาดท้องฟ้าเป็นสีครามน้ำทะเลใสและเด็กเด็กกำลังหัวเราะวิ่งไล่ตามคลื่น",
    ],
)
def test_in_scripts_without_spaces_a_word_is_a_character(text: str):
    rows = table([text, f"🐶 {text} Fin.", text[:30]])
    found = repeated_spans(rows)
    last = max(n for n, char in enumerate(text) if _shingles.tokens(char, "word") != ["。"])
    assert spans(found) == [[], [(2, 3 + last)], []]


def test_empty_null_and_short_texts_have_no_mark():
    found = repeated_spans(table(["", None, "a b", " ", "a b", None, ""]), length=3)
    assert spans(found) == [[], None, [], [], [], None, []]
    assert found["repeated_ratio"].to_list() == [0.0, None, 0.0, 0.0, 0.0, None, 0.0]
    assert found["characters"].to_list() == [0, None, 3, 1, 3, None, 0]
    assert repeated_spans(table([counted(0, 80)]))["repeated_ratio"].to_list() == [0.0]
    assert repeated_spans(table([])).schema == found.schema


def test_of_equal_texts_the_smallest_uid_stays_and_the_others_are_marked_whole():
    uids = random.Random(0).sample(range(10**6), 500)
    found = repeated_spans(table([counted(0, 70)] * 500, uids))
    unmarked = found.filter(pl.col("repeated_ratio") == 0)
    assert unmarked["uid"].to_list() == [min(uids)]
    assert (found["repeated_ratio"] == 1).sum() == 499


def test_a_text_without_any_word_is_compared_by_its_visible_characters():
    assert marked(["-- --- -", "= ------", "-----x"], 5) == [["- --- -"], ["------"], []]


def test_a_copy_is_found_however_many_texts_are_between():
    texts = [counted(60 * n, 60 * n + 60) for n in range(4000)]  # more than two blocks
    found = repeated_spans(table([*texts, *texts[::2], "x", texts[0]]))
    assert spans(found)[:4000] == [[]] * 4000
    assert spans(found)[4000:6000] == [[(0, len(text))] for text in texts[::2]]
    assert spans(found)[6000:] == [[], [(0, len(texts[0]))]]


def thue_morse(length: int) -> str:
    return "".join("ab"[n.bit_count() % 2] for n in range(length))


def test_words_whose_hashes_collide_are_told_apart():
    # For any odd multiplier these two have one polynomial modulo 2**64.
    word = thue_morse(2048)
    other = word.translate(str.maketrans("ab", "ba"))
    one, two = f"x {word} y", f"x {other} y"
    rows = table([one, two, two, one])
    keys = repeated_spans.bind(length=3).scatter(rows)
    assert keys["key"].n_unique() == 1
    assert spans(repeated_spans(rows, length=3)) == [[], [], [(0, 2052)], [(0, 2052)]]
    assert spans(repeated_spans(rows, length=1)) == [
        [],
        [(0, 1), (2051, 2052)],
        [(0, 1), (2, 2050), (2051, 2052)],
        [(0, 1), (2, 2050), (2051, 2052)],
    ]


@pytest.mark.parametrize("seed", range(150))
def test_the_marks_are_those_of_the_definition(seed: int):
    rng = random.Random(seed)
    length = rng.randint(1, 9)
    alphabet = rng.choice(["ab", "abcd", ["cat", "Cat!", "dog-", "x"], "abcdefghijklmnop"])
    texts = [
        " ".join(rng.choices(alphabet, k=rng.randint(0, 40))) for _ in range(rng.randint(0, 9))
    ]
    uids = rng.sample(range(2**40), len(texts))
    in_order = sorted(range(len(texts)), key=uids.__getitem__)
    expected = list(walked([ascii_words(texts[n]) for n in in_order], length))
    found = repeated_spans(table(texts, uids), length=length)
    assert [spans(found)[n] for n in in_order] == expected
    for text, own, ratio in zip(texts, spans(found), found["repeated_ratio"], strict=True):
        share = sum(b - a for a, b in own or []) / max(1, len(text))
        assert ratio == pytest.approx(share, abs=1e-7)


@settings(max_examples=60)
@given(st.lists(st.text("ab一½ß \u0301🐶.", max_size=30), max_size=6), st.integers(1, 5))
def test_the_marks_in_any_script_are_those_of_the_definition(texts: list[str], length: int):
    seen: set[tuple[str, ...]] = set()
    found = repeated_spans(table(texts), length=length)
    for text, own in zip(texts, spans(found), strict=True):
        words = _shingles.tokens(text, "word")
        windows = [tuple(words[n : n + length]) for n in range(len(words) - length + 1)]
        before = {window for n, window in enumerate(windows) if window in seen | {*windows[:n]}}
        inside = [_shingles.tokens(text[a:b], "word") for a, b in own or []]
        assert (len(inside) > 0) == (len(before) > 0)
        assert all(len(passage) >= length for passage in inside)
        for window in before:
            assert any(
                window == tuple(passage[n : n + length])
                for passage in inside
                for n in range(len(passage))
            )
        seen |= set(windows)


def test_it_has_the_properties_of_its_kind_where_there_is_something_to_mark():
    step = repeated_spans.bind(length=4)
    assert "group_split" in check(step)


def test_partial_rows_of_buckets_fold_in_any_order():
    rng = random.Random(1)
    texts = [" ".join(rng.choices("abcde", k=30)) for _ in range(12)]
    step = repeated_spans.bind(length=4)
    rows = table(texts)
    keyed = step.scatter(rows)
    a, b, c = (step.run_groups(rows, keyed.filter(pl.col("key") % 3 == n)) for n in range(3))
    assert step.merge is not None

    def fold(*partials: pl.DataFrame) -> pl.DataFrame:
        assert step.merge is not None
        return step.merge(pl.concat(partials))

    expected = step(rows)
    assert any(spans(expected))
    for x, y, z in itertools.permutations((a, b, c)):
        assert fold(x, fold(y, z)).equals(expected)
        assert fold(fold(x, y), z, z).equals(expected)


def test_texts_that_share_a_window_share_a_key():
    rng = random.Random(2)
    for _ in range(200):
        shared = rng.choices("abcdefgh", k=12)
        one = [*rng.choices("abcdefgh", k=rng.randint(0, 30)), *shared]
        two = [*shared, *rng.choices("abcdefgh", k=rng.randint(0, 30))]
        keyed = repeated_spans.bind(length=12).scatter(table([" ".join(one), " ".join(two)]))
        keys = [set(keyed.filter(pl.col("row") == n)["key"]) for n in range(2)]
        assert keys[0] & keys[1]


def test_there_is_a_key_in_some_twelve_words_and_two_for_a_word_without_end():
    scatter = repeated_spans.bind().scatter
    assert 0.9 < scatter(table([counted(0, 100_000)])).height / (100_000 * 2 / 27) < 1.1
    assert scatter(table(["go " * 10_000])).height == 2
    assert scatter(table(["go", None, ""], [7, 8, 9]))["key"].to_list() == [7, 9]


@pytest.mark.data
def test_the_marks_of_package_descriptions_are_those_of_the_definition(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = rows.filter(pl.col("lang") == "en")["text"].head(6000)
    texts = [text for text in english if text.isascii()]
    found = repeated_spans(table(texts))
    expected = list(walked([ascii_words(text) for text in texts], 50))
    assert spans(found) == expected
    assert sum(map(len, expected)) > 800


@pytest.mark.data
def test_of_identical_package_descriptions_the_first_alone_is_not_marked_whole(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = rows.filter(pl.col("lang") == "en").with_row_index("uid").cast({"uid": pl.UInt64})
    copies = english.filter(pl.col("text").is_duplicated())
    assert (copies["text"].n_unique(), copies.height - copies["text"].n_unique()) == (413, 951)
    found = copies.join(repeated_spans(english, length=10), on="uid", maintain_order="left")
    seen: set[str] = set()
    for text, own in zip(found["text"], spans(found), strict=True):
        words = _shingles.tokens(text, "word")
        if text in seen and len(words) >= 10:
            assert own is not None
            assert len(own) == 1
            assert _shingles.tokens(text[own[0][0] : own[0][1]], "word") == words
        seen.add(text)
