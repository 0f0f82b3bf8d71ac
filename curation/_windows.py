"""Every window of n words of texts, with its hash and its place: what two texts share, and where.

The words are those of curation/_shingles.py: case, punctuation and white space count for nothing.
A text of fewer words than n has no window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from curation import _shingles, _words
from curation._words import Int64s, UInt32s, UInt64s


class Windows(NamedTuple):
    """The windows of texts, by text and place.

    Attributes:
        hashes: of each window.
        rows: the number of its text.
        words: the number of its first word, counted in its text.
        starts: the place of its first character in its text.
        ends: the place behind its last.
    """

    hashes: UInt64s
    rows: Int64s
    words: Int64s
    starts: UInt32s
    ends: UInt32s


def blocks(texts: pl.Series, ngram: int) -> Iterator[tuple[Windows, Int64s]]:
    """Yield the windows of about 1 MiB of texts at a time, and how many words each text has.

    Args:
        texts: a null has no words.
        ngram: how many words a window has.
    """
    for here, words in _words.blocks(texts.fill_null("")):
        lengths = words.last - words.first
        count = np.maximum(lengths - ngram + 1, 0)
        row = np.arange(len(count)).repeat(count)
        number = np.arange(len(row)) - (np.cumsum(count) - count)[row]
        at = words.first[row] + number
        ends = words.ends[at + ngram - 1]
        tokens = _shingles.Tokens(words.hashes, words.first, words.last)
        hashes = _shingles.shingles(tokens, ngram).hashes[at]
        yield Windows(hashes, row + here.start, number, words.starts[at], ends), lengths


def of_all(texts: pl.Series, ngram: int) -> Windows:
    """Return the windows of all texts: 32 bytes each."""
    found = [windows for windows, _ in blocks(texts, ngram)]
    if not found:
        return Windows(
            *(np.empty(0, dtype) for dtype in (np.uint64, int, int, np.uint32, np.uint32))
        )
    return Windows(*map(np.concatenate, zip(*found, strict=True)))
