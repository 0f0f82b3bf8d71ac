"""How often words and pairs of words occur in the pool, and in a target, by hashed buckets."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation import _ngrams
from curation.step import Role, Table, fit


def _add(counts: pl.DataFrame, **_: Any) -> pl.DataFrame:
    # Each part has counted the whole target.
    sums = pl.col("count").sum(), pl.col("target_count").max()
    return counts.group_by("bucket").agg(*sums).sort("bucket")


@fit(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"bucket": pl.UInt32, "count": pl.UInt64, "target_count": pl.UInt64},
    merge=_add,
    tables={"target": Table(("text",), pool=True, optional=True, wanted=True)},
)
def ngram_counts(rows: pl.DataFrame, target: pl.DataFrame | None = None) -> pl.DataFrame:
    """Count the words and the pairs of neighbouring words of texts in 262,144 buckets of a hash.

    Words are compared after NFKC and case folding and without punctuation (curation/_shingles.py).
    `importance` and `commonness` read the table; a further target is a further fit.

    Reads:
        text: what is counted.
        target: the records that `importance` compares the pool with, by the same expression.
    Reference: Xie et al. 2023, Data Selection for Language Models via Importance Resampling,
        arXiv:2302.03169, section 4 (there 10,000 buckets, and marks of punctuation are words).
    Returns:
        bucket: ascending, those that occur.
        count: words and pairs of the pool. The tables of two parts add up.
        target_count: those of the target, 0 without one.
    Cost: linear in the text; the target is read again for each part of the pool.
    """
    ours = _ngrams.counts(rows["text"])
    theirs = _ngrams.counts(target["text"] if target is not None else rows["text"].clear())
    buckets = (ours + theirs).nonzero()[0]
    return pl.DataFrame(
        {
            "bucket": pl.Series(buckets, dtype=pl.UInt32),
            "count": pl.Series(ours[buckets], dtype=pl.UInt64),
            "target_count": pl.Series(theirs[buckets], dtype=pl.UInt64),
        }
    )
