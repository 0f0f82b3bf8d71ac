"""VoCo: of every crop of a volume it is said how far it overlaps each of the volume's parts."""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError, Problem
from contracts.params import Count, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.parts.ema import Ema
from pretraining.parts.gather import mean_over_ranks


class VoCo(Objective):
    """An encoder and a head that is thrown away, trained by `voco_loss` on crops of volumes.

    The volume is cut into parts, `grid` along its rows and `grid` along its columns, each with all
    slices; random crops have a part's size. How alike a crop is to a part is the cosine of their
    vectors, nothing where it is below zero: the mean of that of the student's crop with the
    teacher's part, and of the teacher's crop with the student's part. It is to be the share of the
    crop that lies in the part. Crops keep their voxels, where the authors enlarge or shrink
    them; they are mirrored and their values changed, but not turned.

    Reads:
        encoder: of volumes, and of crops of them.
    Args:
        grid: parts along the rows and along the columns; it divides both. The paper has 4.
        crops: random ones of each volume.
        hidden: width of the head's layers, three; the paper has 2048.
        teacher_momentum: the share of itself that the teacher keeps in a step.
        flip_ratio: how often a crop or part is mirrored, along each axis by itself.
        intensity: how far values are scaled and moved, as a share of the whole range.
        regularization: the weight of what drives the parts of a volume apart.
    Reference: Wu et al. 2024, arXiv:2402.17300, section 3, and the authors' code, which adds
        1e-6 within the logarithm.
    Cost: the encoder twice, the teacher without gradients, on grid^2 + crops pieces of a volume.
    Raises:
        ConfigError: the grid does not divide the encoder's, or its parts do not suit the encoder.
    """

    def __init__(
        self,
        encoder: Annotated[Encoder, "volume"],
        *,
        grid: Annotated[int, Field(ge=2, le=16)] = 3,
        crops: Count = 2,
        hidden: Count = 256,
        teacher_momentum: Ratio = 0.9,
        flip_ratio: Ratio = 0.2,
        intensity: Ratio = 0.1,
        regularization: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__()
        channels, slices, rows, columns = encoder.codec.shape
        if rows % grid or columns % grid:
            message = f"{grid} parts do not tile volumes of {rows} rows and {columns} columns."
            raise ConfigError([Problem("pretrain.grid", message)])
        self.side = rows // grid, columns // grid
        if hasattr(encoder, "grid"):
            try:
                encoder.grid(torch.empty(1, channels, slices, *self.side, device="meta"))
            except ConfigError as error:
                raise ConfigError([Problem("pretrain.grid", str(error))]) from None
        self.encoder = encoder
        self.head = _head(encoder.dim, hidden)
        self.teacher = Ema(self._student())
        self.grid, self.crops = grid, crops
        self.teacher_momentum = teacher_momentum
        self.flip_ratio, self.intensity = flip_ratio, intensity
        self.regularization = regularization

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss, its three terms, and how often a crop's likest part is the right one."""
        x_BCZYX = batch[self.inputs["encoder"]]
        count, parts = len(x_BCZYX), self.grid**2
        rows, columns = (side * (self.grid - 1) for side in self.side)
        down_BR, right_BR = moment.rand(count, self.crops, 2).unbind(2)
        starts_BR2 = torch.stack([down_BR * (rows + 1), right_BR * (columns + 1)], dim=2).long()
        pieces = torch.cat([self._parts(x_BCZYX), crops_at(x_BCZYX, starts_BR2, self.side)], dim=1)
        flat = self._changed(pieces, moment).flatten(0, 1)
        learned_BPD = self.head(self.encoder(flat)).view(count, parts + self.crops, -1)
        taught_BPD = self.teacher(flat).view(learned_BPD.shape)
        found_BRK = (
            cosines(learned_BPD[:, parts:], taught_BPD[:, :parts])
            + cosines(taught_BPD[:, parts:], learned_BPD[:, :parts])
        ) / 2
        shares_BRK = overlaps(starts_BR2, self.side, self.grid)
        near, far = voco_loss(found_BRK, shares_BRK)
        apart = parting_loss(learned_BPD[:, :parts])
        return {
            "loss": near + far + self.regularization * apart,
            "near": near,
            "far": far,
            "apart": apart,
            "placed_ratio": (found_BRK.argmax(2) == shares_BRK.argmax(2)).float().mean(),
        }

    def after_step(self, moment: Moment) -> None:  # noqa: ARG002
        """Move the teacher."""
        self.teacher.follow(self._student(), self.teacher_momentum)

    def _student(self) -> nn.Module:
        return nn.Sequential(cast(nn.Module, self.encoder), self.head)

    def _parts(self, x_BCZYX: Tensor) -> Tensor:
        """Return the parts of each volume, row by row, (B, K, C, Z, y, x)."""
        height, width = self.side
        cut = x_BCZYX.view(*x_BCZYX.shape[:3], self.grid, height, self.grid, width)
        parts_BPCZYX: Tensor = cut.permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 2)
        return parts_BPCZYX

    @torch.no_grad()
    def _changed(self, pieces_BPCZYX: Tensor, moment: Moment) -> Tensor:
        """Mirror pieces along each axis at times, and scale and move their values."""
        count, pieces = pieces_BPCZYX.shape[:2]
        drawn_BP5 = moment.rand(count, pieces, 5)
        for axis in range(3):
            chosen_BP = drawn_BP5[:, :, axis] < self.flip_ratio
            mirrored = pieces_BPCZYX.flip(3 + axis)
            pieces_BPCZYX = torch.where(_wide(chosen_BP), mirrored, pieces_BPCZYX)
        scale_BP, shift_BP = ((2 * drawn_BP5[:, :, 3:] - 1) * self.intensity).unbind(2)
        return pieces_BPCZYX * _wide(1 + scale_BP) + _wide(shift_BP)


def crops_at(x_BCZYX: Tensor, starts_BR2: Tensor, side: tuple[int, int]) -> Tensor:
    """Return crops of all slices, (B, R, C, Z, y, x).

    Args:
        x_BCZYX: the volumes.
        starts_BR2: the first row and the first column of each.
        side: rows and columns of a crop.
    """
    device = x_BCZYX.device
    rows_BRy, columns_BRx = (
        starts_BR2[:, :, axis, None] + torch.arange(length, device=device)
        for axis, length in enumerate(side)
    )
    own_B111 = torch.arange(len(x_BCZYX), device=device)[:, None, None, None]
    x_BYXCZ = x_BCZYX.permute(0, 3, 4, 1, 2)
    cut = x_BYXCZ[own_B111, rows_BRy[:, :, :, None], columns_BRx[:, :, None, :]]
    return cut.permute(0, 1, 4, 5, 2, 3)


def overlaps(starts_BR2: Tensor, side: tuple[int, int], grid: int) -> Tensor:
    """Return the share of each crop that lies in each part, row by row, (B, R, grid^2).

    Within the volume, which the parts tile, the shares of a crop add up to 1.
    """
    shares = []
    for axis, length in enumerate(side):
        first_g = torch.arange(grid, device=starts_BR2.device) * length
        distance_BRg = (starts_BR2[:, :, axis, None] - first_g).abs()
        shares.append((1 - distance_BRg / length).clamp(min=0))
    return (shares[0][:, :, :, None] * shares[1][:, :, None, :]).flatten(2)


def cosines(one_BRD: Tensor, other_BKD: Tensor) -> Tensor:
    """Return the cosines of vectors of one volume that are above zero, (B, R, K)."""
    with torch.autocast(one_BRD.device.type, enabled=False):
        one_BRD = F.normalize(one_BRD.float(), dim=2)
        return (one_BRD @ F.normalize(other_BKD.float(), dim=2).transpose(1, 2)).relu()


def voco_loss(found_BRK: Tensor, shares_BRK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss over the parts that a crop overlaps, and over those that it does not.

    With y the share and s the cosine: sum of -y log(1 - |y - s| + 1e-6) over sum of y; and the
    mean of s^2 where y is 0.
    """
    weight = mean_over_ranks(shares_BRK.sum())
    near = -(shares_BRK * (1 - (shares_BRK - found_BRK).abs() + 1e-6).log()).sum() / weight
    none_BRK = shares_BRK == 0
    number = mean_over_ranks(none_BRK.sum().float()).clamp(min=1)
    return near, (found_BRK.square() * none_BRK).sum() / number


def parting_loss(parts_BKD: Tensor) -> Tensor:
    """Return the mean of the squared cosines above zero of two parts of a volume.

    The second of a pair gets no gradient.
    """
    squared_BKK = cosines(parts_BKD, parts_BKD.detach()).square()
    number = squared_BKK.shape[1]
    first, second = torch.triu_indices(number, number, offset=1)
    return squared_BKK[:, first, second].mean()


def _head(dim: int, hidden: int) -> nn.Sequential:
    # What a norm follows needs no bias.
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden, affine=False),
    )


def _wide(values_BP: Tensor) -> Tensor:
    return values_BP[:, :, None, None, None, None]
