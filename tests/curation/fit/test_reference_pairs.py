"""A sample of pairs: drawn by uid, at length 1, without what has no direction."""

from __future__ import annotations

import numpy as np
import polars as pl

from contracts.uid import uniform
from curation.fit.reference_pairs import reference_pairs


def test_the_smallest_draws_are_kept_at_length_1_without_nulls_and_zeros():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 40, 3))
    image[7] = 0
    columns = {
        name: pl.Series(x, dtype=pl.Array(pl.Float64, 3)).cast(pl.Array(pl.Float32, 3))
        for name, x in (("image_vector", image), ("text_vector", text))
    }
    rows = pl.DataFrame({"uid": pl.Series(range(40), dtype=pl.UInt64), **columns})
    rows = rows.with_columns(text_vector=pl.when(pl.col("uid") != 9).then(pl.col("text_vector")))
    draws = uniform(rows["uid"].to_numpy(), 3, "fit.reference_pairs")
    wanted = sorted(set(np.argsort(draws)[:30].tolist()) - {7, 9})
    found = reference_pairs(rows, num_pairs=30, seed=3)
    assert found["uid"].to_list() == wanted
    for name, x in (("image", image), ("text", text)):
        unit = x[wanted] / np.linalg.norm(x[wanted], axis=1, keepdims=True)
        np.testing.assert_allclose(found[name].to_numpy(), unit, atol=1e-3)
