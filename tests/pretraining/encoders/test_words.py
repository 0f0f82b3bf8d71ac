import pytest
import torch
import xxhash

from contracts.errors import ConfigError
from pretraining.codecs import column
from pretraining.encoders.words import Words, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red-brown dog, don't!", ["a", "red", "brown", "dog", "don", "t"]),
        ("Straße GRÜNE ﬁsh", ["strasse", "grüne", "fish"]),
        ("東京タワー 2024", ["東", "京", "タ", "ワ", "ー", "2024"]),
        ("हिन्दी शब्द", ["हिन्दी", "शब्द"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("cats ☂️ 5€", ["cats", "☂", "5", "€"]),
        (" \t\u200b ", []),
        ("\ud800x", ["x"]),
    ],
)
def test_a_text_falls_into_folded_words_in_any_script(text, words):
    assert words_of(text) == words


def test_tokens_are_a_start_the_hashes_of_the_words_and_padding():
    encoder = Words(width=8, heads=2, num_buckets=50, max_tokens=4)
    tokens = column(encoder.codec, ["Red dog", "", "one two three four five"])
    red, dog = (2 + xxhash.xxh3_64_intdigest(w) % 50 for w in (b"red", b"dog"))
    assert tokens.dtype == torch.int64
    assert tokens.shape == (3, 4)
    assert tokens[0].tolist() == [1, red, dog, 0]
    assert tokens[1].tolist() == [1, 0, 0, 0]
    assert (tokens[2] > 0).all()


@pytest.mark.parametrize("depth", [0, 2])
@torch.no_grad()
def test_a_text_has_the_same_vector_beside_any_other_and_an_empty_one_has_one_too(depth):
    encoder = Words(width=16, depth=depth, heads=2).eval()
    texts = ["", "a red dog", "words " * 30, "猫が二匹"]
    vectors = encoder(column(encoder.codec, texts))
    assert vectors.shape == (4, encoder.dim)
    assert torch.isfinite(vectors).all()
    for text, vector in zip(texts, vectors, strict=True):
        torch.testing.assert_close(encoder(column(encoder.codec, [text]))[0], vector)


@torch.no_grad()
def test_without_blocks_the_vector_is_the_mean_of_normed_embeddings_and_places():
    encoder = Words(width=8, depth=0, heads=2)
    tokens = column(encoder.codec, ["red dog"])
    words = encoder.embedding[tokens[0, :3]] + encoder.position[:3]
    torch.testing.assert_close(encoder(tokens)[0], encoder.norm(words).mean(0))


@torch.no_grad()
def test_blocks_let_a_word_depend_on_its_neighbours():
    bag, mixed = Words(width=16, heads=2), Words(width=16, depth=1, heads=2)

    def interaction(encoder):
        both, none, one, other = encoder(column(encoder.codec, ["x y", "a b", "x b", "a y"]))
        return (both + none - one - other).abs().max().item()

    assert interaction(bag) < 1e-5
    assert interaction(mixed) > 1e-3


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="width 10 is not a multiple of heads, 4"):
        Words(width=10, heads=4)


@pytest.mark.parametrize("depth", [0, 1])
@torch.no_grad()
def test_padding_says_nothing(depth):
    encoder = Words(width=16, depth=depth, heads=2).eval()
    tokens = column(encoder.codec, ["a red dog", ""])
    vectors = encoder(tokens)
    encoder.embedding[0] = 9.0
    assert torch.equal(encoder(tokens), vectors)
