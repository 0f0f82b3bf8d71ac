from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curation.annotate.toxicity import toxicity


class Shouts:
    """Scores a text by the share of its characters that are capitals; an empty one has none."""

    fingerprint = "shouts"

    def __call__(self, values: Any) -> np.ndarray:
        assert len(values) <= 64
        return np.array(
            [sum(map(str.isupper, text)) / len(text) if text else np.nan for text in values],
            dtype=np.float32,
        )


def test_each_text_has_the_scorers_number_and_null_is_null():
    texts = [None, "", "ab", "Ab", "AB"] * 40
    uids = pl.int_range(200, dtype=pl.UInt64, eager=True)
    found = toxicity(pl.DataFrame({"uid": uids, "text": texts}), Shouts())["score"]
    assert found.to_list() == [None, None, 0, 0.5, 1] * 40
