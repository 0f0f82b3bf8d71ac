"""Mid-ranks and deviations of scores, plain, weighted and within groups."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curation.annotate.quantile import quantile

SCORES = [0.1, 0.4, 0.4, 0.9]


def table(scores: object, **columns: object) -> pl.DataFrame:
    score = pl.Series(scores, dtype=pl.Float64)
    uid = pl.int_range(len(score), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uid, "score": score, **columns})


def ranks(rows: pl.DataFrame) -> list[float | None]:
    return quantile(rows)["quantile"].to_list()


def test_a_quantile_is_the_share_below_and_half_of_those_that_tie():
    assert ranks(table(SCORES)) == pytest.approx([0.125, 0.5, 0.5, 0.875])
    weighted = ranks(table(SCORES, weight=[10, 20, 30, 40]))
    assert weighted == pytest.approx([0.05, 0.35, 0.35, 0.80])
    assert ranks(table(SCORES, weight=[7.0] * 4)) == pytest.approx(ranks(table(SCORES)))


def test_ensembles_by_the_largest_and_by_the_mean():
    a, b = (np.array(ranks(table(s))) for s in ([0.9, 0.2, 0.5, 0.1], [0.1, 0.2, 0.3, 0.8]))
    assert np.maximum(a, b).tolist() == pytest.approx([0.875, 0.375, 0.625, 0.875])
    assert np.floor(20 * np.maximum(a, b)).tolist() == [17, 7, 12, 17]
    assert ((a + b) / 2).tolist() == pytest.approx([0.5, 0.375, 0.625, 0.5])


def test_monotone_maps_of_the_score_change_no_quantile():
    scores = np.random.default_rng(0).normal(size=300).round(1)
    expected = ranks(table(scores))
    assert ranks(table(np.exp(scores))) == expected
    assert ranks(table(scores * 2.0**70)) == expected


def test_ranks_are_those_of_every_pair_compared_within_each_group():
    rng = np.random.default_rng(1)
    scores, groups = rng.integers(0, 20, 400), rng.choice(["en", "de", None], 400)
    found = np.array(ranks(table(scores, group=pl.Series(groups, dtype=pl.String))))
    same = groups[:, None] == groups
    below = (same & (scores < scores[:, None])).sum(axis=1)
    ties = (same & (scores == scores[:, None])).sum(axis=1)
    assert found == pytest.approx((below + ties / 2) / same.sum(axis=1), abs=1e-6)


def test_a_zscore_is_in_weighted_deviations_of_its_group():
    rows = table([1.0, 3.0, 5.0, 5.0], group=[1, 1, 2, 2], weight=[3, 1, 1, 1])
    # Mean 1.5, variance (3 * 0.25 + 2.25) / 4.
    assert quantile(rows)["zscore"].to_list() == pytest.approx([-0.57735, 1.73205, 0, 0], abs=1e-5)
    assert quantile(table([0.1] * 7))["zscore"].to_list() == [0.0] * 7


def test_what_has_no_score_or_no_weight_has_no_rank_and_is_not_ranked_by():
    scores = [None, float("nan"), 1.0, 2.0, 3.0, 4.0, float("inf")]
    found = quantile(table(scores, weight=[1.0, 1.0, 1.0, 1.0, None, -1.0, 2.0]))
    assert found["quantile"].to_list() == pytest.approx(
        [None, None, 0.125, 0.375, None, None, 0.75]
    )
    assert found["zscore"].to_list() == pytest.approx([None, None, -1, 1, None, None, None])
    assert ranks(table([1.0, 2.0], weight=[0, 0])) == [None, None]
