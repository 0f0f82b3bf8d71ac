from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from curation import _shingles
from curation.annotate.repeated_paragraphs import repeated_paragraphs
from curation.properties import check

P, Q, R = (" ".join(f"{letter}{n:02}" for n in range(13)) for letter in "pqr")


def table(texts: list[str | None], uids: list[int] | None = None) -> pl.DataFrame:
    uid = pl.Series("uid", uids or list(range(len(texts))), dtype=pl.UInt64)
    return pl.DataFrame([uid, pl.Series("text", texts, dtype=pl.String)])


def marked(texts: list[str | None], min_words: int = 13) -> list[list[str]]:
    """Return the marked paragraphs as they stand in the texts."""
    found = repeated_paragraphs(table(texts), min_words=min_words)["spans"].to_list()
    return [
        [(text or "")[span["start"] : span["end"]] for span in own or []]
        for text, own in zip(texts, found, strict=True)
    ]


def counted_by_hand(texts: list[str], min_words: int) -> list[tuple[list[str], int, int, int]]:
    """Return of ASCII texts: the marked lines, their characters, all characters, and records."""
    holders = defaultdict(list)
    lines = [[line.strip() for line in text.split("\n")] for text in texts]

    def form(line: str) -> tuple[str, ...]:
        words = re.findall("[a-z0-9]+", line.lower()) or re.findall("[!-~]", line)
        return tuple(words) if len(words) >= min_words else ()

    for number, own in enumerate(lines):
        for words in {form(line) for line in own} - {()}:
            holders[words].append(number)
    expected = []
    for number, own in enumerate(lines):
        forms = [form(line) for line in own]
        repeated = [
            line
            for line, words in zip(own, forms, strict=True)
            if words and holders[words][0] < number
        ]
        records = max((len(holders[words]) for words in forms if words), default=0)
        expected.append((repeated, sum(map(len, repeated)), sum(map(len, own)), records))
    return expected


def test_a_paragraph_is_marked_where_a_record_with_a_smaller_uid_has_it():
    found = repeated_paragraphs(table([f"{P}\n{Q}", f"{P}\n{R}", P]))
    assert found["repeated_ratio"].to_list() == [0.0, 0.5, 1.0]
    assert found["records"].to_list() == [3, 3, 3]
    span = [{"start": 0, "end": len(P)}]
    assert found["spans"].to_list() == [[], span, span]
    assert found["characters"].to_list() == [2 * len(P), 2 * len(P), len(P)]


def test_of_three_copies_one_is_kept():
    found = repeated_paragraphs(table([P, P, P], [7, 9, 5]))
    assert found["repeated_ratio"].to_list() == [1.0, 1.0, 0.0]


def test_exactly_one_holder_keeps_its_paragraph_whatever_the_order():
    rng = random.Random(0)
    pool = [" ".join(f"{letter}{n}" for n in range(13)) for letter in "abcdefghij"]
    texts = ["\n".join(rng.choices(pool, k=rng.randint(1, 4))) for _ in range(60)]
    uids = rng.sample(range(2**40), 60)
    rows = table(texts, uids)
    found = repeated_paragraphs(rows)
    kept = defaultdict(set)
    for uid, text, spans in zip(uids, texts, found["spans"].to_list(), strict=True):
        repeated = {text[span["start"] : span["end"]] for span in spans}
        for paragraph in set(text.split("\n")) - repeated:
            kept[paragraph].add(uid)
    assert kept == {
        p: {min(u for u, text in zip(uids, texts, strict=True) if p in text)} for p in kept
    }
    assert len(kept) == 10
    order = rng.sample(range(60), 60)
    assert repeated_paragraphs(rows[order]).equals(found[order])


def test_paragraphs_of_twelve_words_are_never_marked_but_are_characters_of_the_text():
    short = P.rsplit(" ", 1)[0]
    found = repeated_paragraphs(table([short, short, f"{short}\n{P}", f"{short}\n{P}"]))
    assert found["records"].to_list() == [0, 0, 2, 2]
    assert found["repeated_ratio"].to_list() == pytest.approx(
        [0, 0, 0, len(P) / len(short + P)], abs=1e-7
    )
    assert marked([short, short], min_words=12) == [[], [short]]


def test_a_paragraph_is_a_line_without_the_white_space_around_it():
    texts = [P, f"\n  {P}\t\r\n\n x \r\n\u3000{P.upper()}!"]
    found = repeated_paragraphs(table(texts))
    assert marked(texts)[1] == [P, f"{P.upper()}!"]
    assert found["characters"].to_list() == [len(P), 2 * len(P) + 2]


def test_case_forms_and_punctuation_do_not_tell_paragraphs_apart():
    texts = ["Le café de la straße, à Köln.", "le CAFE\u0301 (de la strasse) à ko\u0308ln"]
    assert marked(texts, min_words=6)[1] == [texts[1]]
    assert marked([texts[0], texts[1] + " aussi"], min_words=6)[1] == []


def test_places_count_characters_beyond_the_basic_plane_once():
    texts = [f"🐶 {P}", f"𝔘𐍈🐶\n🐶 {P} 🐶\n🐶 {P}"]
    found = repeated_paragraphs(table(texts))["spans"].to_list()
    assert found[1] == [{"start": 9 + len(P), "end": 11 + 2 * len(P)}]
    assert marked(texts)[1] == [texts[0]]


def test_in_scripts_without_spaces_a_word_is_a_character():
    line = "一只棕色的小狗在海滩上奔跑。"
    assert len(line) == 14
    assert marked([line, f"天空\n{line}", line[1:]]) == [[], [line], []]
    assert marked([line[1:], line[1:]]) == [[], []]


def test_a_record_counts_once_and_keeps_all_its_own_copies():
    found = repeated_paragraphs(table([f"{P}\n{P}\n{P}", f"{P}\n{P}", Q]))
    assert found["records"].to_list() == [2, 2, 1]
    assert found["repeated_ratio"].to_list() == [0.0, 1.0, 0.0]
    assert found["spans"].list.len().to_list() == [0, 2, 0]


def test_empty_and_null_texts_have_no_paragraph():
    found = repeated_paragraphs(table(["", None, " \n ", None, ""]))
    assert found["records"].to_list() == [0, None, 0, None, 0]
    assert found["repeated_ratio"].to_list() == [0.0, None, 0.0, None, 0.0]
    assert found["spans"].to_list() == [[], None, [], None, []]
    assert repeated_paragraphs(table([])).schema == found.schema
    assert repeated_paragraphs(table([P]))["records"].to_list() == [1]


def test_paragraphs_whose_hashes_collide_are_told_apart():
    # The hash of a word turns each letter by 7 bits more: two that are 64 apart change places.
    inner = "".join(random.Random(0).choices("cdefgh", k=63))
    one, two = f"a{inner}b {P}", f"b{inner}a {P}"
    keyed = repeated_paragraphs.bind().scatter(table([one, two]))
    assert keyed["key"].n_unique() == 1
    found = repeated_paragraphs(table([one, two, two, one.upper()]))
    assert found["records"].to_list() == [2, 2, 2, 2]
    assert found["repeated_ratio"].to_list() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(100))
def test_the_marks_are_those_of_the_definition(seed: int):
    rng = random.Random(seed)
    lines = ["a b", "A, b!", " a b c ", "b", "c\td", "", "---", "a b c d e"]
    texts = ["\n".join(rng.choices(lines, k=rng.randint(0, 6))) for _ in range(rng.randint(0, 12))]
    min_words = rng.randint(1, 4)
    found = repeated_paragraphs(table(texts), min_words=min_words)
    expected = counted_by_hand(texts, min_words)
    assert marked(texts, min_words) == [one for one, _, _, _ in expected]
    assert found["records"].to_list() == [records for _, _, _, records in expected]
    assert found["characters"].to_list() == [every for _, _, every, _ in expected]
    shares = [own / max(1, every) for _, own, every, _ in expected]
    assert found["repeated_ratio"].to_list() == pytest.approx(shares, abs=1e-7)


def test_it_has_the_properties_of_its_kind_where_paragraphs_are_short():
    assert "group_split" in check(repeated_paragraphs.bind(min_words=3))


def test_partial_rows_of_buckets_fold_in_any_order():
    rng = random.Random(1)
    texts = ["\n".join(rng.choices("abcdefgh", k=6)) for _ in range(12)]
    step = repeated_paragraphs.bind(min_words=1)
    rows = table(texts)
    keyed = step.scatter(rows)
    a, b, c = (step.run_groups(rows, keyed.filter(pl.col("key") % 3 == n)) for n in range(3))

    def fold(*partials: pl.DataFrame) -> pl.DataFrame:
        assert step.merge is not None
        return step.merge(pl.concat(partials))

    expected = step(rows)
    assert expected["spans"].list.len().sum() > 30
    for x, y, z in itertools.permutations((a, b, c)):
        assert fold(x, fold(y, z)).equals(expected)
        assert fold(fold(x, y), z, z).equals(expected)


@pytest.mark.data
def test_the_marks_of_package_descriptions_are_those_of_the_definition(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = rows.filter(pl.col("lang") == "en")["text"]
    texts = [text for text in english if text.isascii()]
    found = repeated_paragraphs(table(texts))
    expected = counted_by_hand(texts, 13)
    assert marked(texts) == [one for one, _, _, _ in expected]
    assert found["records"].to_list() == [records for _, _, _, records in expected]
    shares = [own / max(1, every) for _, own, every, _ in expected]
    assert found["repeated_ratio"].to_list() == pytest.approx(shares, abs=1e-6)


@pytest.mark.data
def test_of_identical_package_descriptions_the_first_alone_keeps_its_paragraphs(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = rows.filter(pl.col("lang") == "en").with_row_index("uid").cast({"uid": pl.UInt64})
    found = english.join(repeated_paragraphs(english), on="uid", maintain_order="left")
    copies = found.filter(pl.col("text").is_duplicated())
    assert (copies["text"].n_unique(), copies.height - copies["text"].n_unique()) == (413, 951)
    later = copies.filter(~pl.col("text").is_first_distinct())
    for text, spans, records in later.select("text", "spans", "records").iter_rows():
        long = [p.strip() for p in text.split("\n") if len(_shingles.tokens(p, "word")) >= 13]
        assert [text[span["start"] : span["end"]] for span in spans] == long
        assert records >= 2 or not long
