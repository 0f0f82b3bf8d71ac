"""Secrets by the forms of their issuers: what is marked, and what just is not."""

from __future__ import annotations

import polars as pl
import pytest

from curation.annotate.secrets import secrets


def table(*texts: str | None) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def found(text: str) -> list[tuple[str, str]]:
    spans = secrets(table(text))["spans"].to_list()[0]
    return [(span["kind"], text[span["start"] : span["end"]]) for span in spans]


# Put together here, so that no scanner takes the test for a leak.
BODY = "\n".join(["MIIEowIBAAKCAQEAx" + "Qz7/+" * 9] * 3)
BLOCK = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----"
MARKED = [
    ("key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("key", "AIza" + "x" * 35),
    ("key", "sk-ant-api03-" + "aB3_" * 23),
    ("key", "sk-" + "a1B2" * 12),
    ("key", "sk_live_" + "a1B2" * 6),
    ("key", "SG." + "a" * 22 + "." + "b" * 43),
    ("token", "ghp_" + "a1B2" * 9),
    ("token", "glpat-" + "a1_-" * 5),
    ("token", "xoxb-" + "123456789012-abcdef"),
    ("token", "hf_" + "aB" * 17),
    ("token", "123456789:AA" + "x" * 33),
    ("token", "eyJ" + "a" * 30 + ".eyJ" + "b" * 30 + "." + "c" * 43),
    ("private_key", BLOCK),
    ("private_key", BLOCK.replace("\n", "\\n")),
    ("private_key", BLOCK.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK")),
]
PASSED_OVER = [
    "AKIA" + "IOSFODNN7EXAMPL",
    "AKIA" + "IOSFODNN7EXAMPLE2",
    "xAKIA" + "IOSFODNN7EXAMPLE",
    "AIza" + "x" * 34,
    "sk-" + "a1B2" * 11,
    "risk-ant-" + "aB3_" * 23,
    "ghp_" + "a1B2" * 8,
    "hf_" + "aB" * 16,
    "eyJ" + "a" * 30 + "." + "b" * 30 + "." + "c" * 43,
    BLOCK.replace("PRIVATE", "PUBLIC"),
    "-----BEGIN PRIVATE KEYS-----",
]


@pytest.mark.parametrize("around", ["{}", "é {}, and", '{{"x":"{}"}}', "KEY={}\n"])
def test_what_has_an_issuers_form_is_marked_from_end_to_end(around: str):
    for kind, written in MARKED:
        assert found(around.format(written)) == [(kind, written)]


def test_what_just_lacks_it_is_not():
    for written in PASSED_OVER:
        assert found(f"see {written} here") == [], written


def test_a_private_key_that_was_cut_is_marked_as_far_as_it_goes():
    cut = BLOCK[: BLOCK.index("\n-----END")]
    assert found(cut + "\nThat is all.") == [("private_key", cut)]
    spans = secrets(table(cut, "-----END RSA PRIVATE KEY-----"))["spans"].list.len()
    assert spans.to_list() == [1, 0]


def test_columns_count_the_spans_of_each_kind_and_a_null_has_none():
    rows = secrets(table(" ".join(written for _, written in MARKED), "", None))
    assert rows.row(0)[1:4] == (6, 6, 3)
    assert rows.rows()[1:] == [(1, 0, 0, 0, []), (2, None, None, None, None)]


def test_a_line_of_two_million_octets_is_searched_to_its_end():
    kind, key = MARKED[0]
    start = 1_000_001
    assert secrets(table("é" * 1_000_000 + " " + key))["spans"].to_list() == [
        [{"kind": kind, "start": start, "end": start + len(key)}]
    ]
