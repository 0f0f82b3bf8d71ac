"""Lines that a domain repeats, and lines that it does not."""

from __future__ import annotations

import random
from collections import defaultdict

import polars as pl
import pytest

from curation.annotate.boilerplate import boilerplate
from curation.properties import check

MENU, NOTE = "Home | About | Contact", "All rights reserved."


def table(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    texts, domains = zip(*rows, strict=True) if rows else ((), ())
    return pl.DataFrame({"text": texts, "domain": domains}, schema_overrides={
        "text": pl.String, "domain": pl.String,
    }).with_columns(uid=pl.int_range(len(texts), dtype=pl.UInt64))  # fmt: skip


def marked(*rows: tuple[str | None, str | None], **parameters: int) -> list[list[str] | None]:
    spans = boilerplate(table(*rows), **parameters)["spans"].to_list()
    return [
        None if found is None else [text[span["start"] : span["end"]] for span in found]
        for (text, _), found in zip(rows, spans, strict=True)
    ]


def test_a_line_of_three_records_of_a_domain_is_marked_in_each_and_of_two_in_none():
    rows = [(f"{MENU}\nStory {n} is new\n  {NOTE} " if n else MENU, "a.org") for n in range(3)]
    found = boilerplate(table(*rows))
    assert marked(*rows) == [[MENU], [MENU], [MENU]]
    assert found["records"].to_list() == [3, 3, 3]
    size = len(f"{MENU}Story 1 is new{NOTE}")
    assert found["repeated_ratio"].to_list() == pytest.approx(
        [1, len(MENU) / size, len(MENU) / size]
    )
    assert found["characters"].to_list() == [len(MENU), size, size]
    assert marked(*rows, min_records=2)[1:] == [[MENU, NOTE]] * 2


def test_other_domains_do_not_count_and_a_record_without_one_shares_nothing():
    assert marked((MENU, "a.org"), (MENU, "a.org"), (MENU, "b.org")) == [[], [], []]
    found = boilerplate(table(*[(MENU, None)] * 4, *[(MENU, " ")] * 4))
    assert found["records"].to_list() == [0] * 8
    assert found["repeated_ratio"].to_list() == [0.0] * 8


def test_a_domain_is_the_host_of_an_address():
    hosts = ["A.org", "https://www.a.org/x?y=b.org", "//user@a.org:80", "http:a.org#x"]
    assert marked(*[(MENU, host) for host in hosts], min_records=4) == [[MENU]] * 4
    others = ["sub.a.org", "a.org.uk", "xa.org", "https://b.org/a.org"]
    assert marked(*[(MENU, host) for host in others], min_records=2) == [[]] * 4


def test_words_decide_whatever_their_case_and_marks_and_a_record_counts_once():
    rows = [
        ("Cafe\u0301: \u05d0\u05d1 \U0001f468\u200d\U0001f469", "a"),
        ("CAFÉ (\u05d0\u05d1) \U0001f468\U0001f469", "a"),
    ]
    assert marked(*rows, min_records=2) == [[rows[0][0]], [rows[1][0]]]
    assert marked(("x\nx\nx", "a"), ("x", "a")) == [[], []]
    assert marked(("two words\nx", "a"), ("two words\nx", "a"), min_records=2, min_words=2) == [
        ["two words"], ["two words"],
    ]  # fmt: skip


def test_null_and_empty_texts():
    found = boilerplate(table((None, "a"), ("", "a"), (" \n", "a"), ("x", "a")))
    assert found["records"].to_list() == [None, 0, 0, 1]
    assert found["repeated_ratio"].to_list() == [None, 0.0, 0.0, 0.0]
    assert boilerplate(table()).schema == found.schema


@pytest.mark.parametrize("seed", range(40))
def test_the_marks_are_those_of_the_definition(seed: int):
    rng = random.Random(seed)
    lines = ["a b", "A, b!", "b", "c\td", "", "---", "a b c"]
    rows = [
        ("\n".join(rng.choices(lines, k=rng.randint(0, 5))), rng.choice(["a", "b", None]))
        for _ in range(rng.randint(1, 12))
    ]
    words = {
        line: "".join(line.lower().replace(",", "").replace("!", "").split()) for line in lines
    }
    words["---"] = "---"
    holders = defaultdict(set)
    for n, (text, domain) in enumerate(rows):
        for line in text.split("\n"):
            holders[domain, words[line]].add(n)
    expected = [
        [line for line in text.split("\n")
         if domain and words[line] and len(holders[domain, words[line]]) >= 3]
        for text, domain in rows
    ]  # fmt: skip
    assert marked(*rows) == expected


def test_it_has_the_properties_of_its_kind_where_two_are_enough():
    assert "group_split" in check(boilerplate.bind(min_records=2))
