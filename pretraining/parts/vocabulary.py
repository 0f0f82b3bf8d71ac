"""A text as the tokens of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts.tokens import MASK, PADDING, SEPARATOR, SPECIALS, START, Vocabulary


@dataclass(frozen=True)
class VocabularyCodec:
    """A text as a start, its tokens, a separator and padding: int64 (max_tokens,).

    What is past the last place is cut off, so a text that was cut has no separator.
    """

    vocabulary: Vocabulary
    max_tokens: int
    reads: ClassVar[str] = "text"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.int64)
    padding: ClassVar[int] = PADDING
    separator: ClassVar[int] = SEPARATOR
    mask: ClassVar[int] = MASK
    specials: ClassVar[int] = len(SPECIALS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (max_tokens,)."""
        return (self.max_tokens,)

    @property
    def size(self) -> int:
        """Return how many tokens there are."""
        return len(self.vocabulary.tokens)

    @property
    def starts(self) -> NDArray[np.bool_]:
        """Return of each token whether it begins a word."""
        return self.vocabulary.starts

    @property
    def bytes_of(self) -> NDArray[np.float32]:
        """Return how many bytes of a text each token stands for, NaN where that is not known."""
        return self.vocabulary.bytes_of

    def encode(self, raw: str) -> NDArray[Any]:
        """Return the tokens of a text."""
        tokens_N = np.full(self.max_tokens, PADDING, dtype=np.int64)
        found = [START, *self.vocabulary.encode(raw), SEPARATOR][: self.max_tokens]
        tokens_N[: len(found)] = found
        return tokens_N
