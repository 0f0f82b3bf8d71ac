"""Sub-captions by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from curation.annotate.sub_captions import sub_captions


def cut(*texts: str | None, **parameters: Any) -> list[list[str] | None]:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    found = sub_captions(table, **parameters)
    lengths = [None if c is None else len(c) for c in found["captions"].to_list()]
    assert found["count"].to_list() == lengths
    return found["captions"].to_list()


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("A dog runs. It is 3.5 years old! Is it?", ["A dog runs.", "It is 3.5 years old!",
            "Is it?"]),
        ("Fruit, e.g. plums, by J. Doe. So. It is.", ["Fruit, e.g. plums, by J. Doe.", "So.",
            "It is."]),
        ('He said "no." (Twice!) Then\r\nhe left</s>', ['He said "no."', "(Twice!)", "Then",
            "he left"]),
        ("一只狗。它在跑！天空很蓝", ["一只狗。", "它在跑！", "天空很蓝"]),
        ("كلب بني؟ نعم.", ["كلب بني؟", "نعم."]),
        ("  one caption  ", ["one caption"]),
        ("a... b\n\n***\n", ["a... b"]),
        ("🐶\u200d", []),
        ("", []),
        (None, None),
    ],
)  # fmt: skip
def test_a_text_is_cut_where_its_sentences_end(text: str | None, captions: list[str] | None):
    assert cut(text) == [captions]


def test_sentences_that_follow_each_other_are_joined_within_their_text():
    texts = ["Ab cd. Ef gh. Ij kl.", "Mn op."]
    assert cut(*texts, sentences=2) == [["Ab cd. Ef gh.", "Ij kl."], ["Mn op."]]


def test_a_text_of_ten_megabytes_is_cut():
    assert [len(c or []) for c in cut("ab" * 5_000_000 + ". Cd.")] == [2]
