"""MLM: tokens of a text are hidden and told from all others around them."""

from __future__ import annotations

from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Ratio, Share
from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.language import (
    IGNORED,
    LanguageEncoder,
    LanguageHead,
    language_loss,
    masked,
)


class Mlm(Objective):
    """An encoder of texts, trained to give back the tokens that were hidden from it.

    Of a text's tokens a share is chosen; most of these are masked, some replaced by a token at
    random, some stay as they are. The loss is the mean over the chosen ones of -log p(token),
    where p is a softmax over products with the embeddings.

    Args:
        mask_ratio: the share of the tokens that is chosen.
        random_ratio: the share of these that becomes a token at random.
        kept_ratio: the share of these that stays; the others are masked.
        whole_words: whether the tokens of a word are chosen together.
        tied: whether the head has the embeddings as its rows, or rows of its own.
    Reference: Devlin et al. 2018, arXiv:1810.04805, section 3.1 and appendix A.1, without the
        next sentence; whole words as in its code.
    Cost: the encoder once, and for each chosen token V x dim multiplications.
    """

    def __init__(
        self,
        encoder: LanguageEncoder,
        *,
        mask_ratio: Share = 0.15,
        random_ratio: Ratio = 0.1,
        kept_ratio: Ratio = 0.1,
        whole_words: bool = False,
        tied: bool = True,
    ) -> None:
        super().__init__()
        if random_ratio + kept_ratio > 1:
            raise ConfigError(
                "mlm: random_ratio and kept_ratio are shares of the same tokens: "
                f"{random_ratio} + {kept_ratio} is more than 1."
            )
        self.encoder = encoder
        dim = encoder.dim
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.head = LanguageHead(encoder, tied=tied)
        self.mask_ratio = mask_ratio
        self.random_ratio = random_ratio
        self.kept_ratio = kept_ratio
        self.whole_words = whole_words

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss."""
        tokens_BN = batch[self.inputs["encoder"]]
        corrupted_BN, labels_BN = masked(
            tokens_BN,
            moment.rand(*tokens_BN.shape, 3),
            self.encoder.codec,
            mask_ratio=self.mask_ratio,
            random_ratio=self.random_ratio,
            kept_ratio=self.kept_ratio,
            whole_words=self.whole_words,
        )
        states_BND = self.encoder.tokens(corrupted_BN)[:, self.encoder.class_tokens :]
        chosen_BN = labels_BN != IGNORED
        logits_MV = self.head(self.transform(states_BND[chosen_BN]), self.encoder)  # M: chosen
        return {"loss": language_loss(logits_MV, labels_BN[chosen_BN])}
