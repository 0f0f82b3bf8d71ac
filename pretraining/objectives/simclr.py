"""SimCLR: two views of one image agree more than either does with all other views."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.params import Count, Positive, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.parts.gather import all_ranks
from pretraining.parts.heads import mlp
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import random_view


class Simclr(Objective):
    """An encoder and a projector that is thrown away, trained by `nt_xent_loss` on two views.

    A view is a crop, mirrored half the time, with its colours jittered and blurred; both views
    go through the encoder together. The defaults are the paper's for small images (appendix B.9),
    but for the crops, which keep at least a fifth of the image.

    Args:
        dim: numbers of the projected vector, which is thrown away.
        temperature: of the loss; it stays.
        min_area_ratio: the least share of a picture that a crop keeps.
        colour_strength: how far colours are changed; 0 leaves them.
        blur_ratio: the share of views that are blurred.
    Reference: Chen et al. 2020, arXiv:2002.05709, algorithm 1 and appendix A.
    Cost: the encoder twice, and a (2B, 2B) product.
    """

    def __init__(
        self,
        encoder: Annotated[Encoder, "image"],
        *,
        dim: Count = 128,
        temperature: Positive = 0.5,
        min_area_ratio: Ratio = 0.2,
        colour_strength: Ratio = 0.5,
        blur_ratio: Ratio = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp(encoder.dim, encoder.dim, dim)
        self.temperature = temperature
        self.min_area_ratio = min_area_ratio
        self.colour_strength = colour_strength
        self.blur_ratio = blur_ratio

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        images_BCHW = unit_pixels(batch[self.inputs["encoder"]])
        views = [
            random_view(
                images_BCHW,
                moment,
                min_area_ratio=self.min_area_ratio,
                colour_strength=self.colour_strength,
                blur_ratio=self.blur_ratio,
            )
            for _ in range(2)
        ]
        first_BD, second_BD = map(
            all_ranks, self.projector(self.encoder(torch.cat(views))).chunk(2)
        )
        return {"loss": nt_xent_loss(first_BD, second_BD, temperature=self.temperature)}


def nt_xent_loss(first_BD: Tensor, second_BD: Tensor, *, temperature: float) -> Tensor:
    """Return the mean cross-entropy of finding each view's partner among the other 2B - 1 views.

    l(i, j) = -log exp(cos(z_i, z_j) / t) / sum_{k != i} exp(cos(z_i, z_k) / t), equation 1.
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        z_VD = F.normalize(torch.cat([first_BD, second_BD]).float(), dim=1)  # V: the 2B views
        logits_VV = (z_VD @ z_VD.T / temperature).fill_diagonal_(-torch.inf)
    partner_V = torch.arange(len(z_VD), device=z_VD.device).roll(len(first_BD))
    return F.cross_entropy(logits_VV, partner_V)
