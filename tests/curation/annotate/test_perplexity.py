from __future__ import annotations

import math

import polars as pl
import pytest

from curation.annotate.perplexity import perplexity
from curation.fit.ngram_model import ngram_model
from tests.curation.fit.test_ngram_model import TEXTS, table


@pytest.fixture(scope="module")
def model() -> pl.DataFrame:
    return ngram_model(table(TEXTS))


def test_a_text_in_its_order_surprises_less_than_shuffled(model: pl.DataFrame):
    found = perplexity(table(["the cat sat on the mat", "mat on the sat cat the"]), model)["value"]
    assert 1 <= found[0] < found[1]


def test_what_has_no_word_has_no_value_and_an_unknown_script_the_largest(model: pl.DataFrame):
    texts = [None, "", "  ", "\u200b", "кошка", "كلب", "👩\u200d👧", "e\u0301"]
    found = perplexity(table(texts), model)["value"].to_list()
    assert found[:4] == [None] * 4
    assert all(math.isfinite(value) for value in found[4:])
    assert min(found[4:]) > perplexity(table(["dog"]), model)["value"][0]


def test_case_and_punctuation_make_no_difference(model: pl.DataFrame):
    found = perplexity(table(["the cat sat", "The CAT, sat!"]), model)["value"]
    assert found[0] == found[1]


def test_a_line_of_ten_megabytes_has_a_value(model: pl.DataFrame):
    long = "the cat " + ("x" * 999 + " ") * 10_000
    assert perplexity(table([long]), model)["value"][0] > 10
