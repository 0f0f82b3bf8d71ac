"""A residual convolutional network, ResNet-18 or ResNet-50, that shows its stages."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.params import Count
from pretraining.codecs import ImageCodec
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.sparse import shown_stages

BLOCKS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class ResNet(nn.Module):
    """Halve the grid and double the width three times over, and average: (B, 3, H, W) to (B, dim).

    The four stages have places of 4, 8, 16 and 32 px, or of 1, 2, 4 and 8 px with `small_stem`.
    Images are uint8, or float in [0, 1].

    Args:
        layers: 18 of two convolutions a block, dim 8 x width; or 50 of three, dim 32 x width.
        width: channels of the first layer.
        small_stem: one convolution of 3 x 3 in front, in place of one of 7 x 7 and a maximum, both
            of stride 2: for pictures of 32 to 64 px.
        side_px: the square that a picture is cut to.
    Reference: He et al. 2016, arXiv:1512.03385, table 1; a block halves the grid by its
        convolution of 3 x 3, and the small stem is that of Chen et al. 2020, arXiv:2002.05709,
        appendix B.9.
    Cost: of width 64 at 224 px 1.8 (18 layers) or 4.1 (50) thousand million multiplications an
        image, four or so times that for a side, with `small_stem`.
    """

    def __init__(
        self,
        *,
        layers: Literal[18, 50] = 18,
        width: Count = 64,
        small_stem: bool = False,
        side_px: Annotated[int, Field(ge=32)] = 64,
    ) -> None:
        super().__init__()
        self.codec = ImageCodec(side_px)
        self.first = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False)
            if small_stem
            else nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1),
        )
        # As `layer_decay` asks: the blocks in their order, and what is computed before them.
        self.stem = ("first",)
        expansion = 1 if layers == 18 else 4
        channels, blocks, ends = width, [], []
        for stage, count in enumerate(BLOCKS[layers]):
            for place in range(count):
                stride = 2 if stage and not place else 1
                blocks.append(_Residual(channels, width << stage, stride, expansion))
                channels = (width << stage) * expansion
            ends.append(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.dim, self._ends = channels, tuple(ends)
        self.widths = tuple((width << stage) * expansion for stage in range(4))
        self.strides = tuple((1 if small_stem else 4) << stage for stage in range(4))
        # Channels last: the backward pass of a convolution is up to four times as fast on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return (B, dim), the mean over the last grid."""
        return self._stages(images_BCHW)[-1].mean((2, 3))

    def stages(self, images_BCHW: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """Return the output of each of the four stages, as `PyramidEncoder` says."""
        return shown_stages(self, self._stages, images_BCHW, keep)

    def _stages(self, images_BCHW: Tensor) -> list[Tensor]:
        images_BCHW = 2 * unit_pixels(images_BCHW) - 1
        x = self.first(images_BCHW.contiguous(memory_format=torch.channels_last))
        found = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self._ends:
                found.append(x)
        return found


class _Residual(nn.Module):
    """Two convolutions, or three through a narrow middle, added to what they are given."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = width * expansion
        if expansion == 1:
            layers = [*_normed(channels, width, 3, stride), nn.ReLU(), *_normed(width, wide, 3)]
        else:
            layers = [*_normed(channels, width, 1), nn.ReLU()]
            layers += [*_normed(width, width, 3, stride), nn.ReLU(), *_normed(width, wide, 1)]
        self.layers = nn.Sequential(*layers)
        changes = stride > 1 or channels != wide
        ways = [_Every(stride), *_normed(channels, wide, 1)] if changes else []
        self.shortcut = nn.Sequential(*ways)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.layers(x))


class _Every(nn.Module):
    """Take every `stride`-th place, as a convolution of one place with a stride does.

    That convolution's backward writes past its memory on a CPU, of few channels and channels last
    (torch 2.13).
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


def _normed(channels: int, wide: int, side: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, wide, side, stride=stride, padding=side // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(wide)]
