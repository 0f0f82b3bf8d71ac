"""Fine-tuning, on problems that its encoder alone can solve, and against a loop by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from contracts.errors import DataError
from evaluation.features import Items
from evaluation.protocols.finetune import finetune


class Small(nn.Module):
    """Two products with a rectifier between them, the same weights at each call."""

    def __init__(self, *, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(2, width, generator=generator))
        self.second = nn.Parameter(torch.randn(width, 4, generator=generator) / width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_B2: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.relu(x_B2 @ self.first)) @ self.second


def rings(count: int, seed: int) -> Items:
    """Points of a disc and of a ring around it: two classes that no line divides."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), 1 + label + 0.2 * rng.random(count)
    x_N2 = (radius * np.array([np.cos(angle), np.sin(angle)])).T
    return Items(x_N2.astype(np.float32), label)


class Straight(Small):
    """The same, without the rectifier."""

    def forward(self, x_B2: torch.Tensor) -> torch.Tensor:
        return x_B2 @ self.first @ self.second


def test_the_encoder_is_trained_and_not_the_head_alone() -> None:
    train, test = rings(400, 0), rings(400, 1)
    assert finetune(Small, train, test, lr=3e-2)["accuracy"].value > 0.95
    assert finetune(Straight, train, test, lr=3e-2)["accuracy"].value < 0.65
    frozen = finetune(lambda: _frozen(), train, test, lr=3e-2)["accuracy"].value
    assert frozen > 0.95, "weights that were frozen in training are free here"


def _frozen() -> nn.Module:
    module = Small()
    for weight in module.parameters():
        weight.requires_grad_(False)
    return module


def test_labels_that_say_nothing_teach_nothing() -> None:
    train, test = rings(400, 0), rings(400, 1)
    wrong = Items(train.x_N, np.random.default_rng(2).permutation(train.y_N))
    found = finetune(Small, wrong, test, lr=3e-2)["accuracy"].value
    assert abs(found - 0.5) < 3 * np.sqrt(0.25 / 400)


def test_one_step_is_that_of_the_cross_entropy_under_adamw() -> None:
    """At the first step Adam moves a weight by the rate, against its gradient's sign."""
    train = Items(np.array([[1.0, 0], [0, 2]], dtype=np.float32), [0, 1])
    encoder = Small()
    found = finetune(lambda: encoder, train, train, lr=0.5, steps=1, batch=2)
    assert found["accuracy"].value == 1
    # The head begins at zero, so the encoder's first gradient is zero: it only decays.
    assert torch.allclose(encoder.first, Small().first * (1 - 0.5 * 0.01))


def test_the_rate_with_the_smallest_loss_on_what_is_put_aside_is_taken_and_said() -> None:
    found = finetune(Small, rings(200, 0), rings(100, 1))
    assert found["lr"].value == 3e-3
    assert found["lr"].higher_is_better is None
    given = finetune(Small, rings(200, 0), rings(100, 1), lr=3e-3)
    assert given == found


def test_it_is_a_function_of_its_seed_whatever_was_drawn_before() -> None:
    def found(seed: int) -> float:
        torch.rand(seed + 3)
        scored = finetune(
            lambda: Small(dropout=0.5), rings(100, 0), rings(500, 1), lr=1e-2, steps=20, seed=seed
        )
        return scored["accuracy"].value

    before = torch.random.get_rng_state()
    finetune(Small, rings(100, 0), rings(10, 1), lr=1e-2, steps=1)
    assert (torch.random.get_rng_state() == before).all()
    assert found(0) == found(0)
    assert len({found(seed) for seed in range(3)}) > 1


def test_a_rate_under_which_nothing_stays_finite_is_not_chosen() -> None:
    class Exploding(Small):
        def forward(self, x_B2: torch.Tensor) -> torch.Tensor:
            far = (self.first - Small().first.detach()).abs().max() > 0.01
            return super().forward(x_B2) * (float("nan") if far else 1.0)

    assert finetune(Exploding, rings(100, 0), rings(10, 1), steps=30)["lr"].value < 3e-3


def test_a_given_rate_under_which_nothing_stays_finite_is_no_score_but_an_error() -> None:
    with pytest.raises(DataError, match=r"at lr = 1e\+30 diverged\. Set a smaller lr"):
        finetune(Small, rings(20, 0), rings(20, 1), lr=1e30, steps=3)


def test_one_class_or_too_few_items_are_refused() -> None:
    x_N2 = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    with pytest.raises(DataError, match="only the label 1"):
        finetune(Small, Items(x_N2, [1] * 6), Items(x_N2, [1] * 6))
    few = Items(x_N2, [0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match="too few to choose lr on"):
        finetune(Small, few, few)
    with pytest.raises(DataError, match="6 items, but 2 labels"):
        Items(x_N2, [0, 1])
