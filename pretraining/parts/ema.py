"""A teacher that follows its student: an exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from pretraining.schedules import half_cosine


class Ema(nn.Module):
    """A copy of a module, without gradient, that is moved towards it after each step.

    Buffers are its own: its batch norms see the batches that it is given.

    Reference: Tarvainen and Valpola 2017, arXiv:1703.01780, equation 2.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *given: Any) -> Any:
        """Return what the copy makes of it."""
        return self.module(*given)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Make each weight `momentum` of itself and the rest of the student's."""
        pairs = zip(self.module.parameters(), student.parameters(), strict=True)
        for weight, other in pairs:
            weight.lerp_(other, 1 - momentum)


def momentum_at(progress: float, momentum: float) -> float:
    """Return the momentum on half a cosine from the first one to 1, where the teacher stands.

    Reference: Grill et al. 2020, arXiv:2006.07733, section 3.3.
    """
    return half_cosine(momentum, 1.0, progress)
