"""How often the kept and the pool name each concept: head, tail, and entropy before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError


@dataclass(frozen=True)
class Concepts:
    """What a pool's records name, and what the kept ones do.

    Attributes:
        table: the entries that the pool names, the most frequent first, ties by entry: `entry`,
            `pool` and `kept` (records that name it), `kept_ratio`.
        tail_ratio: of the pool and of the kept, the share of matches whose entry at most `cap`
            records of the pool name; NaN without a match.
        entropy: of both, of the distribution of matches over entries, in bits.
        effective: of both, the effective number of entries, 2 to the entropy; 0 without a match.
    """

    table: pl.DataFrame
    tail_ratio: tuple[float, float]
    entropy: tuple[float, float]
    effective: tuple[float, float]

    def head(self, rows: int = 10) -> pl.DataFrame:
        """Return the most frequent entries."""
        return self.table.head(rows)

    def tail(self, rows: int = 10) -> pl.DataFrame:
        """Return the rarest entries, the rarest last."""
        return self.table.tail(rows)


def concepts(records: pl.DataFrame, *, cap: float = 20_000) -> Concepts:
    """Compare the entries that a pool names with those that its kept records name.

    entropy = -sum p log2 p over entries, p the share of the matches that are an entry's.

    Args:
        records: of a pool `entries`, as `entry_matches` lists them, and `kept`, whether it is kept,
            or `repeats`, how often it is drawn; null is not.
        cap: an entry that at most so many records of the pool name is of the tail.

    Raises:
        ConfigError: a column is missing.
    """
    drawn = next((name for name in ("repeats", "kept") if name in records.columns), None)
    if drawn is None or "entries" not in records.columns:
        raise ConfigError(
            f"concepts needs the columns entries and kept or repeats, not {records.columns}."
        )
    table = (
        records.select(
            entry=pl.col("entries").list.unique(), kept=pl.col(drawn).cast(pl.Int64).fill_null(0)
        )
        .explode("entry")
        .drop_nulls("entry")
        .group_by("entry")
        .agg(pool=pl.len().cast(pl.Int64), kept=pl.col("kept").sum())
        .sort(-pl.col("pool"), "entry")
        .with_columns(kept_ratio=pl.col("kept") / pl.col("pool"))
    )
    counts = [table[name].to_numpy().astype(np.float64) for name in ("pool", "kept")]
    rare = counts[0] <= cap
    bits = [_entropy(count) for count in counts]
    pool, kept = counts
    return Concepts(
        table,
        (_share(pool, rare), _share(kept, rare)),
        (bits[0], bits[1]),
        (2 ** bits[0] * bool(pool.sum()), 2 ** bits[1] * bool(kept.sum())),
    )


def _share(count: NDArray[np.float64], rare: NDArray[np.bool_]) -> float:
    return float(count[rare].sum() / count.sum()) if count.sum() else float("nan")


def _entropy(count: NDArray[np.float64]) -> float:
    share = count[count > 0] / count.sum()
    return float(-(share * np.log2(share)).sum())
