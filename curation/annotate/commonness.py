"""How common a text's words and pairs of words are in the pool."""

from __future__ import annotations

import numpy as np
import polars as pl

from curation import _ngrams
from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"mean_log_probability": pl.Float32},
    tables={"counts": Table(("bucket", "count"), default="fit.ngram_counts")},
)
def commonness(rows: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Average ln p(g) over the words and the pairs of neighbouring words g of a text.

    p(g) = (c(g) + 1) / (N + 262,144), by the pool's counts. Its exponential, the geometric mean, is
    SoftDedup's commonness: texts of what the pool often says have more of it, and weigh less.

    Reads:
        text: what is weighed.
        counts: of the pool, of [fit.ngram_counts].
    Reference: He et al. 2024, SoftDedup, arXiv:2407.06654, section 3 (there by 4-grams of a
        Kneser-Ney model, and the weight of a text by a few segments of commonness).
    Writes:
        mean_log_probability: in nats, below 0; null for a text without words.
    Cost: linear in the text; 2 MB.
    """
    often = counts["count"].cast(pl.Float64).to_numpy()
    unseen = -np.log(often.sum() + _ngrams.BUCKETS)
    words, total = pl.col("words"), pl.col("total")
    mean = pl.when(words > 0).then(total / (2 * words.cast(pl.Int64) - 1))
    sums = _ngrams.sums(rows["text"], counts["bucket"], unseen + np.log(often + 1), unseen)
    return sums.select(mean_log_probability=mean.cast(pl.Float32))
