"""CLM: each token of a text is told from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.language import (
    TOLD,
    Causal,
    LanguageEncoder,
    LanguageHead,
    language_loss,
    next_tokens,
    told,
)


class Clm(Objective):
    """An encoder of texts in which no token looks at a later one, trained to tell the next token.

    The loss is the mean of -log p(token | those before it) over all tokens of a batch but
    padding, where p is a softmax over products with the embeddings. Each row is one text, from
    its start to its separator, or to where it was cut, unless the encoder packs texts. What is
    exported looks back only, too.

    Args:
        tied: whether the head has the embeddings as its rows, or rows of its own.
    Reference: Bengio et al. 2003, JMLR 3; with a Transformer: Radford et al. 2018, Improving
        language understanding by generative pre-training, section 3.1.
    Predicts:
        loss: the mean of -log p over the text's tokens, in nats.
        tokens: how many these are; a text that was cut has fewer than it would have.
        bytes: how many bytes of the text they stand for; null where the vocabulary loses some.
        salt_score: the median over the tokens of -log p, of a token that is none of the 10
            likeliest 0; high where a text is hard and can be learned.
    Cost: the encoder once, and for each token V x dim multiplications.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)
    predicts: ClassVar[Mapping[str, Literal["number", "label", "vector"]]] = TOLD

    def __init__(self, encoder: LanguageEncoder, *, tied: bool = True) -> None:
        super().__init__()
        self.encoder = Causal(encoder)
        self.head = LanguageHead(encoder, tied=tied)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the loss."""
        tokens_BN = batch[self.inputs["encoder"]]
        return {"loss": language_loss(*next_tokens(self.encoder, self.head, tokens_BN))}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return what `told` says of each text."""
        return told(self.encoder, self.head, batch[self.inputs["encoder"]])
