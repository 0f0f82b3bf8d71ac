"""SparK: a convolutional network sees part of a picture, a light decoder rebuilds the rest."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count, Ratio
from pretraining.objective import Batch, Moment, Objective, PyramidEncoder
from pretraining.objectives.mae import masked_mse_loss
from pretraining.parts.masks import hidden_count, random_mask
from pretraining.parts.patches import normalize_patches, patchify
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.sparse import at_grid, hiding
from pretraining.parts.views import random_crop


class Spark(Objective):
    """Hide places of the coarsest grid from all stages, and rebuild their pixels from these.

    The view is a crop, mirrored half the time. In each stage a learned vector is laid on the hidden
    places; a decoder doubles the grid from the coarsest stage down to pixels and adds the stages on
    its way. The loss is `mae`'s: the mean squared error over the pixels of hidden places, each
    place normalised.

    Args:
        mask_ratio: the share of places that are hidden.
        decoder_width: channels of the decoder at the coarsest grid, halved with each doubling.
        min_area_ratio: the least share of a picture that a crop keeps.
    Reference: Tian et al. 2023, arXiv:2301.03580, section 3; a narrower decoder.
    Cost: the encoder on the whole picture, and the decoder, of about 13.5 x decoder_width^2
        multiplications a place and doubling.

    Raises:
        ConfigError: the coarsest grid is a single place or does not tile the picture, a stage is
            not half as fine as the one before, or decoder_width cannot be halved so often.
    """

    def __init__(
        self,
        encoder: Annotated[PyramidEncoder, "image"],
        *,
        mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6,
        decoder_width: Count = 128,
        min_area_ratio: Ratio = 0.67,
    ) -> None:
        super().__init__()
        strides, side_px = encoder.strides, encoder.codec.shape[-1]
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise ConfigError(f"spark: stages of {strides} px a place do not halve the grid.")
        if side_px % strides[-1] or side_px < 2 * strides[-1]:
            raise ConfigError(
                f"spark: two or more places of {strides[-1]} px must tile a picture of {side_px} "
                "px: choose another side_px or encoder."
            )
        doublings = strides[-1].bit_length() - 1
        if 1 << doublings != strides[-1] or decoder_width % strides[-1]:
            raise ConfigError(
                f"spark: decoder_width {decoder_width} cannot be halved {doublings} times."
            )
        self.encoder = encoder
        self.mask_ratio, self.min_area_ratio = mask_ratio, min_area_ratio
        widths = [decoder_width >> i for i in range(doublings + 1)]
        self.fills = nn.ModuleList(
            _Fill(channels, wide, 1 if i == 0 else 3)
            for i, (channels, wide) in enumerate(
                zip(reversed(encoder.widths), widths, strict=False)
            )
        )
        self.doublings = nn.ModuleList(map(_Double, widths[:-1]))
        self.pixels = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        view_BCHW = self.view(unit_pixels(batch[self.inputs["encoder"]]), moment)
        count, _, height, width = view_BCHW.shape
        grid = height // self.encoder.strides[-1], width // self.encoder.strides[-1]
        number = grid[0] * grid[1]
        hidden_BN = random_mask(count, number, hidden_count(number, self.mask_ratio), moment)
        keep_Bhw = ~hidden_BN.view(count, *grid)
        stages = self.encoder.stages(view_BCHW, keep_Bhw)
        x_BCHW = self.fills[0](stages[-1], keep_Bhw)
        for i, double in enumerate(self.doublings, 1):
            x_BCHW = double(x_BCHW)
            if i < len(stages):
                x_BCHW = x_BCHW + self.fills[i](stages[-1 - i], keep_Bhw)
        predicted_BNP = patchify(self.pixels(x_BCHW), grid)
        target_BNP = normalize_patches(patchify(view_BCHW, grid))
        return {"loss": masked_mse_loss(predicted_BNP, target_BNP, hidden_BN)}

    def view(self, images_BCHW: Tensor, moment: Moment) -> Tensor:
        """Return one random view of each image."""
        return random_crop(images_BCHW, moment, min_area_ratio=self.min_area_ratio)


class _Fill(nn.Module):
    """Normalise what is shown, lay a learned vector on what is not, and map to a width."""

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.hidden = nn.Parameter(torch.empty(channels, 1, 1).uniform_(-0.035, 0.035))
        self.map = nn.Conv2d(channels, width, side, padding=side // 2)

    def forward(self, x_BCHW: Tensor, keep_Bhw: Tensor) -> Tensor:
        with hiding(self.norm, keep_Bhw):
            normed_BCHW = self.norm(x_BCHW)
        shown_B1HW = at_grid(keep_Bhw, x_BCHW)
        filled: Tensor = self.map(torch.where(shown_B1HW, normed_BCHW, self.hidden))
        return filled


class _Double(nn.Sequential):
    """Double the grid and halve the width."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
        )
