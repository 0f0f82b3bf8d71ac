"""The batch as a whole, where several processes have rows of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from pretraining import ranks


def all_ranks(x: Tensor) -> Tensor:
    """Return the rows of all ranks, those of the first in front; x itself on one process.

    What every rank computes from them is the same everywhere. Backward adds up the gradients of
    the ranks, so that the mean over ranks of a weight's gradients is that of the whole batch.

    Args:
        x: as many rows on each rank.
    """
    if ranks.count() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def own_rows(x: Tensor) -> Tensor:
    """Return of the rows of all ranks those of this one; x itself on one process."""
    if ranks.count() == 1:
        return x
    return x.chunk(ranks.count())[ranks.own()]


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of a tensor of one shape on all ranks; x itself on one process.

    A loss that divides by a number of the batch, such as that of its hidden tokens, divides by
    the mean of the ranks' numbers. Backward is as that of `all_ranks`.
    """
    if ranks.count() == 1:
        return x
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        rows = [torch.empty_like(x) for _ in range(ranks.count())]
        distributed.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return own_rows(total)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _mean(gradient)


def _mean(x: Tensor) -> Tensor:
    total = x.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    distributed.all_reduce(total)
    return total / ranks.count()
