"""What objectives over the tokens of texts share: corruption, heads, losses.

V: tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pretraining.codecs import Codec
from pretraining.objective import TokenEncoder
from pretraining.parts.gather import mean_over_ranks

IGNORED = -100
"""The label of a token that is in no loss, as of `cross_entropy`."""


class TokenCodec(Codec, Protocol):
    """A codec of texts whose tokens can be told apart.

    Attributes:
        size: how many tokens there are.
        specials: the ids below it are no text: padding, mask, separator among them.
        starts: of each token whether it begins a word; one after a special token does too.
        bytes_of: how many bytes of a text each token stands for, NaN where that is not known.
    """

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def specials(self) -> int: ...  # noqa: D102
    @property
    def padding(self) -> int: ...  # noqa: D102
    @property
    def separator(self) -> int: ...  # noqa: D102
    @property
    def mask(self) -> int: ...  # noqa: D102
    @property
    def starts(self) -> NDArray[np.bool_]: ...  # noqa: D102
    @property
    def bytes_of(self) -> NDArray[np.float32]: ...  # noqa: D102


class LanguageEncoder(TokenEncoder, Protocol):
    """A TokenEncoder of texts, each item the ids of its tokens."""

    codec: TokenCodec


class LanguageHead(nn.Module):
    """Logits of all tokens: the products with their embeddings, or with rows of its own.

    Reference: Press and Wolf 2017, arXiv:1608.05859 (tied to the embeddings).
    """

    def __init__(self, encoder: LanguageEncoder, *, tied: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(encoder.codec.size))
        own = torch.empty(encoder.codec.size, encoder.dim).uniform_(-0.035, 0.035)
        self.weight = None if tied else nn.Parameter(own)

    def forward(self, states: Tensor, encoder: LanguageEncoder) -> Tensor:
        """Return (..., V) for states (..., dim)."""
        weight = self.weight if self.weight is not None else encoder.embed.get_parameter("weight")
        return F.linear(states, weight, self.bias)


def language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log softmax(logits)[label] over labels that are not ignored, else 0.

    Of several ranks each returns its sum over the mean number of labels a rank, so that the mean
    over ranks is that over all labels. The parts of an accumulated batch weigh alike.

    Args:
        logits: (..., V).
        labels: int64 (...).
    """
    with torch.autocast(logits.device.type, enabled=False):
        total = F.cross_entropy(
            logits.float().flatten(0, -2),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
    return over_ranks(total, (labels != IGNORED).sum())


def over_ranks(total: Tensor, number: Tensor) -> Tensor:
    """Return a rank's sum over the mean number of terms a rank; 0 where there is none."""
    return total / mean_over_ranks(number.float()).clamp(min=1e-6)


def masked(
    tokens_BN: Tensor,
    draws_BN3: Tensor,
    codec: TokenCodec,
    *,
    mask_ratio: float,
    random_ratio: float = 0.1,
    kept_ratio: float = 0.1,
    whole_words: bool = False,
) -> tuple[Tensor, Tensor]:
    """Corrupt some tokens of each text; return the tokens, and labels for these places only.

    A token is chosen with probability `mask_ratio`, and so is the one of the least draw, so that
    every text has a label; special tokens are never chosen. What is chosen becomes the mask, or
    any token but a special one, or stays.

    Args:
        tokens_BN: int64.
        draws_BN3: uniform in [0, 1).
        codec: that the tokens are of.
        mask_ratio: the share of the tokens that is chosen.
        random_ratio: the share of these that becomes a token at random.
        kept_ratio: the share of these that stays.
        whole_words: whether the tokens of a word are chosen together.
    Reference: Devlin et al. 2018, arXiv:1810.04805, section 3.1; whole words as in its code.
    """
    choice_BN, fate_BN, other_BN = draws_BN3.unbind(2)
    text_BN = tokens_BN >= codec.specials
    if whole_words:
        choice_BN = choice_BN.gather(1, words(tokens_BN, codec))
    choice_BN = choice_BN.masked_fill(~text_BN, torch.inf)
    least_B1 = choice_BN.min(1, keepdim=True).values
    chosen_BN = text_BN & ((choice_BN < mask_ratio) | (choice_BN == least_B1))
    others = codec.size - codec.specials
    random_BN = codec.specials + (other_BN * others).long().clamp(max=others - 1)
    corrupted_BN = torch.where(fate_BN < random_ratio, random_BN, tokens_BN)
    corrupted_BN = corrupted_BN.masked_fill(fate_BN >= random_ratio + kept_ratio, codec.mask)
    return (
        torch.where(chosen_BN, corrupted_BN, tokens_BN),
        tokens_BN.masked_fill(~chosen_BN, IGNORED),
    )


def words(tokens_BN: Tensor, codec: TokenCodec) -> Tensor:
    """Return which word of its text a token belongs to, (B, N); a special one is its own."""
    special_BN = tokens_BN < codec.specials
    begins_BN = torch.from_numpy(codec.starts).to(tokens_BN.device)[tokens_BN] | special_BN
    begins_BN = begins_BN | F.pad(special_BN[:, :-1], (1, 0), value=True)
    return begins_BN.cumsum(1) - 1


def causal(number: int, device: torch.device) -> Tensor:
    """Return bool (N, N): a token may look at itself and at those before it."""
    return torch.ones(number, number, dtype=torch.bool, device=device).tril()


class Causal(nn.Module):
    """An encoder of which no token looks at a later one."""

    def __init__(self, encoder: LanguageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim
        self.codec = encoder.codec

    def tokens(self, tokens_BN: Tensor) -> Tensor:
        """Return (B, class_tokens + N, dim)."""
        return self.encoder.tokens(tokens_BN, attend=causal(tokens_BN.shape[1], tokens_BN.device))

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Return (B, dim)."""
        return self.encoder.pool(self.tokens(tokens_BN), tokens_BN)


def next_tokens(encoder: Causal, head: LanguageHead, tokens_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of every next token, (B, N - 1, V), and which it is; padding is ignored."""
    inner = encoder.encoder
    states_BND = encoder.tokens(tokens_BN)[:, inner.class_tokens : -1]
    labels_BN = tokens_BN[:, 1:].masked_fill(tokens_BN[:, 1:] == inner.codec.padding, IGNORED)
    return head(states_BND, inner), labels_BN


TOLD: Mapping[str, Literal["number", "label", "vector"]] = {
    "loss": "number", "tokens": "number", "bytes": "number", "salt_score": "number",
}  # fmt: skip
"""What `told` returns, as an objective's `predicts`."""
LIKELIEST = 10


def told(encoder: Causal, head: LanguageHead, tokens_BN: Tensor) -> dict[str, Tensor]:
    """Return what a language model says of texts, each (B,).

    Returns:
        loss: the mean of -log p over the tokens that are told, in nats; the separator is one.
        tokens: how many these are; a text that was cut has fewer than it would have.
        bytes: how many bytes of the text these stand for; NaN where the vocabulary loses some.
        salt_score: the median over these tokens of -log p, in nats, of a token that is none of the
            10 likeliest 0: high where the model is unsure but not lost. NaN without tokens.
    Reference: of the last Rawat et al. 2024, arXiv:2410.18779, section 4, there of an early
        checkpoint of the small model.
    """
    logits_BNV, labels_BN = next_tokens(encoder, head, tokens_BN)
    codec = encoder.codec
    loss_BN = F.cross_entropy(
        logits_BNV.float().transpose(1, 2), labels_BN, ignore_index=IGNORED, reduction="none"
    )
    real_BN = labels_BN != IGNORED
    bytes_V = torch.from_numpy(codec.bytes_of).to(labels_BN.device)
    bytes_BN = bytes_V[labels_BN.clamp(min=0)].masked_fill(~real_BN, 0)
    tokens_B = real_BN.sum(1)
    return {
        "loss": loss_BN.sum(1) / tokens_B.clamp(min=1),
        "tokens": tokens_B,
        "bytes": bytes_BN.sum(1),
        "salt_score": salt_score(logits_BNV, labels_BN, loss_BN),
    }


def salt_score(logits_BNV: Tensor, labels_BN: Tensor, loss_BN: Tensor) -> Tensor:
    """Return (B,), the median over a text's tokens of their loss, 0 where it is no likely token."""
    own_BN1 = logits_BNV.gather(2, labels_BN.clamp(min=0)[:, :, None])
    is_likely_BN = (logits_BNV > own_BN1).sum(2) < LIKELIEST
    learnable_BN = (loss_BN * is_likely_BN).masked_fill(labels_BN == IGNORED, torch.nan)
    return learnable_BN.nanquantile(0.5, 1)
