"""Mean log probability of a text's words and pairs under the pool's counts."""

from __future__ import annotations

import math

import polars as pl
import pytest

from curation.annotate.commonness import commonness
from curation.fit.ngram_counts import ngram_counts


def table(*texts: str | None) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def test_it_is_the_mean_of_the_logarithms_of_words_and_pairs():
    model = ngram_counts(table("a b", "a b", "c"))  # a 2, b 2, a b 2, c 1
    found = commonness(table("a b", "c", "b c d", "", " ! ", None), model)["mean_log_probability"]
    low = math.log(7 + 2**18)
    expected = [math.log(3) - low, math.log(2) - low, (math.log(3) + math.log(2)) / 5 - low]
    assert found.to_list()[:3] == pytest.approx(expected, abs=1e-5)
    # A text without a word has its marks for words.
    assert found[4] == pytest.approx(-low, abs=1e-5)
    assert (found[3], found[5]) == (None, None)


def test_what_the_pool_often_says_is_commoner_whatever_its_length():
    model = ngram_counts(table(*["we use cookies on this site"] * 50, "an otter sleeps afloat"))
    found = commonness(table("we use cookies", "an otter sleeps", "we use " * 400), model)
    often, seldom, long = found["mean_log_probability"]
    assert often > seldom
    assert long == pytest.approx(often, abs=2)
