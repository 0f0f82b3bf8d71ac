"""MAE: a light decoder predicts the pixels of hidden patches from those that are seen."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from contracts.errors import ConfigError
from contracts.params import Count, Ratio
from pretraining.objective import Batch, Moment, Objective, TokenEncoder
from pretraining.parts.decoder import Decoder
from pretraining.parts.masks import hidden_count, places, random_mask
from pretraining.parts.patches import normalize_patches, patchify
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import random_crop


class Mae(Objective):
    """An encoder that sees few patches, and a decoder that is thrown away: `masked_mse_loss`.

    The view is a crop, mirrored half the time. Hidden patches never enter the encoder.

    Args:
        mask_ratio: the share of patches that are hidden.
        normalize_pixels: whether each patch to be predicted has mean 0 and variance 1.
        decoder_width: of the decoder's tokens; a multiple of decoder_heads and of 4.
        decoder_depth: its blocks.
        decoder_heads: of its attention.
        min_area_ratio: the least share of a picture that a crop keeps.
    Reference: He et al. 2021, arXiv:2111.06377, section 3; a smaller decoder.
    Cost: the encoder on the patches that are seen, and the decoder on all.

    Raises:
        ConfigError: an image is a single patch.
    """

    def __init__(
        self,
        encoder: Annotated[TokenEncoder, "image"],
        *,
        mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75,
        normalize_pixels: bool = True,
        decoder_width: Count = 64,
        decoder_depth: Count = 1,
        decoder_heads: Count = 4,
        min_area_ratio: Ratio = 0.2,
    ) -> None:
        super().__init__()
        shape = encoder.codec.shape
        number = math.prod(encoder.grid(torch.empty(1, *shape, device="meta")))
        if number < 2:
            raise ConfigError("mae: an image is one patch, of which none could be hidden.")
        self.encoder = encoder
        self.decoder = Decoder(
            encoder.dim,
            math.prod(shape) // number,
            width=decoder_width,
            depth=decoder_depth,
            heads=decoder_heads,
        )
        self.mask_ratio = mask_ratio
        self.normalize_pixels = normalize_pixels
        self.min_area_ratio = min_area_ratio

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        view_BCHW = self.view(unit_pixels(batch[self.inputs["encoder"]]), moment)
        rows, columns = self.encoder.grid(view_BCHW)
        number = rows * columns
        hidden = hidden_count(number, self.mask_ratio)
        hidden_BN = random_mask(len(view_BCHW), number, hidden, moment)
        seen_BK = places(~hidden_BN, number - hidden)
        tokens_BTD = self.encoder.tokens(view_BCHW, keep=seen_BK)
        predicted_BNP = self.decoder(tokens_BTD, seen_BK, (rows, columns))
        target_BNP = patchify(view_BCHW, (rows, columns))
        if self.normalize_pixels:
            target_BNP = normalize_patches(target_BNP)
        return {"loss": masked_mse_loss(predicted_BNP, target_BNP, hidden_BN)}

    def view(self, images_BCHW: Tensor, moment: Moment) -> Tensor:
        """Return one random view of each image."""
        return random_crop(images_BCHW, moment, min_area_ratio=self.min_area_ratio)


def masked_mse_loss(predicted_BNP: Tensor, target_BNP: Tensor, hidden_BN: Tensor) -> Tensor:
    """Return the mean squared error over the values of hidden patches; others count nothing.

    L = sum_{hidden n} |p_n - t_n|^2 / (P x number of hidden patches), over the whole batch.
    """
    error_BN = (predicted_BNP.float() - target_BNP.float()).square().mean(-1)
    return (error_BN * hidden_BN).sum() / hidden_BN.sum()
