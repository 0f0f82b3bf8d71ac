from __future__ import annotations

import itertools

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.select.top import top


def frame(scores, dtype=None):
    uids = pl.Series(range(1, len(scores) + 1), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "score": pl.Series(scores, dtype=dtype)})


def test_the_largest_scores_are_kept_ties_by_uid():
    assert top(frame([0.2, 0.8, 0.8, 0.5, 0.8]), budget=2)["uid"].to_list() == [2, 3]


@pytest.mark.parametrize(("ratio", "count"), [(0.3, 3), (0.29, 2), (1.0, 10), (0.05, 0)])
def test_a_share_is_exact_and_rounded_down(ratio, count):
    assert top(frame([s / 10 for s in range(10)]), budget_ratio=ratio).height == count


def test_nulls_and_nan_are_never_kept_but_count_as_candidates():
    rows = frame([None, float("nan"), 0.1, -0.5])
    assert top(rows, budget=4)["uid"].to_list() == [3, 4]
    assert top(rows, budget_ratio=0.5)["uid"].to_list() == [3, 4]
    assert top(rows, budget_ratio=0.25)["uid"].to_list() == [3]


def test_large_integers_are_compared_exactly():
    rows = frame([2**63, 2**63 + 1, 2**63 - 1], pl.UInt64)
    assert top(rows, budget=1)["uid"].to_list() == [2]


def test_a_smaller_budget_is_a_subset_of_a_larger_one():
    rows = frame([(7 * i) % 13 / 13 for i in range(100)])
    kept = [set(top(rows, budget=b)["uid"]) for b in range(1, 101)]
    assert all(a < b for a, b in itertools.pairwise(kept))


def test_exactly_one_of_budget_and_share_is_given():
    for wrong in ({}, {"budget": 1, "budget_ratio": 0.5}):
        with pytest.raises(ConfigError, match="either budget or budget_ratio"):
            top(frame([1.0]), **wrong)
