from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.tokens import BYTES, SPECIALS, UNKNOWN, Vocabulary

# Ġ is how a space is written.
PAIRS = Vocabulary(
    (*SPECIALS, *BYTES, "ab", "Ġab", "abc", "Ġabc"), ("a b", "Ġ ab", "ab c", "Ġab c")
)
PIECES = Vocabulary((*SPECIALS, UNKNOWN, "naph", "##tha", "##lene", ".", "東", "a", "##b"))


def pieces(vocabulary, text):
    return [vocabulary.tokens[token] for token in vocabulary.encode(text)]


def test_the_merges_are_applied_in_their_order():
    assert pieces(PAIRS, "abc abx cab") == ["abc", "Ġab", "x", "Ġ", "c", "ab"]


def test_the_longest_piece_is_taken_and_a_word_with_an_unknown_character_is_unknown():
    assert pieces(PIECES, "Naphthalène ab.") == ["naph", "##tha", "##lene", "a", "##b", "."]
    assert pieces(PIECES, "東a naphz") == ["東", "a", UNKNOWN]


@given(st.text())
def test_byte_pairs_give_every_text_back(text):
    ids = PAIRS.encode(text)
    assert PAIRS.decode(ids) == text
    assert all(token >= len(SPECIALS) for token in ids)


@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("vocabulary", [PAIRS, PIECES])
def test_no_text_becomes_a_special_token(vocabulary, special):
    assert all(token >= len(SPECIALS) for token in vocabulary.encode(f"a{special} {special}"))


def test_a_word_starts_at_white_space_and_punctuation_or_at_a_piece_that_continues_nothing():
    def starting(vocabulary, text):
        return [vocabulary.tokens[t] for t in vocabulary.encode(text) if vocabulary.starts[t]]

    assert starting(PAIRS, "ab\ncd (eé 1\x7f") == ["Ċ", "Ġ", "(", "Ġ", "ġ"]
    assert starting(PIECES, "naphthalene ab東.") == ["naph", "a", "東", "."]


@pytest.mark.parametrize("vocabulary", [PAIRS, PIECES])
def test_a_vocabulary_can_be_copied_and_sent(vocabulary):
    expected = vocabulary.encode("naphthalene abc.")
    for copied in (copy.deepcopy(vocabulary), pickle.loads(pickle.dumps(vocabulary))):
        assert copied == vocabulary
        assert copied.encode("naphthalene abc.") == expected


def test_it_is_made_of_the_columns_of_a_table():
    nulls = [None] * (len(SPECIALS) + len(BYTES))
    columns = {"token": list(PAIRS.tokens), "merge": [*nulls, *PAIRS.merges]}
    assert Vocabulary.of(columns) == PAIRS
    assert Vocabulary.of({"token": list(PIECES.tokens)}) == PIECES


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (("[PAD]", "a"), None, "in front"),
        ((*SPECIALS, UNKNOWN, "a", "a"), None, "no token twice"),
        ((*SPECIALS, UNKNOWN, ""), None, "without a character"),
        ((*SPECIALS, UNKNOWN, None), None, "without a character"),
        ((*SPECIALS, "a"), None, "lacks .'\\[UNK\\]'"),
        ((*SPECIALS, *BYTES[1:]), (), "lacks"),
        ((*SPECIALS, *BYTES, "ab"), ("a c",), "'a' and 'c'"),
        ((*SPECIALS, *BYTES, "ab"), ("ab",), "'ab' and ''"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tokens, merges, message):
    with pytest.raises(ConfigError, match=message):
        Vocabulary(tokens, merges)


def test_the_bytes_that_tokens_stand_for_are_those_of_the_text_unless_the_vocabulary_loses_some():
    for text in ("plain", "a  b\n", "灰色の猫 é 🙂", ""):
        for vocabulary in (Vocabulary.of_bytes(), PAIRS):
            assert vocabulary.bytes_of[vocabulary.encode(text)].sum() == len(text.encode())
    assert not PAIRS.bytes_of[: len(SPECIALS)].any()
    assert np.isnan(PIECES.bytes_of).all()
