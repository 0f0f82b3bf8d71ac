"""Flatten the distribution over metadata entries: MetaCLIP's balancing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.params import Count, Positive, Seed, Stream
from contracts.uid import uniform
from curation.step import Role, Table, selector

Floats = NDArray[np.float64]


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
    budget: Count | None = None,
    mode: Literal["draw", "online"] = "draw",
    anchor: str = "en",
    seed: Seed = 0,
    stream: Stream = "balance_entries",
) -> pl.DataFrame:
    """Keep a candidate with probability 1 - prod(1 - p) over its entries.

    p = min(1, cap / count), so a record with a tail entry (count <= cap) is always kept and one
    without entries never. The draw is uniform(uid, seed, stream): raising the cap only adds.
    Budget is the expected size: it replaces the cap by the largest one whose keep_prob sum to
    at most the budget; the size itself varies by chance, with variance sum p (1 - p). `online`
    returns every candidate of probability > 0 and leaves the draw to the training.

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
        cap: records of an entry that are kept on average at most.
        budget: the expected size of what is kept, instead of a cap.
        mode: whether to draw now, or to leave the draw to the training.
        anchor: the language whose cap is given.
    Reference: Xu et al. 2024, Demystifying CLIP Data, arXiv:2309.16671, algorithm 1; languages:
    Chuang et al. 2025, Meta CLIP 2, arXiv:2507.22062.
    Writes:
        keep_prob: the probability of being kept, in (0, 1].
    Cost: O(matches), some 50 times that with a budget; 50 bytes a match.
    Raises:
        ConfigError: languages with a table that has no column `language`, or without any match
            of the anchor language.
    """
    by = ["language", "entry"] if "language" in candidates.columns else ["entry"]
    matches = (
        candidates.rename({"entries": "entry"})
        .explode("entry")
        .drop_nulls("entry")
        .unique(["uid", "entry"])
        .sort("uid", "entry")
    )
    if not matches.height:
        return pl.DataFrame(schema={"uid": pl.UInt64, "keep_prob": pl.Float64})
    if counts is None:
        counts = matches.group_by(by).agg(count=pl.len())
    missing = [name for name in by if name not in counts.columns]
    if missing:
        raise ConfigError(
            f"balance_entries: the table counts has no {missing}, only {counts.columns}. Count by "
            "language, or leave out either the table or the role language."
        )
    probabilities, largest = _probabilities(matches, counts, by, anchor)
    chosen = float(cap) if budget is None else _bisect(probabilities, largest, budget)
    found = matches.select(pl.col("uid").unique(maintain_order=True)).with_columns(
        keep_prob=pl.Series(probabilities(chosen), dtype=pl.Float64)
    )
    if mode == "online":
        return found.filter(pl.col("keep_prob") > 0)
    draw = pl.Series(uniform(found["uid"].to_numpy(), seed, stream))
    return found.filter(draw < pl.col("keep_prob"))


def tail_share(counts: Floats, cap: float) -> float:
    """Return the share of all matches that belongs to entries of fewer than `cap` matches."""
    return float(counts[counts < cap].sum() / counts.sum())


def cap_of_share(counts: Floats, share: float) -> float:
    """Return the count up to which the ascending counts hold the share closest to the given."""
    ascending = np.sort(counts)
    held = np.cumsum(ascending) / ascending.sum()
    return float(ascending[np.abs(held - share).argmin()])


def _probabilities(
    matches: pl.DataFrame, counts: pl.DataFrame, by: list[str], anchor: str
) -> tuple[Callable[[float], Floats], float]:
    """Return each record's keep probability as a function of the cap, and the largest count."""
    counts = counts.select(*by, count=pl.col("count").cast(pl.Float64)).sort(by)
    joined = matches.join(counts, on=by, how="left", nulls_equal=True, maintain_order="left")
    count = joined["count"].fill_null(1.0).clip(1.0).to_numpy()
    starts = np.flatnonzero(joined["uid"].ne_missing(joined["uid"].shift()).to_numpy())
    caps_of = _caps(joined, counts, anchor) if "language" in by else float

    def of(cap: float) -> Floats:
        caps = caps_of(cap)
        missed = 1.0 - caps / np.maximum(count, caps)
        together: Floats = np.multiply.reduceat(missed, starts)
        return 1.0 - together

    return of, float(count.max())


def _caps(joined: pl.DataFrame, counts: pl.DataFrame, anchor: str) -> Callable[[float], Floats]:
    """Return the cap of each match's language as a function of the anchor language's cap."""
    tables = {
        language: part["count"].to_numpy()
        for (language,), part in counts.partition_by("language", as_dict=True).items()
    }
    if anchor not in tables:
        raise ConfigError(
            f"balance_entries: no match is in the anchor language {anchor!r}; there is "
            f"{sorted(map(str, tables))}. Set `anchor` to the language that the cap is meant for."
        )
    number = {language: n for n, language in enumerate(tables)}
    # A language that the table lacks has entries that count as one: any cap keeps them.
    index = np.array([number.get(name, len(tables)) for name in joined["language"]])

    def of(cap: float) -> Floats:
        share = tail_share(tables[anchor], cap)
        caps = [
            cap if language == anchor else cap_of_share(table, share)
            for language, table in tables.items()
        ]
        every: Floats = np.array([*caps, cap])[index]
        return every

    return of


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
