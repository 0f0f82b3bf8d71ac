"""A slot's numbers for a column, in blocks that no result depends on."""

from __future__ import annotations

import numpy as np
import polars as pl

from contracts.params import Scorer

BLOCK_ROWS = 64


def scored(values: pl.Series, scorer: Scorer) -> pl.Series:
    """Return Float32: the scorer's number for each value; null where that is null or NaN."""
    scores = np.full(len(values), np.nan, dtype=np.float32)
    given = values.is_not_null().arg_true()
    for start in range(0, len(given), BLOCK_ROWS):
        here = given[start : start + BLOCK_ROWS]
        scores[here.to_numpy()] = scorer(values.gather(here).to_list())
    return pl.Series(scores, nan_to_null=True)
