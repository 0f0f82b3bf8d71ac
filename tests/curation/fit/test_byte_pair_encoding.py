from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from contracts.errors import ConfigError
from contracts.tokens import BYTES, SPECIALS, Vocabulary
from contracts.uid import uniform
from curation.fit.byte_pair_encoding import byte_pair_encoding

TEXTS = [
    "the cat sat on the mat, the other cat did not",
    "That is the hat of the cat; it isn't théirs.",
    "Żółw i kot 東京 there, 1234 and 1234.\n\tthe end",
]


def frame(texts):
    return pl.DataFrame(
        {"uid": range(len(texts)), "text": texts}, schema={"uid": pl.UInt64, "text": pl.String}
    )


def vocabulary(texts, **parameters):
    table = byte_pair_encoding(frame(texts), **parameters)
    return Vocabulary.of(table.to_dict(as_series=False))


LEARNED = vocabulary(TEXTS)


def test_the_most_frequent_pair_is_joined_first_and_a_tie_goes_to_the_smaller_ids():
    # ab 3 times; then Ġ ab and ab c, 2 each, of which Ġ is written above and c below ab.
    table = byte_pair_encoding(frame(["ab abc", "abc"]), num_tokens=262)
    assert table["token"].to_list() == [*SPECIALS, *BYTES, "ab", "abc"]
    assert table["merge"].to_list() == [None] * 260 + ["a b", "ab c"]
    assert byte_pair_encoding(frame(["ab", "cd", "ab", "cd"]))["merge"][260] == "a b"


@given(st.text())
def test_any_text_is_given_back(text):
    assert LEARNED.decode(LEARNED.encode(text)) == text


def test_it_splits_texts_as_the_librarys_own_tokeniser_that_was_trained_on_them():
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator(TEXTS, vocab_size=400, show_progress=False)
    ours = vocabulary(TEXTS, num_tokens=404)
    for text in [*TEXTS, "other théatre 12345 tokyo"]:
        assert [ours.tokens[token] for token in ours.encode(text)] == theirs.encode(text).tokens


def test_it_is_a_function_of_the_set_of_records():
    texts = [f"{word} {n} thing{n % 7}" for n, word in enumerate(" ".join(TEXTS).split() * 20)]
    expected = byte_pair_encoding(frame(texts), num_tokens=400)
    order = uniform(frame(texts)["uid"].to_numpy(), 0, "shuffle").argsort()
    for shuffled in (texts[::-1], [texts[n] for n in order]):
        assert byte_pair_encoding(frame(shuffled), num_tokens=400).equals(expected)


def test_without_text_there_are_the_bytes():
    for texts in ([], [None, ""]):
        assert vocabulary(texts).tokens == (*SPECIALS, *BYTES)


def test_there_is_no_vocabulary_without_the_bytes():
    with pytest.raises(ConfigError, match="greater than or equal to 260"):
        byte_pair_encoding(frame(TEXTS), num_tokens=259)
