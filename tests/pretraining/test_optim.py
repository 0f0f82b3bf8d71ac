import numpy as np
import pytest
import torch
from torch import nn

from pretraining.groups import groups
from pretraining.optim import optimizer

KEEP, SKIP = torch.zeros(()), torch.ones(())


class Pair(nn.Module):
    """A matrix, a vector, a scalar and a frozen weight."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
        self.vector = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def run(name, gradients, *, lr, decay):
    module = Pair()
    update = optimizer(name, groups(module))
    for by_name in gradients:
        for weight, gradient in by_name.items():
            getattr(module, weight).grad = torch.tensor(gradient)
        update.step(lr, decay, KEEP)
    return module, update


GRADIENTS = [
    {"matrix": [[0.1, 0.2], [-0.3, 0.0]], "vector": [1.0, -2.0], "scalar": 0.5},
    {"matrix": [[0.4, -0.2], [0.3, 0.0]], "vector": [0.0, 2.0], "scalar": -0.5},
    {"matrix": [[-0.1, 0.2], [0.1, 1.0]], "vector": [1.0, 1.0], "scalar": 0.1},
]


def test_adamw_follows_algorithm_2_and_decays_matrices_only():
    module, _ = run("adamw", GRADIENTS, lr=0.1, decay=0.5)
    for name in ("matrix", "vector", "scalar"):
        weight = getattr(Pair(), name).detach().numpy().astype(np.float64)
        mean = square = np.zeros_like(weight)
        for t, by_name in enumerate(GRADIENTS, start=1):
            gradient = np.array(by_name[name])
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.98 * square + 0.02 * gradient**2
            step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.98**t)) + 1e-6)
            weight = weight - 0.1 * ((0.5 if name == "matrix" else 0) * weight + step)
        np.testing.assert_allclose(getattr(module, name).detach(), weight, rtol=1e-5)


def test_sgd_keeps_momentum_and_decays_matrices_only():
    module, _ = run("sgd", GRADIENTS, lr=0.1, decay=0.5)
    for name in ("matrix", "vector", "scalar"):
        weight = getattr(Pair(), name).detach().numpy().astype(np.float64)
        momentum = np.zeros_like(weight)
        for by_name in GRADIENTS:
            decay = 0.5 * weight if name == "matrix" else 0
            momentum = 0.9 * momentum + np.array(by_name[name]) + decay
            weight = weight - 0.1 * momentum
        np.testing.assert_allclose(getattr(module, name).detach(), weight, rtol=1e-5)


def test_frozen_weights_and_weights_without_gradient_stay_as_they_are():
    module, update = run("adamw", [{"vector": [1.0, 1.0]}], lr=0.1, decay=0.5)
    assert torch.equal(module.matrix, Pair().matrix)
    assert torch.equal(module.frozen, torch.ones(2, 2))
    assert not any(key.startswith("frozen") for key in update.state)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_group_goes_its_share_of_the_way(name):
    slow, fast = Pair(), Pair()
    for module, multipliers in ((slow, {"vector": 0.25}), (fast, {})):
        update = optimizer(name, groups(module, lr_multipliers=multipliers))
        module.vector.grad = torch.tensor([2.0, -4.0])
        update.step(0.1, 0.0, KEEP)
    way = (fast.vector - Pair().vector).detach()
    torch.testing.assert_close((slow.vector - Pair().vector).detach(), 0.25 * way)
    assert way.abs().min() > 0.01


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_step_that_is_skipped_leaves_weights_and_state_as_they_are(name):
    module, update = run(name, GRADIENTS[:2], lr=0.1, decay=0.5)
    before = {key: value.clone() for key, value in {**module.state_dict(), **update.state}.items()}
    for weight in (module.matrix, module.vector, module.scalar):
        weight.grad = torch.full_like(weight, float("nan"))
    update.step(0.1, 0.5, SKIP)
    after = {**module.state_dict(), **update.state}
    assert all(torch.equal(after[key], value) for key, value in before.items())
