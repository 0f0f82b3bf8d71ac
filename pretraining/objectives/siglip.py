"""SigLIP: of every image and every text of the batch it is told whether they are a pair."""

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


class Siglip(Objective):
    """Two towers into one space, trained by `siglip_loss` at a learned temperature and bias.

    Every image with every text is judged by itself, where `clip` chooses one among all. The bias
    starts where each is taken for no pair, as nearly all are none. Views and exports are those of
    `clip`.

    Args:
        dim: numbers of a vector of the joint space.
        temperature: at the start; it is learned.
        bias: of the logits at the start; it is learned.
        min_area_ratio: the least share of a picture that a crop keeps.
    Reference: Zhai et al. 2023, arXiv:2303.15343, algorithm 1.
    Cost: both towers once, and a (B, B) product.
    """

    exports: ClassVar[tuple[str, ...]] = ("image_encoder", "text_encoder")

    def __init__(
        self,
        image_encoder: Annotated[Encoder, "image"],
        text_encoder: Annotated[Encoder, "text"],
        *,
        dim: Count = 128,
        temperature: Positive = 0.1,
        bias: float = -10.0,
        min_area_ratio: Ratio = 0.9,
    ) -> None:
        super().__init__()
        self.image_encoder = Tower(image_encoder, dim)
        self.text_encoder = Tower(text_encoder, dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))
        self.min_area_ratio = min_area_ratio

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss, and the scale and the bias of the logits."""
        images_BCHW = unit_pixels(batch[self.inputs["image_encoder"]])
        views_BCHW = random_resized_crop(images_BCHW, moment, min_area_ratio=self.min_area_ratio)
        image_BD = all_ranks(self.image_encoder(views_BCHW))
        text_BD = all_ranks(self.text_encoder(batch[self.inputs["text_encoder"]]))
        scale = self.log_scale.exp()
        return {
            "loss": siglip_loss(image_BD, text_BD, scale, self.bias),
            "scale": scale.detach(),
            "bias": self.bias.detach(),
        }


def siglip_loss(
    image_BD: Tensor, text_BD: Tensor, scale: Tensor | float, bias: Tensor | float
) -> Tensor:
    """Return the cost of telling the pairs, the diagonal, from all others, for each image.

    L = -1/B sum_ij log sigmoid(z_ij (s cos(u_i, v_j) + b)), z_ij = 1 at i = j, else -1.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD = F.normalize(image_BD.float(), dim=1)
        text_BD = F.normalize(text_BD.float(), dim=1)
        logits_BB = scale * image_BD @ text_BD.T + bias
        pair_BB = torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device)
        return -F.logsigmoid(torch.where(pair_BB, logits_BB, -logits_BB)).sum() / len(logits_BB)
