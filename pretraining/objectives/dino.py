"""DINO: a student gives every crop the prototypes that its slow teacher gives large ones."""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError, Problem
from contracts.params import Count, Positive, Ratio
from pretraining.objective import Batch, Encoder, Moment, Objective
from pretraining.parts.centre import Centre
from pretraining.parts.ema import Ema, momentum_at
from pretraining.parts.heads import PrototypeHead
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import multi_crop


class Dino(Objective):
    """An encoder and a head that is thrown away, trained by `dino_loss` on `multi_crop` views.

    The teacher is a moving average of both; it sees the two global views and is centred. What is
    exported is the student. Sizes of the head and the number of local views are for small
    encoders; the paper has 65,536 prototypes, widths of 2,048 and 256, and up to ten local views.
    Temperatures are those of the authors' code; the paper's long trainings end at 0.07.

    Args:
        prototypes: numbers of the head's result.
        hidden: width of the head's layers.
        bottleneck: numbers of a prototype.
        batch_norm: whether the head's layers are batch-normalised. The paper's are not; but a
            small fresh encoder gives all records nearly one vector, and a short training does not
            draw them apart.
        student_temperature: of the student's softmax.
        first_temperature: of the teacher's softmax at the start.
        teacher_temperature: that it rises to, linearly.
        temperature_warmup_ratio: the share of the steps in which it rises.
        teacher_momentum: the share of itself that the teacher keeps in a step; it rises to 1 on
            half a cosine.
        centre_momentum: likewise of the centre; it stays.
        local_crops: how many local views of each image.
        local_px: their side, which the encoder must take; half of its pictures' where not given.
        split_area_ratio: the least share of a picture that a global view keeps, and the largest
            that a local one does.
        min_area_ratio: the least share that a local one keeps.
        colour_strength: how far colours are changed; 0 leaves them.
    Reference: Caron et al. 2021, arXiv:2104.14294, algorithm 1 and appendix C; without the last
        layer's rest in the first epoch.
    Cost: the encoder four times, the teacher's two without gradients, and the local views.
    """

    def __init__(
        self,
        encoder: Annotated[Encoder, "image"],
        *,
        prototypes: Count = 1024,
        hidden: Count = 256,
        bottleneck: Count = 64,
        batch_norm: bool = True,
        student_temperature: Positive = 0.1,
        first_temperature: Positive = 0.04,
        teacher_temperature: Positive = 0.04,
        temperature_warmup_ratio: Ratio = 0.3,
        teacher_momentum: Ratio = 0.996,
        centre_momentum: Ratio = 0.9,
        local_crops: Annotated[int, Field(ge=0)] = 4,
        local_px: Count | None = None,
        split_area_ratio: Ratio = 0.4,
        min_area_ratio: Ratio = 0.05,
        colour_strength: Ratio = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = PrototypeHead(
            encoder.dim, prototypes, hidden=hidden, bottleneck=bottleneck, batch_norm=batch_norm
        )
        self.teacher = Ema(self._student())
        self.centre = Centre(prototypes)
        self.student_temperature = student_temperature
        self.first_temperature = first_temperature
        self.teacher_temperature = teacher_temperature
        self.temperature_warmup_ratio = temperature_warmup_ratio
        self.teacher_momentum = teacher_momentum
        self.centre_momentum = centre_momentum
        self.local_crops = local_crops
        self.local_px = encoder.codec.shape[-1] // 2 if local_px is None else local_px
        self.split_area_ratio = split_area_ratio
        self.min_area_ratio = min_area_ratio
        self.colour_strength = colour_strength
        if hasattr(encoder, "grid"):
            try:
                encoder.grid(torch.empty(1, 3, self.local_px, self.local_px))
            except ConfigError as error:
                raise ConfigError([Problem("pretrain.local_px", str(error))]) from None

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        images_BCHW = unit_pixels(batch[self.inputs["encoder"]])
        large, small = multi_crop(
            images_BCHW,
            moment,
            local_crops=self.local_crops,
            local_px=self.local_px,
            split_area_ratio=self.split_area_ratio,
            min_area_ratio=self.min_area_ratio,
            colour_strength=self.colour_strength,
        )
        taught = self.centre(self.teacher(torch.cat(large)))
        # A pass for each side.
        features = [self.encoder(torch.cat(views)) for views in (large, small) if views]
        learned = self.head(torch.cat(features))
        size = len(images_BCHW)
        loss = dino_loss(
            torch.stack(learned.split(size)),
            torch.stack(taught.split(size)),
            student_temperature=self.student_temperature,
            teacher_temperature=self.temperature_at(moment.progress),
        )
        return {"loss": loss}

    def temperature_at(self, progress: float) -> float:
        """Return the teacher's temperature."""
        if progress >= self.temperature_warmup_ratio:
            return self.teacher_temperature
        done = progress / self.temperature_warmup_ratio
        return self.first_temperature + done * (self.teacher_temperature - self.first_temperature)

    def after_step(self, moment: Moment) -> None:
        """Move the teacher and the centre."""
        momentum = momentum_at(moment.progress, self.teacher_momentum)
        self.teacher.follow(self._student(), momentum)
        self.centre.follow(self.centre_momentum)

    def _student(self) -> nn.Module:
        return nn.Sequential(cast(nn.Module, self.encoder), self.head)


def dino_loss(
    learned_VBK: Tensor,
    taught_GBK: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Return the mean cross-entropy of the student's softmax with the teacher's of other views.

    L = mean over g, v != g and b of -sum_k p_gbk log q_vbk, p = softmax(taught / t_teacher),
    q = softmax(learned / t_student).

    Args:
        learned_VBK: of every view; the first G are those of the teacher.
        taught_GBK: of the global views, centred.
        student_temperature: the lower, the sharper.
        teacher_temperature: the lower, the sharper.
    """
    with torch.autocast(learned_VBK.device.type, enabled=False):
        target_GBK = (taught_GBK.float() / teacher_temperature).softmax(2)
        log_VBK = (learned_VBK.float() / student_temperature).log_softmax(2)
        cost_GV = -torch.einsum("gbk,vbk->gv", target_GBK, log_VBK) / learned_VBK.shape[1]
    # By number: to index by a mask is to wait for the device.
    glob, every = (range(count) for count in cost_GV.shape)
    return torch.stack([cost_GV[g, v] for g in glob for v in every if v != g]).mean()
