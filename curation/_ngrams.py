"""Words and pairs of neighbouring words of texts as buckets of a hash, and what buckets add up to.

Words are those of curation/_shingles.py: folded, without punctuation. A text of n words has
2 n - 1 of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import mix
from curation import _shingles

BITS = 18
BUCKETS = 2**BITS
_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)

Floats = NDArray[np.float64]


class Grams(NamedTuple):
    """The buckets of some texts, one word after another.

    Attributes:
        words: the bucket of each word.
        pairs: of each word and the next; meaningless where `is_last`.
        is_last: whether a word is the last of its text.
        starts: the first word of each text; `ends` the word behind its last.
    """

    words: NDArray[np.uint32]
    pairs: NDArray[np.uint32]
    is_last: NDArray[np.bool_]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def blocks(texts: pl.Series) -> Iterator[tuple[slice, Grams]]:
    """Yield the grams of texts without nulls, about 1 MiB of text at a time."""
    for here, (hashes, starts, ends) in _shingles.blocks(texts, "word"):
        is_last = np.zeros(len(hashes), dtype=np.bool_)
        is_last[ends[ends > starts] - 1] = True
        pairs = hashes * _MULTIPLIER
        pairs[:-1] += hashes[1:]
        yield here, Grams(_bucket(hashes), _bucket(pairs), is_last, starts, ends)


def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return (mix(hashes) >> np.uint64(64 - BITS)).astype(np.uint32)


def counts(texts: pl.Series) -> NDArray[np.int64]:
    """Return how often each bucket occurs in texts; a null has no words."""
    found = np.zeros(BUCKETS, dtype=np.int64)
    for _, grams in blocks(texts.fill_null("")):
        found += np.bincount(grams.words, minlength=BUCKETS)
        found += np.bincount(grams.pairs[~grams.is_last], minlength=BUCKETS)
    return found


def sums(
    texts: pl.Series, buckets: pl.Series, values: Floats, otherwise: float = 0.0
) -> pl.DataFrame:
    """Return `words` of each text and the `total` of its grams' values; of a null 0.

    Args:
        texts: any.
        buckets: those that have a value of their own.
        values: one for each of them.
        otherwise: the value of every other bucket.
    """
    every = np.full(BUCKETS, otherwise)
    every[buckets.to_numpy()] = values
    words = np.zeros(len(texts), dtype=np.uint32)
    total = np.zeros(len(texts))
    for here, grams in blocks(texts.fill_null("")):
        of_word = every[grams.words] + np.where(grams.is_last, 0.0, every[grams.pairs])
        words[here] = grams.ends - grams.starts
        full = np.flatnonzero(grams.ends > grams.starts)
        # Texts with words lie one behind another, though not in the order of the rows.
        full = full[np.argsort(grams.starts[full])]
        if len(full):
            total[here][full] = np.add.reduceat(of_word, grams.starts[full])
    return pl.DataFrame({"words": words, "total": total})
