"""A small Transformer over the tokens of a vocabulary, by itself over bytes."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count
from contracts.tokens import Vocabulary
from pretraining.parts.transformer import TextTrunk
from pretraining.parts.vocabulary import VocabularyCodec


class TextTransformer(TextTrunk):
    """Embed tokens, mix them in blocks, and average: int64 (B, N) to (B, dim).

    Embeddings are scaled by the root of the width, so that they can be small as rows of a head
    that is tied to them. Positions are learned. Padding is never looked at and in no average.

    Args:
        width: numbers of a vector; a multiple of heads.
        depth: blocks.
        heads: of the attention.
        max_tokens: longer texts are cut; the start and the separator count.
        vocabulary: the table of byte_pair_encoding or word_piece, which a recipe names as
            "fit.<alias>"; the 256 bytes where not given.
        packing: how texts stand in the rows of a training; one a row where not given. "cut": end to
            end with a separator behind each, and cut at the end of every row, so that there is no
            padding; "whole": as many as fit, none of them cut. Tokens may look at other texts of
            their row. Rows are no records then, so that a packed encoder goes with no other column.
    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.4 (the scale); learned positions
        as in Devlin et al. 2018, arXiv:1810.04805.
    Cost: one row of width numbers a token of the vocabulary; a token of a text costs about
        12 x width^2 x depth multiplications.
    Raises:
        ConfigError: the width is no multiple of heads, or the table is no vocabulary.
    """

    embedding: Embedding

    def __init__(
        self,
        *,
        width: Count = 128,
        depth: Annotated[int, Field(ge=1, le=64)] = 2,
        heads: Count = 4,
        max_tokens: Annotated[int, Field(ge=2)] = 128,
        vocabulary: dict[str, list[str | None]] | None = None,
        packing: Literal["cut", "whole"] | None = None,
    ) -> None:
        if width % heads:
            raise ConfigError(
                f"text_transformer: width {width} is not a multiple of heads, {heads}."
            )
        known = Vocabulary.of_bytes() if vocabulary is None else Vocabulary.of(vocabulary)
        self.codec = VocabularyCodec(known, max_tokens, packing)
        reach = 0.018 * math.sqrt(width)
        super().__init__(
            width,
            depth,
            heads,
            embedding=Embedding(self.codec.size, width),
            position=nn.Parameter(torch.empty(max_tokens, width).uniform_(-reach, reach)),
        )

    @property
    def embed(self) -> Embedding:
        """The table of embeddings."""
        return self.embedding


class Embedding(nn.Module):
    """The rows of a table, times the root of their length: int64 (B, N) to (B, N, width)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        # Uniform: on the meta device `normal_` imports the compiler, which takes seconds.
        self.weight = nn.Parameter(torch.empty(size, width).uniform_(-0.035, 0.035))

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Return row t, scaled, for token t."""
        return F.embedding(tokens_BN, self.weight) * math.sqrt(self.weight.shape[1])
