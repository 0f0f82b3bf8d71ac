"""A light decoder of kept tokens, which is thrown away after training.

T: class tokens, then the K kept ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contracts.errors import ConfigError
from pretraining.parts.transformer import Block, grid_positions


class Decoder(nn.Module):
    """Predict every token of a grid from those that were kept: (B, T, dim) to (B, N, out).

    The kept tokens are mapped to its width and laid on their places, one learned vector on all
    others; fixed positions are added, then blocks, a norm and a linear map follow.

    Args:
        dim: of the tokens that are kept.
        out: numbers predicted for a token.
        width: of its tokens; a multiple of heads and of 4.
        depth: blocks.
        heads: of the attention.
    Reference: He et al. 2021, arXiv:2111.06377, section 3.

    Raises:
        ConfigError: the width is no such multiple.
    """

    def __init__(self, dim: int, out: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise ConfigError(
                f"decoder_width: {width} is no multiple of 4 and of decoder_heads, {heads}."
            )
        self.narrow = nn.Linear(dim, width)
        self.mask = nn.Parameter(torch.empty(width).uniform_(-0.035, 0.035))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out)

    def forward(self, tokens_BTD: Tensor, keep_BK: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Return (B, N, out).

        Args:
            tokens_BTD: as a `TokenEncoder` returns them.
            keep_BK: the places of the last K of them.
            grid: that of all tokens.
        """
        narrow_BTD = self.narrow(tokens_BTD)
        first = tokens_BTD.shape[1] - keep_BK.shape[1]
        positions_ND = grid_positions(grid, narrow_BTD.shape[2], narrow_BTD.device)
        hidden_BND = self.mask.to(narrow_BTD.dtype).expand(len(narrow_BTD), *positions_ND.shape)
        place_BKD = keep_BK[:, :, None].expand(-1, -1, narrow_BTD.shape[2])
        laid_BND = hidden_BND.scatter(1, place_BKD, narrow_BTD[:, first:]) + positions_ND
        x_BTD = torch.cat([narrow_BTD[:, :first], laid_BND], dim=1)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        predicted_BND: Tensor = self.head(self.norm(x_BTD[:, first:]))
        return predicted_BND
