"""Counts that describe a caption: words, characters, letters, digits, distinct words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from curation import _texts
from curation.step import Role, rowwise

_COUNTED = dict.fromkeys(
    ("characters", "spaces", "words", "tokens", "letters", "digits", "capitals"), pl.UInt32
)


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={
        "words": pl.UInt32,
        "characters": pl.UInt32,
        "distinct_words": pl.UInt32,
        "mean_word_length": pl.Float32,
        "letter_ratio": pl.Float32,
        "digit_ratio": pl.Float32,
        "uppercase_ratio": pl.Float32,
    },
)
def caption_stats(rows: pl.DataFrame) -> pl.DataFrame:
    """Count what a caption rule asks for; words are runs of anything but white space.

    Reads:
        text: what is counted.
    Reference: Gadre et al. 2023, DataComp, arXiv:2304.14108, appendix (basic filtering).
    Writes:
        words: 0 for an empty text; null for a null text, as all columns.
        characters: code points.
        distinct_words: different words, case folded.
        mean_word_length: characters a word; null where there is no word.
        letter_ratio: share of characters that are letters, in [0, 1]; null for an empty text.
        digit_ratio: share that are digits.
        uppercase_ratio: share that are upper-case letters.
    Cost: some 30 microseconds a text of 1.5 kB.
    """
    text = rows["text"]
    counts = pl.concat(
        [pl.DataFrame(schema=_COUNTED), *(_counts(text[here]) for here in _texts.blocks(text))]
    )
    read = pl.col("characters").is_not_null()
    count, size = pl.col("words"), pl.col("characters")
    share = pl.when(size > 0).then(1 / size)
    return counts.select(
        words=pl.when(read).then(count),
        characters=size,
        distinct_words=pl.col("tokens") - (count <= pl.col("spaces")),
        mean_word_length=pl.when(count > 0).then((size - pl.col("spaces")) / count),
        letter_ratio=pl.col("letters") * share,
        digit_ratio=pl.col("digits") * share,
        uppercase_ratio=pl.col("capitals") * share,
    ).cast(pl.Schema(caption_stats.writes))


def _counts(text: pl.Series) -> pl.DataFrame:
    # One white space for another changes no count, and plain spaces are found by the octet.
    spaced = text.str.replace_all(r"[\s&&[^ ]]", " ")
    octets, limits = _texts.octets(spaced)
    starts, ends = limits[:-1], limits[1:]
    is_space = octets == ord(" ")
    begins = ~is_space
    begins[1:] &= is_space[:-1]
    first = starts[starts < ends]
    begins[first] = ~is_space[first]
    spaces, words = _sums(is_space, starts, ends), _sums(begins, starts, ends)
    # Between n spaces lie n + 1 tokens; where the words are fewer, some are empty.
    tokens = spaced.str.to_lowercase().str.split(" ").list.n_unique()
    digits = _sums((octets - ord("0")) < 10, starts, ends)
    capitals = _sums((octets - ord("A")) < 26, starts, ends)
    letters = _sums(((octets | 0x20) - ord("a")) < 26, starts, ends)
    others = _beyond_ascii(octets, starts, ends)
    for counts, category in ((letters, "L"), (digits, "Nd"), (capitals, "Lu")):
        counts += others.str.count_matches(rf"\p{{{category}}}").to_numpy()
    characters = text.str.len_chars()
    columns = (characters, spaces, words, tokens, letters, digits, capitals)
    return pl.DataFrame(dict(zip(_COUNTED, columns, strict=True)), schema=_COUNTED)


def _beyond_ascii(
    octets: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> pl.Series:
    """Return the characters of each text that ASCII lacks."""
    beyond = octets >= 0x80
    limits = np.concatenate([[0], _sums(beyond, starts, ends).cumsum(dtype=np.int64)])
    buffers = [None, pa.py_buffer(limits), pa.py_buffer(octets[beyond])]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), len(starts), buffers))


def _sums(
    mask: NDArray[np.bool_], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return how many octets of each text a mask has."""
    sums = np.zeros(len(starts), dtype=np.uint32)
    filled = starts < ends
    sums[filled] = np.add.reduceat(mask.view(np.uint8), starts[filled], dtype=np.uint32)
    return sums
