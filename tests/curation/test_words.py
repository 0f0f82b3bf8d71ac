from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import _shingles, _words

# A text, its words, and how each was written.
WRITTEN = {
    "The quick, brown fox!": ["The", "quick", "brown", "fox"],
    "STRASSE straße": ["STRASSE", "straße"],
    "cafe\u0301 (café)": ["cafe\u0301", "café"],
    " \u0301x": ["\u0301x"],
    "一只小狗 dog": ["一", "只", "小", "狗", "dog"],
    "हिन्दी में": ["हिन्दी", "में"],
    "I ❤️ 🐶🏽": ["I", "❤", "🐶"],
    "𝐁𝐨𝐥𝐝 𝔘 🐶 z": ["𝐁𝐨𝐥𝐝", "𝔘", "🐶", "z"],
    "½ ㎏": ["½", "½", "㎏"],
    "soft\u00adhyphen\u00ad.": ["soft\u00adhyphen"],
    "!!": ["!", "!"],
    "a…": ["a"],
    "…": ["…", "…", "…"],
    "": [],
    " \u00a0\u200b\t": [],
}


def strings(words: _words.Words) -> list[list[str]]:
    every = "".join(map(chr, words.letters)).split("\0")[:-1]
    return [every[a:b] for a, b in zip(words.first, words.last, strict=True)]


def written(texts: list[str], words: _words.Words) -> list[list[str]]:
    places = [
        zip(words.starts[a:b].tolist(), words.ends[a:b].tolist(), strict=True)
        for a, b in zip(words.first, words.last, strict=True)
    ]
    return [[text[a:b] for a, b in own] for text, own in zip(texts, places, strict=True)]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_place_is_where_the_word_was_written(text: str):
    words = _words.words(pl.Series([text]))
    assert written([text], words) == [WRITTEN[text]]
    assert strings(words) == [_shingles.tokens(text, "word")]


def test_complex_texts_keep_their_place_among_others():
    texts = list(WRITTEN)
    words = _words.words(pl.Series(texts))
    assert written(texts, words) == list(WRITTEN.values())
    assert strings(words) == [_shingles.tokens(text, "word") for text in texts]
    assert len(words.at) == len(words.hashes) + 1
    assert words.at[-1] == len(words.letters)


@given(st.lists(st.text(), max_size=4))
def test_any_text_has_the_words_of_its_shingles_in_ascending_places(texts: list[str]):
    words = _words.words(pl.Series(texts, dtype=pl.String))
    assert strings(words) == [_shingles.tokens(text, "word") for text in texts]
    assert (words.starts < words.ends).all()
    for text, first, last in zip(texts, words.first, words.last, strict=True):
        starts, ends = words.starts[first:last], words.ends[first:last]
        assert (np.diff(starts.astype(int)) >= 0).all()
        assert (np.diff(ends.astype(int)) >= 0).all()
        assert (ends <= len(text)).all()


@given(st.text(min_size=1))
def test_a_word_is_among_the_words_of_what_was_written(text: str):
    found = _words.words(pl.Series([text]))
    for word, place in zip(*strings(found), *written([text], found), strict=True):
        assert word in _shingles.tokens(place, "word")


def test_every_character_that_changes_its_length_or_neighbours_is_placed():
    codes = np.flatnonzero(_words._changes())
    codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]
    texts = [f"x{chr(code)}y z" for code in codes]
    assert len(texts) > 2000
    words = _words.words(pl.Series(texts))
    assert strings(words) == [_shingles.tokens(text, "word") for text in texts]
    assert [own[-1] for own in written(texts, words)] == ["z"] * len(texts)


def test_equal_words_have_equal_hashes_and_others_do_not():
    words = _words.words(pl.Series(["Dog cat", "ｄｏｇ god", "Straße STRASSE"]))
    dog, cat, same, god, *strasse = words.hashes.tolist()
    assert dog == same
    assert len({dog, cat, god}) == 3
    assert len(set(strasse)) == 1


def test_blocks_hold_each_text_once_whatever_its_length():
    texts = ["a b", "long " * 300_000, "", "ﬁn", *["d e"] * 400_000]
    counts, slices = [], []
    for block, words in _words.blocks(pl.Series(texts)):
        slices.append(block)
        counts += (words.last - words.first).tolist()
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])]
    assert len(slices) > 2
    assert counts == [2, 300_000, 0, 1, *[2] * 400_000]
