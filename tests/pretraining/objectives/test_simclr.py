import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from pretraining.objectives.simclr import nt_xent_loss
from pretraining.train import train
from tests.pretraining.made import made


def naive(first, second, temperature):
    views = [*first, *second]
    size = len(first)

    def similarity(u, v):
        cosine = float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))
        return math.exp(cosine / temperature)

    total = 0.0
    for i, view in enumerate(views):
        others = sum(similarity(view, views[k]) for k in range(2 * size) if k != i)
        total -= math.log(similarity(view, views[(i + size) % (2 * size)]) / others)
    return total / (2 * size)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.239545), (0.1, 9.0796e-5)])
def test_two_orthogonal_pairs_give_the_closed_form(temperature, expected):
    assert math.log(1 + 2 * math.exp(-1 / temperature)) == pytest.approx(expected, rel=1e-4)
    loss = nt_xent_loss(torch.eye(2), torch.eye(2), temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_the_loss_is_that_of_a_double_loop_and_ignores_lengths_and_order():
    first, second = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    loss = nt_xent_loss(first, second, temperature=0.3)
    assert loss.item() == pytest.approx(naive(first, second, 0.3), rel=1e-5)
    other = torch.tensor([4, 2, 0, 1, 3])
    moved = nt_xent_loss(second[other] * 5, first[other] / 3, temperature=0.3)
    torch.testing.assert_close(moved, loss)


def test_neighbours_of_unseen_digits_agree_more_after_training_than_before():
    digits = load_digits()
    grey = (digits.images * 15.9375).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = torch.from_numpy(grey)[:, None].repeat(1, 3, 1, 1)
    objective = made(
        "simclr",
        {"min_area_ratio": 0.5, "colour_strength": 0.0},
        "small_cnn",
        {"width": 8},
        seed=0,
    )

    def accuracy():
        objective.eval()
        with torch.no_grad():
            features = torch.nn.functional.normalize(objective.encoder(images)).numpy()
        known = KNeighborsClassifier(5).fit(features[:900], digits.target[:900])
        return known.score(features[900:], digits.target[900:])

    def batches_from(start):
        for step in range(start, 80):
            rows = torch.randperm(900, generator=torch.Generator().manual_seed(step))[:128]
            yield {"image": images[rows]}

    fresh = accuracy()
    train(objective, batches_from, steps=80, lr=3e-3, seed=0)
    assert accuracy() > fresh + 0.03, fresh
