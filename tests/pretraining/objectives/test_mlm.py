import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import roles_of
from pretraining.encoders.text_transformer import TextTransformer
from pretraining.encoders.words import Words
from pretraining.objectives.mlm import Mlm
from pretraining.parts.language import IGNORED, language_loss, masked
from pretraining.train import moment_at
from tests.pretraining.made import batch_of, made


@torch.no_grad()
def test_the_loss_is_that_of_the_chosen_tokens_alone():
    objective = made("mlm", {"mask_ratio": 0.4}).eval()
    batch = batch_of(objective)
    loss = objective(batch, moment_at(0, 4, seed=0))["loss"]
    [tokens] = batch.values()
    draws = moment_at(0, 4, seed=0).rand(*tokens.shape, 3)
    corrupted, labels = masked(tokens, draws, objective.encoder.codec, mask_ratio=0.4)
    states = objective.transform(objective.encoder.tokens(corrupted))
    logits = states @ objective.encoder.embed.weight.T + objective.head.bias
    assert 0 < (labels != IGNORED).sum() < labels.numel()
    torch.testing.assert_close(loss, language_loss(logits, labels))


@pytest.mark.parametrize("tied", [True, False])
def test_its_parameters_reach_it(tied):
    parameters = {"random_ratio": 0.0, "kept_ratio": 0.0, "whole_words": True, "tied": tied}
    objective = made("mlm", parameters)
    assert (objective.head.weight is None) == tied
    chosen = {}

    def tokens(given, **_):
        chosen["tokens"] = given
        return type(objective.encoder).tokens(objective.encoder, given)

    objective.encoder.tokens = tokens
    batch = batch_of(objective)
    objective(batch, moment_at(0, 4, seed=0))
    changed = chosen["tokens"] != batch["text"]
    assert (chosen["tokens"][changed] == objective.encoder.codec.mask).all()
    assert changed.any()


def test_more_than_all_cannot_be_replaced_or_stay():
    with pytest.raises(ConfigError, match=r"0.95 \+ 0.1"):
        made("mlm", {"random_ratio": 0.95})


def test_an_encoder_of_hashed_words_is_no_language_encoder():
    [role] = roles_of(Mlm).values()
    assert role.misfit(TextTransformer(width=8, depth=1, heads=2)) is None
    missing = "bytes_of, mask, padding, separator, size, specials, starts"
    assert role.misfit(Words(width=8, heads=2)) == f"has no {missing}, which TokenCodec asks for"
