"""CLIP: an image and its text agree more than either does with the rest of the batch."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.params import Count, Positive, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.parts.gather import all_ranks
from pretraining.parts.heads import Tower
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import random_resized_crop

MAX_SCALE = 100.0


class Clip(Objective):
    """Two towers into one space, trained by `clip_loss` at a learned temperature.

    The scale exp(s) starts at 1 / temperature and is clamped to [1, 100] after every step. The
    only augmentation is a random square crop of at least `min_area_ratio` of the image. Both
    exports give vectors of the joint space, not normalised; `image_encoder.encoder` gives the
    features in front of it.

    Args:
        dim: numbers of a vector of the joint space.
        temperature: at the start; it is learned.
        min_area_ratio: the least share of a picture that a crop keeps.
    Reference: Radford et al. 2021, arXiv:2103.00020, section 2.3 and figure 3; the crop's area
        as in open_clip.
    Cost: both towers once, and two (B, B) products.
    """

    exports: ClassVar[tuple[str, ...]] = ("image_encoder", "text_encoder")

    def __init__(
        self,
        image_encoder: Annotated[Encoder, "image"],
        text_encoder: Annotated[Encoder, "text"],
        *,
        dim: Count = 128,
        temperature: Positive = 0.07,
        min_area_ratio: Ratio = 0.9,
    ) -> None:
        super().__init__()
        self.image_encoder = Tower(image_encoder, dim)
        self.text_encoder = Tower(text_encoder, dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.min_area_ratio = min_area_ratio

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss and the scale of the cosines."""
        images_BCHW = unit_pixels(batch[self.inputs["image_encoder"]])
        views_BCHW = random_resized_crop(images_BCHW, moment, min_area_ratio=self.min_area_ratio)
        image_BD = all_ranks(self.image_encoder(views_BCHW))
        text_BD = all_ranks(self.text_encoder(batch[self.inputs["text_encoder"]]))
        scale = self.log_scale.exp()
        return {"loss": clip_loss(image_BD, text_BD, scale), "scale": scale.detach()}

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:  # noqa: ARG002
        """Clamp the scale."""
        self.log_scale.clamp_(0, math.log(MAX_SCALE))


def clip_loss(image_BD: Tensor, text_BD: Tensor, scale: Tensor | float) -> Tensor:
    """Return the mean of both cross-entropies over the scaled cosines; the diagonal is right.

    L = -1/2B sum_i [log softmax_j(s cos(u_i, v_j)) + log softmax_j(s cos(u_j, v_i))] at j = i.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD = F.normalize(image_BD.float(), dim=1)
        text_BD = F.normalize(text_BD.float(), dim=1)
        logits_BB = scale * image_BD @ text_BD.T
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2
