"""The batch as a whole, where several processes have rows of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def all_ranks(x: Tensor) -> Tensor:
    """Return the rows of all ranks, those of the first in front; x itself on one process.

    What every rank computes from them is the same everywhere. Backward adds up the gradients of
    the ranks, so that the mean over ranks of a weight's gradients is that of the whole batch.

    Args:
        x: as many rows on each rank.
    """
    if not _several():
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def own_rows(x: Tensor) -> Tensor:
    """Return of the rows of all ranks those of this one; x itself on one process."""
    if not _several():
        return x
    return x.chunk(distributed.get_world_size())[distributed.get_rank()]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        rows = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return own_rows(total)
