"""ELECTRA: a generator fills hidden tokens in, a discriminator tells which are replaced."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.params import Positive, Share
from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.language import (
    IGNORED,
    LanguageEncoder,
    LanguageHead,
    language_loss,
    masked,
    over_ranks,
)


class Electra(Objective):
    """Two encoders of texts: what the first fills in, the second tells from what was there.

    The generator is trained as `mlm`, with every chosen token masked. A token drawn from its p
    takes the place of each; the discriminator says of every token whether it is the text's own,
    and a drawn one that happens to be is. L = L_generator + weight x L_discriminator. A draw has
    no gradient, so neither has the discriminator's loss in the generator.

    Each has embeddings of its own, where the paper shares them. A generator of a quarter to half
    the discriminator's width learns best there. Special tokens are never drawn nor judged.

    Args:
        mask_ratio: the share of the tokens that is hidden.
        weight: of the discriminator's loss.
    Reference: Clark et al. 2020, arXiv:2003.10555, section 2.
    Cost: both encoders once, and for each hidden token V x dim multiplications.
    """

    aligned: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    exports: ClassVar[tuple[str, ...]] = ("discriminator",)

    def __init__(
        self,
        generator: LanguageEncoder,
        discriminator: LanguageEncoder,
        *,
        mask_ratio: Share = 0.15,
        weight: Positive = 50.0,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        small, dim = generator.dim, discriminator.dim
        self.transform = nn.Sequential(nn.Linear(small, small), nn.GELU(), nn.LayerNorm(small))
        self.head = LanguageHead(generator, tied=True)
        self.judge = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))
        self.mask_ratio = mask_ratio
        self.weight = weight

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return the loss, and both its parts."""
        tokens_BN = batch[self.inputs["discriminator"]]
        codec = self.generator.codec
        draws_BN4 = moment.rand(*tokens_BN.shape, 4)
        hidden_BN, labels_BN = masked(
            tokens_BN, draws_BN4[..., :3], codec,
            mask_ratio=self.mask_ratio, random_ratio=0, kept_ratio=0,
        )  # fmt: skip
        chosen_BN = labels_BN != IGNORED
        states_BND = self.generator.tokens(hidden_BN)[:, self.generator.class_tokens :]
        logits_MV = self.head(self.transform(states_BND[chosen_BN]), self.generator)  # M: chosen
        filled_BN = tokens_BN.clone()
        filled_BN[chosen_BN] = drawn(logits_MV, draws_BN4[..., 3][chosen_BN], codec.specials)
        states_BND = self.discriminator.tokens(filled_BN)[:, self.discriminator.class_tokens :]
        judged_BN = tokens_BN >= codec.specials
        scores_BN = self.judge(states_BND).squeeze(2)
        generated = language_loss(logits_MV, labels_BN[chosen_BN])
        told = replaced_loss(scores_BN, filled_BN != tokens_BN, judged_BN)
        loss = generated + self.weight * told
        return {"loss": loss, "generator": generated.detach(), "discriminator": told.detach()}


@torch.no_grad()
def drawn(logits_MV: Tensor, draws_M: Tensor, specials: int) -> Tensor:
    """Return tokens drawn from softmax(logits), none below `specials`.

    It is the first token at which the sum of probabilities passes the draw: one number a token,
    where a Gumbel draw takes V.

    Args:
        logits_MV: of every token.
        draws_M: uniform in [0, 1).
        specials: the ids below it are no text.
    """
    sums_MV = logits_MV[:, specials:].double().softmax(1).cumsum(1)
    # The last sum need not be 1 to the bit.
    passed_M = torch.searchsorted(sums_MV, draws_M[:, None] * sums_MV[:, -1:], right=True)[:, 0]
    return specials + passed_M.clamp(max=sums_MV.shape[1] - 1)


def replaced_loss(scores_BN: Tensor, replaced_BN: Tensor, judged_BN: Tensor) -> Tensor:
    """Return the mean over judged tokens of -log sigmoid(s) where replaced, else -log sigmoid(-s).

    Over several ranks as `language_loss`.
    """
    with torch.autocast(scores_BN.device.type, enabled=False):
        loss_BN = F.binary_cross_entropy_with_logits(
            scores_BN.float(), replaced_BN.float(), reduction="none"
        )
    return over_ranks((loss_BN * judged_BN).sum(), judged_BN.sum())
