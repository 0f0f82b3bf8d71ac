"""A small text encoder over hashed words; no vocabulary, any language."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count
from contracts.tokens import PADDING
from pretraining.parts.transformer import TextTrunk

START, FIRST_WORD = PADDING + 1, PADDING + 2


@dataclass(frozen=True)
class WordCodec:
    """A text as hashes of its words: a start, the words, padding; int64 (max_tokens,).

    Words past the last place are cut off.
    """

    num_buckets: int
    max_tokens: int
    reads: ClassVar[str] = "text"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (max_tokens,)."""
        return (self.max_tokens,)

    def encode(self, raw: str) -> NDArray[Any]:
        """Return the tokens of a text."""
        tokens_N = np.full(self.max_tokens, PADDING, dtype=np.int64)
        words = words_of(raw)[: self.max_tokens - 1]
        tokens_N[: len(words) + 1] = [
            START,
            *(FIRST_WORD + _hash(word) % self.num_buckets for word in words),
        ]
        return tokens_N


class Words(TextTrunk):
    """Embed the words of a text by their hash, mix them, and average: int64 (B, N) to (B, dim).

    A word is a run of letters, marks and digits after NFKC and case folding, or one symbol, or
    one character of a script written without spaces; its token is
    xxh3(word) mod `num_buckets`. Two words that share a bucket share an embedding: with V words
    a word is alone with probability exp(-V / num_buckets). Every text begins with a start token,
    so that an empty one has a vector too. Without blocks (`depth` 0) it is a bag of words, which
    learns fastest on captions; with them the order counts.

    Args:
        width: numbers of a vector; a multiple of heads.
        depth: blocks; 0 is a bag of words.
        heads: of the attention.
        num_buckets: embeddings that all words share.
        max_tokens: longer texts are cut.
    Reference: Weinberger et al. 2009, arXiv:0902.2206 (hashed words); Vaswani et al. 2017,
        arXiv:1706.03762 (the blocks).
    Cost: num_buckets x width weights; a token costs about 12 x width^2 x depth multiplications.
    """

    embedding: nn.Parameter

    def __init__(
        self,
        *,
        width: Count = 128,
        depth: Annotated[int, Field(ge=0, le=64)] = 0,
        heads: Count = 4,
        num_buckets: Count = 16_384,
        max_tokens: Annotated[int, Field(ge=2)] = 16,
    ) -> None:
        if width % heads:
            raise ConfigError(f"words: width {width} is not a multiple of heads, {heads}.")
        super().__init__(
            width,
            depth,
            heads,
            embedding=nn.Parameter(torch.empty(num_buckets + FIRST_WORD, width)),
            position=nn.Parameter(torch.empty(max_tokens, width)),
        )
        self.codec = WordCodec(num_buckets, max_tokens)
        # Uniform: on the meta device `normal_` imports the compiler, which takes seconds.
        nn.init.uniform_(self.embedding, -0.035, 0.035)
        nn.init.uniform_(self.position, -0.018, 0.018)

    @property
    def embed(self) -> Lookup:
        """The rows of the table of embeddings."""
        return Lookup(self.embedding)


class Lookup(nn.Module):
    """The rows of a table: int64 (B, N) to (B, N, width)."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Return row t for token t."""
        return F.embedding(tokens_BN, self.weight)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded; what is neither word nor symbol separates.

    >>> words_of("Zwei GRÜNE Äpfel, 東京 ☂")
    ['zwei', 'grüne', 'äpfel', '東', '京', '☂']
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_SPACED).split()


# Scripts that put no space between words: Thai to Tibetan, Myanmar, Khmer, and from the CJK
# radicals to the ideographs of the supplementary planes. Hangul does put spaces.
_UNSPACED = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class _Spacing(dict[int, str]):
    """A table for str.translate, filled as characters are met: spaces go where words end."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "PZC" or 0xFE00 <= code <= 0xFE0F:  # the latter choose an emoji's look
            spaced = " "
        elif category[0] == "S" or any(first <= code <= last for first, last in _UNSPACED):
            spaced = f" {character} "
        else:
            spaced = character
        self[code] = spaced
        return spaced


_SPACED = _Spacing()


@lru_cache(maxsize=65_536)
def _hash(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
