from __future__ import annotations

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.uid import mix
from curation import _shingles

WORDS = {
    "The quick, brown fox!": ["the", "quick", "brown", "fox"],
    "don't (stop) 3.14": ["don", "t", "stop", "3", "14"],
    "STRASSE straße ﬁne": ["strasse", "strasse", "fine"],
    "cafe\u0301 café": ["café", "café"],
    "Ｆｕｌｌ　ｗｉｄｔｈ": ["full", "width"],
    "一只小狗 dog": ["一", "只", "小", "狗", "dog"],
    "犬がいる": ["犬", "か\u3099".replace("か\u3099", "が"), "い", "る"],
    "หมา": ["ห", "ม", "า"],
    "कुत्ता": ["कुत्ता"],
    "강아지": ["강아지"],
    "I ❤️ 🐶🐶": ["i", "❤", "🐶", "🐶"],
    "soft\u00adhyphen zero\u200bwidth": ["softhyphen", "zero", "width"],
    "!!!": ["!", "!", "!"],
    "…": [".", ".", "."],
    "": [],
    " \u00a0\u200b\t": [],
}


def token_hash(word: str) -> int:
    """Return the hash of a token as the docstring of the compiled scan states it."""
    found = 0
    for character in word:
        mixed = int(mix(np.array([ord(character)], dtype=np.uint64))[0])
        found = ((found << 7 | found >> 57) & (2**64 - 1)) ^ mixed
    return found


def scanned(text: str, unit: _shingles.Unit) -> list[int]:
    ((_, tokens),) = _shingles.blocks(pl.Series([text]), unit)
    return tokens.hashes[tokens.starts[0] : tokens.ends[0]].tolist()


def referred(text: str, unit: _shingles.Unit) -> list[int]:
    gap = int(_shingles.GAP)
    tokens = _shingles.tokens(text, unit)
    return [gap if token == " " else token_hash(token) for token in tokens]


@pytest.mark.parametrize("text", WORDS)
def test_words_are_runs_of_letters_or_single_characters_of_unspaced_scripts(text: str):
    assert _shingles.tokens(text, "word") == WORDS[text]


def test_characters_come_with_one_space_between_words_and_none_between_ideographs():
    assert "".join(_shingles.tokens(" A dog -- 一只狗, ok.", "char")) == "a dog 一只狗 ok"


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("unit", ["word", "char"])
def test_the_bytes_give_the_tokens_that_the_text_has(text: str, unit: _shingles.Unit):
    assert scanned(text, unit) == referred(text, unit)


@given(st.text(), st.sampled_from(["word", "char"]))
def test_any_text_gives_the_same_tokens_from_bytes_as_from_characters(
    text: str, unit: _shingles.Unit
):
    assert scanned(text, unit) == referred(text, unit)


def test_every_character_is_folded_alone_as_it_is_within_a_word():
    everything = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) != "Cs"]
    texts = pl.Series([f"x{c}y {c}" for c in everything])
    found = []
    for _, tokens in _shingles.blocks(texts, "word"):
        pairs = zip(tokens.starts, tokens.ends, strict=True)
        found += [tokens.hashes[start:end].tolist() for start, end in pairs]
    hashes: dict[str, int] = {}
    for text, row in zip(texts, found, strict=True):
        words = _shingles.tokens(text, "word")
        assert len(words) == len(row), repr(text)
        for word, value in zip(words, row, strict=True):
            assert hashes.setdefault(word, value) == value, repr(text)
    assert len(set(hashes.values())) == len(hashes)


def test_shingles_are_hashes_of_n_grams_and_of_the_whole_of_a_shorter_text():
    texts = pl.Series(["a b c d", "b c d", "a b", "x a b c y", ""])
    ((_, tokens),) = _shingles.blocks(texts, "word")
    found = _shingles.shingles(tokens, 3)  # in place
    sets = [set(found.hashes[a:b].tolist()) for a, b in zip(found.starts, found.ends, strict=True)]
    assert [len(one) for one in sets] == [2, 1, 1, 3, 0]
    abc = sets[0] & sets[3]
    assert len(abc) == 1
    assert sets[1] == sets[0] - abc
    assert not sets[2] & (sets[0] | sets[1] | sets[3])


def test_blocks_follow_each_other_and_hold_a_text_longer_than_a_block():
    texts = pl.Series(["a b", "long " * 300_000, "", "c", *["d e"] * 500_000])
    slices = [block for block, _ in _shingles.blocks(texts, "word")]
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])]
    assert slices[-1].stop == len(texts)
    assert len(slices) > 2
