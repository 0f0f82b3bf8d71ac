from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from contracts.errors import DataError
from contracts.report import Metric
from evaluation.interval import bootstrap, paired, verdict


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    found = bootstrap([1] * 300 + [0] * 700)
    low, high = stats.binom(1000, 0.3).ppf([0.025, 0.975]) / 1000
    assert (found.value, found.n) == (0.3, 1000)
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=80)
    for statistic, function in (("mean", np.mean), ("median", np.median)):
        found = bootstrap(values, statistic=statistic, samples=4000)
        expected = stats.bootstrap(
            (values,), function, n_resamples=4000, method="percentile", rng=1
        ).confidence_interval
        assert found.value == pytest.approx(function(values))
        assert found.low == pytest.approx(expected.low, abs=0.05)
        assert found.high == pytest.approx(expected.high, abs=0.05)


def test_19_of_20_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap(rng.random(60), samples=300, seed=i) for i in range(300)]
    covered = sum(m.low <= 0.5 <= m.high for m in found)
    assert 0.91 < covered / 300 < 0.98


def test_the_order_of_items_has_no_effect_and_the_seed_has_one() -> None:
    values = np.random.default_rng(1).random(50)
    assert bootstrap(values) == bootstrap(values[::-1])
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_no_items_are_no_measurement() -> None:
    with pytest.raises(DataError, match="no item"):
        bootstrap([])


def test_a_paired_interval_is_students() -> None:
    # d = 0.1, 0.2, 0.3: mean 0.2, sd 0.1, t(0.975, 2) = 4.3027.
    found = paired([1.1, 1.3, 0.8], [1.0, 1.1, 0.5])
    assert found.value == pytest.approx(0.2)
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 / np.sqrt(3), abs=1e-4)
    arm, base = np.random.default_rng(2).normal(size=(2, 7))
    expected = stats.ttest_rel(arm, base).confidence_interval()
    assert (paired(arm, base).low, paired(arm, base).high) == pytest.approx(
        (expected.low, expected.high)
    )


def test_what_the_seeds_share_cancels() -> None:
    shared = np.array([0.1, 0.9, 0.4, 0.6])
    found = paired(shared + np.array([0.05, 0.06, 0.05, 0.06]), shared)
    assert verdict(found) == "better"


def test_the_verdict_is_the_sign_of_an_interval_that_excludes_zero() -> None:
    up, down = Metric(0.2, 5, 0.1, 0.3), Metric(-0.2, 5, -0.3, -0.1)
    open_ = Metric(0.2, 5, 0.0, 0.4)
    assert [verdict(m) for m in (up, down, open_)] == [
        "better",
        "worse",
        "no measurable difference",
    ]
    turned = [replace(m, higher_is_better=False) for m in (up, down, open_)]
    assert [verdict(m) for m in turned] == [
        "worse",
        "better",
        "no measurable difference",
    ]


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]],) * 2])
def test_an_interval_needs_two_seeds_that_both_arms_have(a: object, b: object) -> None:
    with pytest.raises(DataError, match="two or more seeds"):
        paired(a, b)


def test_an_interval_that_is_not_a_number_shows_nothing() -> None:
    nan = float("nan")
    assert verdict(Metric(nan, 5, nan, nan)) == "no measurable difference"
    assert verdict(paired([nan, 1.0], [0.0, 0.0])) == "no measurable difference"
