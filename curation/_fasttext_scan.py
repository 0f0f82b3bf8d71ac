"""The compiled half of curation/_fasttext.py: texts to labels. Imported when used: it loads numba.

Places are unsigned, or slices are looped over: numba then leaves out the test for a negative index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]
Octets = NDArray[np.uint8]

_BASIS = np.uint64(2166136261)
_PRIME = np.uint64(16777619)
_WORD_PRIME = np.uint64(116049371)
_UINT32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_SHIFT_ONE = np.uint64(1 << 32)
# A continuation octet of UTF-8 is one whose first two bits are 10.
_FIRST_TWO, _CONTINUES = 0xC0, 0x80
_LINE_END = np.frombuffer(b"</s>", dtype=np.uint8)
_LABEL = np.frombuffer(b"__label__", dtype=np.uint8)
# How many words are remembered, and how long they are at most.
SEEN, SEEN_OCTETS = 2**12, 32
# What fastText adds to a probability before its logarithm.
_ADDED = 1e-5


@njit(cache=True)
def _signed(octet: Any) -> Any:
    """Return an octet as the hash takes it: as a signed one made 32 bits wide."""
    wide = np.uint64(octet)
    return wide | np.uint64(0xFFFFFF00) if octet >= 0x80 else wide


@njit(cache=True)
def _hash(word: Octets) -> Any:
    found = _BASIS
    for octet in word:
        found = (found ^ _signed(octet)) * _PRIME & _UINT32
    return found


@njit(cache=True)
def _same(one: Octets, other: Octets) -> bool:
    at = 0
    while at < min(len(one), len(other)) and one[at] == other[at]:
        at += 1
    return at == len(one) == len(other)


@njit(cache=True)
def enter(octets: Octets, limits: Int64s, slots: Int32s) -> None:
    """Write the number of each word into the first free slot from its hash on."""
    mask = np.uint64(len(slots) - 1)
    for number in range(len(limits) - 1):
        at = _hash(octets[limits[number] : limits[number + 1]]) & mask
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = number


@njit(cache=True)
def _number(word: Octets, hashed: Any, octets: Octets, limits: Int64s, slots: Int32s) -> int:
    """Return the number of a word, -1 where the file has no such word."""
    mask = np.uint64(len(slots) - 1)
    at = hashed & mask
    while slots[at] >= 0:
        number = slots[at]
        if _same(word, octets[limits[number] : limits[number + 1]]):
            return int(number)
        at = (at + np.uint64(1)) & mask
    return -1


@njit(cache=True)
def _add(total: Float32s, row: Float32s) -> None:
    for i in range(len(total)):
        total[i] += row[i]


@njit(cache=True)
def _dot(one: Float32s, other: Float32s) -> Any:
    found = np.float32(0)
    for i in range(len(one)):
        found += one[i] * other[i]
    return found


@njit(cache=True)
def _add_characters(
    total: Float32s, marked: Octets, sizes: Any, kept: Int32s, rows: Float32s
) -> int:
    """Add the rows of a word's character n-grams, and return how many they are.

    Args:
        total: the sum.
        marked: the word between `<` and `>`, which are no n-grams by themselves.
        sizes: see `Sizes`.
        kept: see `Classifier`.
        rows: see `Classifier`.
    """
    shortest, longest, _, buckets, words, _ = sizes
    if longest <= 0:  # there may be no bucket
        return 0
    divisor = np.uint64(buckets)
    inverse = _SHIFT_ONE // divisor
    size = len(marked)
    count = 0
    for start in range(size):
        if marked[start] & _FIRST_TWO == _CONTINUES:
            continue
        hashed = _BASIS
        characters = 0
        stop = np.uint64(start)
        while characters < longest and stop < size:
            hashed = (hashed ^ _signed(marked[stop])) * _PRIME & _UINT32
            stop += np.uint64(1)
            while stop < size and marked[stop] & _FIRST_TWO == _CONTINUES:
                hashed = (hashed ^ _signed(marked[stop])) * _PRIME & _UINT32
                stop += np.uint64(1)
            characters += 1
            if characters < shortest or (characters == 1 and (start == 0 or stop == size)):
                continue
            # The remainder by a product: one division less, the quotient at most one too small.
            bucket = hashed - (hashed * inverse >> _SHIFT) * divisor
            if bucket >= divisor:
                bucket -= divisor
            place = np.int64(kept[bucket]) if len(kept) else np.int64(bucket)
            if place >= 0:
                _add(total, rows[np.uint64(words + place)])
                count += 1
    return count


@njit(cache=True)
def _add_words(total: Float32s, hashes: UInt32s, sizes: Any, kept: Int32s, rows: Float32s) -> int:
    """Add the rows of runs of several words, given by hashes, and return how many they are."""
    _, _, longest, buckets, words, _ = sizes
    count = 0
    for start in range(len(hashes)):
        hashed = np.uint64(np.int64(np.int32(hashes[start])))
        for other in hashes[start + 1 : start + longest]:
            hashed = hashed * _WORD_PRIME + np.uint64(np.int64(np.int32(other)))
            bucket = hashed % np.uint64(buckets)
            place = np.int64(kept[bucket]) if len(kept) else np.int64(bucket)
            if place >= 0:
                _add(total, rows[words + place])
                count += 1
    return count


@njit(cache=True)
def _likeliest(
    mean: Float32s, out: Float32s, children: Int32s, only: int, scores: Any, open_nodes: Int32s
) -> tuple[int, float]:
    """Return the likeliest label, or the only one asked for unless that is -1, and its probability.

    The last two arguments are room to work in.
    """
    best = -1
    if len(children):
        # A part of the tree below a branching that is less likely than a label is not looked at.
        labels = len(children) + 1
        open_nodes[0], scores[2 * labels - 2] = 2 * labels - 2, 0.0
        count = 1
        while count:
            count -= 1
            node = open_nodes[count]
            if best >= 0 and scores[node] < scores[best]:
                continue
            if node < labels:
                best = node if only < 0 or node == only else best
                continue
            left, right = children[node - labels]
            probability = 1.0 / (1.0 + np.exp(-_dot(out[node - labels], mean)))
            scores[left] = scores[node] + np.log(1.0 - probability + _ADDED)
            scores[right] = scores[node] + np.log(probability + _ADDED)
            # The likelier one is looked at first.
            nearer, farther = (right, left) if probability > 0.5 else (left, right)
            open_nodes[count], open_nodes[count + 1] = farther, nearer
            count += 2
        return best, np.exp(scores[best])
    for label in range(len(out)):
        scores[label] = _dot(out[label], mean)
    best = int(np.argmax(scores[: len(out)])) if only < 0 else only
    return best, 1.0 / np.exp(scores[: len(out)] - scores[best]).sum() + _ADDED


@njit(cache=True)
def classify(
    texts: Octets,
    text_limits: Int64s,
    sizes: Any,
    octets: Octets,
    limits: Int64s,
    slots: Int32s,
    kept: Int32s,
    rows: Float32s,
    out: Float32s,
    children: Int32s,
    only: int,
    found: Int32s,
    sure: Float32s,
) -> None:
    """Write the label of each text and its probability; see `Classifier`, which calls it."""
    _, _, word_ngrams, _, _, line_end = sizes
    longest = 0
    for text in range(len(found)):
        longest = max(longest, text_limits[text + 1] - text_limits[text])
    marked = np.empty(longest + 2, dtype=np.uint8)
    hashes = np.empty(longest + 2, dtype=np.uint32)
    scores = np.empty(2 * len(out) + 1)
    open_nodes = np.empty(len(out) + 1, dtype=np.int32)
    total = np.empty(rows.shape[1], dtype=np.float32)
    # Words that were seen, by their hash: each has a sum that is the same wherever it stands.
    seen = np.empty((SEEN, SEEN_OCTETS), dtype=np.uint8)
    lengths = np.zeros(SEEN, dtype=np.int64)
    sums = np.empty((SEEN, rows.shape[1]), dtype=np.float32)
    counts = np.empty(SEEN, dtype=np.int64)
    for text in range(len(found)):
        own = texts[text_limits[text] : text_limits[text + 1]]
        total[:] = 0
        count = words = at = 0
        while True:
            while at < len(own) and (own[at] == 32 or 9 <= own[at] <= 13 or own[at] == 0):
                at += 1
            length = 0
            while at < len(own) and not (own[at] == 32 or 9 <= own[at] <= 13 or own[at] == 0):
                marked[1 + length] = own[at]
                length += 1
                at += 1
            word = marked[1 : 1 + length]
            ended = length == 0 or _same(word, _LINE_END)
            if ended:
                word = _LINE_END
            elif length >= len(_LABEL) and _same(word[: len(_LABEL)], _LABEL):
                continue
            hashed = _hash(word)
            hashes[words] = hashed
            words += 1
            if ended:
                if line_end >= 0:
                    _add(total, rows[line_end])
                    count += 1
                break
            slot = hashed & np.uint64(SEEN - 1)
            if not _same(word, seen[slot, : lengths[slot]]):
                # A long word takes the slot without its letters, so that no other is taken for it.
                lengths[slot] = length if length <= SEEN_OCTETS else 0
                seen[slot, : lengths[slot]] = word[: lengths[slot]]
                number = _number(word, hashed, octets, limits, slots)
                sums[slot] = 0
                counts[slot] = number >= 0
                if number >= 0:
                    _add(sums[slot], rows[number])
                marked[0], marked[1 + length] = 60, 62  # < and >
                counts[slot] += _add_characters(sums[slot], marked[: length + 2], sizes, kept, rows)
            _add(total, sums[slot])
            count += counts[slot]
        if word_ngrams > 1:
            count += _add_words(total, hashes[:words], sizes, kept, rows)
        if count == 0:
            found[text], sure[text] = -1, 0
            continue
        for i in range(len(total)):
            total[i] *= np.float32(1.0 / count)
        found[text], sure[text] = _likeliest(total, out, children, only, scores, open_nodes)
