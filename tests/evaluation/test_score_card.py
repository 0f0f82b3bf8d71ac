"""Precision and recall by hand, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.proportions import wilson
from evaluation.score_card import proposed, score_card


def test_answers_weigh_as_much_as_their_stratum_has_records():
    # 300 records of which 1 of 2 answers is good, 100 of which 2 of 2 are: 150 + 100 good ones.
    cuts = score_card([[300], [100]], [[2], [2]], [[1], [2]])
    assert [cut.kept for cut in cuts] == [1, 0.25]
    assert [cut.precision.value for cut in cuts] == [250 / 400, 1]
    assert [cut.recall.value for cut in cuts if cut.recall] == [1, 100 / 250]
    assert proposed(cuts) == cuts[0]
    # Both levels are neighbours: q = (3 + 1/2) / (4 + 1), n = 2 of 100: Wilson at that number.
    n = 0.7 * 0.3 / (0.7 * 0.3 * 0.98 / 2)
    low, high = wilson(1, n)
    assert (cuts[1].precision.low, cuts[1].precision.high) == pytest.approx((low, high))


def test_groups_are_strata_of_their_own():
    cuts = score_card([[90, 10]], [[3, 3]], [[3, 0]])
    assert cuts[0].precision.value == pytest.approx(0.9)


def test_when_all_are_answered_there_is_no_doubt():
    cuts = score_card([[4], [4]], [[4], [4]], [[1], [3]])
    assert (cuts[1].precision.low, cuts[1].precision.high) == (0.75, 0.75)
    assert cuts[1].recall is not None
    assert (cuts[1].recall.low, cuts[1].recall.high) == (0.75, 0.75)


def test_a_stratum_without_an_answer_has_the_rate_of_its_neighbours():
    cuts = score_card([[10], [10], [10]], [[3], [0], [3]], [[3], [0], [3]])
    assert cuts[1].precision.value == pytest.approx((6.5 / 7 + 1) / 2)


def test_where_a_group_has_no_answer_yet_levels_alone_are_strata():
    sizes = [[60, 40], [60, 40]]
    assert score_card(sizes, [[3, 0], [3, 3]], [[0, 0], [2, 3]]) == score_card(
        [[100], [100]], [[3], [6]], [[0], [5]]
    )


def test_nothing_good_has_no_recall_and_no_proposal():
    cuts = score_card([[10], [10]], [[5], [5]], [[0], [0]])
    assert {cut.recall for cut in cuts} == {None}
    assert proposed(cuts) is None


def test_the_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    rates = np.linspace(0.1, 0.9, 10)
    held = []
    for _ in range(200):
        good = rng.binomial(5, rates)
        for cut in score_card(np.full((10, 1), 1e6), np.full((10, 1), 5), good[:, None]):
            assert cut.recall is not None
            truths = rates[cut.level :].mean(), rates[cut.level :].sum() / rates.sum()
            for found, truth in zip((cut.precision, cut.recall), truths, strict=True):
                held.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
    assert np.mean(held) >= 0.93
