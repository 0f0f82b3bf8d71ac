import math

import numpy as np
import pytest
import torch

from contracts.tokens import SPECIALS, START, UNKNOWN, Vocabulary
from pretraining.encoders.text_transformer import TextTransformer
from pretraining.parts.language import IGNORED, Causal, LanguageHead, language_loss, masked, words
from pretraining.parts.vocabulary import VocabularyCodec

PIECES = Vocabulary((*SPECIALS, UNKNOWN, "naph", "##tha", "##lene", "is", "a"))
CODEC = VocabularyCodec(PIECES, 8)
# naph ##tha ##lene is a naph, whose places are 1 to 6.
TOKENS = torch.from_numpy(CODEC.encode("naphthalene is a naph"))[None]


def draws(tokens, seed=3):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(*tokens.shape, 3, generator=rng)


def random_tokens(texts, length, size, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(len(SPECIALS), size, (texts, length), generator=rng)


def test_the_worked_loss():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0], [9.0] * 5])
    first, second = math.log(1 + 4 * math.exp(-2)), math.log(1 + 4 * math.exp(-1))
    assert first == pytest.approx(0.4327, abs=1e-4)
    loss = language_loss(logits, torch.tensor([0, 2, IGNORED]))
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert language_loss(logits, torch.full((3,), IGNORED)).item() == 0


@pytest.mark.parametrize("size", [5, 8_192])
def test_a_model_that_knows_nothing_costs_the_logarithm_of_the_vocabulary(size):
    logits = torch.full((3, 4, size), 0.7)
    labels = random_tokens(3, 4, size)
    assert language_loss(logits, labels).item() == pytest.approx(math.log(size), rel=1e-6)


def test_by_hand_one_token_is_masked_one_replaced_one_kept():
    given = torch.full((1, 8, 3), 0.9)
    given[0, 1:4, 0] = 0.1  # naph, ##tha and ##lene are chosen,
    given[0, 1:4, 1] = torch.tensor([0.21, 0.05, 0.15])  # masked, replaced, kept.
    given[0, 2, 2] = 0.99  # By the last token.
    given[0, 0, 0] = given[0, 7, 0] = 0.0  # The start and the separator never.
    corrupted, labels = masked(TOKENS, given, CODEC, mask_ratio=0.15)
    assert corrupted.tolist() == [[START, CODEC.mask, 9, 7, 8, 9, 5, 2]]
    assert labels.tolist() == [[IGNORED, 5, 6, 7, *[IGNORED] * 4]]


def test_of_10000_chosen_tokens_80_in_100_are_masked_10_replaced_and_10_kept():
    size = 1_000
    codec = VocabularyCodec(Vocabulary((*SPECIALS, UNKNOWN, *map(str, range(size - 5)))), 500)
    tokens = random_tokens(140, 500, size)
    corrupted, labels = masked(tokens, draws(tokens), codec, mask_ratio=0.15)
    chosen = labels != IGNORED
    number = int(chosen.sum())

    def within_3_sigma(count, of, share):
        return abs(int(count) - of * share) < 3 * math.sqrt(of * share * (1 - share))

    assert number > 10_000
    assert within_3_sigma(number, tokens.numel(), 0.15)
    assert within_3_sigma((corrupted[chosen] == codec.mask).sum(), number, 0.8)
    # One of a thousand replaced tokens is the token itself.
    kept = (corrupted == tokens) & chosen
    assert within_3_sigma(kept.sum(), number, 0.1 + 0.1 / (size - 4))
    replaced = corrupted[chosen & ~kept & (corrupted != codec.mask)]
    assert replaced.min() >= codec.specials
    assert len(replaced.unique()) > 500


@pytest.mark.parametrize("whole_words", [False, True])
def test_labels_are_the_tokens_where_a_text_was_corrupted_and_nowhere_else(whole_words):
    tokens = random_tokens(50, 20, CODEC.size)
    tokens[:, 0], tokens[:25, 12:] = START, CODEC.padding
    corrupted, labels = masked(
        tokens, draws(tokens), CODEC, mask_ratio=0.3, whole_words=whole_words
    )
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(corrupted[~chosen], tokens[~chosen])
    assert not chosen[tokens < CODEC.specials].any()
    assert (corrupted[chosen] != tokens[chosen]).any()


def test_every_text_has_a_label_but_an_empty_one():
    tokens = random_tokens(200, 4, CODEC.size)
    tokens[7] = torch.tensor([START, CODEC.separator, CODEC.padding, CODEC.padding])
    _, labels = masked(tokens, draws(tokens), CODEC, mask_ratio=1e-6)
    expected = torch.ones(200, dtype=torch.int64)
    expected[7] = 0
    assert torch.equal((labels != IGNORED).sum(1), expected)


def test_the_pieces_of_a_word_are_chosen_together_or_not_at_all():
    assert words(TOKENS, CODEC).tolist() == [[0, 1, 1, 1, 2, 3, 4, 5]]
    tokens = TOKENS.expand(10_000, -1)
    _, labels = masked(tokens, draws(tokens), CODEC, mask_ratio=0.15, whole_words=True)
    chosen = (labels != IGNORED)[:, 1:4]
    assert torch.equal(chosen.any(1), chosen.all(1))
    assert (chosen.any(1) & (labels[:, 6] != IGNORED)).any()


def test_after_a_special_token_any_token_begins_a_word():
    bytes_only = VocabularyCodec(Vocabulary.of_bytes(), 8)
    tokens = torch.from_numpy(bytes_only.encode("ab cd"))[None]
    assert words(tokens, bytes_only).tolist() == [[0, 1, 1, 2, 2, 2, 3, 4]]


@torch.no_grad()
def test_a_head_is_tied_to_the_embeddings_or_has_rows_of_its_own():
    encoder = TextTransformer(width=8, depth=1, heads=2, max_tokens=6)
    states = torch.randn(2, 3, 8)
    tied, own = (LanguageHead(encoder, tied=t) for t in (True, False))
    torch.testing.assert_close(tied(states, encoder), states @ encoder.embed.weight.T)
    torch.testing.assert_close(own(states, encoder), states @ own.weight.T)
    assert [name for name, _ in tied.named_parameters()] == ["bias"]


@torch.no_grad()
def test_no_token_looks_at_a_later_one():
    encoder = Causal(TextTransformer(width=8, depth=2, heads=2, max_tokens=6)).eval()
    tokens = torch.tensor([[1, 9, 8, 7, 6, 2], [1, 9, 8, 50, 60, 2]])
    first, second = encoder.tokens(tokens)
    torch.testing.assert_close(first[:3], second[:3])
    assert (first[3:] - second[3:]).abs().amax(1).min() > 1e-3
    assert encoder(tokens).shape == (2, encoder.dim)
    pooled = encoder.encoder.pool(encoder.tokens(tokens), tokens)
    np.testing.assert_array_equal(encoder(tokens), pooled)
