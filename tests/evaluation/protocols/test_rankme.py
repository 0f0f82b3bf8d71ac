from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.protocols.rankme import rankme


def rank(x: object) -> float:
    return rankme(np.asarray(x, dtype=float))["rank"].value


def test_directions_that_are_used_alike_count_in_full_and_one_line_counts_once() -> None:
    assert rank(np.eye(5)) == pytest.approx(5)
    assert rank(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    assert rank(np.outer([1, 2, -3], [1, 1, 0])) == pytest.approx(1)


def test_two_singular_values_as_three_to_one() -> None:
    # p = 3/4, 1/4: exp(H) = 4 / 3^(3/4).
    assert rank([[3, 0], [0, 1]]) == pytest.approx(4 / 3**0.75)


def test_the_rank_is_that_of_the_eigenvalues_of_the_gram_matrix() -> None:
    x_ND = np.random.default_rng(0).normal(size=(200, 12)) * np.arange(1, 13)
    s = np.sqrt(np.linalg.eigvalsh(x_ND.T @ x_ND))
    p = s / s.sum()
    assert rank(x_ND) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))


def test_zero_vectors_have_no_rank_and_add_none() -> None:
    nothing = rankme(np.zeros((4, 3)))["rank"]
    assert (nothing.value, nothing.n, nothing.low, nothing.high) == (0, 4, 0, 0)
    x_ND = np.random.default_rng(1).normal(size=(50, 4))
    assert rank(np.vstack([x_ND, np.zeros((7, 4))])) == pytest.approx(rank(x_ND))


def test_few_vectors_show_fewer_directions_than_there_are() -> None:
    x_ND = np.random.default_rng(4).normal(size=(640, 64))
    assert rank(x_ND) / 64 == pytest.approx(0.985, abs=0.003)
    assert rank(x_ND[:128]) / 64 == pytest.approx(0.93, abs=0.01)


def test_more_dimensions_than_vectors_leave_at_most_the_vectors() -> None:
    assert 3 < rank(np.random.default_rng(2).normal(size=(4, 100))) <= 4


def test_the_interval_is_that_of_leaving_out_one_vector_after_the_other() -> None:
    rng = np.random.default_rng(3)
    x_ND = rng.normal(size=(400, 5)) * [5, 3, 1, 1, 0.3]
    without = [rank(np.delete(x_ND, i, axis=0)) for i in range(400)]
    error = math.sqrt(399 / 400 * np.square(np.array(without) - np.mean(without)).sum())
    found = rankme(x_ND)["rank"]
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.02)
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.02)
    assert found.n == 400


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 rows are not finite"):
        rankme(np.array([[1.0, np.nan], [1.0, 2.0]]))
