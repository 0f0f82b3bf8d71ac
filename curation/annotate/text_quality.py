"""Numbers that the document rules of Gopher, FineWeb and FineWeb2 compare with thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.params import Count
from curation import _lines, _texts
from curation.step import Role, rowwise

CODE_POINTS = 0x110000
# Four planes, tags and selectors; what is beyond, or not assigned, is a mark of its own.
ASSIGNED = (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200))
# What a code point is in a word, one bit each.
SPACE, LETTER, MARK, JOINS, ALONE, EXTENDS, DIVIDES = (1 << n for n in range(7))
CLASSES = {
    SPACE: _lines.SPACE,
    LETTER: r"\p{L}",
    # datatrove's PUNCTUATION_SET: ’ and the full-width 1 are among them, • is not.
    MARK: r"[!-/:-@\[-`{-~\p{Cc}\p{Sentence_Terminal}«´»–—’“”„…∶━►、〈〉《》「」【】％（），"
    r"１：；～]",
    JOINS: r"[\p{L}\p{N}\p{M}\p{Cf}+]",
    ALONE: r"[\p{So}\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}"
    r"\p{Myanmar}&&[^\p{M}]]",
    EXTENDS: r"[\p{M}\p{Cf}\p{Emoji_Modifier}]",
    DIVIDES: r"[-–—~:/<>=]",
}
LINE_FEED, NUMBER_SIGN, APOSTROPHE, HYPHEN, FULL_STOP, SLASH, COLON = map(ord, "\n#'-./:")
QUOTE, ELLIPSIS = map(ord, "’…")

TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)
STOP_WORDS = "the be to of and that have with"

COUNTS = ("tokens", "words", "stop_words")
RATIOS = (
    "mean_word_length",
    "letter_token_ratio",
    "hashes_per_token",
    "ellipses_per_token",
    "newlines_per_token",
    "bullet_line_ratio",
    "ellipsis_line_ratio",
    "duplicate_line_ratio",
    "duplicate_line_character_ratio",
    "duplicate_paragraph_ratio",
    "duplicate_paragraph_character_ratio",
    "terminal_line_ratio",
    "short_line_ratio",
    "duplicate_character_ratio",
    *(f"top_{n}_gram_per_character" for n in TOP),
    *(f"duplicate_{n}_gram_ratio" for n in DUPLICATE),
)

_SCANNED = (*COUNTS, "in_words", "lettered", "hashes", "ellipses", "newlines")
_REPEATED = RATIOS[-len(TOP + DUPLICATE) :]
_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

UInt64s = NDArray[np.uint64]
UInt32s = NDArray[np.uint32]
UInt8s = NDArray[np.uint8]
Int64s = NDArray[np.int64]


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={**dict.fromkeys(COUNTS, pl.UInt32), **dict.fromkeys(RATIOS, pl.Float32)},
)
def text_quality(
    rows: pl.DataFrame,
    *,
    stop_words: str = STOP_WORDS,
    short_line_characters: Count = 30,
) -> pl.DataFrame:
    """Measure words, lines, paragraphs and repetition of a document; rules are SQL over these.

    A token is a word or a mark. A word is a run of letters, digits, `+` and any one mark between
    two of them other than `-–—~:/<>=`; a hyphen between a letter and a digit joins, so does `::`,
    and an address, with `://`, goes on over these and slashes. An apostrophe with at most two
    letters behind it begins a word ("it", "'s"); the full stop of an initial or an abbreviation
    such as "e.g." belongs to it. Every other mark is a token of its own, but full stops or hyphens
    in a row are one. So is a character of a script that puts no spaces between words (Chinese,
    Japanese, Thai, Lao, Khmer, Burmese) and a symbol such as an emoji.
    Combining and invisible characters belong to what stands before them. Nothing is normalised,
    case and accents count. datatrove takes a tokeniser for each language instead, for English
    spaCy's; given the same tokens, all columns are those of its code.

    Reads:
        text: what is measured.
    Args:
        stop_words: separated by spaces; case counts. FineWeb2 has some for each language.
        short_line_characters: a line of at most so many characters is short.
    Reference: Rae et al. 2021, Gopher, arXiv:2112.11446, appendix A1.1 and table A1; Penedo et
    al. 2024, FineWeb, arXiv:2406.17557, section 3.6; Penedo et al. 2025, FineWeb2,
    arXiv:2506.20920. The definitions are those of datatrove 0.10, gopher_quality_filter,
    gopher_repetition_filter and fineweb_quality_filter. Gopher leaves open how repeated n-grams
    are counted: Dolma counts the first occurrence too and divides by the characters of all
    n-grams, so that its numbers are others.
    Writes:
        tokens: words and marks; 0 for an empty text; all columns are null for a null text.
        words: tokens that are more than marks of punctuation.
        stop_words: how many of the stop words occur, each counted once.
        mean_word_length: characters a word; null without words.
        letter_token_ratio: share of the tokens with a letter, in [0, 1]; null without tokens,
            as the next three.
        hashes_per_token: `#` a token, 0 or more.
        ellipses_per_token: `...` and `…` a token, 0 or more.
        newlines_per_token: line feeds a token, 0 or more.
        bullet_line_ratio: share of the lines, as Python's splitlines cuts them, that begin with
            • or - behind white space; null for an empty text.
        ellipsis_line_ratio: share of these lines that end with `...` or `…`.
        duplicate_line_ratio: share of the lines, cut at line feeds in a row, that an earlier
            line of the text equals; null for an empty text.
        duplicate_line_character_ratio: their share of the text's characters.
        duplicate_paragraph_ratio: the same of paragraphs, cut at two or more line feeds.
        duplicate_paragraph_character_ratio: their share of the text's characters.
        terminal_line_ratio: share of the lines with more than white space whose last character
            ends a sentence in some script (Unicode's Sentence_Terminal); null without such lines,
            as the next two.
        short_line_ratio: share of these lines with at most `short_line_characters` characters.
        duplicate_character_ratio: share of the characters other than line feeds in lines that
            an earlier line equals; lines of white space alone are no duplicates.
        top_2_gram_per_character: characters of the most frequent 2-gram with the space between
            its tokens, times its frequency, for each character of the text: 0 or more, above 1
            where it overlaps itself; of equally frequent ones that which comes first, even if it
            occurs once; 0 without any, null for an empty text. So for 3 and 4.
        duplicate_5_gram_ratio: share of the text's characters in tokens of 5-grams that occurred
            before, where an n-gram is looked for behind the repeated one before it; in [0, 1],
            null for an empty text. So for 6 to 10.
    Cost: some 20 microseconds for 400 bytes; memory grows with the longest text.
    """
    text = rows["text"]
    found = [
        _measured(text[here], stop_words, short_line_characters) for here in _texts.blocks(text)
    ]
    measured = pl.concat(found) if found else pl.DataFrame(schema=text_quality.writes)
    return measured.select(pl.when(text.is_not_null()).then(pl.all()).name.keep())


def _measured(texts: pl.Series, stop_words: str, short: int) -> pl.DataFrame:
    """Return the columns of some texts, of a null those of an empty one."""
    texts = texts.fill_null("").alias("text")
    counts = pl.concat(
        [
            pl.DataFrame({"text": texts}).with_columns(size=pl.col("text").str.len_chars()),
            _in_tokens(texts, stop_words),
            _in_lines(texts, short),
            _in_paragraphs(texts),
        ],
        how="horizontal",
    )
    tokens, lines, size = pl.col("tokens"), pl.col("split_lines"), pl.col("size")
    return counts.select(
        *COUNTS,
        mean_word_length=_share(pl.col("in_words"), pl.col("words")),
        letter_token_ratio=_share(pl.col("lettered"), tokens),
        hashes_per_token=_share(pl.col("hashes"), tokens),
        ellipses_per_token=_share(pl.col("ellipses"), tokens),
        newlines_per_token=_share(pl.col("newlines"), tokens),
        bullet_line_ratio=_share(pl.col("bullets"), lines),
        ellipsis_line_ratio=_share(pl.col("ellipsis_ends"), lines),
        duplicate_line_ratio=_share(pl.col("duplicate_lines"), pl.col("lines")),
        duplicate_line_character_ratio=_share(pl.col("in_duplicate_lines"), size),
        duplicate_paragraph_ratio=_share(pl.col("duplicate_paragraphs"), pl.col("paragraphs")),
        duplicate_paragraph_character_ratio=_share(pl.col("in_duplicate_paragraphs"), size),
        terminal_line_ratio=_share(pl.col("terminal_lines"), pl.col("full_lines")),
        short_line_ratio=_share(pl.col("short_lines"), pl.col("full_lines")),
        duplicate_character_ratio=_share(
            pl.col("in_duplicate_full_lines"),
            pl.when(pl.col("full_lines") > 0).then(size - pl.col("newlines")),
        ),
        **{name: _share(pl.col(name), size) for name in _REPEATED},
    ).cast(pl.Schema(text_quality.writes))


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole)


def _in_lines(texts: pl.Series, short: int) -> pl.DataFrame:
    """Count the lines of texts: those of splitlines, those between line feeds, and the full ones.

    A full line has more than white space.
    """
    split = texts.str.replace_all(_lines.BREAKS, "\n")
    line, size, full = pl.col("line"), pl.col("size"), pl.col("full")
    again = ~pl.struct("row", "line").is_first_distinct()
    found = (
        _lines.pieces(texts, r"[^\n]+")
        .with_columns(
            size=line.str.len_chars(), full=line.str.contains(_lines.VISIBLE), again=again
        )
        .group_by("row", maintain_order=True)
        .agg(
            lines=pl.len(),
            duplicate_lines=pl.col("again").sum(),
            in_duplicate_lines=size.filter("again").sum(),
            full_lines=full.sum(),
            terminal_lines=line.filter("full").str.contains(r"\p{Sentence_Terminal}\z").sum(),
            short_lines=(full & (size <= short)).sum(),
            in_duplicate_full_lines=size.filter(pl.col("again") & full).sum(),
        )
    )
    # Before a first line feed and behind a last one stands an empty line.
    before, behind = texts.str.starts_with("\n"), texts.str.ends_with("\n")
    return (
        _lines.of_texts(found, len(texts))
        .fill_null(0)
        .with_columns(
            lines=pl.col("lines") + before + behind,
            duplicate_lines=pl.col("duplicate_lines") + (before & behind),
            split_lines=split.str.count_matches("\n", literal=True)
            + ((split != "") & ~split.str.ends_with("\n")),
            bullets=split.str.count_matches(r"(?m)^[^\S\n]*[•-]"),
            ellipsis_ends=split.str.count_matches(r"(?m)(\.\.\.|…)[^\S\n]*$"),
        )
    )


def _in_paragraphs(texts: pl.Series) -> pl.DataFrame:
    size = pl.col("line").str.len_chars()
    again = ~pl.struct("row", "line").is_first_distinct()
    found = (
        _lines.pieces(texts.str.strip_chars(_lines.WHITE), r"[^\n]+(\n[^\n]+)*")
        .with_columns(again=again)
        .group_by("row", maintain_order=True)
        .agg(
            paragraphs=pl.len(),
            duplicate_paragraphs=pl.col("again").sum(),
            in_duplicate_paragraphs=size.filter("again").sum(),
        )
    )
    # White space alone is one paragraph.
    is_one = pl.when(texts != "").then(pl.max_horizontal("paragraphs", 1))
    return _lines.of_texts(found, len(texts)).fill_null(0).with_columns(paragraphs=is_one)


def _in_tokens(texts: pl.Series, stop_words: str) -> pl.DataFrame:
    """Return the columns `_SCANNED`, and those of n-grams in characters."""
    codes = _codes("".join(texts))
    limits = np.concatenate([[0], texts.str.len_chars().cum_sum().to_numpy()]).astype(np.int64)
    stops = np.array([_hash(word) for word in dict.fromkeys(stop_words.split())], dtype=np.uint64)
    hashes, powers = np.empty((2, len(codes)), dtype=np.uint64)
    lengths = np.empty(len(codes), dtype=np.int64)
    first = np.empty(len(texts) + 1, dtype=np.int64)
    scanned = np.zeros((len(texts), len(_SCANNED)), dtype=np.int64)
    repeated = np.zeros((len(texts), len(_REPEATED)), dtype=np.int64)
    kernels = _kernels()
    classes = _classes()[codes]
    kernels.scan(codes, classes, limits, stops, hashes, powers, lengths, first, scanned)
    kernels.repeats(hashes, powers, lengths, first, repeated)
    return pl.concat(
        [pl.DataFrame(scanned, schema=_SCANNED), pl.DataFrame(repeated, schema=_REPEATED)],
        how="horizontal",
    )


def _codes(text: str) -> UInt32s:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _hash(word: str) -> int:
    """Return the hash of a token as `_scan` writes it."""
    value = 0
    for code in map(ord, word):
        value = (value * int(_MULTIPLIER) + code) % 2**64
    return value


@cache
def _classes() -> UInt8s:
    codes = np.array(ASSIGNED)
    characters = pl.Series(list(map(chr, ASSIGNED)))
    classes = np.zeros(CODE_POINTS, dtype=np.uint8)
    for bit, pattern in CLASSES.items():
        classes[codes[characters.str.contains(pattern).to_numpy()]] |= bit
    return classes


class _Kernels(NamedTuple):
    """The compiled functions."""

    scan: Callable[..., None]
    repeats: Callable[..., None]


@cache
def _kernels() -> _Kernels:
    from numba import njit

    compiled = njit(cache=True)
    return _Kernels(compiled(_scan), compiled(_repeats))


def _scan(
    codes: UInt32s,
    classes: UInt8s,
    limits: Int64s,
    stops: UInt64s,
    hashes: UInt64s,
    powers: UInt64s,
    lengths: Int64s,
    first: Int64s,
    out: Int64s,
) -> None:
    """Write the tokens of each text, `first` its first one, and its counts. Compiled.

    A token's hash is a polynomial of its code points modulo 2**64, and its power the multiplier
    as often as it has code points, so that the hashes of n-grams follow from them.
    """
    count = 0
    seen = np.empty(len(stops), dtype=np.bool_)
    for text in range(len(out)):
        first[text] = count
        words = in_words = lettered = number_signs = ellipses = newlines = 0
        seen[:] = False
        i, end = limits[text], limits[text + 1]
        while i < end:
            kind = classes[i]
            if kind & SPACE:
                newlines += codes[i] == LINE_FEED
                i += 1
                continue
            start = i
            i += 1
            is_word = (kind & JOINS) != 0 and (kind & ALONE) == 0
            if codes[start] == FULL_STOP or codes[start] == HYPHEN:
                while i < end and codes[i] == codes[start]:
                    i += 1
                ellipses += (codes[start] == FULL_STOP) * ((i - start) // 3)
            elif (codes[start] == APOSTROPHE or codes[start] == QUOTE) and start > limits[text]:
                # Behind a word that ended here, as in "it's".
                is_word = i < end and (classes[start - 1] & classes[i] & JOINS) != 0
            is_address = False
            while i < end:
                kind = classes[i]
                if kind & EXTENDS:
                    i += 1
                    continue
                if not is_word or kind & (SPACE | ALONE):
                    break
                if kind & JOINS:
                    i += 1
                    continue
                # Marks: does the word go on behind them?
                behind = i + 1
                while behind < end and not classes[behind] & (SPACE | JOINS | ALONE | EXTENDS):
                    behind += 1
                goes_on = behind < end and (classes[behind] & (JOINS | ALONE | EXTENDS)) == JOINS
                if codes[i] == FULL_STOP and not (goes_on and behind == i + 1):
                    before = codes[i - 1]
                    initial = i - 1 == start and 0x41 <= before <= 0x5A
                    after_stop = i - 2 > start and codes[i - 2] == FULL_STOP
                    several = i + 1 < end and codes[i + 1] == FULL_STOP
                    if (initial or (after_stop and classes[i - 1] & LETTER)) and not several:
                        i += 1
                    break
                if is_address and codes[i] == SLASH:
                    i += 1
                    continue
                if not goes_on:
                    break
                if behind > i + 1:
                    is_address = behind == i + 3 and codes[i + 1] == SLASH == codes[i + 2]
                    is_scope = behind == i + 2 and codes[i + 1] == COLON
                    if codes[i] != COLON or not (is_address or is_scope):
                        break
                elif kind & DIVIDES and not is_address:
                    before, after = classes[i - 1] & LETTER, classes[behind] & LETTER
                    if codes[i] != HYPHEN or before == after:
                        break
                elif codes[i] == APOSTROPHE or codes[i] == QUOTE:
                    letters = behind
                    while letters < end and letters < behind + 3 and classes[letters] & LETTER:
                        letters += 1
                    if letters < behind + 3:
                        break
                i = behind
            value, power = np.uint64(0), np.uint64(1)
            any_of, all_of = 0, 0xFF
            for at in range(start, i):
                value = value * _MULTIPLIER + np.uint64(codes[at])
                power *= _MULTIPLIER
                any_of |= classes[at]
                all_of &= classes[at]
                number_signs += codes[at] == NUMBER_SIGN
                ellipses += codes[at] == ELLIPSIS
            hashes[count], powers[count], lengths[count] = value, power, i - start
            count += 1
            lettered += (any_of & LETTER) != 0
            if not all_of & MARK:
                words += 1
                in_words += i - start
            for n in range(len(stops)):
                seen[n] |= stops[n] == value
        out[text, 0] = count - first[text]
        out[text, 1] = words
        out[text, 2] = seen.sum()
        out[text, 3] = in_words
        out[text, 4] = lettered
        out[text, 5] = number_signs
        out[text, 6] = ellipses
        out[text, 7] = newlines
    first[len(out)] = count


def _repeats(hashes: UInt64s, powers: UInt64s, lengths: Int64s, first: Int64s, out: Int64s) -> None:
    """Write the characters of the most frequent n-gram, and those of repeated n-grams. Compiled.

    Frequent n-grams are compared with a space between their tokens, repeated ones without. The
    table of what was met is not emptied: an entry counts where `round` is this one's.
    """
    most = np.diff(first).max() if len(out) else 0
    capacity = 16
    while capacity < 2 * most:
        capacity *= 2
    keys = np.empty(capacity, dtype=np.uint64)
    rounds = np.zeros(capacity, dtype=np.int32)
    frequency, where = np.empty((2, capacity), dtype=np.int32)
    joined, spaced = np.empty((2, most), dtype=np.uint64)
    reached = np.empty(most + 1, dtype=np.int64)
    now = 0
    for text in range(len(out)):
        begin, count = first[text], first[text + 1] - first[text]
        mask = 16
        while mask < 2 * count:
            mask *= 2
        mask -= 1
        reached[0] = 0
        for i in range(count):
            joined[i] = spaced[i] = hashes[begin + i]
            reached[i + 1] = reached[i] + lengths[begin + i]
        for n in range(2, 11):
            now += 1
            for i in range(count - n + 1):
                last = begin + i + n - 1
                joined[i] = joined[i] * powers[last] + hashes[last]
                if n <= 4:
                    spaced[i] = (spaced[i] * _MULTIPLIER + np.uint64(0x20)) * powers[last]
                    spaced[i] += hashes[last]
            best = best_at = 0
            i = 0
            while i < count - n + 1:
                key = spaced[i] if n <= 4 else joined[i]
                z = (key ^ (key >> np.uint64(30))) * _MIX_1
                z = (z ^ (z >> np.uint64(27))) * _MIX_2
                slot = np.int64(z >> np.uint64(33)) & mask
                while rounds[slot] == now and keys[slot] != key:
                    slot = (slot + 1) & mask
                is_new = rounds[slot] != now
                if is_new:
                    rounds[slot], keys[slot], frequency[slot], where[slot] = now, key, 0, i
                frequency[slot] += 1
                if n > 4 and not is_new:
                    out[text, n - 2] += reached[i + n] - reached[i]
                    i += n
                    continue
                more = frequency[slot] > best
                if more or (frequency[slot] == best and where[slot] < best_at):
                    best, best_at = frequency[slot], where[slot]
                i += 1
            if n <= 4 and best > 0:
                out[text, n - 2] = best * (reached[best_at + n] - reached[best_at] + n - 1)
