"""Weights of texts by what a target says more often than the pool does."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation import _ngrams
from curation.annotate.importance import importance
from curation.fit.ngram_counts import ngram_counts


def table(*texts: str | None) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def counts(pool: dict[str, int], target: dict[str, int]) -> pl.DataFrame:
    """Return the table of counts of single words."""
    buckets = [int(_ngrams.counts(pl.Series([word])).nonzero()[0][0]) for word in pool]
    columns = {"bucket": buckets, "count": list(pool.values()), "target_count": [*target.values()]}
    types = {"bucket": pl.UInt32, "count": pl.UInt64, "target_count": pl.UInt64}
    return pl.DataFrame(columns, schema=types)


POOL, TARGET = {"a": 6, "b": 3, "c": 1}, {"a": 1, "b": 2, "c": 7}
TEXTS = table("a", "b", "c", "a a b", "c, c; B!", "d", "", None)


def test_the_worked_example():
    found = importance(TEXTS, counts(POOL, TARGET), smoothing=1e-6)
    assert found["log_ratio"].to_list()[:-1] == pytest.approx(
        [-1.7918, -0.4055, 1.9459, -3.989, 3.486, 0, 0], abs=1e-3
    )
    assert found["words"].to_list() == [1, 1, 1, 3, 3, 1, 0, None]
    per_word = found["log_ratio_per_word"].to_list()
    assert per_word[3:6] == pytest.approx([-3.989 / 3, 3.486 / 3, 0], abs=1e-3)
    assert per_word[6:] == [None, None]
    assert found["log_ratio"][7] is None


def test_smoothing_adds_the_common_distribution_to_both():
    found = importance(TEXTS, counts(POOL, TARGET), smoothing=10.0)
    expected = [np.log((1 + 3.5) / (6 + 3.5)), np.log(1) + np.log(4.5 / 5.5), np.log(11 / 5)]
    assert found["log_ratio"].to_list()[:3] == pytest.approx(expected, abs=1e-6)


def test_a_target_that_is_the_pool_gives_nothing_and_the_two_exchanged_the_opposite():
    same = importance(TEXTS, counts(POOL, POOL))["log_ratio"]
    assert same.drop_nulls().to_list() == pytest.approx([0] * 7, abs=1e-6)
    one = importance(TEXTS, counts(POOL, TARGET))["log_ratio"].drop_nulls().to_numpy()
    other = importance(TEXTS, counts(TARGET, POOL))["log_ratio"].drop_nulls().to_numpy()
    assert np.abs(one).max() > 1e-4
    assert one == pytest.approx(-other, abs=1e-6)


def test_a_text_is_weighed_alike_whatever_rows_are_with_it():
    texts = ["one two", "", "cafe\u0301 two", None, "two one " * 50, "狗在"]
    model = ngram_counts(table(*texts), table("two one two"))
    together = importance(table(*texts), model)
    alone = pl.concat([importance(table(*texts)[n : n + 1], model) for n in range(len(texts))])
    assert together.equals(alone)
    assert together["words"].to_list() == [2, 0, 2, None, 100, 2]


def test_held_out_texts_of_the_target_weigh_more_than_others():
    rng = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(200)])
    tilt = np.linspace(3, 1, 200)

    def texts(weights: np.ndarray, count: int) -> list[str]:
        return [" ".join(rng.choice(words, 40, p=weights / weights.sum())) for _ in range(count)]

    target, other = texts(tilt, 60), texts(tilt[::-1], 60)
    model = ngram_counts(table(*other, *target[:20]), table(*target[20:40]))
    found = importance(table(*target[40:], *other[:20]), model)["log_ratio_per_word"]
    # The Kullback-Leibler divergence from the pool shrinks by what the mean rises.
    assert found[:20].mean() > 0 > found[20:].mean()


def test_counts_without_a_target_are_refused():
    with pytest.raises(DataError, match="have no target"):
        importance(TEXTS, ngram_counts(TEXTS))
