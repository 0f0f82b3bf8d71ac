"""Distillation: a student's features follow those of a teacher that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretraining.objective import Batch, Column, Encoder, Moment, Objective
from pretraining.parts.gather import mean_over_ranks


class Distillation(Objective):
    """A student, mapped into the teacher's space, trained by `feature_loss`.

    Both see the record as it is, without views, so teacher and student may read different
    payloads. The linear map is thrown away.

    Columns:
        weight: of each record in the loss, 0 where it is null or below; 1 where it is not bound.
    Reference: Romero et al. 2015, arXiv:1412.6550, section 2.2 (a regressor from the student's
        to the teacher's features); unit vectors as in Grill et al. 2020, arXiv:2006.07733,
        equation 2.
    Cost: both encoders once, the teacher without gradients.
    """

    columns: ClassVar[Mapping[str, Column]] = {"weight": Column("number", optional=True)}
    exports: ClassVar[tuple[str, ...]] = ("student",)
    fixed: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(self, student: Encoder, teacher: Encoder) -> None:
        super().__init__()
        self.student = student
        self.map = nn.Linear(student.dim, teacher.dim)
        self.teacher = teacher

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the loss, and the mean cosine of student and teacher."""
        with torch.no_grad():
            taught_BD = self.teacher(batch[self.inputs["teacher"]])
        learned_BD = self.map(self.student(batch[self.inputs["student"]]))
        weight_B = batch["weight"].nan_to_num().clamp(min=0) if "weight" in batch else None
        cosine = F.cosine_similarity(learned_BD.detach().float(), taught_BD.float()).mean()
        return {"loss": feature_loss(learned_BD, taught_BD, weight_B), "cosine": cosine}


def feature_loss(learned_BD: Tensor, taught_BD: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Return the weighted mean of |u / |u| - v / |v||^2 = 2 - 2 cos(u, v); 0 where no weight is.

    L = sum_i w_i (2 - 2 cos(u_i, v_i)) / sum_i w_i.
    """
    with torch.autocast(learned_BD.device.type, enabled=False):
        cosine_B = F.cosine_similarity(learned_BD.float(), taught_BD.float(), dim=1)
        if weight_B is None:
            return (2 - 2 * cosine_B).mean()
        total = mean_over_ranks(weight_B.sum()).clamp(min=torch.finfo(torch.float32).tiny)
        return (weight_B * (2 - 2 * cosine_B)).sum() / total
