import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from contracts.errors import ConfigError
from pretraining.build import Part, build
from pretraining.objectives.dino import dino_loss
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of, made


def softmax(row, temperature):
    powers = [math.exp(float(x) / temperature) for x in row]
    return [p / sum(powers) for p in powers]


def naive(learned, taught, student_temperature, teacher_temperature):
    costs = []
    for g, target in enumerate(taught):
        for v, view in enumerate(learned):
            if v == g:
                continue
            for t, s in zip(target, view, strict=True):
                p, q = softmax(t, teacher_temperature), softmax(s, student_temperature)
                costs.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    return sum(costs) / len(costs)


def test_a_student_that_knows_nothing_costs_the_logarithm_of_the_prototypes():
    taught = torch.tensor([0.9, 0.1]).log().expand(2, 1, 2)
    loss = dino_loss(torch.zeros(2, 1, 2), taught, student_temperature=0.1, teacher_temperature=1.0)
    assert loss.item() == pytest.approx(math.log(2))


def test_the_worked_value_and_views_of_the_teacher_are_not_compared_with_themselves():
    taught = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]]]).log()
    learned = torch.tensor([[[0.8, 0.2]], [[0.8, 0.2]], [[0.5, 0.5]]]).log()
    given = {"student_temperature": 1.0, "teacher_temperature": 1.0}
    alike = -0.9 * math.log(0.8) - 0.1 * math.log(0.2)
    loss = dino_loss(learned, taught, **given)
    assert alike == pytest.approx(0.361773, abs=1e-6)
    assert loss.item() == pytest.approx((alike + math.log(2)) / 2)


def test_the_loss_is_that_of_loops():
    rng = torch.Generator().manual_seed(0)
    learned = torch.randn(4, 3, 5, generator=rng)
    taught = torch.randn(2, 3, 5, generator=rng)
    loss = dino_loss(learned, taught, student_temperature=0.5, teacher_temperature=0.3)
    assert loss.item() == pytest.approx(naive(learned, taught, 0.5, 0.3), rel=1e-5)


def test_the_teachers_temperature_rises_and_stays():
    objective = made("dino", {"teacher_temperature": 0.07})
    found = [objective.temperature_at(p) for p in (0.0, 0.15, 0.3, 0.9)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_the_teacher_and_the_centre_move_after_a_step_and_not_before():
    objective = made("dino", {"teacher_momentum": 0.75, "centre_momentum": 0.5}, "vit")
    before = {n: w.clone() for n, w in objective.teacher.named_parameters()}
    moment = moment_at(0, 4, seed=0)
    objective(batch_of(objective), moment)["loss"].backward()
    assert all(weight.grad is None for weight in objective.teacher.parameters())
    assert objective.centre.mean.abs().max() == 0
    with torch.no_grad():
        for weight in objective.encoder.parameters():
            weight += 1
    objective.after_step(moment)
    moved = {n: w - before[n] for n, w in objective.teacher.named_parameters()}
    for name, by in moved.items():
        wanted = 0.25 if name.startswith("module.0.") else 0.0
        torch.testing.assert_close(by, torch.full_like(by, wanted), rtol=0, atol=1e-5)
    assert objective.centre.mean.abs().max() > 0


def test_a_teacher_begins_with_the_weights_that_its_student_begins_with():
    own = {"width": 16, "depth": 1, "heads": 2}
    weights = made("simclr", first="vit", own=own, seed=7).encoder.state_dict()
    parts = {"encoder": Part(name="vit", parameters=own)}
    objective = build("dino", {}, parts, seed=0, weights={"encoder": weights})
    for name, tensor in objective.teacher.module[0].state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_local_crops_are_half_as_large_or_as_told_and_fit_the_encoders_patches():
    assert made("dino").local_px == 32
    assert made("dino", {"local_px": 48}, "vit").local_px == 48
    with pytest.raises(ConfigError, match=r"pretrain.local_px: .* 12 x 12"):
        made("dino", {"local_px": 12}, "vit")


def test_neighbours_of_unseen_digits_agree_more_after_training_and_prototypes_tell_records_apart():
    digits = load_digits()
    grey = (digits.images * 15.9375).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = torch.from_numpy(grey)[:, None].repeat(1, 3, 1, 1)
    parameters = {
        "colour_strength": 0.0, "min_area_ratio": 0.4, "split_area_ratio": 0.7, "local_crops": 2,
        "prototypes": 256, "hidden": 64, "bottleneck": 32, "teacher_momentum": 0.97,
    }  # fmt: skip
    own = {"width": 8, "side_px": 32}
    objective = made("dino", parameters, "small_cnn", own, seed=0)

    @torch.no_grad()
    def accuracy_and_information():
        objective.eval()
        features = objective.encoder(images)
        unit = torch.nn.functional.normalize(features).numpy()
        known = KNeighborsClassifier(5).fit(unit[:900], digits.target[:900])
        chosen = (objective.head(features) / 0.1).softmax(1)
        mean = chosen.mean(0)
        information = (chosen * chosen.log()).sum(1).mean() - (mean * mean.log()).sum()
        return known.score(unit[900:], digits.target[900:]), information.item()

    def batches_from(start):
        for step in range(start, 80):
            rows = torch.randperm(900, generator=torch.Generator().manual_seed(step))[:64]
            yield {"image": images[rows]}

    accuracy, information = accuracy_and_information()
    train(objective, batches_from, steps=80, lr=3e-3, seed=0)
    trained, told = accuracy_and_information()
    assert trained > accuracy + 0.03
    assert information < 0.02
    assert told > 0.05
