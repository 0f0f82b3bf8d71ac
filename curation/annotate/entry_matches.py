"""Which metadata entries a text contains, as whole words: MetaCLIP's substring matching."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from curation import _entries, _texts
from curation.step import Role, Table, rowwise

UInt8s = NDArray[np.uint8]
UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]

_SPACE, _ONE = np.uint8(32), np.uint64(1)
# An entry has 32 bits.
_EMPTY, _BEGINNING = np.uint64(2**32), np.uint64(2**32 + 1)
_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT = np.uint64(29)


@rowwise(
    version=2,
    reads={"text": Role(pl.String)},
    writes={"entries": pl.List(pl.UInt32)},
    tables={"metadata": Table(("entry", "name"))},
)
def entry_matches(
    rows: pl.DataFrame, metadata: pl.DataFrame, *, mode: _entries.Mode = "improved"
) -> pl.DataFrame:
    """List the entries whose name, between spaces, is a substring of the spaced text.

    `improved` spaces names as it does texts: after NFC a space stands between any two of words,
    marks and, in scripts that write no spaces between words (Han, kana, Thai, Lao, Burmese, Khmer,
    Tibetan), letters; white space within a name is any white space. A word is a run of letters,
    marks of letters and digits, an apostrophe between two of them included: "dog" is in "(dog)",
    not in "dogs" nor in "dog's". `reference` is the original to the letter: spaces are put around
    `, . ; : ? !` and the backtick in the text alone, tab, line feed and carriage return become
    spaces, and two spaces are not one. So "dog" is not in "(dog)", and "U.S." is nowhere. Case
    counts in both. What the reference finds the improved mode finds too.

    Reads:
        text: what is searched.
        metadata: the entries, by number and name, such as `fit.build_metadata`; a JSON list of
            names will do.
    Args:
        mode: "reference" is the paper's algorithm to the letter, "improved" treats names as texts.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, algorithm 1; scripts
    without spaces: Chuang et al. 2025, Meta CLIP 2, arXiv:2507.22062.
    Writes:
        entries: ascending, no repeats; empty where nothing matches, null where the text is null.
    Cost: O(words + matches), some 4 microseconds a caption of 13 matches; each process makes a
        table of the entries, of 500,000 in some 0.4 seconds.
    """
    find = _finder(_Metadata.of(metadata), mode)
    texts = rows.select(_entries.spaced(pl.col("text"), mode))["text"]
    found = [find(texts[block]) for block in _texts.blocks(texts)]
    entries = pl.concat(found) if found else pl.Series([], dtype=pl.List(pl.UInt32))
    return pl.DataFrame({"entries": entries})


@dataclass(frozen=True)
class _Metadata:
    """A table that is equal to every table of the same content."""

    digest: bytes
    table: pl.DataFrame = field(compare=False)

    @classmethod
    def of(cls, metadata: pl.DataFrame) -> _Metadata:
        table = metadata.select(pl.col("entry").cast(pl.UInt32), "name").drop_nulls().rechunk()
        digest = hashlib.blake2b(table["entry"].to_numpy().tobytes())
        for part in _texts.octets(table["name"]):
            digest.update(part.tobytes())
        return cls(digest.digest(), table)


class _Words(NamedTuple):
    """Hashes of what lies between the spaces of texts: from `first[i]` to `first[i + 1]` of text i.

    Equal hashes stand for equal words: two of 64 bits agree by chance once in 2e19.
    """

    hashes: UInt64s
    first: Int64s


@lru_cache(maxsize=2)
def _finder(metadata: _Metadata, mode: _entries.Mode) -> Callable[[pl.Series], pl.Series]:
    """Return the search for one table's entries in spaced texts.

    A hash table has the names and their beginnings of whole words; a search goes on from each
    word of a text for as long as it finds such a beginning.
    """
    table = metadata.table
    if mode == "improved":
        table = table.select("entry", _entries.spaced(pl.col("name"), mode)).filter(
            pl.col("name") != ""
        )
    names = _words(table["name"])
    slots = np.full((1 << max(4, (2 * len(names.hashes)).bit_length()), 2), _EMPTY)
    _compiled(_insert)(*names, table["entry"].to_numpy(), slots)

    def find(texts: pl.Series) -> pl.Series:
        limits, found = _compiled(_search)(*_words(texts), slots)
        nulls = pa.array(texts.is_null().to_numpy()) if texts.null_count() else None
        return pl.Series(pa.LargeListArray.from_arrays(limits, found, mask=nulls))

    return find


def _words(texts: pl.Series) -> _Words:
    octets, limits = _texts.octets(texts)
    hashes = np.empty(int((octets == ord(" ")).sum()) + len(texts), dtype=np.uint64)
    first = np.empty(len(texts) + 1, dtype=np.int64)
    _compiled(_split)(octets, limits, hashes, first)
    return _Words(hashes, first)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(function)
    return compiled


def _split(octets: UInt8s, limits: Int64s, hashes: UInt64s, first: Int64s) -> None:
    """Write the hash of each word, the empty ones between two spaces too. Compiled."""
    count = 0
    for text in range(len(limits) - 1):
        first[text] = count
        word = np.uint64(1)
        for octet in octets[limits[text] : limits[text + 1]]:
            if octet == _SPACE:
                hashes[count] = word
                count += 1
                word = np.uint64(1)
            else:
                word = word * _MULTIPLIER + np.uint64(octet)
        hashes[count] = word
        count += 1
    first[len(limits) - 1] = count


def _insert(hashes: UInt64s, first: Int64s, entries: UInt32s, slots: UInt64s) -> None:
    """Write every name and every beginning of one into the hash table. Compiled."""
    mask = np.uint64(len(slots) - 1)
    for name in range(len(first) - 1):
        path = np.uint64(0)
        for word in range(first[name], first[name + 1]):
            path = (path ^ hashes[word]) * _MIX_1
            path = (path ^ (path >> _SHIFT)) * _MIX_2
            path ^= path >> _SHIFT
            at = path & mask
            whole = word + 1 == first[name + 1]
            # Each name has a slot of its own, so that two entries of one name are both found.
            while slots[at, 1] != _EMPTY and (whole or slots[at, 0] != path):
                at = (at + _ONE) & mask
            if slots[at, 1] == _EMPTY:
                slots[at, 0] = path
                slots[at, 1] = np.uint64(entries[name]) if whole else _BEGINNING


def _search(hashes: UInt64s, first: Int64s, slots: UInt64s) -> tuple[Int64s, UInt32s]:
    """Return where the ascending entries of each text begin, and all of them. Compiled."""
    mask = np.uint64(len(slots) - 1)
    limits = np.zeros(len(first), dtype=np.int64)
    found = np.empty(1024, dtype=np.uint32)
    count = 0
    for text in range(len(first) - 1):
        begin = count
        for start in range(first[text], first[text + 1]):
            path = np.uint64(0)
            for word in range(start, first[text + 1]):
                path = (path ^ hashes[word]) * _MIX_1
                path = (path ^ (path >> _SHIFT)) * _MIX_2
                path ^= path >> _SHIFT
                at = path & mask
                known = False
                while slots[at, 1] != _EMPTY:
                    if slots[at, 0] == path:
                        known = True
                        if slots[at, 1] != _BEGINNING:
                            if count == len(found):
                                more = np.empty(2 * count, dtype=np.uint32)
                                more[:count] = found
                                found = more
                            found[count] = slots[at, 1]
                            count += 1
                    at = (at + _ONE) & mask
                if not known:
                    break
        found[begin:count].sort()
        last = begin
        for i in range(begin, count):
            if last == begin or found[i] != found[last - 1]:
                found[last] = found[i]
                last += 1
        count = last
        limits[text + 1] = count
    return limits, found[:count]
