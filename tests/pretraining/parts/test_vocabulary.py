import numpy as np

from contracts.tokens import MASK, PADDING, SEPARATOR, SPECIALS, START, UNKNOWN, Vocabulary
from pretraining.parts.vocabulary import VocabularyCodec

PIECES = Vocabulary((*SPECIALS, UNKNOWN, "red", "do", "##g"))


def test_a_text_is_a_start_its_tokens_a_separator_and_padding():
    codec = VocabularyCodec(PIECES, 7)
    assert codec.encode("Red dog").tolist() == [START, 5, 6, 7, SEPARATOR, PADDING, PADDING]
    assert codec.encode("").tolist() == [START, SEPARATOR, *[PADDING] * 5]
    assert codec.encode("").dtype == codec.dtype == np.int64
    assert codec.shape == (7,)


def test_a_longer_text_is_cut_and_has_no_separator():
    assert VocabularyCodec(PIECES, 4).encode("red dog red").tolist() == [START, 5, 6, 7]
    assert VocabularyCodec(PIECES, 4).encode("red dog").tolist() == [START, 5, 6, 7]
    assert VocabularyCodec(PIECES, 4).encode("dog").tolist() == [START, 6, 7, SEPARATOR]


def test_codecs_of_one_vocabulary_and_length_are_equal_and_know_what_their_tokens_are():
    codec = VocabularyCodec(PIECES, 7)
    assert codec == VocabularyCodec(Vocabulary(PIECES.tokens), 7)
    assert codec != VocabularyCodec(PIECES, 8)
    assert codec != VocabularyCodec(Vocabulary.of_bytes(), 7)
    assert codec.size == 8
    assert {codec.padding, codec.separator, codec.mask, START} == set(range(codec.specials))
    assert (codec.padding, codec.mask) == (PADDING, MASK)
    assert codec.starts.tolist() == [True] * 7 + [False]


def test_the_bytes_need_no_training():
    codec = VocabularyCodec(Vocabulary.of_bytes(), 9)
    assert codec.size == len(SPECIALS) + 256
    tokens = codec.encode("é 東")
    assert (tokens >= codec.specials).sum() == len("é 東".encode())
    assert codec.vocabulary.decode(tokens[tokens >= codec.specials]) == "é 東"


def test_continuations_stand_after_the_end_of_a_text_which_is_the_same_before_all() -> None:
    codec = VocabularyCodec(Vocabulary.of_bytes(), 8)

    def row(text: str) -> list[int]:
        return [1, *codec.vocabulary.encode(text), *[0] * (7 - len(text))]

    assert codec.continued("abc", ["d", "ef"]).tolist() == [row("abc"), row("abcd"), row("abcef")]
    found = codec.continued("abcdefgh", ["i", "jkl"])
    assert found.tolist() == [row("efgh"), row("efghi"), row("efghjkl")]
    assert codec.continued("abc", ["defghijk"]).tolist() == [row(""), row("defghij")]
    assert codec.continued("", ["a"]).tolist() == [row(""), row("a")]
