"""Classifiers of text in fastText's files, `.bin` and quantised `.ftz`: read, and asked.

The files are those of the tool's command `supervised`, version 12. A text is one line of words
parted by white space of ASCII; its vector is the mean of the rows of its words, of their character
n-grams and of its word n-grams; its label is the likeliest by a softmax or a hierarchical one.

Reference: Joulin et al. 2016, Bag of tricks for efficient text classification; FastText.zip, by the
same, for the quantised rows; the code of fastText 0.9.2 for the format, the hashes (FNV-1a over
signed octets) and the 1e-5 that it adds to a probability before its logarithm.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError
from curation import _texts

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Octets = NDArray[np.uint8]

MAGIC, VERSION = 793712314, 12
HIERARCHICAL, SOFTMAX = 1, 3
LABEL = b"__label__"
LINE_END = b"</s>"
CENTROIDS = 256


class Sizes(NamedTuple):
    """The numbers of a file that its reading of a text depends on."""

    min_characters: int
    max_characters: int
    word_ngrams: int
    buckets: int
    words: int
    line_end: int


class Classifier(NamedTuple):
    """A file that was read.

    Attributes:
        labels: without their prefix, in the file's order.
        sizes: its numbers.
        octets: its words, one behind the other.
        limits: where each begins, and the last ends: (words + 1,).
        slots: the numbers of its words by their hash, -1 where there is none; a power of two long.
        kept: the row of each bucket behind the words' rows, -1 where it was pruned; empty where
            none was.
        rows: a vector of each word and bucket: (rows, dim).
        out: a vector of each label, or of each branching of the tree: (labels, dim).
        children: of a hierarchical softmax, the two below each branching; empty for a softmax.
            Labels are numbered from 0, branchings behind them, the root last.
    """

    labels: list[str]
    sizes: Sizes
    octets: Octets
    limits: Int64s
    slots: Int32s
    kept: Int32s
    rows: Float32s
    out: Float32s
    children: Int32s

    def __call__(self, texts: pl.Series, label: int = -1) -> tuple[Int32s, Float32s]:
        """Return the likeliest label of each text by its number, and how likely it is.

        Of a label that is named it says how likely that one is. A null is as an empty text. The
        label is -1 where no row stands for any part of the text. A probability may exceed 1 by
        what fastText adds, 1e-5 for each branching.
        """
        from curation import _fasttext_scan

        found = np.empty(len(texts), dtype=np.int32)
        sure = np.empty(len(texts), dtype=np.float32)
        for rows in _texts.blocks(texts):
            octets, limits = _texts.octets(texts[rows])
            _fasttext_scan.classify(octets, limits, *self[1:], label, found[rows], sure[rows])
        return found, sure


def read(path: Path) -> Classifier:
    """Return the classifier of a file. Rows that are not quantised stay in the file, mapped.

    Raises:
        ConfigError: it is missing, cut short, or none of fastText's classifiers.
    """
    try:
        return _read(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error
    except (struct.error, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: is no classifier of fastText, or cut short.") from error


def _read(data: Octets) -> Classifier:
    from curation import _fasttext_scan

    file = _File(data)
    if file.numbers("<2i") != (MAGIC, VERSION):
        raise ValueError
    dim, _, _, _, _, word_ngrams, loss, _, buckets, shortest, longest, _, _ = file.numbers("<12id")
    if loss not in (HIERARCHICAL, SOFTMAX):
        raise ConfigError("weights: only classifiers by softmax or hierarchical softmax are read.")
    entries, words, labels, _, kept_count = file.numbers("<3i2q")
    names, counts = file.entries(entries)
    pairs = file.array(np.int32, 2 * max(kept_count, 0)).reshape(-1, 2)
    kept = np.full(buckets if kept_count >= 0 else 0, -1, dtype=np.int32)
    kept[pairs[:, 0]] = pairs[:, 1]
    (quantised,) = file.numbers("<?")
    rows = file.quantised() if quantised else file.matrix()
    (out_quantised,) = file.numbers("<?")
    out = file.quantised() if quantised and out_quantised else file.matrix()
    behind_words = buckets if kept_count < 0 else kept_count
    if (entries, rows.shape) != (words + labels, (words + behind_words, dim)):
        raise ValueError
    if out.shape != (labels, dim) or np.any((pairs < 0) | (pairs >= (buckets, kept_count))):
        raise ValueError
    octets = np.frombuffer(b"".join(names[:words]), dtype=np.uint8)
    limits = np.cumsum([0, *map(len, names[:words])], dtype=np.int64)
    slots = np.full(2 ** max(1, (2 * words).bit_length()), -1, dtype=np.int32)
    _fasttext_scan.enter(octets, limits, slots)
    sizes = Sizes(
        shortest,
        longest,
        word_ngrams,
        buckets,
        words,
        names.index(LINE_END) if LINE_END in names else -1,
    )
    tree = _tree(counts[words:]) if loss == HIERARCHICAL else np.empty((0, 2), dtype=np.int32)
    plain = [name.removeprefix(LABEL).decode() for name in names[words:]]
    return Classifier(plain, sizes, octets, limits, slots, kept, rows, out, tree)


class _File:
    """The octets of a file, read from the front; all numbers are little-endian."""

    def __init__(self, data: Octets) -> None:
        self.data = data
        self.at = 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.array(np.uint8, struct.calcsize(form)).tobytes())

    def array(self, dtype: Any, count: int) -> NDArray[Any]:
        start, self.at = self.at, self.at + count * np.dtype(dtype).itemsize
        if count < 0 or self.at > len(self.data):
            raise ValueError
        return self.data[start : self.at].view(np.ndarray).view(dtype)

    def entries(self, count: int) -> tuple[list[bytes], list[int]]:
        """Return the words and labels, each of octets up to a 0, and how often each was seen."""
        names, counts = [], []
        text = self.data.data
        for _ in range(count):
            # The words are short, so a window finds the end without a copy of the file.
            width = 64
            while (end := bytes(text[self.at : self.at + width]).find(0)) < 0:
                if self.at + width > len(self.data):
                    raise ValueError
                width *= 2
            names.append(bytes(text[self.at : self.at + end]))
            self.at += end + 1
            seen, _ = self.numbers("<qb")
            counts.append(seen)
        return names, counts

    def matrix(self) -> Float32s:
        height, width = self.numbers("<2q")
        return self.array(np.float32, height * width).reshape(height, width)

    def quantised(self) -> Float32s:
        """Return the rows that product quantisation stands for: a centroid for every few columns.

        Where norms are quantised apart, the centroids are of directions.
        """
        has_norms, height, width, size = self.numbers("<?2qi")
        codes = self.array(np.uint8, size).reshape(height, -1)
        rows = self._decoded(codes, width)
        if has_norms:
            rows *= self._decoded(self.array(np.uint8, height)[:, None], 1)
        rows.flags.writeable = False
        return rows

    def _decoded(self, codes: Octets, width: int) -> Float32s:
        dim, parts, each, last = self.numbers("<4i")
        if dim != width or parts != codes.shape[1] or (parts - 1) * each + last != width:
            raise ValueError
        centroids = self.array(np.float32, CENTROIDS * dim)
        rows = np.empty((len(codes), width), dtype=np.float32)
        for part in range(parts):
            start = part * each
            stop = start + each if part < parts - 1 else width
            block = centroids[CENTROIDS * start : CENTROIDS * stop].reshape(CENTROIDS, -1)
            rows[:, start:stop] = block[codes[:, part]]
        return rows


def _tree(counts: list[int]) -> Int32s:
    """Return the two below each branching of the Huffman tree; labels come by falling count."""
    labels = len(counts)
    weights = [*counts, *[10**15] * (labels - 1)]
    children = np.empty((labels - 1, 2), dtype=np.int32)
    leaf, branching = labels - 1, labels
    for i in range(labels - 1):
        for side in range(2):
            if leaf >= 0 and weights[leaf] < weights[branching]:
                children[i, side], leaf = leaf, leaf - 1
            else:
                children[i, side], branching = branching, branching + 1
        weights[labels + i] = weights[children[i, 0]] + weights[children[i, 1]]
    return children
