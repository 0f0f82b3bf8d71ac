"""Weight-free text vectors: hashed character 3- to 5-grams and words, signed."""

from __future__ import annotations

import hashlib
import unicodedata
from types import MappingProxyType
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.params import Count
from contracts.uid import mix
from embeddings.encoder import unit_column

Hashes = NDArray[np.uint64]

_CHUNK = 256
_FACTOR = np.uint64(0x100000001B3)
_SPACE = np.uint64(ord(" "))


class HashedNgrams:
    """Bag of n-grams, folded into a fixed number of buckets.

    The text is brought to NFKC, case folded, and every run of white space made one space, one
    more at either end. With tf the count of a feature in the text,
    vector[hash mod dimension] += sign(hash) * (1 + ln tf), so that collisions cancel on average
    and the dot product is an unbiased estimate of that of the unfolded bags.

    Reads:
        text: what is encoded.
    Args:
        dimension: numbers of a vector.
    Reference: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning,
        arXiv:0902.2206, section 2.
    Writes:
        vector: unit norm; null where the text is null or holds nothing but white space.
    Cost: O(characters); some 20,000 captions a second and core; no weights.
    """

    version = 1
    reads = MappingProxyType({"text": "text"})

    def __init__(self, device: str | None = None, *, dimension: Count = 256) -> None:
        del device  # It runs on the CPU wherever the others run.
        self.writes = MappingProxyType({"vector": dimension})
        name = f"hashed_ngrams version {self.version} dimension {dimension}"
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.numerics = "cpu/float64"

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `vector` for the column `text`."""
        texts, dimension = rows["text"], self.writes["vector"]
        known: list[int] = texts.is_not_null().arg_true().to_list()
        chunks = (known[start : start + _CHUNK] for start in range(0, len(known), _CHUNK))
        parts = ((chunk, _bags(texts.gather(chunk).to_list(), dimension)) for chunk in chunks)
        return unit_column(len(texts), dimension, parts).to_frame("vector")


def features(texts: list[str]) -> tuple[NDArray[np.int64], Hashes]:
    """Return, for every n-gram and word in the texts, the text's number and the feature's hash."""
    clean = [f" {' '.join(unicodedata.normalize('NFKC', t).casefold().split())} " for t in texts]
    joined = "".join(clean).encode("utf-32-le", "surrogatepass")
    code = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    row = np.repeat(np.arange(len(texts)), [len(text) for text in clean])
    found = [_words(code, row)]
    for n in (3, 4, 5):
        count = max(0, len(code) - n + 1)
        value = np.full(count, n, dtype=np.uint64)
        for place in range(n):
            value = value * _FACTOR + code[place : place + count]
        inside = row[:count] == row[n - 1 : n - 1 + count]
        found.append((row[:count][inside], value[inside]))
    rows, values = zip(*found, strict=True)
    return np.concatenate(rows), mix(np.concatenate(values))


def _words(code: Hashes, row: NDArray[np.int64]) -> tuple[NDArray[np.int64], Hashes]:
    """Return each word's text and the polynomial sum of its characters."""
    letter = code != _SPACE
    first = letter & ~np.concatenate(([False], letter[:-1]))
    starts = np.flatnonzero(first)
    if not len(starts):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
    word = np.cumsum(first)[letter] - 1
    place = np.flatnonzero(letter) - starts[word]
    power = np.cumprod(np.full(place.max() + 1, _FACTOR, dtype=np.uint64))
    begins = np.flatnonzero(place == 0)
    return row[starts], np.add.reduceat(code[letter] * power[place], begins)


def _bags(texts: list[str], dimension: int) -> NDArray[np.float64]:
    rows, hashes = features(texts)
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    starts = np.flatnonzero(new)
    times = np.diff(np.append(starts, len(rows)))
    rows, hashes = rows[starts], hashes[starts]
    sign = np.where(hashes & np.uint64(1), 1.0, -1.0)
    bucket = ((hashes >> np.uint64(1)) % np.uint64(dimension)).astype(np.int64)
    # bincount adds in the order given, by hash: no sum depends on the other texts.
    weight = sign * (1 + np.log(times))
    sums = np.bincount(rows * dimension + bucket, weights=weight, minlength=len(texts) * dimension)
    return cast(NDArray[np.float64], sums.reshape(len(texts), dimension))
