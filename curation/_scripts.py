"""What each code point is: a letter, a capital, a digit, a mark, and of which script."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

LETTER, CAPITAL, DIGIT, ALPHANUMERIC, SPACE = (1 << bit for bit in range(5))
CLASSES = {
    LETTER: r"\p{L}",
    CAPITAL: r"\p{Lu}",
    DIGIT: r"\p{Nd}",
    ALPHANUMERIC: r"[\p{L}\p{M}\p{N}]",
    SPACE: r"\s",
}
# Those in which much is written today, the first of equals first; letters of others have no name.
SCRIPTS = (
    "Latin", "Han", "Hangul", "Cyrillic", "Arabic", "Devanagari", "Hiragana", "Katakana", "Thai",
    "Greek", "Hebrew", "Bengali", "Tamil", "Telugu", "Kannada", "Malayalam", "Gujarati", "Gurmukhi",
    "Oriya", "Sinhala", "Georgian", "Armenian", "Ethiopic", "Khmer", "Lao", "Myanmar", "Tibetan",
    "Mongolian", "Thaana", "Syriac", "Tifinagh", "Cherokee", "Nko",
)  # fmt: skip


class CodePoints(NamedTuple):
    """Tables by code point.

    Attributes:
        classes: bits of `CLASSES`.
        scripts: of a letter the number of its script in `SCRIPTS` and 1; 0 of anything else.
    """

    classes: NDArray[np.uint8]
    scripts: NDArray[np.uint8]


# Planes 4 to 13 are empty, 15 and 16 are private.
ASSIGNED = (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000))


@cache
def code_points() -> CodePoints:
    """Return the tables, by the Unicode of the engine's expressions."""
    every = "".join(map(chr, ASSIGNED))
    classes, scripts = np.zeros((2, 0x110000), dtype=np.uint8)
    for bit, pattern in CLASSES.items():
        classes[_codes(_of(every, pattern))] |= bit
    letters = _of(every, CLASSES[LETTER])
    for number, name in enumerate(SCRIPTS, start=1):
        scripts[_codes(_of(letters, rf"\p{{{name}}}"))] = number
    return CodePoints(classes, scripts)


def _of(text: str, pattern: str) -> str:
    """Return the characters of a text that are of a class."""
    found: str = pl.Series([text]).str.replace_all(f"[^{pattern}]+", "")[0]
    return found


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
