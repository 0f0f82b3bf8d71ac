"""Words of texts and of metadata entries as MetaCLIP separates them: by spaces."""

from __future__ import annotations

from typing import Literal

import polars as pl

Mode = Literal["improved", "reference"]

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tibetan}"
# The joiners within words of Persian and Indian scripts are no letters.
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}\x{{200C}}\x{{200D}}]--[{_UNSPACED}]]"
UNSPACED = rf"^[{_UNSPACED}]"
WORD = rf"{_LETTER}+(?:['’]{_LETTER}+)*|[{_UNSPACED}]\p{{M}}*"
_MARKS = r"[,.;:?!`]"
# A text has two spaces between two marks, and nothing else than a space beside one.
UNREACHABLE = rf"[\t\n\r]|{_MARKS}[^ ]|[^ ]{_MARKS}|{_MARKS} {_MARKS}"


def spaced(text: pl.Expr, mode: Mode) -> pl.Expr:
    """Put spaces between the words of texts; what `entry_matches` says of its modes."""
    if mode == "reference":
        return text.str.replace_all(f"({_MARKS})", " $1 ").str.replace_all(r"[\t\n\r]", " ")
    return words(text).list.join(" ")


def words(text: pl.Expr) -> pl.Expr:
    """Return the words and marks of texts, a list each."""
    return text.str.normalize("NFC").str.extract_all(rf"{WORD}|\S")
