"""How much likelier a text is in a target than in the pool, by its words and pairs of words."""

from __future__ import annotations

import numpy as np
import polars as pl

from contracts.errors import DataError
from contracts.params import Positive
from curation import _ngrams
from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"words": pl.UInt32, "log_ratio": pl.Float32, "log_ratio_per_word": pl.Float32},
    tables={"counts": Table(("bucket", "count", "target_count"), default="fit.ngram_counts")},
)
def importance(
    rows: pl.DataFrame, counts: pl.DataFrame, *, smoothing: Positive = 100_000.0
) -> pl.DataFrame:
    """Sum ln p_target(g) - ln p_pool(g) over the words and the pairs of neighbouring words g.

    p(g) = (c(g) + smoothing q(g)) / (N + smoothing), of the target's counts and of the pool's,
    with q the share of both counts together: what neither or only few have seen says little, so a
    word that a small target lacks is no evidence of much. The sum grows with the length of a text
    that fits; `log_ratio_per_word` does not.

    Reads:
        text: what is weighed.
        counts: of pool and target, of [fit.ngram_counts] with a `target`.
    Args:
        smoothing: words and pairs of the common distribution that are added to each of the two.
    Reference: Xie et al. 2023, Data Selection for Language Models via Importance Resampling
        (DSIR), arXiv:2302.03169, section 4; its code adds 1e-8 to both probabilities instead, so
        that each word that the target lacks costs about 9.
    Writes:
        words: 0 for a text without any; null for a null text, as the others.
        log_ratio: in nats; positive where the target is likelier; 0 without words.
        log_ratio_per_word: in nats; null without words.
    Cost: linear in the text; 2 MB.
    Raises:
        DataError: the counts have no target.
    """
    in_pool, in_target = (
        counts[name].cast(pl.Float64).to_numpy() for name in ("count", "target_count")
    )
    if in_pool.any() and not in_target.any():
        raise DataError(
            "importance: the counts have no target with a word: [fit.ngram_counts] "
            'target = "pool:..." names one.'
        )
    total_pool, total_target = in_pool.sum(), in_target.sum()
    prior = smoothing * (in_pool + in_target) / max(1.0, total_pool + total_target)
    ratios = np.log((in_target + prior) / (in_pool + prior))
    ratios += np.log((total_pool + smoothing) / (total_target + smoothing))
    words, total = pl.col("words"), pl.col("total")
    return (
        _ngrams.sums(rows["text"], counts["bucket"], ratios)
        .select(
            words=words,
            log_ratio=total,
            log_ratio_per_word=pl.when(words > 0).then(total / words),
        )
        .select(pl.when(rows["text"].is_not_null()).then(pl.all()).name.keep())
        .cast(pl.Schema(importance.writes))
    )
