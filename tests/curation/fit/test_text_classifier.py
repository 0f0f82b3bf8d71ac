from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from contracts.errors import ConfigError, DataError
from contracts.uid import mix
from curation import _ngrams
from curation._shingles import grams as grams_of
from curation.fit.text_classifier import text_classifier

LETTERS = np.array(list("abcdefghijklmnopqrst"))


def table(texts: list[str | None], is_positive: list[bool | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": texts, "is_positive": is_positive})


def drawn(count: int, favourite: str = "") -> list[str]:
    """Return texts of twelve random letters, and of a favourite one."""
    bits = mix(np.arange(count * 12, dtype=np.uint64)).reshape(count, 12)
    return [" ".join([*LETTERS[(row >> 7) % 20], *favourite]) for row in bits]


def weights_of(model: pl.DataFrame) -> dict[str, float]:
    return dict(model.drop_nulls("gram").select("gram", "weight").iter_rows())


def test_a_word_of_each_class_has_the_equal_and_opposite_weight_of_the_closed_form():
    found = text_classifier(table(["good", "bad"], [True, False]), l2=0.01)
    weights = weights_of(found)
    # At the minimum of 2 (1/2) ln(1 + exp(-w)) + 0.01 w^2 the slope is 0.
    assert weights["good"] == pytest.approx(-weights["bad"], abs=1e-6)
    slope = 0.02 * weights["good"] - 1 / (1 + math.exp(weights["good"]))
    assert slope == pytest.approx(0, abs=1e-6)
    assert found["weight"][0] == pytest.approx(0, abs=1e-6)
    assert found["bucket"].null_count() == 1


def test_at_the_weights_the_slope_of_the_loss_is_zero():
    texts = [f"{text} {mark}" for text, mark in zip(drawn(17), "y" * 9 + "n" * 8, strict=True)]
    found = text_classifier(table(texts, [text.endswith("y") for text in texts]), l2=0.003)
    grams = sorted({gram for text in texts for n in (1, 2) for gram in grams_of(text, "word", n)})
    x = np.array(
        [
            [[*grams_of(t, "word", 1), *grams_of(t, "word", 2)].count(g) for g in grams]
            for t in texts
        ]
    )
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    every = np.zeros(_ngrams.BUCKETS)
    every[found["bucket"].drop_nulls()] = found["weight"][1:]
    w = np.array([every[bucket] for bucket in map(bucket_of, grams)])
    p = 1 / (1 + np.exp(-(x @ w + found["weight"][0])))
    pull = np.where(np.arange(17) < 9, (p - 1) / 18, p / 16)
    assert np.abs(x.T @ pull + 0.003 * w).max() < 1e-5
    assert pull.sum() == pytest.approx(0, abs=1e-5)


def bucket_of(gram: str) -> int:
    _, found = next(_ngrams.blocks(pl.Series([gram])))
    return int(found.pairs[0] if " " in gram else found.words[0])


def test_the_other_class_for_the_good_one_turns_every_sign():
    rows = table([*drawn(6), *drawn(9, "z")], [False] * 6 + [True] * 9)
    swapped = rows.with_columns(~pl.col("is_positive"))
    one, other = text_classifier(rows), text_classifier(swapped)
    back = other.with_columns(-pl.col("weight"))
    assert_frame_equal(one.drop("gram"), back.drop("gram"), abs_tol=1e-6)


def test_copies_of_all_examples_change_nothing():
    rows = table([*drawn(12), *drawn(12, "z")], [False] * 12 + [True] * 12)
    copies = rows.with_columns(pl.col("uid") + 100)
    assert_frame_equal(
        text_classifier(rows),
        text_classifier(pl.concat([rows, copies, copies[:5].with_columns(pl.col("uid") + 100)])),
    )


def test_the_area_under_the_curve_is_of_texts_that_were_held_out():
    apart = table([*drawn(60), *drawn(60, "z")], [False] * 60 + [True] * 60)
    assert text_classifier(apart)["auc"][0] == 1
    aucs = []
    for seed in range(8):
        mixed = apart.with_columns(
            text=pl.Series(drawn(120)), is_positive=pl.Series([True, False] * 60)
        )
        aucs.append(text_classifier(mixed, seed=seed)["auc"][0])
    # Of 6 and 6 texts an area by chance has a standard error of 0.18.
    assert abs(np.mean(aucs) - 0.5) < 3 * 0.18 / math.sqrt(8)
    assert text_classifier(apart[50:70])["auc"][0] == 1
    assert text_classifier(apart[51:70])["auc"][0] is None


def test_the_ten_heaviest_of_each_sign_are_named():
    found = text_classifier(table([*drawn(30), *drawn(30, "z")], [False] * 30 + [True] * 30))
    named = found.drop_nulls("gram").sort("weight")
    assert named.height == 20
    assert named["gram"][-1] == "z"
    assert (named["weight"] < 0).sum() == 10
    limits = named["weight"][9], named["weight"][10]
    rest = found[1:].filter(pl.col("gram").is_null())["weight"]
    assert limits[0] <= rest.min()
    assert rest.max() <= limits[1]


def test_examples_come_from_tables_or_from_the_pool_itself():
    good = pl.DataFrame({"text": ["good one", None]})
    bad = pl.DataFrame({"text": ["bad one"]})
    pool = table(["bad one", None], [None, None]).drop("is_positive")
    by_tables = text_classifier(pool.clear(), good, bad)
    assert weights_of(by_tables)["good"] > 0 > weights_of(by_tables)["bad"]
    assert_frame_equal(text_classifier(pool, good), by_tables)
    marked = table(["good one", "bad one", "left out"], [True, False, None])
    assert_frame_equal(text_classifier(marked), by_tables)
    assert_frame_equal(text_classifier(marked, good), by_tables)


def test_without_examples_it_says_what_to_bind():
    pool = table(["one"], [True]).drop("is_positive")
    with pytest.raises(ConfigError, match="bind the table positive"):
        text_classifier(pool)
    with pytest.raises(DataError, match="no negative text has a word"):
        text_classifier(table(["one", None], [True, False]))
