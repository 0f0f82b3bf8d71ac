"""Texts as vectors of length 1: how often each bucket of words and pairs of words occurs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from curation import _ngrams


def blocks(texts: pl.Series) -> Iterator[tuple[slice, Any]]:
    """Yield sparse matrices (texts, buckets) of float64, of about 1 MiB of text each.

    The row of a null, and of a text without words, is zero.
    """
    for here, grams in _ngrams.blocks(texts.fill_null("")):
        lengths = grams.ends - grams.starts
        order = np.argsort(grams.starts, kind="stable")
        owner = np.repeat(order, lengths[order])
        inside = ~grams.is_last
        rows = np.concatenate([owner, owner[inside]])
        columns = np.concatenate([grams.words, grams.pairs[inside]])
        shape = (len(lengths), _ngrams.BUCKETS)
        bags = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        bags.sum_duplicates()
        lengths_squared = np.add.reduceat(np.append(bags.data**2, 0.0), bags.indptr[:-1])
        bags.data /= np.sqrt(lengths_squared).repeat(np.diff(bags.indptr))
        yield here, bags
