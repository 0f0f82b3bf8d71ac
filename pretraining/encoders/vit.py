"""A plain small vision Transformer."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.transformer import Block, sine_cosine


class ViT(nn.Module):
    """Embed patches, mix them in blocks, and average them: (B, 3, H, W) to (B, dim).

    Positions are fixed sines and cosines of row and column, so that any side that is a multiple
    of `patch_px` will do. Images are uint8, or float in [0, 1].

    Args:
        width: numbers of a patch's vector and of the picture's; a multiple of 4 and of heads.
        depth: blocks.
        heads: of the attention.
        patch_px: side of a patch.
    Reference: Dosovitskiy et al. 2021, arXiv:2010.11929; average pooling and fixed positions as
        in Beyer et al. 2022, arXiv:2205.01580.
    Cost: about 12 x width^2 x depth multiplications a patch.
    """

    reads: ClassVar[str] = "image"
    stem: ClassVar[tuple[str, ...]] = ("patches",)

    def __init__(
        self,
        *,
        width: Count = 96,
        depth: Annotated[int, Field(ge=1, le=64)] = 3,
        heads: Count = 3,
        patch_px: Count = 8,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise ConfigError(f"vit: width {width} is no multiple of 4 and of heads, {heads}.")
        self.dim = width
        self.patch_px = patch_px
        self.patches = nn.Conv2d(3, width, patch_px, stride=patch_px)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return (B, dim), the mean over the patches.

        Raises:
            ConfigError: a side is not a multiple of `patch_px`.
        """
        height, width = images_BCHW.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise ConfigError(
                f"vit: patches of {self.patch_px} px do not tile an image of {width} x {height}: "
                "choose another side_px or patch_px."
            )
        grid_BDHW = self.patches(2 * unit_pixels(images_BCHW) - 1)
        x_BND = grid_BDHW.flatten(2).transpose(1, 2) + _places(grid_BDHW)
        for block in self.blocks:
            x_BND = block(x_BND)
        pooled_BD: Tensor = self.norm(x_BND).mean(1)
        return pooled_BD


def _places(grid_BDHW: Tensor) -> Tensor:
    """Return (H * W, D): half of the width tells the row, half the column."""
    _, dim, height, width = grid_BDHW.shape
    device = grid_BDHW.device
    rows = sine_cosine(torch.arange(height, device=device), dim // 2)
    columns = sine_cosine(torch.arange(width, device=device), dim // 2)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1)
