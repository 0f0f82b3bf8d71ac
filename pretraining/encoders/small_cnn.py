"""A small residual convolutional image encoder for images of 32 to 64 px."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.params import Count
from pretraining.codecs import ImageCodec
from pretraining.parts.pixels import unit_pixels


class SmallCnn(nn.Module):
    """Cut patches of 4 px, halve the grid twice, and average it: (B, 3, H, W) to (B, dim).

    Each halving doubles the width and is followed by `depth` residual convolutions; dim is
    4 x width. Images are uint8, or float in [0, 1]; the sides are at least 16 px.

    Args:
        width: channels of the first layer; a vector has 4 times as many numbers.
        depth: residual convolutions after each halving.
        side_px: the square that a picture is cut to.
    Reference: He et al. 2016, arXiv:1512.03385 (residual convolutions with batch norm), with the
        patch stem of Dosovitskiy et al. 2021, arXiv:2010.11929: on a CPU the first layers of an
        ordinary stem cost as much as all the rest.
    Cost: about 40 x width^2 x depth x (side_px / 16)^2 multiplications an image.
    """

    def __init__(
        self,
        *,
        width: Count = 24,
        depth: Annotated[int, Field(ge=1, le=64)] = 1,
        side_px: Annotated[int, Field(ge=16)] = 64,
    ) -> None:
        super().__init__()
        self.dim = 4 * width
        self.codec = ImageCodec(side_px)
        layers = _convolution(3, width, patch=4)
        for wide in (2 * width, 4 * width):
            layers += _convolution(wide // 2, wide, patch=2)
            layers += [_Residual(wide) for _ in range(depth)]
        # Channels last: the backward pass of a convolution is up to four times as fast on a CPU.
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return (B, dim), the mean over the last grid."""
        x = 2 * unit_pixels(images_BCHW) - 1
        grid_BDHW: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return grid_BDHW.mean((2, 3))


def _convolution(channels: int, wide: int, *, patch: int) -> list[nn.Module]:
    """Return a convolution over patches that do not overlap, its norm and its activation."""
    convolution = nn.Conv2d(channels, wide, patch, stride=patch, bias=False)
    return [convolution, nn.BatchNorm2d(wide), nn.ReLU()]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.convolution(x)))
