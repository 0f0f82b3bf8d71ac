"""Several processes that train together, each on its rows of every batch: the ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed, nn


def count() -> int:
    """Return how many processes train together, 1 without others."""
    return distributed.get_world_size() if _several() else 1


def own() -> int:
    """Return which of them this one is; the first, 0, saves, logs and exports."""
    return distributed.get_rank() if _several() else 0


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, and leave them; without torchrun nothing is done.

    Yields:
        the device of this process; of several GPUs each has its own.
    """
    if not distributed.is_torchelastic_launched():
        yield device
        return
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield device
        # What the first rank writes at the end is there when any has returned.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def any_of(asked: bool, device: str) -> bool:
    """Whether this was asked of any rank, the same answer on all."""
    if not _several():
        return asked
    votes = torch.tensor(int(asked), device=device)
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return bool(votes)


def average_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks; a rank without one counts as zero.

    All gradients travel as one vector. A weight without a gradient on any rank stays without.
    """
    if not _several():
        return
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    having = torch.tensor([w.grad is not None for w in weights], device=gradients[0].device)
    travelling = torch.cat([*(g.flatten() for g in gradients), having.to(gradients[0].dtype)])
    distributed.all_reduce(travelling)
    sizes = [*(g.numel() for g in gradients), len(weights)]
    *means, shares = torch.split(travelling / count(), sizes)
    for weight, gradient, mean, share in zip(
        weights, gradients, means, shares.tolist(), strict=True
    ):
        if share:
            # In place, so that it lies in memory as the weight does: the optimizers count on it.
            weight.grad = gradient.copy_(mean.view_as(gradient))


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
