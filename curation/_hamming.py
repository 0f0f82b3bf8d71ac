"""Radius search among distinct bit strings, exact, by pigeonhole over several hash tables.

Cut b bits into m = r + k chunks. Two strings that differ in at most r bits agree in at least k
whole chunks, so one of the C(m, k) choices of k chunks puts both into one bucket; within a bucket
every pair is compared. More chunks to agree on make smaller buckets and more tables; `tables`
weighs the two, and k = 0 is the comparison of all pairs. Imported when used: it loads numba.

Reference: Greene, Parnas and Yao 1994, Multi-index hashing for information retrieval; Norouzi,
Punjani and Fleet 2014, arXiv:1307.2982.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int32]
Distances = NDArray[np.uint16]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GIANT = 1000


def tables(count: int, words: int, radius: int, most: int | None = None) -> Words:
    """Return the masks, (tables, words), of the cheapest plan for `count` strings.

    Args:
        most: at most so many tables, where all are held at once.
    """
    bits = 64 * words

    def cost(k: int) -> float:
        # Entering a string costs some ten comparisons.
        chunks = radius + k
        pairs = count / 2 / 2 ** (bits * k / chunks if chunks else 0)
        return comb(chunks, k) * (10 + pairs)

    plans = [k for k in range(5) if most is None or comb(radius + k, k) <= most]
    k = min(plans, key=cost)
    chunks = radius + k
    masks = []
    for chosen in combinations(range(chunks), k):
        # Neighbouring bits of a picture's hash are alike: a chunk takes every m-th bit.
        mask = sum(1 << bit for chunk in chosen for bit in range(chunk, bits, chunks))
        masks.append([mask >> 64 * word & 0xFFFFFFFFFFFFFFFF for word in range(words)])
    return np.array(masks, dtype=np.uint64).reshape(-1, words)


def components(words: Words, radius: int) -> tuple[Indices, Indices, Distances]:
    """Return for each string the first of its component, its nearest other, and how far it is.

    Args:
        words: (n, w), distinct rows; what comes first wins ties.

    Returns:
        root, nearest (-1 where no other is within the radius) and distance to it.
    Cost: memory some 40 bytes a string; time quadratic in the largest bucket.
    """
    masks = tables(len(words), words.shape[1], radius)
    found: tuple[Indices, Indices, Distances] = _components(
        words, masks, len(words).bit_length(), radius
    )
    return found


def exemplars(words: Words, radius: int) -> tuple[Indices, Distances]:
    """Return for each string the exemplar that covers it, and how far that is.

    Strings are visited in order; one that no earlier exemplar covers becomes an exemplar and
    covers all within the radius that are not covered yet: all of its own component. So a small
    component is settled by its pairs, and only what lies in giant ones is entered in tables.

    Cost: `components`; for strings in giant components memory 8 to 12 bytes a table, of which
    there are at most 64, and time linear in the exemplars' buckets.
    """
    root, _, _ = components(words, radius)
    exemplar = np.arange(len(words), dtype=np.int32)
    distance = np.zeros(len(words), dtype=np.uint16)
    sizes = np.bincount(root, minlength=len(words))
    small = np.flatnonzero(sizes[root] <= _GIANT)
    small = small[np.argsort(root[small], kind="stable")]
    _settle(words, small.astype(np.int32), root, radius, exemplar, distance)
    giant = np.flatnonzero(sizes[root] > _GIANT)
    if len(giant):
        masks = tables(len(giant), words.shape[1], radius, most=64)
        found = _exemplars(words[giant], masks, len(giant).bit_length(), radius)
        exemplar[giant], distance[giant] = giant[found[0]], found[1]
    return exemplar, distance


@njit(cache=True)
def _ones(word: np.uint64) -> np.uint64:
    # The compiler knows this pattern and emits one instruction for it.
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True)
def _distance(left: Words, i: int, right: Words, j: int) -> np.uint64:
    total = np.uint64(0)
    for w in range(left.shape[1]):
        total += _ones(left[i, w] ^ right[j, w])
    return total


@njit(cache=True)
def nearest(words: Words, targets: Words) -> tuple[NDArray[np.int64], Distances]:
    """Return for each string the first target that differs in fewest bits, and in how many."""
    at = np.zeros(len(words), np.int64)
    distance = np.full(len(words), 65535, np.uint16)
    for i in range(len(words)):
        for j in range(len(targets)):
            apart = _distance(words, i, targets, j)
            if apart < distance[i]:
                at[i], distance[i] = j, apart
    return at, distance


@njit(cache=True)
def _bucket_of(words: Words, i: int, mask: Words, bits: int) -> np.uint64:
    mixed = np.uint64(0)
    for w in range(words.shape[1]):
        mixed = (mixed ^ (words[i, w] & mask[w])) * _GOLDEN
        mixed ^= mixed >> np.uint64(32)
    return (mixed * _GOLDEN) >> np.uint64(64 - bits)


@njit(cache=True)
def _fill(words: Words, mask: Words, bits: int, starts: Indices, order: Indices) -> None:
    """Sort the strings by bucket: `order[starts[b]:starts[b + 1]]` are those of bucket b."""
    n = len(words)
    buckets = np.empty(n, np.uint32)
    starts[:] = 0
    for i in range(n):
        buckets[i] = _bucket_of(words, i, mask, bits)
        starts[buckets[i] + 1] += 1
    for b in range(len(starts) - 1):
        starts[b + 1] += starts[b]
    place = starts[:-1].copy()
    for i in range(n):
        order[place[buckets[i]]] = i
        place[buckets[i]] += 1


@njit(cache=True)
def _components(
    words: Words, masks: Words, bits: int, radius: int
) -> tuple[Indices, Indices, Distances]:
    n = len(words)
    root = np.arange(n).astype(np.int32)
    nearest = np.full(n, -1, np.int32)
    distance = np.full(n, radius + 1, np.uint16)
    starts = np.empty((1 << bits) + 1, np.int32)
    order = np.empty(n, np.int32)
    for t in range(len(masks)):
        _fill(words, masks[t], bits, starts, order)
        here = words[order]
        for b in range(len(starts) - 1):
            for p in range(starts[b], starts[b + 1]):
                i = order[p]
                for q in range(p + 1, starts[b + 1]):
                    apart = _distance(here, p, here, q)
                    if apart > radius:
                        continue
                    j = order[q]  # within a bucket the order is ascending: i < j
                    if apart < distance[i] or (apart == distance[i] and j < nearest[i]):
                        distance[i], nearest[i] = apart, j
                    if apart < distance[j] or (apart == distance[j] and i < nearest[j]):
                        distance[j], nearest[j] = apart, i
                    a, c = _root_of(root, i), _root_of(root, j)
                    root[max(a, c)] = min(a, c)
    for i in range(n):
        root[i] = _root_of(root, i)
    return root, nearest, distance


@njit(cache=True)
def _root_of(root: Indices, i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


@njit(cache=True)
def _settle(
    words: Words,
    order: Indices,
    root: Indices,
    radius: int,
    exemplar: Indices,
    distance: Distances,
) -> None:
    """Compare all pairs of each component; `order` holds one after the other, each ascending."""
    for p in range(len(order)):
        i = order[p]
        if exemplar[i] != i:
            continue
        q = p + 1
        while q < len(order) and root[order[q]] == root[i]:
            j = order[q]
            q += 1
            if exemplar[j] == j:
                apart = _distance(words, i, words, j)
                if apart <= radius:
                    exemplar[j], distance[j] = i, apart


@njit(cache=True)
def _exemplars(words: Words, masks: Words, bits: int, radius: int) -> tuple[Indices, Distances]:
    n = len(words)
    starts = np.empty((len(masks), (1 << bits) + 1), np.int32)
    order = np.empty((len(masks), n), np.int32)
    for t in range(len(masks)):
        _fill(words, masks[t], bits, starts[t], order[t])
    exemplar = np.arange(n).astype(np.int32)
    distance = np.zeros(n, np.uint16)
    for i in range(n):
        if exemplar[i] != i:
            continue
        for t in range(len(masks)):
            b = _bucket_of(words, i, masks[t], bits)
            for p in range(starts[t, b], starts[t, b + 1]):
                j = order[t, p]
                if j > i and exemplar[j] == j:
                    apart = _distance(words, i, words, j)
                    if apart <= radius:
                        exemplar[j], distance[j] = i, apart
    return exemplar, distance
