"""How much a text surprises a model of n-grams that was made of other texts."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation import _history
from curation.step import Role, Table, rowwise


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"value": pl.Float32},
    tables={
        "ngrams": Table(("order", "ngram", "probability", "backoff"), default="fit.ngram_model")
    },
)
def perplexity(rows: pl.DataFrame, ngrams: pl.DataFrame) -> pl.DataFrame:
    """Give exp of the mean of -log p(word | those before it) over the words of a text.

    p is that of `ngram_model`. A text that the model was made of is less of a surprise than another
    of its kind, so a model is best made of a pool apart, of texts that are known to be good. Both
    ends say something: boilerplate and copies lie low, noise and other languages high. A threshold
    belongs to one model; cut by quantiles. A language model that a recipe trained with `clm` says
    the same by its own tokens: exp of the `loss` of `step = "predict"`.

    Reads:
        text: what is measured.
        ngrams: the model.
    Reference: Wenzek et al. 2020, CCNet, LREC 2020, arXiv:1911.00359, section 3.3, there by
        5-grams of pieces of words.
    Writes:
        value: at least 1; null for a null text and for one without words.
    Cost: linear in the text; the model.
    """
    table = ngrams.sort("ngram")
    known = table["ngram"].to_numpy()
    columns = table.select("probability", "backoff").cast(pl.Float64).to_numpy()
    unseen = np.array([0.0, 1.0])

    def found(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        return np.where((known[at] == hashes)[:, None], columns[at], unseen)

    order = int(ngrams["order"].to_numpy().max())
    words = table.filter((pl.col("order") == 1) & (pl.col("probability") > 0)).height
    value = np.full(rows.height, np.nan)
    for here, owner, lengths in _history.blocks(rows["text"], order):
        p = np.full(len(owner), 1 / (words + 1))
        for grams in lengths:
            backoff = found(grams.contexts)[:, 1]
            p[grams.places] = found(grams.grams)[:, 0] + backoff * p[grams.places]
        number = np.bincount(owner, minlength=here.stop - here.start)
        total = np.bincount(owner, weights=-np.log(p), minlength=len(number))
        with np.errstate(invalid="ignore", divide="ignore"):
            value[here] = np.exp(total / number)
    return pl.DataFrame({"value": pl.Series(value, dtype=pl.Float32).fill_nan(None)})
