import math

import pytest
import torch

from pretraining.build import Part, build
from pretraining.objectives.distillation import feature_loss
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of, encoder, made


def test_hand_numbers():
    learned = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    taught = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, -1.0]])
    # Cosines 1, 0 and -1: 0, 2 and 4.
    assert feature_loss(learned, taught).item() == pytest.approx(2)
    weighted = feature_loss(learned, taught, torch.tensor([1.0, 3.0, 0.0]))
    assert weighted.item() == pytest.approx(1.5)
    assert feature_loss(learned, taught, torch.zeros(3)).item() == 0


def test_a_naive_loop_gives_the_same_loss():
    rng = torch.Generator().manual_seed(0)
    learned, taught = (torch.randn(6, 5, generator=rng) for _ in range(2))
    weight = torch.rand(6, generator=rng)
    total = 0.0
    for u, v, w in zip(learned, taught, weight, strict=True):
        a, b = u / math.sqrt(float(u @ u)), v / math.sqrt(float(v @ v))
        total += float(w * ((a - b) ** 2).sum())
    found = feature_loss(learned, taught, weight)
    assert found.item() == pytest.approx(total / float(weight.sum()), rel=1e-5)


def test_the_teacher_is_never_trained_and_in_no_checkpoint():
    objective = made("distillation", first="vit")
    before = {n: t.clone() for n, t in objective.teacher.state_dict().items()}
    kept = []
    train(
        objective,
        lambda start: iter([batch_of(objective, seed=s) for s in range(start, 3)]),
        kept.append,
        steps=3,
        lr=0.01,
    )
    assert before
    for name, tensor in objective.teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not objective.teacher.training
    assert not [name for name in kept[-1].tensors if ".teacher" in name or "/teacher" in name]


def test_a_student_learns_an_offline_teacher_of_another_kind_of_record():
    """The teacher's vectors lie in a column, here the mean colour of the picture."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    colours = torch.randint(0, 256, (64, 3, 1, 1), dtype=torch.uint8, generator=rng)
    images = colours.expand(64, 3, 32, 32).contiguous()
    parts = {
        "student": Part(name="small_cnn", parameters={"width": 4, "side_px": 32}),
        "teacher": Part(name="vector", parameters={"of": "x", "dim": 3}),
    }
    objective = build("distillation", {}, parts, seed=0)
    assert objective.inputs == {"student": "image", "teacher": "column.x"}
    batch = {"image": images, "column.x": colours[:, :, 0, 0].float() - 128}
    done = train(objective, lambda start: iter([batch] * (60 - start)), steps=60, lr=0.01)
    assert done.losses[0] > 1
    assert done.losses[-1] < 0.3


def test_a_null_weight_counts_nothing():
    objective = made("distillation").eval()
    batch = batch_of(objective)
    moment = moment_at(0, 1, seed=0)
    batch["weight"] = torch.tensor([1.0] * 4 + [float("nan")] * 4)
    some = objective(batch, moment)["loss"]
    first = {name: values[:4] for name, values in batch.items()}
    torch.testing.assert_close(objective(first, moment)["loss"], some)


def test_teacher_and_student_of_one_codec_share_a_column():
    assert made("distillation", first="small_cnn").codecs.keys() == {"image"}
    other = encoder("small_cnn", side_px=32).codec
    parts = {
        "student": Part(name="small_cnn", parameters={"side_px": 64}),
        "teacher": Part(name="small_cnn", parameters={"side_px": 32}),
    }
    objective = build("distillation", {}, parts, seed=0)
    assert objective.inputs == {"student": "image", "teacher": "teacher.image"}
    assert objective.codecs["teacher.image"] == other
