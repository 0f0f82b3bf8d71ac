import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from pretraining.objectives.mixed_barlow_twins import mixed_barlow_twins_loss, standardized
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of, made

SQUARE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
MIXED = torch.tensor([[1.0, 2.0], [2.0, 1.0], [-1.0, -2.0], [-2.0, -1.0]])
NEXT = torch.tensor([1, 0, 3, 2])
WEIGHTS = {"redundancy_weight": 1 / 128, "mixing_weight": 4.0}


def rows(count, size, seed):
    return torch.randn(count, 9, size, generator=torch.Generator().manual_seed(seed))


def naive(first, second, mixed, other, share, redundancy_weight, mixing_weight):
    def standard(vectors):
        columns = []
        for column in np.asarray(vectors, dtype=np.float64).T:
            mean = sum(column) / len(column)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
            columns.append([(x - mean) / deviation for x in column])
        return list(zip(*columns, strict=True))

    def correlation(u, v, d, e):
        return sum(u[i][d] * v[i][e] for i in range(len(u))) / len(u)

    a, b, m = standard(first), standard(second), standard(mixed)
    o = [b[i] for i in other]
    total = 0.0
    for d in range(len(a[0])):
        for e in range(len(a[0])):
            c = correlation(a, b, d, e)
            total += (c - 1) ** 2 if d == e else redundancy_weight * c**2
            for v in (a, b):
                wanted = share * correlation(a, v, d, e) + (1 - share) * correlation(o, v, d, e)
                error = correlation(m, v, d, e) - wanted
                total += redundancy_weight * mixing_weight * error**2
    return total


def test_equal_views_whose_numbers_are_unlike_cost_nothing():
    loss = mixed_barlow_twins_loss(
        SQUARE, SQUARE, SQUARE, NEXT, 0.5, redundancy_weight=1.0, mixing_weight=0.0
    )
    assert loss.item() == pytest.approx(0, abs=1e-10)


def test_the_worked_mixture():
    loss = mixed_barlow_twins_loss(SQUARE, SQUARE, MIXED, NEXT, 0.5, **WEIGHTS)
    assert loss.item() == pytest.approx(1.805267 * 4 / 128, abs=1e-6)


def test_the_loss_is_that_of_loops_and_ignores_the_order_of_the_batch():
    first, second, mixed = rows(3, 4, seed=0)
    other = torch.tensor([4, 2, 8, 0, 1, 7, 3, 6, 5])
    loss = mixed_barlow_twins_loss(first, second, mixed, other, 0.3, **WEIGHTS)
    expected = naive(first, second, mixed, other.tolist(), 0.3, **WEIGHTS)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    order = torch.tensor([5, 1, 0, 8, 2, 7, 3, 6, 4])
    place = order.argsort()
    moved = mixed_barlow_twins_loss(
        first[order], second[order], mixed[order], place[other[order]], 0.3, **WEIGHTS
    )
    torch.testing.assert_close(moved, loss)


def test_a_mixture_of_the_first_view_alone_adds_nothing():
    first, second = rows(2, 4, seed=1)
    other = torch.arange(9).flip(0)
    plain = mixed_barlow_twins_loss(
        first, second, first, other, 1.0, redundancy_weight=0.1, mixing_weight=0.0
    )
    mixed = mixed_barlow_twins_loss(
        first, second, first, other, 1.0, redundancy_weight=0.1, mixing_weight=9.0
    )
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize("detach", [True, False])
def test_a_detached_target_has_the_same_loss_and_another_gradient(detach):
    first, second, mixed = rows(3, 4, seed=2)
    other = torch.arange(9).roll(1)
    first.requires_grad_()

    def gradient(detach_target):
        loss = mixed_barlow_twins_loss(
            first, second, mixed, other, 0.5, **WEIGHTS, detach_target=detach_target
        )
        return loss.item(), torch.autograd.grad(loss, first)[0]

    (loss, kept), (same, cut) = gradient(False), gradient(True)
    assert loss == same
    assert not torch.allclose(kept, cut)
    objective = made("mixed_barlow_twins", {"detach_target": detach})
    assert objective.detach_target == detach


def test_numbers_that_do_not_vary_are_zeros_and_have_a_gradient():
    vectors = torch.ones(4, 3, requires_grad=True)
    standardized(vectors).sum().backward()
    assert standardized(vectors).abs().max() == 0
    assert torch.isfinite(vectors.grad).all()


def test_without_the_mixture_it_is_barlow_twins():
    losses = []
    for weight in (0.0, 4.0):
        objective = made("mixed_barlow_twins", {"mixing_weight": weight}, "vit")
        losses.append(objective(batch_of(objective), moment_at(0, 1, seed=0))["loss"])
    assert losses[1] > losses[0] + 0.01


def test_neighbours_of_unseen_digits_agree_more_after_training_than_before():
    digits = load_digits()
    grey = (digits.images * 15.9375).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = torch.from_numpy(grey)[:, None].repeat(1, 3, 1, 1)
    objective = made(
        "mixed_barlow_twins",
        {"min_area_ratio": 0.5, "colour_strength": 0.0, "dim": 64},
        "small_cnn",
        {"width": 8},
        seed=0,
    )

    @torch.no_grad()
    def accuracy():
        objective.eval()
        features = torch.nn.functional.normalize(objective.encoder(images)).numpy()
        known = KNeighborsClassifier(5).fit(features[:900], digits.target[:900])
        return known.score(features[900:], digits.target[900:])

    def batches_from(start):
        for step in range(start, 60):
            rows = torch.randperm(900, generator=torch.Generator().manual_seed(step))[:64]
            yield {"image": images[rows]}

    fresh = accuracy()
    train(objective, batches_from, steps=60, lr=3e-3, seed=0)
    assert accuracy() > fresh + 0.03, fresh
