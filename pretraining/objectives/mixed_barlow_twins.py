"""Mixed Barlow Twins: two views agree number by number, mixtures of two lie between them."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.params import Count, NotNegative, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.parts.gather import all_ranks, own_rows
from pretraining.parts.heads import mlp
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import random_view


class MixedBarlowTwins(Objective):
    """An encoder and a projector that is thrown away, trained by `mixed_barlow_twins_loss`.

    Beside two views of each image there is a mixture: a share of the first view and the rest of
    another image's second view, the share uniform in [0, 1] and one for the batch. Projected
    vectors are scaled to length 1 first, as in the authors' code. A `mixing_weight` of 0 is
    Barlow Twins. Views are those of `simclr`.

    Args:
        dim: numbers of the projected vector, which is thrown away.
        redundancy_weight: of the products of different numbers.
        mixing_weight: of the mixtures, a multiple of redundancy_weight.
        detach_target: whether what the mixtures should give gets no gradient; the authors' does.
        min_area_ratio: the least share of a picture that a crop keeps.
        colour_strength: how far colours are changed; 0 leaves them.
    Reference: Bandara et al. 2023, arXiv:2312.02151, equations 1 to 7, with their weights for
        CIFAR-10; Zbontar et al. 2021, arXiv:2103.03230, algorithm 1.
    Cost: the encoder three times, and five (dim, dim) products over the batch.
    """

    def __init__(
        self,
        encoder: Annotated[Encoder, "image"],
        *,
        dim: Count = 256,
        redundancy_weight: NotNegative = 1 / 128,
        mixing_weight: NotNegative = 4.0,
        detach_target: bool = False,
        min_area_ratio: Ratio = 0.2,
        colour_strength: Ratio = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp(encoder.dim, encoder.dim, dim)
        self.redundancy_weight = redundancy_weight
        self.mixing_weight = mixing_weight
        self.detach_target = detach_target
        self.min_area_ratio = min_area_ratio
        self.colour_strength = colour_strength

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        images_BCHW = unit_pixels(batch[self.inputs["encoder"]])
        first_BCHW, second_BCHW = (
            random_view(
                images_BCHW,
                moment,
                min_area_ratio=self.min_area_ratio,
                colour_strength=self.colour_strength,
            )
            for _ in range(2)
        )
        other_B = all_ranks(moment.rand(len(images_BCHW))).argsort()
        share = torch.rand((), generator=moment.rng, device=moment.rng.device)
        others_BCHW = own_rows(all_ranks(second_BCHW)[other_B])
        mixed_BCHW = share * first_BCHW + (1 - share) * others_BCHW
        # One after the other: a batch norm sees views or mixtures, not both.
        first_BD, second_BD, mixed_BD = (
            all_ranks(F.normalize(self.projector(self.encoder(views_BCHW)).float(), dim=1))
            for views_BCHW in (first_BCHW, second_BCHW, mixed_BCHW)
        )
        loss = mixed_barlow_twins_loss(
            first_BD,
            second_BD,
            mixed_BD,
            other_B,
            share,
            redundancy_weight=self.redundancy_weight,
            mixing_weight=self.mixing_weight,
            detach_target=self.detach_target,
        )
        return {"loss": loss}


def mixed_barlow_twins_loss(
    first_BD: Tensor,
    second_BD: Tensor,
    mixed_BD: Tensor,
    other_B: Tensor,
    share: Tensor | float,
    *,
    redundancy_weight: float,
    mixing_weight: float,
    detach_target: bool = False,
) -> Tensor:
    """Return how far correlations over the batch are from those that are wanted.

    With a, b and m standardised, their mean 0 and variance 1 over the batch (the biased one, so
    that a number's correlation with itself is 1), and C^uv_de = 1/B sum_i u_id v_ie,

    L = sum_d (C^ab_dd - 1)^2 + w sum_{d != e} (C^ab_de)^2
        + w w' sum_{v in a, b} |C^mv - s C^av - (1 - s) C^ov|^2, o_i = b_other(i).
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        first_BD, second_BD, mixed_BD = map(standardized, (first_BD, second_BD, mixed_BD))
        agreement_DD = correlations(first_BD, second_BD)
        diagonal_D = agreement_DD.diag()
        off_diagonal = agreement_DD.square().sum() - diagonal_D.square().sum()
        loss = (diagonal_D - 1).square().sum() + redundancy_weight * off_diagonal
        between_BD = share * first_BD + (1 - share) * second_BD[other_B]
        for views_BD in (first_BD, second_BD):
            target_DD = correlations(between_BD, views_BD)
            if detach_target:
                target_DD = target_DD.detach()
            distance = (correlations(mixed_BD, views_BD) - target_DD).square().sum()
            loss = loss + redundancy_weight * mixing_weight * distance
        return loss


def standardized(vectors_BD: Tensor) -> Tensor:
    """Return each number with mean 0 and variance 1 over the batch; zeros where it is the same."""
    centred_BD = vectors_BD.float() - vectors_BD.float().mean(0)
    return centred_BD / (centred_BD.square().mean(0) + 1e-12).sqrt()


def correlations(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return the mean over the batch of the products of two standardised vectors, (D, D)."""
    return first_BD.T @ second_BD / len(first_BD)
