"""CLM: each token of a text is told from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.language import (
    IGNORED,
    Causal,
    LanguageEncoder,
    LanguageHead,
    language_loss,
)


class Clm(Objective):
    """An encoder of texts in which no token looks at a later one, trained to tell the next token.

    The loss is the mean of -log p(token | those before it) over all tokens of a batch but
    padding, where p is a softmax over products with the embeddings. Each row is one text, from
    its start to its separator, or to where it was cut. What is exported looks back only, too.

    Args:
        tied: whether the head has the embeddings as its rows, or rows of its own.
    Reference: Bengio et al. 2003, JMLR 3; with a Transformer: Radford et al. 2018, Improving
        language understanding by generative pre-training, section 3.1.
    Predicts:
        loss: the mean of -log p over the text's tokens, in nats.
        tokens: how many these are; a text that was cut has fewer than it would have.
    Cost: the encoder once, and for each token V x dim multiplications.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)
    predicts: ClassVar[Mapping[str, Literal["number", "label", "vector"]]] = {
        "loss": "number",
        "tokens": "number",
    }

    def __init__(self, encoder: LanguageEncoder, *, tied: bool = True) -> None:
        super().__init__()
        self.encoder = Causal(encoder)
        self.head = LanguageHead(encoder, tied=tied)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the loss."""
        return {"loss": language_loss(*self._told(batch))}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean of -log p over a text's tokens, in nats, and how many they are."""
        logits_BNV, labels_BN = self._told(batch)
        loss_BN = F.cross_entropy(
            logits_BNV.float().transpose(1, 2), labels_BN, ignore_index=IGNORED, reduction="none"
        )
        tokens_B = (labels_BN != IGNORED).sum(1)
        return {"loss": loss_BN.sum(1) / tokens_B.clamp(min=1), "tokens": tokens_B}

    def _told(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of every next token, and which it is."""
        tokens_BN = batch[self.inputs["encoder"]]
        encoder = self.encoder.encoder
        states_BND = self.encoder.tokens(tokens_BN)[:, encoder.class_tokens : -1]
        labels_BN = tokens_BN[:, 1:].masked_fill(tokens_BN[:, 1:] == encoder.codec.padding, IGNORED)
        return self.head(states_BND, encoder), labels_BN
