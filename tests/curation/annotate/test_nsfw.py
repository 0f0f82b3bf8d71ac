from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curation.annotate.nsfw import nsfw


class Lengths:
    """Scores a picture by the length of its bytes; no bytes are no picture."""

    fingerprint = "lengths"

    def __call__(self, values: Any) -> np.ndarray:
        assert len(values) <= 64
        return np.array([len(value) or np.nan for value in values], dtype=np.float32)


def test_each_picture_has_the_scorers_number_and_what_is_none_has_none():
    images = [None, b"", b"a", b"bb"] * 40
    uids = pl.int_range(160, dtype=pl.UInt64, eager=True)
    found = nsfw(pl.DataFrame({"uid": uids, "image": images}), Lengths())["score"]
    assert found.to_list() == [None, None, 1, 2] * 40
