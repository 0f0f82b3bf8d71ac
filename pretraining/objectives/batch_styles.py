"""Batch Styles Standardization: all pictures of a view have the style of one of them."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from contracts.errors import ConfigError
from contracts.params import Count, Positive, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.objectives.simclr import nt_xent_loss
from pretraining.parts.gather import all_ranks
from pretraining.parts.heads import mlp
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import random_colours, random_crop


class BatchStyles(Objective):
    """An encoder and a projector that is thrown away, trained by `nt_xent_loss` on styled views.

    In a view each picture is cropped by itself, mirrored half the time; then all crops take the
    style of one of them (`in_style_of`), and their colours are jittered alike. So the others of a
    view differ from a picture in what they show, not in how, while its own two views differ in
    style.

    Args:
        dim: numbers of the projected vector, which is thrown away.
        temperature: of the loss; it stays.
        min_style_ratio: the least share of the spectrum that is style, drawn for each view.
        max_style_ratio: the largest such share.
        min_area_ratio: the least share of a picture that a crop keeps.
        colour_strength: how far colours are changed; 0 leaves them.
    Reference: Scalbert et al. 2024, arXiv:2303.06088, with SimCLR; the shares of the spectrum are
        chosen here.
    Cost: the encoder twice, a Fourier transform of each view and back, and a (2B, 2B) product.
    """

    def __init__(
        self,
        encoder: Annotated[Encoder, "image"],
        *,
        dim: Count = 128,
        temperature: Positive = 0.5,
        min_style_ratio: Ratio = 0.02,
        max_style_ratio: Ratio = 0.15,
        min_area_ratio: Ratio = 0.2,
        colour_strength: Ratio = 0.5,
    ) -> None:
        super().__init__()
        if min_style_ratio > max_style_ratio:
            raise ConfigError(
                f"batch_styles: min_style_ratio, {min_style_ratio}, is more than "
                f"max_style_ratio, {max_style_ratio}."
            )
        self.encoder = encoder
        self.projector = mlp(encoder.dim, encoder.dim, dim)
        self.temperature = temperature
        self.min_style_ratio = min_style_ratio
        self.max_style_ratio = max_style_ratio
        self.min_area_ratio = min_area_ratio
        self.colour_strength = colour_strength

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        images_BCHW = unit_pixels(batch[self.inputs["encoder"]])
        views = [self.view(images_BCHW, moment) for _ in range(2)]
        first_BD, second_BD = map(
            all_ranks, self.projector(self.encoder(torch.cat(views))).chunk(2)
        )
        return {"loss": nt_xent_loss(first_BD, second_BD, temperature=self.temperature)}

    @torch.no_grad()
    def view(self, images_BCHW: Tensor, moment: Moment) -> Tensor:
        """Return one view of each image, all in one style."""
        once = Once(moment.progress, moment.rng)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            crops_BCHW = random_crop(images_BCHW, moment, min_area_ratio=self.min_area_ratio)
            every_BCHW = all_ranks(crops_BCHW)
            style_1CHW = every_BCHW[(once.rand(1) * len(every_BCHW)).long()]
            span = self.max_style_ratio - self.min_style_ratio
            area_ratio = self.min_style_ratio + span * once.rand(1)
            styled_BCHW = in_style_of(crops_BCHW, style_1CHW, area_ratio)
            return random_colours(styled_BCHW, once, strength=self.colour_strength)


class Once(Moment):
    """A moment in which each number is drawn once, for all rows and all ranks."""

    def rand(self, *shape: int) -> Tensor:
        """Return numbers uniform in [0, 1), the same in every row."""
        rows, *rest = shape
        drawn = torch.rand(1, *rest, generator=self.rng, device=self.rng.device)
        return drawn.expand(rows, *rest)


def in_style_of(images_BCHW: Tensor, style_BCHW: Tensor, area_ratio: Tensor | float) -> Tensor:
    """Return images with the low frequencies' amplitudes of others, and all phases of their own.

    Of each channel's Fourier transform A exp(i P), A becomes the other's at the frequencies that
    are at most sqrt(area_ratio) / 2 cycles a pixel along both axes: the mean alone at 0, all of
    them at 1. Pixels are clamped to [0, 1].

    Args:
        images_BCHW: pixels in [0, 1].
        style_BCHW: one for each image, or one for all.
        area_ratio: the share of the spectrum that is replaced.
    """
    height, width = images_BCHW.shape[-2:]
    device = images_BCHW.device
    reach = torch.as_tensor(area_ratio, device=device).sqrt() / 2
    low_H1 = torch.fft.fftfreq(height, device=device).abs()[:, None] <= reach
    low_W = torch.fft.rfftfreq(width, device=device) <= reach
    spectrum_BCHW = torch.fft.rfft2(images_BCHW)
    amplitude_BCHW = torch.fft.rfft2(style_BCHW).abs()
    swapped_BCHW = torch.polar(amplitude_BCHW, spectrum_BCHW.angle())
    mixed_BCHW = torch.where(low_H1 & low_W, swapped_BCHW, spectrum_BCHW)
    styled_BCHW: Tensor = torch.fft.irfft2(mixed_BCHW, s=(height, width))
    return styled_BCHW.clamp(0, 1)
