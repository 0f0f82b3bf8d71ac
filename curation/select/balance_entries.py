"""Flatten the distribution over metadata entries: MetaCLIP's balancing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.params import Budget, BudgetRatio, Positive, Seed, Stream
from contracts.uid import uniform
from curation.step import Role, Table, budget_of, selector

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]

DENSE = 2**24
"""Entries are counted by a table over all their numbers where these are smaller."""


@selector(
    version=1,
    reads={
        "entries": Role(pl.List(pl.UInt32), default="entry_matches.entries"),
        "language": Role(pl.String, optional=True),
    },
    evidence={"keep_prob": pl.Float64},
    tables={"counts": Table(("entry", "count"), optional=True)},
)
def balance_entries(
    candidates: pl.DataFrame,
    counts: pl.DataFrame | None = None,
    *,
    cap: Positive = 20_000,
    budget: Budget = None,
    budget_ratio: BudgetRatio = None,
    exact: bool = False,
    mode: Literal["draw", "online"] = "draw",
    anchor: str = "en",
    seed: Seed = 0,
    stream: Stream = "balance_entries",
) -> pl.DataFrame:
    """Keep a candidate with probability 1 - prod(1 - p) over its entries.

    p = min(1, cap / count), so a record with a tail entry (count <= cap) is always kept and one
    without entries never. The draw is uniform(uid, seed, stream): raising the cap only adds.
    Budget is the expected size: it replaces the cap by the largest one whose keep_prob sum to
    at most the budget; the size itself varies by chance, with variance sum p (1 - p). `exact`
    takes the smallest uniform / keep_prob instead of those below 1: as many as the budget, or,
    without one, as the sum of keep_prob rounded down, so that a record with a tail entry may be
    missing. `online` returns every candidate of probability > 0 and leaves the draw to the
    training.

    Without the table the candidates are counted; an entry that the table lacks counts as one.
    With languages entries are counted by language (the table then has a column `language`): the
    cap is that of the anchor language, and each other language gets the cap under which the same
    share of its matches lies in the tail.

    Reads:
        entries: the list of each candidate.
        language: counts entries by language.
        counts: how often each entry occurs, such as `fit.entry_counts`; by itself among the
            candidates.
    Args:
        cap: records of an entry that are kept on average at least, where it has so many.
        budget: the expected size of what is kept, instead of a cap.
        exact: whether as many are kept as are expected.
        mode: whether to draw now, or to leave the draw to the training.
        anchor: the language whose cap is given.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, algorithm 1; languages:
    Chuang et al. 2025, Meta CLIP 2, arXiv:2507.22062.
    Writes:
        keep_prob: the probability of being kept, in (0, 1].
    Cost: O(matches), 50 times a part of that with a budget, a sort of the matches with languages;
        40 bytes a match.
    Raises:
        ConfigError: both budget and budget_ratio, or `exact` with "online"; languages with a table
            that has no column `language`, or without any match of the anchor language.
    """
    wanted = None
    if budget is not None or budget_ratio is not None:
        wanted = budget_of(candidates.height, budget, budget_ratio)
    if exact and mode == "online":
        raise ConfigError('balance_entries: mode = "online" draws nothing; leave out `exact`.')
    limits, entries = _lists(candidates["entries"])
    if not len(entries):
        return pl.DataFrame(schema={"uid": pl.UInt64, "keep_prob": pl.Float64})
    by_language = "language" in candidates.columns
    missing = {"entry", "count", "language"} - set(counts.columns if counts is not None else ())
    if counts is not None and by_language and missing:
        raise ConfigError(
            f"balance_entries: the table counts has no {sorted(missing)}, only {counts.columns}. "
            "Count by language, or leave out either the table or the role language."
        )
    languages, language = _numbered(candidates["language"] if by_language else None)
    keys, of_match = _grouped(limits, entries, language)
    count, tables = _counted(keys, of_match, languages, counts)
    caps_of = _caps(tables, languages, anchor) if by_language else float
    of_language = keys >> 32

    def probabilities(cap: float) -> Floats:
        caps = np.broadcast_to(caps_of(cap), len(languages))[of_language]
        kept: Floats = _compiled(_kept)(limits, of_match, 1.0 - caps / np.maximum(count, caps))
        return kept

    chosen = float(cap) if wanted is None else _bisect(probabilities, float(count.max()), wanted)
    keep_prob = probabilities(chosen)
    found = pl.DataFrame({"uid": candidates["uid"], "keep_prob": keep_prob})
    if mode == "online":
        return found.filter(pl.col("keep_prob") > 0)
    draw = uniform(found["uid"].to_numpy(), seed, stream)
    if not exact:
        return found.filter(pl.Series(draw < keep_prob))
    number = wanted if wanted is not None else int(keep_prob.sum() + 1e-9)
    likely = np.flatnonzero(keep_prob > 0)
    # Candidates are sorted by uid, which decides ties.
    first = np.argsort(draw[likely] / keep_prob[likely], kind="stable")[:number]
    return found[np.sort(likely[first])]


def tail_share(counts: Floats, cap: float) -> float:
    """Return the share of all matches that belongs to entries of fewer than `cap` matches."""
    return float(counts[counts < cap].sum() / counts.sum())


def cap_of_share(counts: Floats, share: float) -> float:
    """Return the count up to which the ascending counts hold the share closest to the given."""
    ascending = np.sort(counts)
    held = np.cumsum(ascending) / ascending.sum()
    return float(ascending[np.abs(held - share).argmin()])


def _lists(entries: pl.Series) -> tuple[Int64s, UInt32s]:
    """Return where each record's entries begin and end, and all entries, each once a record."""
    arrow = entries.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    if (
        arrow.null_count
        or arrow.values.null_count
        or not _compiled(_ascend)(arrow.offsets.to_numpy(), arrow.values.to_numpy())
    ):
        tidy = entries.fill_null([]).list.drop_nulls().list.unique().list.sort()
        arrow = tidy.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    limits = arrow.offsets.to_numpy()
    return limits - limits[0], arrow.values[limits[0] : limits[-1]].to_numpy()


def _numbered(values: pl.Series | None) -> tuple[list[str | None], Int64s | None]:
    """Return the different values in order, and the number of each row's."""
    if values is None:
        return [None], None
    ranked = values.unique().sort()
    number = pl.int_range(len(ranked), eager=True)
    numbers = values.replace_strict(ranked, number, return_dtype=pl.Int64)
    return ranked.to_list(), numbers.to_numpy()


def _grouped(limits: Int64s, entries: UInt32s, language: Int64s | None) -> tuple[Int64s, UInt32s]:
    """Return what is counted, as language << 32 | entry, and the place there of each match."""
    if language is None and entries.max() < DENSE:
        return np.arange(int(entries.max()) + 1), entries
    named = entries.astype(np.int64)
    if language is not None:
        named |= np.repeat(language << 32, np.diff(limits))
    keys, of_match = np.unique(named, return_inverse=True)
    return keys, of_match.astype(np.uint32)


def _counted(
    keys: Int64s, of_match: UInt32s, languages: list[str | None], counts: pl.DataFrame | None
) -> tuple[Floats, list[Floats]]:
    """Return the count of each key, at least 1, and all counts of each language."""
    numbers = range(len(languages))
    if counts is None:
        count = np.bincount(of_match, minlength=len(keys)).astype(np.float64)
        there = count > 0
        tables = [count[there & (keys >> 32 == number)] for number in numbers]
        return np.maximum(count, 1.0), tables
    known = counts.with_columns(pl.col("count").cast(pl.Float64))
    named = pl.col("language") if "language" in counts.columns and languages != [None] else None
    tables = []
    count = np.ones(len(keys))
    for number, language in enumerate(languages):
        part = known if named is None else known.filter(named.eq_missing(pl.lit(language)))
        tables.append(part["count"].to_numpy())
        wanted = part["entry"].to_numpy().astype(np.int64) | number << 32
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[place] == wanted
        count[place[there]] = np.maximum(tables[-1][there], 1.0)
    return count, tables


def _caps(
    tables: list[Floats], languages: list[str | None], anchor: str
) -> Callable[[float], Floats]:
    """Return the cap of each language as a function of the anchor language's."""
    there = [name for name, table in zip(languages, tables, strict=True) if len(table)]
    if anchor not in there:
        raise ConfigError(
            f"balance_entries: no match is in the anchor language {anchor!r}; there is "
            f"{[str(name) for name in there]}. Set `anchor` to the language that the cap is meant "
            "for."
        )
    own = tables[languages.index(anchor)]

    def of(cap: float) -> Floats:
        share = tail_share(own, cap)
        # A language that the table lacks has entries that count as one: any cap keeps them.
        return np.array(
            [
                cap_of_share(table, share) if len(table) and language != anchor else cap
                for language, table in zip(languages, tables, strict=True)
            ]
        )

    return of


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(function)
    return compiled


def _ascend(limits: Int64s, entries: UInt32s) -> bool:
    """Whether each record's entries ascend without repeats. Compiled."""
    for record in range(len(limits) - 1):
        for match in range(limits[record] + 1, limits[record + 1]):
            if entries[match] <= entries[match - 1]:
                return False
    return True


def _kept(limits: Int64s, of_match: UInt32s, missed: Floats) -> Floats:
    """Return 1 less the product of what each record's entries miss. Compiled."""
    kept = np.empty(len(limits) - 1)
    for record in range(len(kept)):
        product = 1.0
        for match in range(limits[record], limits[record + 1]):
            product *= missed[of_match[match]]
        kept[record] = 1.0 - product
    return kept


def _bisect(probabilities: Callable[[float], Floats], largest: float, budget: int) -> float:
    """Return the largest cap, to 2**-50 of the largest count, of expected size <= budget."""
    if probabilities(largest).sum() <= budget:
        return largest
    low, high = 0.0, largest
    for _ in range(50):
        middle = (low + high) / 2
        if probabilities(middle).sum() <= budget:
            low = middle
        else:
            high = middle
    return low
