from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from datasketch import MinHash
from polars.testing import assert_frame_equal

from contracts.errors import ConfigError
from curation.annotate.minhash_signature import minhash_signature

MODES = ["fast", "datasketch"]


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def signatures(texts: list[str | None], **parameters: object) -> list[list[int] | None]:
    return minhash_signature(table(texts), **parameters)["values"].to_list()


def estimates(a: list[str], b: list[str], **parameters: object) -> np.ndarray:
    """Return the share of equal slots of each pair of texts."""
    x = minhash_signature(table([*a]), **parameters)["values"].to_numpy()
    y = minhash_signature(table([*b]), **parameters)["values"].to_numpy()
    return (x == y).mean(axis=1)


def planted(shared: int, alone: int, pairs: int) -> tuple[list[str], list[str]]:
    """Return pairs of texts of distinct words, `shared` in both and `alone` in each."""
    a, b = [], []
    for pair in range(pairs):
        common = [f"c{pair}x{n}" for n in range(shared)]
        a.append(" ".join(common + [f"a{pair}x{n}" for n in range(alone)]))
        b.append(" ".join(common + [f"b{pair}x{n}" for n in range(alone)]))
    return a, b


@pytest.mark.parametrize("mode", MODES)
def test_texts_that_differ_in_case_spaces_or_punctuation_have_one_signature(mode: str):
    a, b, c = signatures(
        ["The dog, on  the beach.", "the dog on the beach", "the dog on a beach"], mode=mode
    )
    assert a == b != c


@pytest.mark.parametrize("mode", MODES)
def test_texts_shorter_than_the_n_gram_are_told_apart(mode: str):
    found = signatures(["cat", "dog", "a cat", "cat a", "!!!", "..."], mode=mode)
    assert len({tuple(values or []) for values in found}) == 6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", [None, "", "  \n", "\u200b"])
def test_a_text_without_a_visible_character_has_no_signature(mode: str, text: str | None):
    assert signatures([text, "cat"], mode=mode)[0] is None


@pytest.mark.parametrize("unit", ["word", "char"])
def test_mode_datasketch_equals_datasketch_on_the_same_n_grams(unit: str):
    text = "the quick brown fox jumps over the lazy dog at noon"
    parts = text.split() if unit == "word" else list(text)
    between = " " if unit == "word" else ""
    sketch = MinHash(num_perm=64, seed=7)
    for start in range(len(parts) - 3):
        sketch.update(between.join(parts[start : start + 4]).encode())
    upper = text.upper() + "!"
    (found,) = signatures([upper], num_perm=64, seed=7, ngram=4, unit=unit, mode="datasketch")
    assert found == sketch.hashvalues.tolist()


def test_mode_datasketch_refuses_a_seed_that_datasketch_cannot_take():
    with pytest.raises(ConfigError, match="below 2\\*\\*32"):
        signatures(["cat"], mode="datasketch", seed=2**32)


# Two sentences of 13 words that differ in one; the similarities are those of the specification.
@pytest.mark.parametrize(
    ("ngram", "jaccard"), [(1, 10 / 12), (2, 10 / 14), (3, 8 / 14), (5, 4 / 14)]
)
@pytest.mark.parametrize("mode", MODES)
def test_one_changed_word_costs_as_many_n_grams_as_hold_it(mode: str, ngram: int, jaccard: float):
    a = "the dog ran over the green hill while the people watched from afar"
    b = "the dog ran over the green hill where the people watched from afar"
    assert len(a.split()) == 13
    sets = [{*zip(*(t.split()[k:] for k in range(ngram)), strict=False)} for t in (a, b)]
    assert len(sets[0] & sets[1]) / len(sets[0] | sets[1]) == pytest.approx(jaccard)
    (found,) = estimates([a], [b], ngram=ngram, num_perm=4096, mode=mode)
    assert found == pytest.approx(jaccard, abs=0.035)


@pytest.mark.parametrize(
    ("shared", "alone"), [(1, 1), (2, 1), (4, 2), (16, 2), (32, 4), (160, 20), (800, 100)]
)
def test_the_estimate_is_unbiased_with_the_spread_of_classic_minhash(shared: int, alone: int):
    found = estimates(*planted(shared, alone, 400), ngram=1)
    jaccard = shared / (shared + 2 * alone)
    spread = (jaccard * (1 - jaccard) / 128) ** 0.5
    assert abs(found.mean() - jaccard) < 4 * spread / 400**0.5
    assert found.std() < 1.25 * spread


def test_repeated_n_grams_count_once():
    a, b = signatures(["a b a b a b a b", "a b a b"], ngram=2)
    assert a == b


def test_chinese_thai_and_japanese_texts_are_compared_by_characters():
    pairs = [
        ("一只棕色的小狗在海滩上奔跑，天空很蓝", "一只棕色的小狗在海滩上奔跑，天空很红"),
        ("สุนัขสีน้ำตาลตัวเล็กวิ่งบนชายหาดตอนเช้า", "สุนัขสีน้ำตาลตัวเล็กวิ่งบนชายหาดตอนเย็น"),
        ("茶色の小さな犬が浜辺を元気に走っています", "茶色の小さな犬が浜辺を元気に走っていた"),
    ]
    found = estimates([a for a, _ in pairs], [b for _, b in pairs], num_perm=1024)
    assert (found > 0.5).all()
    assert (found < 1).all()


def test_another_seed_gives_another_signature_and_the_same_seed_the_same():
    texts = ["a dog runs over the beach at noon"]
    assert signatures(texts, seed=1) == signatures(texts, seed=1) != signatures(texts, seed=2)


def test_a_signature_depends_on_no_other_text():
    texts = [None, "a dog", "", "café au lait, ½ cup ﬁne", "一只狗", "dog"] * 5
    expected = minhash_signature(table(texts))
    parts = [
        minhash_signature(part)
        for part in expected.select("uid").join(table(texts), on="uid").iter_slices(4)
    ]
    assert_frame_equal(pl.concat(parts), expected)
