"""A pre-norm Transformer block and fixed sine-cosine positions.

E: width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Self-attention, then a two-layer perceptron, each normalised before and added after.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3; the norm first as in
        Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BND: Tensor, attend_BN: Tensor | None = None) -> Tensor:
        """Return (B, N, D); no token looks at one whose `attend` is false."""
        batch, tokens, width = x_BND.shape
        split = (batch, tokens, 3, self.heads, width // self.heads)
        projected = self.query_key_value(self.attention_norm(x_BND)).view(split)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (B, heads, N, E) each
        mask = None if attend_BN is None else attend_BN[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x_BND = x_BND + self.attended(mixed.transpose(1, 2).reshape(x_BND.shape))
        thought_BND: Tensor = self.perceptron(self.perceptron_norm(x_BND))
        return x_BND + thought_BND


def sine_cosine(positions_N: Tensor, width: int) -> Tensor:
    """Return (N, width): sines, then cosines, of width / 2 frequencies from 1 down to 1/10,000.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    half = width // 2
    frequencies = 10_000.0 ** -(torch.arange(half, device=positions_N.device) / half)
    angles = positions_N[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
