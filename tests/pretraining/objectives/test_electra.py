import math

import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import Part, build
from pretraining.objectives import electra
from pretraining.objectives.electra import drawn, replaced_loss
from pretraining.train import moment_at
from tests.pretraining.made import batch_of, made

MOMENT = moment_at(1, 4, seed=0)
SMALL = {"width": 16, "depth": 1, "heads": 2, "max_tokens": 16}


def test_hand_numbers():
    scores = torch.tensor([[0.0, math.log(3), math.log(3), 9.0]])
    replaced = torch.tensor([[True, True, False, False]])
    judged = torch.tensor([[True, True, True, False]])
    # Probabilities 1/2, 3/4 and 1/4; the last token is special.
    expected = (math.log(2) - math.log(0.75) - math.log(0.25)) / 3
    assert replaced_loss(scores, replaced, judged).item() == pytest.approx(expected)
    assert replaced_loss(torch.zeros(1, 4), replaced, judged).item() == pytest.approx(0.693147)


def test_tokens_are_drawn_as_often_as_they_are_probable_and_special_ones_never():
    logits = torch.tensor([9.0, 9.0, 0.0, math.log(3), -torch.inf]).repeat(1000, 1)
    found = drawn(logits, (torch.arange(1000) + 0.5) / 1000, specials=2)
    assert found.bincount(minlength=5).tolist() == [0, 0, 250, 750, 0]
    ends = drawn(logits[:2], torch.tensor([0.0, 1 - 2**-24]), specials=2)
    assert ends.tolist() == [2, 3]


def test_a_drawn_token_that_is_the_texts_own_counts_as_original(monkeypatch):
    objective = made("electra")
    batch = batch_of(objective)
    seen = {}

    def loss(scores, replaced, judged):
        seen["replaced"], seen["judged"] = replaced, judged
        return replaced_loss(scores, replaced, judged)

    monkeypatch.setattr(electra, "replaced_loss", loss)
    special = batch["text"] < objective.generator.codec.specials
    with torch.no_grad():
        # A generator that always says the letter e: wherever that was, nothing is replaced.
        letter = objective.generator.codec.encode("e")[1]
        objective.head.bias[letter] = 1e4
    objective(batch, MOMENT)
    assert seen["replaced"].any()
    assert not (seen["replaced"] & (batch["text"] == letter)).any()
    assert torch.equal(seen["judged"], ~special)
    only = {"text": torch.where(special, batch["text"], letter)}
    assert objective(only, MOMENT)["generator"].item() == pytest.approx(0)
    assert not seen["replaced"].any()


def test_the_loss_is_both_and_the_discriminators_has_no_gradient_in_the_generator():
    objective = made("electra", {"weight": 7.0})
    batch = batch_of(objective)
    out = objective(batch, MOMENT)
    total = out["generator"] + 7 * out["discriminator"]
    torch.testing.assert_close(out["loss"].detach(), total)

    def gradients(weight):
        objective.zero_grad()
        objective.weight = weight
        objective(batch, moment_at(1, 4, seed=0))["loss"].backward()
        return [w.grad.clone() for w in objective.generator.parameters()]

    for with_it, without in zip(gradients(50.0), gradients(0.0), strict=True):
        assert torch.equal(with_it, without)
    hidden = made("electra", {"mask_ratio": 0.9})(batch, moment_at(1, 4, seed=0))
    assert hidden["discriminator"] != out["discriminator"]


def test_the_two_may_differ_in_size_but_not_in_what_they_read():
    def built(**generator):
        parts = {
            "generator": Part(name="text_transformer", parameters={**SMALL, **generator}),
            "discriminator": Part(name="text_transformer", parameters=SMALL),
        }
        return build("electra", {}, parts, seed=0)

    built(width=8)
    with pytest.raises(ConfigError) as refused:
        built(max_tokens=8)
    [problem] = refused.value.problems
    assert problem.key == "pretrain.discriminator"
    assert "otherwise than generator" in problem.message
