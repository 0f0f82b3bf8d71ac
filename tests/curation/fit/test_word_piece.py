from __future__ import annotations

import polars as pl
import pytest
from tokenizers import BertWordPieceTokenizer

from contracts.errors import ConfigError, DataError
from contracts.tokens import SPECIALS, UNKNOWN, Vocabulary
from contracts.uid import uniform
from curation.fit.word_piece import word_piece

TEXTS = [
    "The cat sat on the mat, the other cat did not.",
    "That is the hat of the cat; it isn't theirs.",
    "Żółw i kot 東京 there, 1234 and 1234.\n\tThe end",
]


def frame(texts):
    return pl.DataFrame(
        {"uid": range(len(texts)), "text": texts}, schema={"uid": pl.UInt64, "text": pl.String}
    )


def vocabulary(texts, **parameters):
    return Vocabulary.of(word_piece(frame(texts), **parameters).to_dict(as_series=False))


def test_characters_come_first_and_then_the_most_frequent_pairs():
    # a ##b and ##b ##c are there twice, and a has the smaller id.
    table = word_piece(frame(["Abc, ábc; a"]))
    letters = [",", ";", "a", "b", "c", "##b", "##c"]
    assert table["token"].to_list() == [*SPECIALS, UNKNOWN, *letters, "ab", "abc"]


def test_it_splits_texts_nearly_as_the_librarys_own_tokeniser_that_was_trained_on_them():
    """Theirs breaks ties by the order of a hash map, so only frequent words are sure to agree."""
    theirs = BertWordPieceTokenizer()
    theirs.train_from_iterator(TEXTS * 10, vocab_size=200, show_progress=False)
    ours = vocabulary(TEXTS * 10, num_tokens=200)
    for text in TEXTS:
        found = [ours.tokens[token] for token in ours.encode(text)]
        assert found == theirs.encode(text, add_special_tokens=False).tokens


def test_every_word_that_was_seen_is_known_and_the_rarest_characters_are_not():
    ours = vocabulary(TEXTS)
    assert len(SPECIALS) not in ours.encode(" ".join(TEXTS))
    few = vocabulary(["aa aa bb bb c", "a b"], num_tokens=16)
    assert [few.tokens[t] for t in few.encode("aa bb c")] == ["aa", "bb", UNKNOWN]


def test_it_is_a_function_of_the_set_of_records():
    texts = [f"{word} {n} thing{n % 7}" for n, word in enumerate(" ".join(TEXTS).split() * 20)]
    expected = word_piece(frame(texts), num_tokens=150)
    assert expected.height == 150
    order = uniform(frame(texts)["uid"].to_numpy(), 0, "shuffle").argsort()
    for shuffled in (texts, texts[::-1], [texts[n] for n in order]):
        assert word_piece(frame(shuffled), num_tokens=150).equals(expected)


@pytest.mark.parametrize("texts", [[], [None], ["", " \n"]])
def test_there_is_no_vocabulary_of_no_words(texts):
    with pytest.raises(DataError, match="no word"):
        word_piece(frame(texts))


def test_a_vocabulary_has_room_for_characters():
    with pytest.raises(ConfigError, match="greater than or equal to 16"):
        word_piece(frame(TEXTS), num_tokens=15)
