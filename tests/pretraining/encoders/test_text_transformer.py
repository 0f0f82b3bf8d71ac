import pytest
import torch

from contracts.errors import ConfigError
from contracts.tokens import BYTES, SPECIALS, Vocabulary
from pretraining.codecs import column
from pretraining.encoders.text_transformer import TextTransformer

SMALL = {"width": 16, "depth": 2, "heads": 2, "max_tokens": 12}
TABLE = {
    "token": [*SPECIALS, *BYTES, "re", "red"],
    "merge": [*[None] * (len(SPECIALS) + len(BYTES)), "r e", "re d"],
}


def test_the_table_of_a_fit_is_its_vocabulary_and_without_one_the_bytes_are():
    encoder = TextTransformer(**SMALL, vocabulary=TABLE)
    assert encoder.codec.vocabulary == Vocabulary.of(TABLE)
    assert encoder.embed.weight.shape == (262, 16)
    assert encoder.codec.encode("red").tolist()[:4] == [1, 261, 2, 0]
    plain = TextTransformer(**SMALL)
    assert plain.codec.vocabulary == Vocabulary.of_bytes()
    assert plain.embed.weight.shape == (260, 16)


@torch.no_grad()
def test_a_text_has_the_same_vector_beside_any_other_and_an_empty_one_has_one_too():
    encoder = TextTransformer(**SMALL).eval()
    texts = ["", "a red dog", "words " * 30, "猫が二匹"]
    vectors = encoder(column(encoder.codec, texts))
    assert vectors.shape == (4, encoder.dim)
    assert torch.isfinite(vectors).all()
    for text, vector in zip(texts, vectors, strict=True):
        torch.testing.assert_close(encoder(column(encoder.codec, [text]))[0], vector)


@torch.no_grad()
def test_padding_changes_nothing_and_the_order_of_tokens_does():
    short, long = TextTransformer(**SMALL).eval(), TextTransformer(**{**SMALL, "max_tokens": 20})
    short.load_state_dict({**long.state_dict(), "position": long.position[:12]})
    text = "a red dog"
    expected = long.eval()(column(long.codec, [text]))
    torch.testing.assert_close(short(column(short.codec, [text])), expected)
    other = short(column(short.codec, ["a dog red"]))
    assert (other - expected).abs().max() > 1e-3


def test_a_width_that_heads_do_not_divide_and_a_table_that_is_no_vocabulary_are_refused():
    with pytest.raises(ConfigError, match="multiple of heads"):
        TextTransformer(width=10, heads=4)
    with pytest.raises(ConfigError, match="in front"):
        TextTransformer(**SMALL, vocabulary={"token": ["a", "b"]})
    with pytest.raises(ConfigError, match="column `token`"):
        TextTransformer(**SMALL, vocabulary={"centroid": ["a", "b"]})
