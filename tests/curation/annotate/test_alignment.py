from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.alignment import alignment


def frame(image, text, d=2, text_d=None):
    return pl.DataFrame(
        {
            "uid": pl.Series(range(len(image)), dtype=pl.UInt64),
            "image_vector": pl.Series(image, dtype=pl.Array(pl.Float16, d)),
            "text_vector": pl.Series(text, dtype=pl.Array(pl.Float16, text_d or d)),
        }
    )


def test_the_cosine_of_the_two_vectors():
    found = alignment(frame([[1, 0], [1, 0], [3, 4], [1, 0]], [[1, 0], [0, 2], [4, 3], [-2, 0]]))
    assert found["cosine"].to_list() == pytest.approx([1, 0, 0.96, -1])
    assert found.schema == {"uid": pl.UInt64, "cosine": pl.Float32}


def test_a_null_or_a_vector_of_zeros_on_either_side_gives_null():
    found = alignment(
        frame([[1, 0], None, [0, 0], [1, 0], [1, 0]], [None, [1, 0], [1, 0], [0, 0], [1, 0]])
    )
    assert found["cosine"].to_list() == [None, None, None, None, 1]
    assert alignment(frame([None], [None]))["cosine"].to_list() == [None]


def test_it_agrees_with_double_precision():
    rng = np.random.default_rng(0)
    rows = frame(*rng.standard_normal((2, 2000, 33)).tolist(), d=33)
    a, b = (rows[n].to_numpy().astype(np.float64) for n in ("image_vector", "text_vector"))
    exact = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(alignment(rows)["cosine"], exact, atol=1e-7)
    assert alignment(rows[7:9]).equals(alignment(rows)[7:9])


def test_two_lengths_are_an_error_that_names_both():
    with pytest.raises(DataError, match="image vectors of 2 dimensions, text vectors of 3"):
        alignment(frame([[1, 0]], [[1, 0, 0]], text_d=3))


def test_a_vector_that_is_not_finite_is_an_error():
    with pytest.raises(DataError, match="text_vector: 1 of 1"):
        alignment(frame([[1, 0]], [[float("inf"), 0]]))
