"""Measure how well a language model tells held-out texts, in bits for each of their bytes."""

from __future__ import annotations

import math

import numpy as np

from contracts.errors import DataError
from contracts.report import Metric
from evaluation.interval import bootstrap
from evaluation.protocol import Bytes, Nats, protocol


@protocol({"bits_per_byte": False})
def bits_per_byte(nats_N: Nats, bytes_N: Bytes) -> dict[str, Metric]:
    """Measure what texts cost under a language model, whatever its vocabulary.

    It is sum(nats) / (ln 2 * sum(bytes)) over all texts: a long text weighs as its bytes do. What
    a text's end costs counts, though it has no bytes. Of a text that was cut only what was told
    counts, so encoders of other lengths are compared on other bytes.

    Its interval is a bootstrap over texts of the ratio's linearisation: with r the ratio, text i
    has the value r + (nats_i / ln 2 - r * bytes_i) / mean(bytes), and the mean of these is r.

    Reference: Gao et al. 2020, The Pile, arXiv:2101.00027, section 3.1; the linearisation: Cochran
        1977, Sampling Techniques, section 6.4.
    Args:
        nats_N: of each text.
        bytes_N: of each text; texts of unknown bytes, NaN, are left out.
    Returns:
        bits_per_byte: 8 where every byte is as likely as any other and the end costs nothing.
    Cost: O(N).
    Raises:
        DataError: when shapes differ, or no text has a byte that is known.
    """
    nats, length = (np.asarray(of, dtype=np.float64) for of in (nats_N, bytes_N))
    if nats.shape != length.shape or nats.ndim != 1:
        raise DataError(f"bits_per_byte: {nats.shape} nats and {length.shape} bytes do not fit.")
    known = np.isfinite(length)
    bits, length = nats[known] / math.log(2), length[known]
    total = math.fsum(length)
    if not total:
        raise DataError(
            "bits_per_byte: no text has bytes that are known: word_piece loses some, so give the "
            "encoder a vocabulary of byte_pair_encoding, or none, which is bytes."
        )
    # Exact sums, so that the order of texts is without effect.
    ratio = math.fsum(bits) / total
    return {"bits_per_byte": bootstrap(ratio + (bits - ratio * length) * (len(length) / total))}
