"""The running mean of a teacher's outputs, taken off them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretraining.parts.gather import all_ranks


class Centre(nn.Module):
    """Take a mean off each row, (B, K) to (B, K), so that no prototype is that of every record.

    The mean moves in `follow`, towards that of all rows since the last time, so that every batch
    of a step is centred alike.

    Reference: Caron et al. 2021, arXiv:2104.14294, equation 4.
    """

    mean: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def forward(self, rows_BK: Tensor) -> Tensor:
        """Return the rows without the mean."""
        self._seen.append(all_ranks(rows_BK).mean(0))
        return rows_BK - self.mean

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Make the mean `momentum` of itself and the rest of that of the rows; forget these."""
        self.mean.lerp_(torch.stack(self._seen).mean(0), 1 - momentum)
        self._seen.clear()
