"""SALT: a small language model teaches a larger one early, which then learns by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.params import Positive, Ratio
from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.language import (
    IGNORED,
    TOLD,
    Causal,
    LanguageEncoder,
    LanguageHead,
    language_loss,
    next_tokens,
    over_ranks,
    told,
)
from pretraining.parts.masks import rows_of


class Salt(Objective):
    """A language model that follows a smaller, weaker one for the first share of its training.

    While progress < stage_ratio the loss of a token is (1 - w) CE(token) + w CE(q), where
    q = softmax(teacher's logits / temperature); after that it is CE(token) alone, that of `clm`,
    and the teacher is not run. The teacher begins with the weights and the head of a `clm`
    training with `tied = true`, on the same vocabulary and length, and stays as it is.

    Which texts the first stage sees is the recipe's: see docs/training.md.

    Args:
        stage_ratio: the share of the training in which the teacher is followed.
        teacher_weight: w.
        temperature: of the teacher; below 1 its probabilities are sharpened.
        tied: whether the head has the embeddings as its rows, or rows of its own.
    Reference: Rawat et al. 2024, arXiv:2410.18779, section 4 (SALT); next tokens alone, in place
        of its mixture of denoisers.
    Predicts:
        loss, tokens, bytes, salt_score: as `clm`.
    Cost: that of `clm`; in the first stage the teacher too, without gradients.
    """

    aligned: ClassVar[tuple[str, ...]] = ("student", "teacher")
    exports: ClassVar[tuple[str, ...]] = ("student",)
    fixed: ClassVar[tuple[str, ...]] = ("teacher",)
    heads: ClassVar[tuple[str, ...]] = ("head",)
    heads_of: ClassVar[Mapping[str, str]] = {"teacher": "teacher_head"}
    predicts: ClassVar[Mapping[str, Literal["number", "label", "vector"]]] = TOLD

    def __init__(
        self,
        student: LanguageEncoder,
        teacher: LanguageEncoder,
        *,
        stage_ratio: Ratio = 0.173,
        teacher_weight: Ratio = 0.667,
        temperature: Positive = 0.25,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.student = Causal(student)
        self.head = LanguageHead(student, tied=tied)
        self.teacher = Causal(teacher)
        self.teacher_head = LanguageHead(teacher, tied=True)
        self.stage_ratio = stage_ratio
        self.teacher_weight = teacher_weight
        self.temperature = temperature

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        tokens_BN = batch[self.inputs["student"]]
        logits_BNV, labels_BN = next_tokens(self.student, self.head, tokens_BN)
        loss = language_loss(logits_BNV, labels_BN)
        if moment.progress >= self.stage_ratio:
            return {"loss": loss}
        with torch.no_grad():
            taught_BNV, _ = next_tokens(self.teacher, self.teacher_head, tokens_BN)
        followed = soft_loss(logits_BNV, taught_BNV, labels_BN, temperature=self.temperature)
        return {"loss": (1 - self.teacher_weight) * loss + self.teacher_weight * followed}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return what `told` says of each text."""
        return told(self.student, self.head, batch[self.inputs["student"]])


def soft_loss(
    logits_BNV: Tensor, taught_BNV: Tensor, labels_BN: Tensor, *, temperature: float
) -> Tensor:
    """Return the mean of -sum_v q_v log p_v over tokens that are not ignored.

    p = softmax(logits), q = softmax(taught / temperature). Over several ranks as `language_loss`.
    """
    real_T = (labels_BN != IGNORED).flatten()  # T: all tokens; M: those that are computed
    rows = rows_of(real_T)
    with torch.autocast(logits_BNV.device.type, enabled=False):
        taught_MV = taught_BNV.flatten(0, 1)[rows].float() / temperature
        target_MV = taught_MV.softmax(1) * real_T[rows, None]
        logits_MV = logits_BNV.flatten(0, 1)[rows].float()
        total = F.cross_entropy(logits_MV, target_MV, reduction="sum")
    return over_ranks(total, real_T.sum())
