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
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.uid import mix
from curation import _texts

Unit = Literal["word", "char"]
UInt64s = NDArray[np.uint64]
UInt32s = NDArray[np.uint32]
Int64s = NDArray[np.int64]

CODE_POINTS = 0x110000
IDEOGRAPHS = slice(0x20000, 0x40000)
# Planes 0 and 1, compatibility ideographs, tags and selectors; what is beyond, or not assigned,
# is visible and separates.
ASSIGNED = (*range(0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE0200))
ZERO_WIDTH_SPACE = 0x200B
SELECTORS = frozenset(
    (*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
)

# What a code point does: a table holds this above bit 24, and below it the folded code point.
SPACE, PUNCTUATION, JOINS, ALONE, IGNORED, COMPLEX = range(6)
KIND, FOLDED = 24, 0xFFFFFF

# The blocks of scripts without spaces: Thai, Lao; Burmese; Khmer; New Tai Lue; Lanna; kana and
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


def grams(text: str, unit: Unit, ngram: int) -> list[str]:
    """Return the n-grams of one text: words joined by a space, or characters.

    It says in Python what `blocks` and `shingles` do to bytes: the reference of their tests, and
    the n-grams themselves for those who want more than a hash.
    """
    parts = tokens(text, unit)
    between = " " if unit == "word" else ""
    count = max(len(parts) - ngram + 1, 1) if parts else 0
    return [between.join(parts[n : n + ngram]) for n in range(count)]


def tokens(text: str, unit: Unit) -> list[str]:
    """Return the words of one text, or its characters with a space between separated words."""
    folded = normalised(text)
    kinds = [int(_tables().plain[ord(character)]) >> KIND for character in folded]
    for alone in ({ALONE}, {ALONE, PUNCTUATION}):
        spaced = ""
        for character, kind in zip(folded, kinds, strict=True):
            if kind in alone:
                spaced += character if unit == "char" else f" {character} "
            elif kind != IGNORED:
                spaced += character if kind == JOINS else " "
        if spaced.strip(" "):
            break
    found = spaced.split(" ")
    return list(" ".join(filter(None, found))) if unit == "char" else list(filter(None, found))


def blocks(texts: pl.Series, unit: Unit) -> Iterator[tuple[slice, Tokens]]:
    """Yield the token hashes of texts without nulls, about 1 MiB of text at a time.

    The next block overwrites the hashes of the one before: memory that stays is half the time.
    """
    scratch = np.empty(0, dtype=np.uint64)
    for here in _texts.blocks(texts):
        size = int(texts[here].str.len_bytes().sum())
        if len(scratch) <= size:
            scratch = np.empty(max(_texts.BLOCK_BYTES, size) + 1, dtype=np.uint64)
        yield here, _tokens(texts[here], unit, scratch)


def shingles(tokens: Tokens, ngram: int, salt: int = 0) -> Tokens:
    """Turn the tokens, in place, into the hashes of their n-grams; a shorter text has one."""
    kernels().shingle(*tokens, ngram, np.uint64(salt))
    length = tokens.ends - tokens.starts
    count = np.minimum(length, np.maximum(length - ngram + 1, 1))
    return Tokens(tokens.hashes, tokens.starts, tokens.starts + count)


def _tokens(texts: pl.Series, unit: Unit, scratch: UInt64s) -> Tokens:
    tables = _tables()
    tokens, is_complex = _scan(texts, tables.folding, unit, scratch)
    if not is_complex.any():
        return tokens
    # Characters that NFKC or case folding maps to several, or may compose with neighbours.
    plain = pl.Series([normalised(text) for text in texts.filter(pl.Series(is_complex))])
    room = np.empty(int(plain.str.len_bytes().sum()) + 1, dtype=np.uint64)
    more, _ = _scan(plain, tables.plain, unit, room)
    tokens.starts[is_complex] = more.starts + len(tokens.hashes)
    tokens.ends[is_complex] = more.ends + len(tokens.hashes)
    return tokens._replace(hashes=np.concatenate([tokens.hashes, more.hashes]))


def _scan(
    texts: pl.Series, table: UInt32s, unit: Unit, out: UInt64s
) -> tuple[Tokens, NDArray[np.bool_]]:
    """Return the tokens, written to `out`, and which texts have none for being complex."""
    octets, limits = _texts.octets(texts)
    starts, ends = np.empty((2, len(texts)), dtype=np.int64)
    is_complex = np.zeros(len(texts), dtype=np.bool_)
    joins = np.zeros(256, dtype=np.uint64)
    ascii_joins = np.flatnonzero(table[:128] >> KIND == JOINS)
    joins[ascii_joins] = mix((table[ascii_joins] & FOLDED).astype(np.uint64))
    by_character = unit == "char"
    count = kernels().scan(
        octets, limits, table, joins, by_character, out, starts, ends, is_complex
    )
    return Tokens(out[:count], starts, ends), is_complex


class _Tables(NamedTuple):
    """What each code point does, in any text and in one that is normalised already."""

    folding: UInt32s
    plain: UInt32s


@cache
def _tables() -> _Tables:
    plain = np.arange(CODE_POINTS, dtype=np.uint32) | np.uint32(PUNCTUATION << KIND)
    plain[IDEOGRAPHS] += (ALONE - PUNCTUATION) << KIND
    for code in ASSIGNED:
        plain[code] = _kind(code) << KIND | code
    folding = plain.copy()
    for code in ASSIGNED:
        folding[code] = _folding(code, plain)
    return _Tables(folding, plain)


def _kind(code: int) -> int:
    category = unicodedata.category(chr(code))
    if code == ZERO_WIDTH_SPACE or category == "Cc" or category[0] == "Z":
        return SPACE
    if category == "Cf" or code in SELECTORS:
        return IGNORED
    if category[0] in "LMN":
        return ALONE if any(low <= code <= high for low, high in UNSPACED) else JOINS
    return ALONE if category == "So" else PUNCTUATION


def _folding(code: int, plain: UInt32s) -> int:
    """Return the entry of a code point in a text that may not be normalised."""
    folded = [ord(c) for c in normalised(chr(code))]
    kinds = {int(plain[f]) >> KIND for f in folded}
    if kinds <= {SPACE, PUNCTUATION} and len(folded) > 1:
        return PUNCTUATION << KIND
    if len(folded) > 1 or _composes(code) or _composes(folded[0]):
        return COMPLEX << KIND | code
    return int(plain[folded[0]])


def _composes(code: int) -> bool:
    """Whether the character may change places or melt with the one before it under NFKC."""
    jamo = 0x1161 <= code <= 0x1175 or 0x11A8 <= code <= 0x11C2
    return jamo or unicodedata.combining(chr(code)) > 0 or code in _second_halves()


@cache
def _second_halves() -> frozenset[int]:
    """Return the characters that end some canonical decomposition."""
    parts = [unicodedata.decomposition(chr(code)).split() for code in ASSIGNED]
    return frozenset(int(pair[1], 16) for pair in parts if len(pair) == 2 and pair[0][0] != "<")


class Kernels(NamedTuple):
    """The compiled functions."""

    scan: Callable[..., int]
    shingle: Callable[..., None]
    one_permutation: Callable[..., None]


@cache
def kernels() -> Kernels:
    """Compile once a machine, load once a process; the import of numba is not paid before."""
    from numba import njit

    compiled = njit(cache=True)
    return Kernels(compiled(_scan_bytes), compiled(_hash_shingles), compiled(_one_permutation))


# Unsigned indices and loops over slices: numba then leaves out the test for a negative index,
# which halves the time.


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

    A word's hash is the exclusive or of its characters' mixed code points, each rotated by 7
    bits more than the next.
    """
    count = np.uint64(0)
    for text in range(len(starts)):
        own = octets[limits[text] : limits[text + 1]]
        start = count
        for visible in range(2):
            simple = not chars and not visible
            word = np.uint64(0)
            at = np.uint64(0)
            while True:
                if simple:
                    # ASCII, without a branch at the ends of words, which no processor predicts:
                    # the word is written at every octet, and the count moves where it ends.
                    for octet in own[at:]:
                        if octet >= 0x80:
                            break
                        joined = joins[octet]
                        hashes[count] = word
                        count += np.uint64((joined == 0) & (word != 0))
                        word = (word << np.uint64(7) | word >> np.uint64(57)) ^ joined
                        word = np.uint64(0) if joined == 0 else word
                        at += np.uint64(1)
                if at >= len(own):
                    break
                code = np.uint64(own[at])
                at += np.uint64(1)
                if code >= 0x80:
                    more = 1 + (code >= 0xE0) + (code >= 0xF0)
                    code &= np.uint64(0x3F >> more)
                    for octet in own[at : at + np.uint64(more)]:
                        code = code << np.uint64(6) | np.uint64(octet & 0x3F)
                        at += np.uint64(1)
                entry = table[code]
                kind = entry >> KIND
                folded = entry & FOLDED
                if kind == IGNORED:
                    continue
                # A mark that folds to several, such as an ellipsis, matters where marks count.
                if kind == COMPLEX or (visible and kind == PUNCTUATION and folded == 0):
                    is_complex[text] = True
                    break
                z = np.uint64(folded) + _GOLDEN
                z = (z ^ (z >> np.uint64(30))) * _MIX_1
                z = (z ^ (z >> np.uint64(27))) * _MIX_2
                joined = z ^ (z >> np.uint64(31))
                if kind == JOINS and not chars:
                    word = (word << np.uint64(7) | word >> np.uint64(57)) ^ joined
                    continue
                if word != 0:
                    hashes[count] = word
                    count += np.uint64(1)
                    word = np.uint64(0)
                if kind in (JOINS, ALONE) or (visible and kind == PUNCTUATION):
                    hashes[count] = joined
                    count += np.uint64(1)
                elif chars and count > start and hashes[count - np.uint64(1)] != GAP:
                    hashes[count] = GAP
                    count += np.uint64(1)
            if is_complex[text]:
                count = start
                break
            if word != 0:
                hashes[count] = word
                count += np.uint64(1)
            if chars and count > start and hashes[count - np.uint64(1)] == GAP:
                count -= np.uint64(1)
            if count > start:
                break
        starts[text], ends[text] = start, count
    return int(count)


def _hash_shingles(
    hashes: UInt64s, starts: Int64s, ends: Int64s, ngram: int, salt: np.uint64
) -> None:
    """Write a hash of each n-gram over its first token, of a shorter text its only. Compiled.

    A polynomial of the tokens modulo 2**64, mixed.
    """
    power = np.uint64(1)
    for _ in range(ngram):
        power *= _MULTIPLIER
    for text in range(len(starts)):
        own = hashes[starts[text] : ends[text]]
        rolling = np.uint64(0)
        for token in own[:ngram]:
            rolling = rolling * _MULTIPLIER + token
        for i in range(len(own[ngram:]) + 1 if len(own) else 0):
            first = own[i]
            z = (rolling ^ salt) + _GOLDEN
            z = (z ^ (z >> np.uint64(30))) * _MIX_1
            z = (z ^ (z >> np.uint64(27))) * _MIX_2
            own[i] = z ^ (z >> np.uint64(31))
            if i + ngram < len(own):
                rolling = rolling * _MULTIPLIER + own[i + ngram] - first * power


def _one_permutation(
    shingles: UInt64s, starts: Int64s, ends: Int64s, offsets: UInt64s, out: UInt32s
) -> None:
    """Write each text's signature: the least low half of the hashes of a slot. Compiled.

    The high half of a hash chooses its slot. In round r a slot without a hash takes the value of
    the slot offsets[r] before it, if that one got a hash and the other is still without.
    """
    slots = np.uint64(len(offsets))
    least = np.empty(len(offsets), dtype=np.uint64)
    filled = np.empty(len(offsets) + 1, dtype=np.uint64)
    for text in range(len(starts)):
        least[:] = _EMPTY
        for z in shingles[starts[text] : ends[text]]:
            slot = (z >> np.uint64(32)) * slots >> np.uint64(32)
            least[slot] = min(least[slot], z & _LOW)
        values = out[text]
        count = np.uint64(0)
        for i in range(len(least)):
            values[i] = np.uint32(least[i])
            filled[count] = i
            count += np.uint64(least[i] != _EMPTY)
        missing = slots - count if count else np.uint64(0)
        for offset in offsets:
            if missing == 0:
                break
            for source in filled[:count]:
                slot = source + offset
                slot = slot - slots if slot >= slots else slot
                if least[slot] == _EMPTY:
                    values[slot] = values[source]
                    least[slot] = np.uint64(0)
                    missing -= np.uint64(1)
