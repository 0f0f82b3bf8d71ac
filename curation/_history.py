"""Words of texts with those before them, as hashes: what a model of n-grams counts and looks up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import mix
from curation import _shingles

START = np.uint64(0xA0761D6478BD642F)
"""What stands before the first word of a text."""
NOTHING = np.uint64(0)
"""The n-gram of no words."""
_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)


class Grams(NamedTuple):
    """The n-grams of one length, of those words that have so many before them.

    Attributes:
        places: numbers of the last words, ascending.
        grams: hash of the whole.
        contexts: hash without the last word, `NOTHING` of a single one.
        suffixes: hash without the first, likewise.
    """

    places: NDArray[np.int64]
    grams: NDArray[np.uint64]
    contexts: NDArray[np.uint64]
    suffixes: NDArray[np.uint64]


def blocks(texts: pl.Series, order: int) -> Iterator[tuple[slice, NDArray[np.int64], list[Grams]]]:
    """Yield rows, the row of each word, and the n-grams of 1 up to `order` words.

    About 1 MiB of text at a time. The longest n-grams of a text's first words begin with `START`.
    """
    for here, (hashes, starts, ends) in _shingles.blocks(texts.fill_null(""), "word"):
        number = ends - starts
        rows = np.argsort(starts, kind="stable")
        owner = np.repeat(rows, number[rows])
        before = np.arange(len(hashes)) - starts[owner]
        whole = mix(hashes)
        nothing = np.full_like(whole, NOTHING)
        found = [Grams(np.arange(len(hashes)), whole, nothing, nothing)]
        for length in range(2, order + 1):
            # The word before the first one is the start, and nothing is before that.
            places = np.flatnonzero(before >= length - 2)
            # Where the start comes in, the context is it and all words before.
            earlier = np.full(len(hashes), START)
            last = found[-1]
            earlier[last.places] = last.grams
            shifted = np.concatenate([[START], earlier[:-1]])
            contexts = np.where(before[places] == 0, START, shifted[places])
            suffixes = earlier[places]
            grams = contexts * _MULTIPLIER + whole[places]
            found.append(Grams(places, grams, contexts, suffixes))
        yield here, owner, found
