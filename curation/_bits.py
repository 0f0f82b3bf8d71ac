"""Bit strings, such as perceptual hashes, as rows of 64-bit words."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError

Words = NDArray[np.uint64]


def words(bits: pl.Series) -> Words:
    """Return bit strings without nulls, integers or octets, as (n, words).

    Raises:
        DataError: the bit strings are of different lengths.
    """
    if bits.dtype == pl.UInt64:
        return bits.to_numpy().reshape(-1, 1)
    lengths = bits.bin.size().unique().sort().to_list()
    if len(lengths) > 1:
        raise DataError(f"{bits.name}: bits of {lengths} bytes. Compare hashes of one kind only.")
    padding = bytes(-(lengths[0] if lengths else 0) % 8)
    joined = b"".join(value + padding for value in bits)
    return np.frombuffer(joined, dtype=np.uint64).reshape(len(bits), -1)
