"""The optimizers.

They call the functional forms of torch's: the classes of `torch.optim` import the compiler when
the first is made, which takes longer than importing the rest of torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from pretraining.groups import Group

Name = Literal["adamw", "sgd"]


class Optimizer(Protocol):
    """Changes the weights of groups by their gradients.

    Attributes:
        state: all that it remembers, `<weight>/<entry>` to tensor; changed in place.
    """

    state: dict[str, Tensor]

    def step(self, lr: float, weight_decay: float, skip: Tensor) -> None:
        """Update every weight that has a gradient, at this rate times its group's multiplier.

        Args:
            lr: the rate.
            weight_decay: of the groups that decay.
            skip: float32 (), on the device of the weights: nothing is changed where it is 1.
        """
        ...


class AdamW:
    """Adam with decoupled weight decay.

    Reference: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; betas and epsilon as in
        Radford et al. 2021, arXiv:2103.00020, table 19.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.state: dict[str, Tensor] = {}
        for group in groups:
            for name, weight in group.weights.items():
                self.state[f"{name}/mean"] = torch.zeros_like(weight)
                self.state[f"{name}/square"] = torch.zeros_like(weight)
                self.state[f"{name}/step"] = torch.zeros((), device=weight.device)

    def step(self, lr: float, weight_decay: float, skip: Tensor) -> None:
        """Update every weight that has a gradient, at this rate times its group's multiplier."""
        for group in self.groups:
            names, having, gradients = _with_gradient(group.weights)
            adamw(
                having,
                gradients,
                [self.state[f"{name}/mean"] for name in names],
                [self.state[f"{name}/square"] for name in names],
                [],
                [self.state[f"{name}/step"] for name in names],
                fused=True,
                found_inf=skip,
                amsgrad=False,
                beta1=0.9,
                beta2=0.98,
                lr=lr * group.lr_multiplier,
                weight_decay=weight_decay if group.decays else 0.0,
                eps=1e-6,
                maximize=False,
            )


class Sgd:
    """Stochastic gradient descent with momentum 0.9; the decay is added to the gradient.

    Reference: Sutskever et al. 2013, ICML, section 2, in the form without dampening.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.state: dict[str, Tensor] = {
            f"{name}/momentum": torch.zeros_like(weight)
            for group in groups
            for name, weight in group.weights.items()
        }

    def step(self, lr: float, weight_decay: float, skip: Tensor) -> None:
        """Update every weight that has a gradient, at this rate times its group's multiplier."""
        for group in self.groups:
            names, having, gradients = _with_gradient(group.weights)
            sgd(
                having,
                gradients,
                [self.state[f"{name}/momentum"] for name in names],
                fused=True,
                found_inf=skip,
                weight_decay=weight_decay if group.decays else 0.0,
                momentum=0.9,
                lr=lr * group.lr_multiplier,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )


def optimizer(name: Name, groups: Sequence[Group]) -> Optimizer:
    """Return an optimizer for the weights of the groups."""
    return AdamW(groups) if name == "adamw" else Sgd(groups)


def _with_gradient(
    weights: Mapping[str, nn.Parameter],
) -> tuple[list[str], list[Tensor], list[Tensor]]:
    names = [name for name, weight in weights.items() if weight.grad is not None]
    gradients = [weight.grad for weight in weights.values() if weight.grad is not None]
    return names, [weights[name] for name in names], gradients
