"""Pre-trained distillation: a student of texts learns its teacher's probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import DataError
from contracts.params import Count
from pretraining.objective import Batch, Column, Encoder, Moment, Objective


class PretrainedDistillation(Objective):
    """A student of texts and a linear head over it, trained by `soft_cross_entropy`.

    The teacher's probabilities come from what another training predicts of these texts, or from
    a file of one's own; no label is read. The student begins best with the weights of `mlm`,
    learned on any texts: that is the first of the paper's steps, this one the second.

    Columns:
        probabilities: the teacher's, one for each class; a record's add up to 1.
    Args:
        classes: how many there are, as many as the teacher has probabilities.
    Predicts:
        label: the class of the largest probability, the first is 0.
        probabilities: one for each class.
    Reference: Turc et al. 2019, arXiv:1908.08962, section 3.
    Cost: the student once.
    """

    columns: ClassVar[Mapping[str, Column]] = {"probabilities": Column("vector")}
    exports: ClassVar[tuple[str, ...]] = ("student",)
    heads: ClassVar[tuple[str, ...]] = ("head",)
    predicts: ClassVar[Mapping[str, Literal["number", "label", "vector"]]] = {
        "label": "label",
        "probabilities": "vector",
    }

    def __init__(self, student: Annotated[Encoder, "text"], *, classes: Count) -> None:
        super().__init__()
        self.student = student
        self.head = nn.Linear(student.dim, classes)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the loss."""
        taught_BC = batch["probabilities"]
        if taught_BC.shape[1] != self.head.out_features:
            raise DataError(
                f"pretrain.columns.probabilities: has {taught_BC.shape[1]} classes, "
                f"but classes is {self.head.out_features}."
            )
        return {"loss": soft_cross_entropy(self._logits(batch), taught_BC)}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return the class that is likeliest, and the probability of each."""
        probabilities_BC = self._logits(batch).float().softmax(1)
        return {"label": probabilities_BC.argmax(1), "probabilities": probabilities_BC}

    def _logits(self, batch: Batch) -> Tensor:
        logits_BC: Tensor = self.head(self.student(batch[self.inputs["student"]]))
        return logits_BC


def soft_cross_entropy(logits_BC: Tensor, taught_BC: Tensor) -> Tensor:
    """Return the mean over records of -sum_c p_c log softmax_c, p the teacher's probabilities."""
    return -(taught_BC * F.log_softmax(logits_BC.float(), dim=1)).sum(1).mean()
