import math

import pytest
import torch

from contracts.errors import DataError
from pretraining.build import build, roles_of
from pretraining.checkpoint import encoder_of, exported, predictor
from pretraining.codecs import column
from pretraining.objectives.pretrained_distillation import (
    PretrainedDistillation,
    soft_cross_entropy,
)
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of, made

TAUGHT = torch.tensor([[0.8, 0.2]])


def test_hand_numbers():
    assert soft_cross_entropy(torch.zeros(1, 2), TAUGHT).item() == pytest.approx(0.693147, abs=1e-6)
    same = soft_cross_entropy(TAUGHT.log() + 5, TAUGHT)
    assert same.item() == pytest.approx(0.500402, abs=1e-6)
    both = soft_cross_entropy(torch.cat([torch.zeros(1, 2), TAUGHT.log()]), TAUGHT.repeat(2, 1))
    assert both.item() == pytest.approx((0.693147 + 0.500402) / 2, abs=1e-6)


def test_a_naive_loop_gives_the_same_loss():
    rng = torch.Generator().manual_seed(0)
    logits, taught = 3 * torch.randn(6, 5, generator=rng), torch.rand(6, 5, generator=rng)
    taught /= taught.sum(1, keepdim=True)
    total = 0.0
    for said, wanted in zip(logits.tolist(), taught.tolist(), strict=True):
        whole = sum(math.exp(x) for x in said)
        total -= sum(p * math.log(math.exp(x) / whole) for x, p in zip(said, wanted, strict=True))
    assert soft_cross_entropy(logits, taught).item() == pytest.approx(total / 6, rel=1e-5)


def test_no_student_does_better_than_the_teacher_s_own_probabilities():
    taught = torch.softmax(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), 1)
    logits = taught.log().requires_grad_()
    soft_cross_entropy(logits, taught).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(4, 3), atol=1e-6, rtol=0)


def test_a_student_of_texts_learns_what_it_is_taught_and_predicts_it_after_export():
    objective = made("pretrained_distillation", {"classes": 2}, "words", seed=0)
    texts = [f"{'good' if n % 3 else 'bad'} word{n}" for n in range(24)]
    taught = torch.tensor([[0.1, 0.9] if n % 3 else [0.7, 0.3] for n in range(24)])
    batch = {"text": column(objective.codecs["text"], texts), "probabilities": taught}
    done = train(objective, lambda start: iter([batch] * (60 - start)), steps=60, lr=0.02)
    floor = -(taught * taught.log()).sum(1).mean().item()
    assert done.losses[0] > floor + 0.05
    assert floor <= done.losses[-1] < floor + 0.01
    again = predictor(exported(objective, {"steps": 60}))
    with torch.no_grad():
        said = again.predict({"text": column(again.codecs["text"], ["bad news", "good news"])})
    assert said["label"].tolist() == [0, 1]
    torch.testing.assert_close(said["probabilities"].sum(1), torch.ones(2))
    torch.testing.assert_close(
        said["probabilities"], torch.tensor([[0.7, 0.3], [0.1, 0.9]]), atol=0.1, rtol=0
    )


def test_a_student_begins_with_what_masked_words_taught_an_encoder():
    masked = made("mlm", first="text_transformer")
    asked = roles_of(PretrainedDistillation)["student"]
    part, weights = encoder_of(exported(masked, {"steps": 1}), "student", asked)
    student = build(
        "pretrained_distillation",
        {"classes": 2},
        {"student": part},
        seed=7,
        weights={"student": weights},
    ).student
    assert weights
    for name, tensor in masked.encoder.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name


def test_probabilities_of_another_number_of_classes_are_refused():
    objective = made("pretrained_distillation", {"classes": 3})
    with pytest.raises(DataError, match=r"columns\.probabilities: has 8 classes, but classes is 3"):
        objective(batch_of(objective), moment_at(0, 1, seed=0))
