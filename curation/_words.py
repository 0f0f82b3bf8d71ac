"""Words of any script with their places in the text, and their letters to compare them by.

The words are those of curation/_shingles.py, which says what a word is and has the tables. A
place counts characters of the Python string (code points), so that `text[start:end]` is the
word as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation import _shingles, _texts
from curation._shingles import ALONE, COMPLEX, FOLDED, IGNORED, JOINS, KIND, PUNCTUATION, SPACE

UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]

EXPANDS, COMPOSES = 1, 2
_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Words(NamedTuple):
    """The words of texts: those of text i are `first[i]` up to `last[i]`.

    Attributes:
        hashes: of each word.
        starts: the place in its text of each word's first character.
        ends: the place behind its last.
        letters: the folded characters of each word, and a 0 behind it: two runs of words are
            equal where these are.
        at: where the letters of each word begin; one more, where those of the last end.
        first: the first word of each text.
        last: the word behind its last.
    """

    hashes: UInt64s
    starts: UInt32s
    ends: UInt32s
    letters: UInt32s
    at: Int64s
    first: Int64s
    last: Int64s


def blocks(texts: pl.Series) -> Iterator[tuple[slice, Words]]:
    """Yield the words of texts without nulls, about 1 MiB of text at a time."""
    for rows in _texts.blocks(texts):
        yield rows, words(texts[rows])


def words(texts: pl.Series) -> Words:
    """Return the words of texts without nulls."""
    tables = _shingles._tables()
    found, is_complex = _scan(texts, tables.folding)
    if not is_complex.any():
        return found
    # Characters that NFKC or case folding maps to several, or may compose with neighbours.
    plain, starts, ends = zip(*map(_placed, texts.filter(pl.Series(is_complex))), strict=True)
    more, _ = _scan(pl.Series(plain), tables.plain)
    begins = np.cumsum([0, *map(len, plain)])[:-1].repeat(more.last - more.first)
    found.first[is_complex] = more.first + len(found.hashes)
    found.last[is_complex] = more.last + len(found.hashes)
    return Words(
        np.concatenate([found.hashes, more.hashes]),
        np.concatenate([found.starts, np.concatenate(starts)[begins + more.starts]]),
        np.concatenate([found.ends, np.concatenate(ends)[begins + more.ends - 1]]),
        np.concatenate([found.letters, more.letters]),
        np.concatenate([found.at[:-1], more.at + len(found.letters)]),
        found.first,
        found.last,
    )


def _placed(text: str) -> tuple[str, UInt32s, UInt32s]:
    """Return the normalised text, and for each of its characters where it was in the text.

    What normalises together, a character and the marks behind it, has one place, unless it
    stays as long as it was.
    """
    changes = _changes()[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
    begins = np.flatnonzero(changes != COMPOSES)
    begins = begins if changes[0] != COMPOSES else np.insert(begins, 0, 0)
    limits = np.append(begins, len(text))
    count = np.ones(len(text), dtype=np.int64)
    ends = np.arange(1, len(text) + 1, dtype=np.uint32)
    for i in np.flatnonzero((np.diff(limits) > 1) | (changes[begins] != 0)):
        start, end = limits[i], limits[i + 1]
        length = len(_shingles.normalised(text[start:end]))
        if length != end - start:
            count[start:end] = 0
            count[start], ends[start] = length, end
    starts = np.arange(len(text), dtype=np.uint32)
    return _shingles.normalised(text), starts.repeat(count), ends.repeat(count)


@cache
def _changes() -> NDArray[np.uint8]:
    """Return what normalising does to each code point beyond mapping it to one other."""
    folding = _shingles._tables().folding
    changes = np.zeros(_shingles.CODE_POINTS, dtype=np.uint8)
    # A mark that folds to several, such as an ellipsis, has no folded code point.
    several = (folding >> KIND == COMPLEX) | (folding == PUNCTUATION << KIND)
    for code in np.flatnonzero(several).tolist():
        composes = _shingles._composes(code) or any(
            map(_shingles._composes, map(ord, _shingles.normalised(chr(code))[:1]))
        )
        changes[code] = COMPOSES if composes else EXPANDS
    return changes


def _scan(texts: pl.Series, table: UInt32s) -> tuple[Words, NDArray[np.bool_]]:
    """Return the words, and which texts have none for being complex."""
    octets, limits = _texts.octets(texts)
    size = int(limits[-1] - limits[0])
    hashes = np.empty(size, dtype=np.uint64)
    starts, ends = np.empty((2, size), dtype=np.uint32)
    letters = np.empty(2 * size, dtype=np.uint32)
    at = np.empty(size + 1, dtype=np.int64)
    first, last = np.empty((2, len(texts)), dtype=np.int64)
    is_complex = np.zeros(len(texts), dtype=np.bool_)
    count = _compiled()(
        octets, limits, table, hashes, starts, ends, letters, at, first, last, is_complex
    )
    found = Words(
        hashes[:count],
        starts[:count],
        ends[:count],
        letters[: at[count]],
        at[: count + 1],
        first,
        last,
    )
    return found, is_complex


@cache
def _compiled() -> Callable[..., int]:
    from numba import njit

    scan: Callable[..., int] = njit(cache=True)(_scan_bytes)
    return scan


def _scan_bytes(
    octets: NDArray[np.uint8],
    limits: Int64s,
    table: UInt32s,
    hashes: UInt64s,
    starts: UInt32s,
    ends: UInt32s,
    letters: UInt32s,
    at: Int64s,
    first: Int64s,
    last: Int64s,
    is_complex: NDArray[np.bool_],
) -> int:
    """Write the words of each text; a complex text gets none. Compiled.

    A word's hash is a polynomial of its letters modulo 2**64, mixed.
    """
    count = used = 0
    at[0] = 0
    for text in range(len(first)):
        own = octets[limits[text] : limits[text + 1]]
        first[text] = count
        for visible in range(2):
            inside = single = False
            word = np.uint64(0)
            i = place = 0
            while i <= len(own):
                entry = np.int64(SPACE << KIND)  # behind the text
                if i < len(own):
                    code = np.int64(own[i])
                    if code >= 0x80:
                        more = 1 + (code >= 0xE0) + (code >= 0xF0)
                        code &= 0x3F >> more
                        for octet in own[i + 1 : i + 1 + more]:
                            code = code << 6 | np.int64(octet & 0x3F)
                        i += int(more)
                    entry = np.int64(table[code])
                i += 1
                place += 1
                kind, folded = entry >> KIND, entry & FOLDED
                if kind == IGNORED:
                    continue
                if kind == COMPLEX or (visible and kind == PUNCTUATION and folded == 0):
                    is_complex[text] = True
                    break
                alone = kind == ALONE or (visible == 1 and kind == PUNCTUATION)
                if inside and (single or kind != JOINS):
                    z = (word ^ (word >> np.uint64(30))) * _MIX_1
                    z = (z ^ (z >> np.uint64(27))) * _MIX_2
                    hashes[count] = z ^ (z >> np.uint64(31))
                    letters[used] = 0
                    used += 1
                    count += 1
                    at[count] = used
                    inside = False
                if kind == JOINS or alone:
                    if not inside:
                        inside, single = True, alone
                        word = np.uint64(0)
                        starts[count] = place - 1
                    letters[used] = folded
                    used += 1
                    ends[count] = place
                    word = word * _MULTIPLIER + np.uint64(folded)
            if is_complex[text]:
                count = first[text]
                used = at[count]
                break
            if count > first[text]:
                break
        last[text] = count
    return count
