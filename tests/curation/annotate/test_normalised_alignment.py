"""s-CLIPLoss: worked numbers, CLIP's loss as oracle, and what must not matter."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.alignment import alignment
from curation.annotate.normalised_alignment import normalised_alignment
from curation.fit.reference_pairs import reference_pairs


def pairs(images: np.ndarray, texts: np.ndarray, first: int = 0) -> pl.DataFrame:
    vectors = {
        name: pl.Series(list(x.astype(np.float32)), dtype=pl.Array(pl.Float32, x.shape[1]))
        for name, x in (("image_vector", images), ("text_vector", texts))
    }
    uids = pl.int_range(first, first + len(images), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, **vectors})


def with_cosines(cosines: list[list[float]]) -> pl.DataFrame:
    """Return pairs whose image i and text j have the cosine of row i and column j."""
    c = np.array(cosines)
    texts = np.eye(len(c), len(c) + 1)
    return pairs(np.hstack([c, np.sqrt(1 - (c**2).sum(axis=1, keepdims=True))]), texts)


def drawn(count: int, dimension: int = 12) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, dimension))
    return pairs(images, images + rng.normal(size=(count, dimension)))


WORKED = with_cosines([[0.30, 0.28, 0.10], [0.28, 0.30, 0.10], [0.05, 0.05, 0.25]])


@pytest.mark.parametrize(
    ("temperature", "scores"),
    [(0.05, [-0.0260, -0.0260, -0.0033]), (0.01, [-0.0013, -0.0013, -0.0000])],
)
def test_the_worked_scores(temperature: float, scores: list[float]):
    found = normalised_alignment(WORKED, reference_pairs(WORKED), temperature=temperature)
    # The reference holds vectors in half precision.
    assert found["score"].to_list() == pytest.approx(scores, abs=1e-4)
    assert found["cosine"].to_list() == pytest.approx([0.30, 0.30, 0.25], abs=1e-3)
    # The pair of the lowest cosine has the best score.
    assert found["score"].arg_max() == 2
    difference = (found["cosine"] - found["hubness"]).to_list()
    assert difference == pytest.approx(found["score"].to_list(), abs=1e-7)


def test_the_mean_score_of_a_batch_is_clips_loss():
    import torch
    from torch.nn.functional import cross_entropy, normalize

    rows, temperature = drawn(50), 0.07
    image, text = (
        normalize(torch.tensor(rows[name].to_numpy().astype(np.float64)))
        for name in ("image_vector", "text_vector")
    )
    logits, of_its_own = image @ text.T / temperature, torch.arange(50)
    loss = (cross_entropy(logits, of_its_own) + cross_entropy(logits.T, of_its_own)) / 2
    found = normalised_alignment(rows, reference_pairs(rows), temperature=temperature)
    assert found["score"].mean() == pytest.approx(-temperature * float(loss), abs=2e-4)


def test_at_a_low_temperature_the_best_rivals_alone_are_left():
    found = normalised_alignment(WORKED, reference_pairs(WORKED), temperature=1e-4)
    # Of row and column the largest are the cosines themselves.
    assert found["score"].to_list() == pytest.approx([0, 0, 0], abs=2e-4)
    rivals = with_cosines([[0.1, 0.3], [0.2, 0.1]])
    found = normalised_alignment(rivals, reference_pairs(rivals), temperature=1e-4)
    expected = [0.1 - (0.3 + 0.2) / 2, 0.1 - (0.2 + 0.3) / 2]
    assert found["score"].to_list() == pytest.approx(expected, abs=1e-3)


def test_the_own_pair_counts_once_in_the_reference_or_not():
    rows = drawn(20)
    reference = reference_pairs(rows)
    inside = normalised_alignment(rows, reference)
    for one in range(3):
        without = reference.filter(pl.col("uid") != one)
        outside = normalised_alignment(rows[one : one + 1], without)
        assert outside["hubness"][0] == pytest.approx(inside["hubness"][one], abs=2e-4)


def test_a_row_has_the_same_score_whatever_stands_beside_it():
    rows = drawn(300)
    reference = reference_pairs(rows, num_pairs=100)
    assert reference.height == 100
    whole = normalised_alignment(rows, reference)
    pieces = [normalised_alignment(rows[a:b], reference) for a, b in ((0, 1), (1, 258), (258, 300))]
    np.testing.assert_allclose(pl.concat(pieces)["score"], whole["score"], atol=3e-7)
    assert whole["cosine"].equals(alignment(rows)["cosine"])


def test_memory_does_not_grow_with_the_square_of_the_pool():
    rows = drawn(6000, 4)
    reference = reference_pairs(rows)
    normalised_alignment(rows[:10], reference)
    tracemalloc.start()
    normalised_alignment(rows, reference)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6 < 4 * 6000**2


def test_a_missing_vector_gives_nulls_and_another_encoders_is_refused():
    rows = pairs(np.eye(3), np.eye(3)).with_columns(
        text_vector=pl.Series([[1, 0, 0], None, [0, 0, 0]], dtype=pl.Array(pl.Float32, 3))
    )
    reference = reference_pairs(rows)
    assert reference["uid"].to_list() == [0]
    assert normalised_alignment(rows, reference)["score"].is_null().to_list() == [False, True, True]
    with pytest.raises(DataError, match="vectors of \\[3, 12\\] numbers"):
        normalised_alignment(drawn(3), reference)
