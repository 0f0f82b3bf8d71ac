"""Words of any script and the hashes of their n-grams, read straight from UTF-8.

Texts are compared after NFKC and case folding. A word follows UAX 29 as far as duplicates need
it: a run of letters, digits and marks; in scripts that put no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese), and of symbols such as emoji, one character. Everything
else separates. A text without any word has its visible characters for words instead, so that
"!!!" and "..." differ. The hashes withstand chance, not an adversary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import mix

Unit = Literal["word", "char"]
UInt64s = NDArray[np.uint64]
UInt32s = NDArray[np.uint32]
Int64s = NDArray[np.int64]

BLOCK_BYTES = 2**22
CODE_POINTS = 0x110000

# What a code point does: a table holds this above bit 24, and below it the folded code point.
SPACE, PUNCTUATION, JOINS, ALONE, IGNORED, COMPLEX = range(6)
KIND, FOLDED = 24, 0xFFFFFF

# The blocks of scripts without spaces: Thai, Lao; Burmese; Khmer; New Tai Lue; Tai Tham; kana and
# Bopomofo; ideographs.
UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1980, 0x19FF),
    (0x1A20, 0x1AAF),
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
GAP = np.uint64(0x2545F4914F6CDD1D)
"""The token of whatever separates two words, among characters."""

_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW = np.uint64(0xFFFFFFFF)


class Tokens(NamedTuple):
    """Token hashes of texts: those of text i are `hashes[starts[i]:ends[i]]`."""

    hashes: UInt64s
    starts: Int64s
    ends: Int64s


def normalised(text: str) -> str:
    """Return the text after NFKC, case folding and NFKC."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def tokens(text: str, unit: Unit) -> list[str]:
    """Return the words of one text, or its characters with a space between words.

    What `blocks` reads from bytes, said once more in Python: the reference, and for `datasketch`.
    """
    folded = normalised(text)
    kinds = [_tables().plain[ord(character)] >> KIND for character in folded]
    for stands_alone in ({ALONE}, {ALONE, PUNCTUATION}):
        marked = [
            "" if kind == IGNORED else
            c if kind == JOINS else
            f"\0{c}\0" if kind in stands_alone else " "
            for c, kind in zip(folded, kinds, strict=True)
        ]
        found = "".join(marked).replace("\0", "" if unit == "char" else " ").split()
        if found:
            break
    return list(" ".join(found)) if unit == "char" else found


def blocks(texts: pl.Series, unit: Unit) -> Iterator[tuple[slice, Tokens]]:
    """Yield the token hashes of texts without nulls, some 4 MiB of text at a time."""
    ends = texts.str.len_bytes().cast(pl.Int64).cum_sum().to_numpy()
    start = 0
    while start < len(ends):
        read = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, read + BLOCK_BYTES, side="right")))
        yield slice(start, stop), _tokens(texts[start:stop], unit)
        start = stop


class _Tables(NamedTuple):
    folding: UInt32s
    plain: UInt32s


@cache
def _tables() -> _Tables:
    """Return what each code point does: in any text, and in one that is normalised already."""
    plain = np.full(CODE_POINTS, PUNCTUATION << KIND, dtype=np.uint32)
    plain |= np.arange(CODE_POINTS, dtype=np.uint32)
    of_category = {"L": JOINS, "M": JOINS, "N": JOINS, "Z": SPACE, "C": SPACE, "P": PUNCTUATION}
    named = {"Cf": IGNORED, "So": ALONE}
    ...
def _tokens(texts: pl.Series, unit: Unit) -> Tokens:
    tables = _tables()
    hashes, starts, ends, is_complex = _scan(texts, tables.folding, unit)
    if is_complex.any():
        # Characters that NFKC or case folding maps to several, or may compose with neighbours.
        plain = pl.Series([normalised(text) for text in texts.filter(pl.Series(is_complex))])
        more, more_starts, more_ends, _ = _scan(plain, tables.plain, unit)
        starts[is_complex] = more_starts + len(hashes)
        ends[is_complex] = more_ends + len(hashes)
        hashes = np.concatenate([hashes, more])
    return Tokens(hashes, starts, ends)


def _scan(
    texts: pl.Series, table: UInt32s, unit: Unit
) -> tuple[UInt64s, Int64s, Int64s, NDArray[np.bool_]]:
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = arrow.buffers()
    limits = np.frombuffer(offsets, dtype=np.int64)[arrow.offset :][: len(texts) + 1]
    octets = np.frombuffer(data or b"", dtype=np.uint8)
    hashes = np.empty(limits[-1] - limits[0] + 1, dtype=np.uint64)
    starts, ends = np.empty((2, len(texts)), dtype=np.int64)
    is_complex = np.zeros(len(texts), dtype=np.bool_)
    joins = np.zeros(256, dtype=np.uint64)
    ascii_joins = np.flatnonzero(table[:128] >> KIND == JOINS)
    joins[ascii_joins] = mix((table[ascii_joins] & FOLDED).astype(np.uint64))
    count = kernels().scan(
        octets, limits, table, joins, unit == "char", hashes, starts, ends, is_complex
    )
    return hashes[:count], starts, ends, is_complex


def _scan_bytes(
    octets: NDArray[np.uint8],
    limits: Int64s,
    table: UInt32s,
    joins: UInt64s,
    chars: bool,
    hashes: UInt64s,
    starts: Int64s,
    ends: Int64s,
    is_complex: NDArray[np.bool_],
) -> int:
    """Write the token hashes of each text; a complex text gets none. Compiled.

    A word's hash is its characters' mixed code points, each rotated by 7 bits more than the next.
    """
    count = 0
    for text in range(len(starts)):
        starts[text] = count
        for visible in range(2):
            word = np.uint64(0)
            code, left = 0, 0
            for i in range(limits[text], limits[text + 1]):
                octet = octets[i]
                joined = joins[octet]
                if joined == 0:
                    if octet < 0x80:
                        code = np.int64(octet)
                    elif octet < 0xC0:
                        code = code << 6 | np.int64(octet & 0x3F)
                        left -= 1
                        if left:
                            continue
                    else:
                        left = 1 + (octet >= 0xE0) + (octet >= 0xF0)
                        code = np.int64(octet) & (0x3F >> left)
                        continue
                    entry = table[code]
                    kind = entry >> KIND
                    if kind == IGNORED:
                        continue
                    if kind == COMPLEX:
                        is_complex[text] = True
                        break
                    z = np.uint64(entry & FOLDED) + _GOLDEN
                    z = (z ^ (z >> np.uint64(30))) * _MIX_1
                    z = (z ^ (z >> np.uint64(27))) * _MIX_2
                    joined = z ^ (z >> np.uint64(31))
                    if kind != JOINS:
                        if word != 0:
                            hashes[count] = word
                            count += 1
                            word = np.uint64(0)
                        if kind == ALONE or (visible and kind == PUNCTUATION):
                            hashes[count] = joined
                            count += 1
                        elif chars and count > starts[text] and hashes[count - 1] != GAP:
                            hashes[count] = GAP
                            count += 1
                        continue
                if chars:
                    hashes[count] = joined
                    count += 1
                else:
                    word = (word << np.uint64(7) | word >> np.uint64(57)) ^ joined
            if is_complex[text]:
                count = starts[text]
                break
            if word != 0:
                hashes[count] = word
                count += 1
            if chars and count > starts[text] and hashes[count - 1] == GAP:
                count -= 1
            if count > starts[text]:
                break
        ends[text] = count
    return count


def _hash_shingles(
    tokens: UInt64s, starts: Int64s, ends: Int64s, ngram: int, salt: np.uint64, out: UInt64s
) -> None:
    """Write one hash for each n-gram of tokens, or one for all of a shorter text. Compiled.

    A polynomial of the tokens modulo 2**64, mixed; text i's begin at starts[i].
    """
    power = np.uint64(1)
    for _ in range(ngram):
        power *= _MULTIPLIER
    for text in range(len(starts)):
        start, end = starts[text], ends[text]
        first = min(start + ngram, end) - 1
        rolling = np.uint64(0)
        for i in range(start, end):
            rolling = rolling * _MULTIPLIER + tokens[i]
            if i >= start + ngram:
                rolling -= tokens[i - ngram] * power
            if i >= first:
                z = (rolling ^ salt) + _GOLDEN
                z = (z ^ (z >> np.uint64(30))) * _MIX_1
                z = (z ^ (z >> np.uint64(27))) * _MIX_2
                out[start + i - first] = z ^ (z >> np.uint64(31))


def _one_permutation(
    shingles: UInt64s, starts: Int64s, ends: Int64s, offsets: Int64s, out: UInt32s
) -> None:
    """Write each text's signature: the least low half of the hashes of a slot. Compiled.

    The high half of a hash chooses its slot. In round r each slot that got no hash takes the
    value of the slot offsets[r] before it, if that one got a hash and it is still without.
    """
    slots = len(offsets)
    least = np.empty(slots, dtype=np.uint64)
    filled = np.empty(slots, dtype=np.int64)
    for text in range(len(starts)):
        least[:] = _EMPTY
        for i in range(starts[text], ends[text]):
            z = shingles[i]
            slot = (z >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32)
            least[slot] = min(least[slot], z & _LOW)
        count = 0
        for slot in range(slots):
            if least[slot] != _EMPTY:
                filled[count] = slot
                count += 1
            out[text, slot] = np.uint32(least[slot])
        missing = slots - count if count else 0
        for offset in offsets:
            if missing == 0:
                break
            for n in range(count):
                slot = filled[n] + offset
                slot -= slots if slot >= slots else 0
                if least[slot] == _EMPTY:
                    out[text, slot] = out[text, filled[n]]
                    least[slot] = 0
                    missing -= 1
