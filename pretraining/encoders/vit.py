"""A plain small vision Transformer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count
from pretraining.codecs import ImageCodec
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.transformer import Trunk


class ViT(Trunk):
    """Embed patches, mix them in blocks, and average them: (B, 3, H, W) to (B, dim).

    Positions are fixed sines and cosines of row and column, so that any side that is a multiple
    of `patch_px` will do. Images are uint8, or float in [0, 1].

    Args:
        width: numbers of a patch's vector and of the picture's; a multiple of 4 and of heads.
        depth: blocks.
        heads: of the attention.
        patch_px: side of a patch.
        class_tokens: learned tokens beside the patches; the picture's vector then is their mean.
        side_px: the square that a picture is cut to; a multiple of patch_px.
    Reference: Dosovitskiy et al. 2021, arXiv:2010.11929; average pooling and fixed positions as
        in Beyer et al. 2022, arXiv:2205.01580.
    Cost: about 12 x width^2 x depth multiplications a patch.
    """

    patches: Patches

    def __init__(
        self,
        *,
        width: Count = 96,
        depth: Annotated[int, Field(ge=1, le=64)] = 3,
        heads: Count = 3,
        patch_px: Count = 8,
        class_tokens: Annotated[int, Field(ge=0, le=64)] = 0,
        side_px: Count = 64,
    ) -> None:
        if width % heads or width % 4:
            raise ConfigError(f"vit: width {width} is no multiple of 4 and of heads, {heads}.")
        if side_px % patch_px:
            raise ConfigError(
                f"vit: patches of {patch_px} px do not tile a picture of {side_px} px: choose "
                "another side_px or patch_px."
            )
        patches = Patches(width, patch_px)
        super().__init__(width, depth, heads, class_tokens=class_tokens, patches=patches)
        self.codec = ImageCodec(side_px)

    @property
    def embed(self) -> Patches:
        """The linear map of patches."""
        return self.patches

    def grid(self, images_BCHW: Tensor) -> tuple[int, int]:
        """Return the number of rows and of columns of patches.

        Raises:
            ConfigError: a side is not a multiple of `patch_px`.
        """
        return self.patches.grid(images_BCHW)


class Patches(nn.Conv2d):
    """A linear map of each patch, row by row: (B, 3, H, W) to (B, N, width)."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__(3, width, patch_px, stride=patch_px)
        self.patch_px = patch_px

    def grid(self, images_BCHW: Tensor) -> tuple[int, int]:
        """Return the number of rows and of columns."""
        height, width = images_BCHW.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise ConfigError(
                f"vit: patches of {self.patch_px} px do not tile an image of {width} x {height}: "
                "choose another side_px or patch_px."
            )
        return height // self.patch_px, width // self.patch_px

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return (B, N, width); bytes are scaled to [-1, 1]."""
        self.grid(images_BCHW)
        return super().forward(2 * unit_pixels(images_BCHW) - 1).flatten(2).transpose(1, 2)
