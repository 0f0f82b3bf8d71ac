"""SSAST: hidden patches of a spectrogram are picked out among the clip's own, and rebuilt."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from pretraining.objective import Batch, Moment, Objective, TokenEncoder
from pretraining.parts.masks import clustered_mask, hidden_count, places, random_mask
from pretraining.parts.patches import patchify


class Ssast(Objective):
    """Hide patches, pick each out among the hidden ones of its clip, and rebuild it.

    A learned vector stands for a hidden patch. With r_i what is rebuilt of the patch x_i and c_i
    what it is picked out by, over the hidden patches i of a clip: the loss is the mean of
    -log(exp(c_i . x_i) / sum over j of exp(c_i . x_j)) + generative_weight * |r_i - x_i|^2 / P,
    each term over a mask of its own. The authors' code normalises the first over the predictions
    of a patch instead of over the candidates of a prediction, which is not the paper's equation.

    Reads:
        encoder: of clips, by patches of their spectrograms.
    Args:
        mask_ratio: share of the patches that is hidden; the paper hides 400 of 512.
        masks: "clustered": squares of 3 to 5 patches; "random": for patches that are frames.
        generative_weight: of what is rebuilt beside what is picked out.
    Reference: Gong et al. 2022, arXiv:2110.09784.
    Cost: two passes of the encoder.
    Raises:
        ConfigError: a spectrogram is a single patch.
    """

    def __init__(
        self,
        encoder: Annotated[TokenEncoder, "audio"],
        *,
        mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.78,
        masks: Literal["clustered", "random"] = "clustered",
        generative_weight: Annotated[float, Field(ge=0)] = 10.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_ratio, self.masks = mask_ratio, masks
        self.generative_weight = generative_weight
        x_1CHW = torch.empty(1, *encoder.codec.shape, device="meta")
        number = math.prod(encoder.grid(x_1CHW))
        if number < 2:
            raise ConfigError("ssast: a spectrogram is one patch, of which none could be hidden.")
        values = math.prod(encoder.codec.shape) // number
        self.hidden = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.pick = _head(encoder.dim, values)
        self.rebuild = _head(encoder.dim, values)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss, its two terms, and the share of the patches that were picked out."""
        x_BCHW = batch[self.inputs["encoder"]]
        picked_BKP, true_BKP = self._seen(x_BCHW, moment, self.pick)
        discriminative, right = picking_loss(picked_BKP, true_BKP)
        rebuilt_BKP, true_BKP = self._seen(x_BCHW, moment, self.rebuild)
        generative = F.mse_loss(rebuilt_BKP, true_BKP)
        return {
            "loss": discriminative + self.generative_weight * generative,
            "discriminative": discriminative,
            "generative": generative,
            "picked_ratio": right,
        }

    def _seen(self, x_BCHW: Tensor, moment: Moment, head: nn.Module) -> tuple[Tensor, Tensor]:
        """Return what a head makes of the hidden patches, and these themselves, (B, K, P)."""
        rows, columns = self.encoder.grid(x_BCHW)
        patches_BNP = patchify(x_BCHW, (rows, columns))
        batch, number, _ = patches_BNP.shape
        count = hidden_count(number, self.mask_ratio)
        if self.masks == "clustered":
            mask_BN = clustered_mask(batch, (rows, columns), count, moment)
        else:
            mask_BN = random_mask(batch, number, count, moment)
        tokens_BTD = self.encoder.tokens(x_BCHW, replace=(mask_BN, self.hidden))
        at_BK1 = places(mask_BN, count)[:, :, None]
        hidden_BKD = tokens_BTD[:, self.encoder.class_tokens :].take_along_dim(at_BK1, 1)
        return head(hidden_BKD), patches_BNP.take_along_dim(at_BK1, 1)


def picking_loss(picked_BKP: Tensor, true_BKP: Tensor) -> tuple[Tensor, Tensor]:
    """Return InfoNCE within each clip, and the share of predictions whose patch comes first.

    Args:
        picked_BKP: predictions of the hidden patches of each clip.
        true_BKP: these patches, the candidates of each prediction.
    """
    with torch.autocast(picked_BKP.device.type, enabled=False):
        logits_BKJ = picked_BKP.float() @ true_BKP.float().transpose(1, 2)
    own_BK = torch.arange(logits_BKJ.shape[1], device=logits_BKJ.device).expand(len(logits_BKJ), -1)
    loss = F.cross_entropy(logits_BKJ.transpose(1, 2), own_BK)
    return loss, (logits_BKJ.argmax(2) == own_BK).float().mean()


def _head(dim: int, values: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, values))
