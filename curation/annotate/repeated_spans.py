"""Passages of so many words that stand in an earlier record too, or earlier in the same one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.params import Count
from curation import _shingles, _spans, _words
from curation._words import Int64s, UInt32s, UInt64s
from curation.step import Role, groupwise

UInt8s = NDArray[np.uint8]

SKETCH_BITS = 28
"""At most 256 MiB that say which windows may occur twice."""


def _keys(rows: pl.DataFrame, *, length: int) -> pl.Series:
    """Return the anchors of each text's windows, of a text without a window its uid."""
    known = rows.select("uid", "text").drop_nulls("text")
    ngram = (length + 1) // 2
    keys, counts = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for _, words in _words.blocks(known["text"]):
        grams = _shingles.shingles(_tokens(words), ngram).hashes
        anchors = np.empty(len(grams), dtype=np.uint64)
        count = np.empty(len(words.first), dtype=np.int64)
        used = _compiled().anchors(grams, words.first, words.last, length, ngram, anchors, count)
        keys.append(anchors[:used].copy())
        counts.append(count)
    uids = known["uid"].to_numpy().repeat(np.concatenate(counts))
    lists = pl.DataFrame({"uid": uids, "key": np.concatenate(keys)}).group_by("uid").agg("key")
    listed = rows.join(lists, on="uid", how="left", maintain_order="left")
    alone = pl.when(pl.col("text").is_not_null()).then(pl.concat_list("uid"))
    return listed.select(pl.col("key").fill_null(alone)).to_series()


@groupwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"spans": _spans.SPANS, "repeated_ratio": pl.Float32, "characters": pl.UInt32},
    keys=_keys,
    merge=_spans.folded,
)
def repeated_spans(groups: pl.DataFrame, *, length: Count = 50) -> pl.DataFrame:
    """Mark every run of `length` words that occurs earlier.

    A window is `length` words in a row. It is marked where the same words stand in a record
    with a smaller uid, or further ahead in the same text; so of each passage the occurrence
    with the smallest uid stays. Marked windows that overlap are one span. Words are compared
    after NFKC and case folding and without punctuation; curation/_shingles.py says what a word
    is, in scripts without spaces one character. A text shorter than the window has no mark.

    The result is exact. Each window's key is its anchor, the least hash of the half windows in
    it: equal windows have equal anchors, and neighbours mostly share theirs, so that a text has
    a key in some `length` / 4 words. Texts that share an anchor are brought together, their
    windows looked up by a rolling hash, and compared letter by letter before one is marked: no
    collision of hashes marks a text or hides a mark.

    Reads:
        text: whose passages are compared.
    Args:
        length: words of the shortest passage that is marked.
    Reference: Lee et al. 2022, Deduplicating Training Data Makes Language Models Better,
    arXiv:2107.06499, section 4.1 (which strikes every occurrence, over byte-pair tokens); anchors:
    Schleimer, Wilkerson and Aiken 2003, Winnowing, SIGMOD.
    Writes:
        spans: `start` and `end` in characters, so that `text[start:end]` is from the first
            letter of the first word to the last of the last; ascending, none overlaps another.
        repeated_ratio: share of the text's characters in the spans, in [0, 1].
        characters: of the text. All null for a null text.
    Cost: O(bytes) and 12 bytes an anchor for the keys, some 100 MB/s. A text goes to every bucket
        that has one of its anchors, and where that anchor is shared it is scanned twice for each
        block of them. There a window that occurs once costs one byte of a sketch of at most
        256 MiB; of others the first keeps its letters, at 4 bytes each.
    """
    texts = groups.unique("uid").sort("uid")
    shared = groups.filter(pl.col("group").is_duplicated()).unique("uid").sort("uid")
    row, start, end = _marked(shared["text"], length)
    marks = pl.DataFrame({"uid": shared["uid"].gather(row), "start": start, "end": end})
    records = texts.select("uid", characters=pl.col("text").str.len_chars())
    return _spans.spanned(records, marks).select("uid", "spans", "repeated_ratio", "characters")


def _tokens(words: _words.Words) -> _shingles.Tokens:
    return _shingles.Tokens(words.hashes, words.first, words.last)


def _marked(texts: pl.Series, length: int) -> tuple[Int64s, UInt32s, UInt32s]:
    """Return the spans of texts in the order of their uids: the text's number, start, end."""
    kernels = _compiled()
    size = int(texts.str.len_bytes().sum())
    bits = min(SKETCH_BITS, max(10, (size // 2).bit_length()))
    sketch = np.zeros(2**bits, dtype=np.uint8)
    again = 0
    for _, words in _words.blocks(texts):
        windows = _shingles.shingles(_tokens(words), length).hashes
        again += kernels.sight(windows, words.first, words.last, length, sketch)
    # At most `again` slots of the sketch are taken twice, by at most twice as many windows.
    table = np.zeros(2 ** int(3 * again + 1).bit_length(), dtype=np.uint32)
    store = _Store(np.empty(0, np.uint64), np.empty(0, np.uint32), np.zeros(1, np.int64))
    stored = 0
    rows, starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.uint32)], [np.empty(0, np.uint32)]
    for block, words in _words.blocks(texts):
        windows = _shingles.shingles(_tokens(words), length).hashes
        store = _roomier(store, stored, words)
        row = np.empty(len(windows), dtype=np.int64)
        start, end = np.empty((2, len(windows)), dtype=np.uint32)
        stored, count = kernels.mark(
            windows, *words[1:], length, sketch, table, *store, stored, row, start, end
        )
        rows.append(row[:count] + block.start)
        starts.append(start[:count].copy())
        ends.append(end[:count].copy())
    return np.concatenate(rows), np.concatenate(starts), np.concatenate(ends)


class _Store(NamedTuple):
    """The words of the windows that were met first, those of a window in a row.

    Attributes:
        hashes: of the window that begins at a word.
        letters: as those of `Words`.
        at: likewise.
    """

    hashes: UInt64s
    letters: UInt32s
    at: Int64s


def _roomier(store: _Store, stored: int, words: _words.Words) -> _Store:
    """Return the store with room for all the words of a block."""
    count = stored + len(words.hashes)
    letters = int(store.at[stored]) + len(words.letters)
    return _Store(
        _grown(store.hashes, count), _grown(store.letters, letters), _grown(store.at, count + 1)
    )


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    if size <= len(array):
        return array
    return np.concatenate([array, np.empty(size + size // 2 - len(array), dtype=array.dtype)])


class _Kernels(NamedTuple):
    """The compiled functions."""

    anchors: Callable[..., int]
    sight: Callable[..., int]
    mark: Callable[..., tuple[int, int]]


@cache
def _compiled() -> _Kernels:
    from numba import njit

    compiled = njit(cache=True)
    return _Kernels(compiled(_find_anchors), compiled(_sight), compiled(_mark))


def _find_anchors(
    grams: UInt64s,
    first: Int64s,
    last: Int64s,
    length: int,
    ngram: int,
    anchors: UInt64s,
    count: Int64s,
) -> int:
    """Write the least n-gram of each window, of equal ones the first, each place once. Compiled.

    So two equal windows of a text have anchors in two places, and their key stands twice.
    """
    used = 0
    width = length - ngram + 1
    for text in range(len(first)):
        begun = used
        least = -1
        for i in range(first[text], last[text] - length + 1):
            noted = least
            if least < i:
                least = i
                for j in range(i + 1, i + width):
                    if grams[j] < grams[least]:
                        least = j
            elif grams[i + width - 1] < grams[least]:
                least = i + width - 1
            if least == noted:
                continue
            # A word repeated a thousand times has one anchor a thousand times: two say enough.
            key = grams[least]
            if used < begun + 2 or anchors[used - 1] != key or anchors[used - 2] != key:
                anchors[used] = key
                used += 1
        count[text] = used - begun
    return used


def _sight(windows: UInt64s, first: Int64s, last: Int64s, length: int, sketch: UInt8s) -> int:
    """Note in the sketch each window's hash, once or again; return how often again. Compiled."""
    again = 0
    mask = np.uint64(len(sketch) - 1)
    for text in range(len(first)):
        for i in range(first[text], last[text] - length + 1):
            slot = windows[i] & mask
            again += sketch[slot] > 0
            sketch[slot] = 1 + (sketch[slot] > 0)
    return again


def _mark(
    windows: UInt64s,
    starts: UInt32s,
    ends: UInt32s,
    letters: UInt32s,
    at: Int64s,
    first: Int64s,
    last: Int64s,
    length: int,
    sketch: UInt8s,
    table: UInt32s,
    store_hashes: UInt64s,
    store_letters: UInt32s,
    store_at: Int64s,
    stored: int,
    rows: Int64s,
    span_starts: UInt32s,
    span_ends: UInt32s,
) -> tuple[int, int]:
    """Write the spans of windows that are in the table already, and put the others in. Compiled.

    The table has at a hash, or in the next free slot, the number of a word of the store, plus
    one: there a window with that hash begins.
    """
    spans = 0
    sketch_mask = np.uint64(len(sketch) - 1)
    table_mask = np.uint64(len(table) - 1)
    for text in range(len(first)):
        own_spans = spans
        copied = first[text]  # behind the last word of this text that is in the store
        twin = -1
        for i in range(first[text], last[text] - length + 1):
            if sketch[windows[i] & sketch_mask] < 2:
                twin = -1
                continue
            before = twin
            twin = -1
            slot = (windows[i] >> np.uint64(32)) & table_mask
            while table[slot] != 0:
                j = int(table[slot]) - 1
                if store_hashes[j] == windows[i]:
                    # Where the window before has its twin just before, one word is left to compare.
                    skip = length - 1 if before >= 0 and j == before + 1 else 0
                    a, b = at[i + skip], store_at[j + skip]
                    equal = at[i + length] - a == store_at[j + length] - b
                    while equal and a < at[i + length]:
                        equal = letters[a] == store_letters[b]
                        a += 1
                        b += 1
                    if equal:
                        twin = j
                        break
                slot = (slot + np.uint64(1)) & table_mask
            if twin >= 0:
                if spans > own_spans and starts[i] < span_ends[spans - 1]:
                    span_ends[spans - 1] = ends[i + length - 1]
                else:
                    rows[spans] = text
                    span_starts[spans], span_ends[spans] = starts[i], ends[i + length - 1]
                    spans += 1
                continue
            for word in range(max(i, copied), i + length):
                end = store_at[stored]
                for letter in letters[at[word] : at[word + 1]]:
                    store_letters[end] = letter
                    end += 1
                stored += 1
                store_at[stored] = end
            copied = i + length
            store_hashes[stored - length] = windows[i]
            table[slot] = stored - length + 1
    return stored, spans
