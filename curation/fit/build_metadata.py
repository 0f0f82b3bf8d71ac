"""The entries that concepts are counted by: synsets, words, pairs of words, page titles."""

from __future__ import annotations

import string
from pathlib import Path

import polars as pl

from contracts.errors import DataError
from contracts.params import Count, File, NotNegative
from curation import _entries, _texts
from curation.step import Parameters, Role, fit

SAMPLE = 1_000_000
"""Records that the fit looks at."""
BLOCK_BYTES = 64 * 2**20
"""Octets of text whose words are counted at once."""
NUMBERS = 100
_JOINED = (
    pl.col("first")
    + pl.when(
        pl.col("first").str.contains(_entries.UNSPACED)
        & pl.col("second").str.contains(_entries.UNSPACED)
    )
    .then(pl.lit(""))
    .otherwise(pl.lit(" "))
    + pl.col("second")
)


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw."""
    return SAMPLE, parameters


@fit(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"entry": pl.UInt32, "name": pl.String, "source": pl.String, "reachable": pl.Boolean},
    plan=plan,
)
def build_metadata(
    rows: pl.DataFrame,
    *,
    synsets: File = None,
    titles: File = None,
    min_count: Count = 100,
    min_pmi: NotNegative = 30.0,
    min_pair_count: Count = 1,
    min_views: Count = 70,
    max_words: Count = 251_465,
    max_pairs: Count = 100_646,
    max_titles: Count = 61_235,
    num_entries: Count = 500_000,
) -> pl.DataFrame:
    """List the names that `entry_matches` searches for, each once, its first source counting.

    The sources, in this order: the numbers 0 to 99; synsets; words of at least min_count; pairs of
    neighbouring words of PMI = log2(n_xy N / (n_x n_y)) >= min_pmi, where N counts all words;
    titles of at least min_views views. Synsets stand as in their file, words by count, pairs by
    PMI, titles by views, ties by name, so that the limits take the first. Words are those of
    `entry_matches`, case counts; in scripts without spaces a letter is a word and two are joined
    without a space. Names of one ASCII mark of punctuation or of none are left out.

    PMI is at most log2 N, 30 is for the 2e9 words of a Wikipedia, and a pair that occurs once can
    have the largest: for a smaller corpus take a smaller min_pmi and a larger min_pair_count.

    Reads:
        text: the corpus whose words and pairs are counted.
    Args:
        synsets: a text file of a name a line, such as WordNet's `hot_dog.n.01`: what stands before
            the first dot, spaces for underscores.
        titles: a text file of a page title a line and, behind a tab, its views, which add up;
            without views it is taken. Those with a colon are left out.
        min_count: how often a word occurs at least.
        min_pmi: of a pair, in bits.
        min_pair_count: how often a pair occurs at least; the original has no such floor.
        min_views: of a title.
        max_words: words at most, as in the original's 500,000 entries; so are the next two.
        max_pairs: pairs at most.
        max_titles: titles at most.
        num_entries: all at most.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, section 3.1; limits and
    scripts without spaces: Chuang et al. 2025, Meta CLIP 2, arXiv:2507.22062.
    Returns:
        entry: from 0, in the order of the sources.
        name: as it is written there.
        source: number, synset, word, pair or title.
        reachable: whether `entry_matches` in the mode reference can find it in any text: there a
            mark such as the dots of "U.S." is found alone only. The improved mode finds all.
    Cost: one pass over the texts of a sample of 1,000,000; some 100 bytes for each different pair.
    Raises:
        DataError: a file is no text in UTF-8, or views are no numbers.
    """
    sources = {
        "number": pl.Series([str(n) for n in range(NUMBERS)]),
        "synset": _synsets(synsets),
        **_of_texts(rows["text"], min_count, min_pmi, min_pair_count, max_words, max_pairs),
        "title": _titles(titles, min_views)[:max_titles],
    }
    named = pl.concat(
        pl.DataFrame(
            {"name": names, "source": source}, schema=dict.fromkeys(("name", "source"), pl.String)
        )
        for source, names in sources.items()
    )
    name = pl.col("name")
    kept = named.filter(
        name != "", ~name.is_in(list(string.punctuation)), name.str.contains(r"\S")
    ).unique("name", keep="first", maintain_order=True)[:num_entries]
    return kept.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("entry"),
        "name",
        "source",
        reachable=~name.str.contains(_entries.UNREACHABLE),
    )


def _of_texts(
    texts: pl.Series, min_count: int, min_pmi: float, min_pairs: int, max_words: int, max_pairs: int
) -> dict[str, pl.Series]:
    """Return the words and the pairs of words that are entries."""
    word = pl.col("word")
    words = pl.DataFrame(schema={"word": pl.String, "count": pl.UInt64})
    pairs = pl.DataFrame(schema={"first": pl.String, "second": pl.String, "count": pl.UInt64})
    for block in _texts.blocks(texts, BLOCK_BYTES):
        of_text = (
            texts[block]
            .to_frame("text")
            .with_columns(pl.int_range(pl.len()).alias("row"))
            .with_columns(word=_entries.words(pl.col("text")))
            .select("row", "word")
            .explode("word")
            .drop_nulls()
        )
        is_word = word.str.contains(f"^(?:{_entries.WORD})")
        both = of_text.select(
            first="word",
            second=word.shift(-1),
            same=pl.col("row") == pl.col("row").shift(-1),
            of_words=is_word & is_word.shift(-1),
        ).filter("same", "of_words")
        one = pl.len().cast(pl.UInt64).alias("count")
        words = _added(words, of_text.filter(is_word).group_by("word").agg(one))
        pairs = _added(pairs, both.group_by("first", "second").agg(one))
    number = words["count"].sum()
    ranked = words.filter(pl.col("count") >= min_count).sort(
        -pl.col("count").cast(pl.Int64), "word"
    )
    count = words.with_columns(pl.col("count").cast(pl.Float64))
    x, y = (count.rename({"word": side, "count": f"{side}_count"}) for side in ("first", "second"))
    product = pl.col("first_count") * pl.col("second_count")
    pmi = (pl.col("count") * number / product).log(2)
    close = (
        pairs.filter(pl.col("count") >= min_pairs)
        .join(x, on="first")
        .join(y, on="second")
        .select(name=_JOINED, pmi=pmi)
        .filter(pl.col("pmi") >= min_pmi)
        .sort(-pl.col("pmi"), "name")
    )
    return {"word": ranked["word"][:max_words], "pair": close["name"][:max_pairs]}


def _added(counts: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    keys = counts.columns[:-1]
    return pl.concat([counts, more]).group_by(keys).agg(pl.col("count").sum())


def _synsets(path: str | None) -> pl.Series:
    """Return the names of a file of synsets, as they stand there."""
    return (
        _lines(path)["line"]
        .str.replace(r"\..*", "")
        .str.replace_all("_", " ")
        .unique(maintain_order=True)
    )


def _titles(path: str | None, min_views: int) -> pl.Series:
    """Return the titles of at least so many views, the most viewed first."""
    parts = pl.col("line").str.splitn("\t", 2).struct.rename_fields(["name", "views"])
    table = _lines(path).select(parts.alias("parts")).unnest("parts")
    views = pl.col("views").str.strip_chars(" ").cast(pl.Int64, strict=False)
    wrong = table.filter(views.is_null() & pl.col("views").is_not_null())
    if wrong.height:
        raise DataError(f"build_metadata: {path}: {wrong['views'][0]!r} is no number of views.")
    name = pl.col("name").str.replace_all("_", " ")
    summed = (
        table.filter(~pl.col("name").str.contains(":", literal=True))
        .group_by(name)
        .agg(views.fill_null(min_views).sum())
    )
    return summed.filter(pl.col("views") >= min_views).sort(-pl.col("views"), "name")["name"]


def _lines(path: str | None) -> pl.DataFrame:
    """Return the lines of a file that are not empty; none where there is no file."""
    if path is None:
        return pl.DataFrame(schema={"line": pl.String})
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"build_metadata: {path} is no text in UTF-8: {error}") from None
    lines = pl.DataFrame({"line": text.split("\n")}, schema={"line": pl.String})
    return lines.with_columns(pl.col("line").str.strip_chars("\r\n ")).filter(pl.col("line") != "")
