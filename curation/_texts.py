"""A column of texts as one array of octets, some of its rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

BLOCK_BYTES = 2**20


def blocks(texts: pl.Series, size: int = BLOCK_BYTES) -> Iterator[slice]:
    """Yield the rows of texts that together have about a size; 1 MiB stays in a core's cache."""
    ends = texts.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum().to_numpy()
    start = 0
    while start < len(ends):
        read = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, read + size, side="right")))
        yield slice(start, stop)
        start = stop


def octets(texts: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the UTF-8 of all texts, and the n + 1 places where each begins and ends.

    A null has none.
    """
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = arrow.buffers()
    limits = np.frombuffer(offsets, dtype=np.int64)[arrow.offset :][: len(texts) + 1]
    return np.frombuffer(data or b"", dtype=np.uint8)[: limits[-1]], limits
