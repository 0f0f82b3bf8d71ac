import math

import pytest
import torch

from contracts.errors import ConfigError, DataError
from pretraining.build import Part, build, roles_of
from pretraining.checkpoint import encoder_of, exported, head_of
from pretraining.objectives.salt import Salt, soft_loss
from pretraining.parts.language import IGNORED, language_loss, next_tokens
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of, made

SMALL = {"width": 8, "depth": 1, "heads": 2, "max_tokens": 16}


def taught(**parameters):
    """Return a model whose head has a bias, and an objective that it teaches."""
    model = made("clm", parameters)
    with torch.no_grad():
        model.head.bias.uniform_(-3, 3)
    data = exported(model, {})
    part, weights = encoder_of(data, "teacher", roles_of(Salt)["teacher"])
    student = Part(name="text_transformer", parameters=SMALL)
    objective = build(
        "salt", {"stage_ratio": 0.5}, {"student": student, "teacher": part}, seed=0,
        weights={"teacher": weights}, heads={"teacher": head_of(data)},
    )  # fmt: skip
    return model, objective


def test_hand_numbers():
    student = torch.tensor([[[0.8, 0.2]]]).log()
    label = torch.tensor([[0]])
    hard = language_loss(student, label)
    soft = soft_loss(student, torch.tensor([[[0.9, 0.1]]]).log(), label, temperature=1)
    assert hard.item() == pytest.approx(0.223144, abs=1e-6)
    assert soft.item() == pytest.approx(0.361773, abs=1e-6)
    assert (hard / 3 + soft * 2 / 3).item() == pytest.approx(0.315563, abs=1e-6)
    # Logits 1 and 0 at temperature 0.25 are a probability of 0.982014; the second is padding.
    pair, labels = student.expand(1, 2, 2), torch.tensor([[1, IGNORED]])
    sharp = soft_loss(pair, torch.tensor([[[1.0, 0.0], [5.0, 5.0]]]), labels, temperature=0.25)
    expected = -0.982014 * math.log(0.8) - 0.017986 * math.log(0.2)
    assert sharp.item() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_the_teacher_says_what_it_said_as_a_model_of_its_own():
    model, objective = taught()
    tokens = batch_of(objective)["text"]
    alone, _ = next_tokens(model.encoder, model.head, tokens)
    here, _ = next_tokens(objective.teacher, objective.teacher_head, tokens)
    assert torch.equal(here, alone)


@torch.no_grad()
def test_it_is_followed_until_the_stage_ends_and_then_not_run():
    _, objective = taught()
    batch = batch_of(objective)
    logits, labels = next_tokens(objective.student, objective.head, batch["text"])
    says, _ = next_tokens(objective.teacher, objective.teacher_head, batch["text"])
    own = language_loss(logits, labels)
    both = own / 3 + soft_loss(logits, says, labels, temperature=0.25) * 2 / 3
    objective.teacher_weight = 2 / 3
    found = [objective(batch, moment_at(step, 4, seed=0))["loss"] for step in (0, 1)]
    torch.testing.assert_close(found, [both, both])
    objective.teacher = None
    assert [objective(batch, moment_at(step, 4, seed=0))["loss"] for step in (2, 3)] == [own, own]


def test_teacher_and_head_stay_as_they_are_and_are_in_no_checkpoint():
    _, objective = taught()
    before = {n: w.clone() for n, w in objective.named_parameters()}
    batches = [batch_of(objective, seed=step) for step in range(4)]
    done = train(objective, lambda start: iter(batches[start:]), steps=4, lr=0.01)
    for name, weight in objective.named_parameters():
        assert torch.equal(weight, before[name]) == name.startswith("teacher"), name
    assert not [name for name in done.checkpoint.tensors if "/teacher" in name]
    assert not [name for name in done.checkpoint.tensors if name.startswith("teacher")]


def test_a_teacher_without_its_head_or_with_one_of_its_own_rows_is_refused():
    with pytest.raises(DataError, match=r"pretrain\.teacher"):
        taught(tied=False)
    with pytest.raises(ConfigError, match=r"the heads \[\]"):
        head_of(exported(made("mlm"), {}))
