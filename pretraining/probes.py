"""The loss on records that no step trains on, while a training goes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from contracts.uid import random_bits
from pretraining.objective import Batch, Moment, Objective

BATCHES = 8
"""So many batches at most are a probe."""


@torch.no_grad()
def probe(
    objective: Objective, batches: Sequence[Batch], *, progress: float, seed: int, device: str
) -> float:
    """Return the mean loss over batches, in evaluation mode and float32.

    It is asked of a copy, so that whatever an objective remembers of what it saw stays as it was.
    Views and masks of a batch are those of every probe of this seed.

    Args:
        objective: in training; nothing of it is changed.
        batches: of the same columns as those of the training.
        progress: of the training, by which some losses go.
        seed: of the training.
        device: of the weights.
    """
    of = copy.deepcopy(objective).eval()
    losses: list[Tensor] = []
    for number, batch in enumerate(batches):
        bits = random_bits(np.array([number], dtype=np.uint64), seed, "probe")
        rng = torch.Generator(device).manual_seed(int(bits[0]))
        here = {column: values.to(device) for column, values in batch.items()}
        losses.append(of(here, Moment(progress, rng))["loss"].double())
    return float(torch.stack(losses).mean())
