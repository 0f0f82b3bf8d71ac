"""The optimizers, and which weights they decay."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

Name = Literal["adamw", "sgd"]


def optimizer(module: nn.Module, *, name: Name, lr: float, weight_decay: float) -> Optimizer:
    """Return AdamW, or SGD with momentum 0.9; matrices decay, vectors and scalars do not.

    So biases, norms and temperatures are free.

    Reference: Loshchilov and Hutter 2019, arXiv:1711.05101 (AdamW); the betas and epsilon are
        those of Radford et al. 2021, arXiv:2103.00020, table 19.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return SGD(groups, lr=lr, momentum=0.9)
    return AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def state_of(optimizer: Optimizer, module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as `<weight>/<entry>` to tensor."""
    return {
        f"{name}/{entry}": value
        for name, weight in module.named_parameters()
        for entry, value in optimizer.state.get(weight, {}).items()
        if value is not None
    }


def restore_state(
    optimizer: Optimizer, module: nn.Module, state: dict[str, torch.Tensor]
) -> None:
    """Put back what `state_of` returned, each tensor laid out in memory as its weight is."""
    weights = dict(module.named_parameters())
    for key, value in state.items():
        name, entry = key.rsplit("/", 1)
        weight = weights[name]
        like = weight if value.shape == weight.shape else value
        optimizer.state[weight][entry] = torch.empty_like(like).copy_(value).detach()
