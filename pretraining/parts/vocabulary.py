"""A text as the tokens of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.tokens import MASK, PADDING, SEPARATOR, SPECIALS, START, Vocabulary


@dataclass(frozen=True)
class VocabularyCodec:
    """A text as a start, its tokens, a separator and padding: int64 (max_tokens,).

    What is past the last place is cut off, so a text that was cut has no separator.

    Attributes:
        packing: how texts stand in the rows of a training's batches (`pretraining.packing`). Where
            texts are cut no row has a start: a separator is in front of a text that stands alone.
    """

    vocabulary: Vocabulary
    max_tokens: int
    packing: Literal["cut", "whole"] | None = None
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
        found = [*self.begun(), *self.laid(raw)][: self.max_tokens]
        tokens_N[: len(found)] = found
        return tokens_N

    def begun(self) -> list[int]:
        """Return what stands in front of a row's first text."""
        return [SEPARATOR if self.packing == "cut" else START]

    def laid(self, raw: str) -> NDArray[np.int64]:
        """Return the tokens of a text, and a separator."""
        return np.array([*self.vocabulary.encode(raw), SEPARATOR], dtype=np.int64)

    def continued(self, text: str, continuations: Sequence[str]) -> NDArray[Any]:
        """Return the tokens of a text, and of it with each continuation: (1 + K, max_tokens).

        None ends with a separator. Of the text the last tokens stay that leave room for the longest
        continuation; of one that leaves no room itself, the first.
        """
        told = [self.vocabulary.encode(one)[: self.max_tokens - 1] for one in continuations]
        room = self.max_tokens - 1 - max(map(len, told))
        context = self.vocabulary.encode(text)
        begun = [*self.begun(), *context[max(0, len(context) - room) :]]
        rows_KN = np.full((1 + len(told), self.max_tokens), PADDING, dtype=np.int64)
        for row_N, tokens in zip(rows_KN, [[], *told], strict=True):
            found = [*begun, *tokens]
            row_N[: len(found)] = found
        return rows_KN
