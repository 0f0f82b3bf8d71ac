from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from contracts.errors import DataError
from evaluation.interval import (
    Difference,
    bootstrap,
    by_influence,
    deciding,
    half_width,
    holm,
    learned,
    over_items,
    paired,
    prediction,
    verdict,
)


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
    assert bootstrap(values).items is not None
    assert (bootstrap(values[::-1]).items == values[::-1]).all()
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_of_a_mean_what_items_move_is_how_far_they_lie_from_it() -> None:
    values = np.random.default_rng(2).gamma(2.0, size=5000)
    found = by_influence(values.mean(), values - values.mean())
    expected = bootstrap(values)
    assert (found.value, found.n, found.items) == (values.mean(), 5000, None)
    assert found.high - found.value == pytest.approx(1.96 * stats.sem(values, ddof=0), rel=1e-3)
    assert found.low == pytest.approx(expected.low, abs=0.005)


def test_no_items_are_no_measurement() -> None:
    with pytest.raises(DataError, match="no item"):
        bootstrap([])


def test_a_prediction_interval_holds_one_more_random_set() -> None:
    # mean 1.0, sd 0.1, R = 3: t(0.975, 2) = 4.3027 times 0.1 times sqrt(4 / 3).
    found = prediction([1.3, 1.5], [0.9, 1.0, 1.1])
    assert (found.value, found.sd, found.n) == (pytest.approx(0.4), pytest.approx(0.1), 3)
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 * np.sqrt(4 / 3), abs=1e-4)
    expected = 2 * stats.t.sf(0.4 / (0.1 * np.sqrt(4 / 3)), 2)
    assert found.p == pytest.approx(expected)


def test_one_more_random_set_lies_outside_in_one_of_twenty() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4000, 11))
    found = [prediction(row[:1], row[1:]) for row in drawn]
    outside = np.mean([difference.low > 0 or difference.high < 0 for difference in found])
    assert 0.04 < outside < 0.06
    assert np.mean([difference.p < 0.05 for difference in found]) == outside


def test_a_fixed_set_errs_over_seeds_and_not_against_the_spread_of_random_sets() -> None:
    """The luck of a set is in every seed: more of them make it look certain."""
    rng = np.random.default_rng(0)
    of_sets, of_trainings, draws = 0.0089, 0.0081, 2000

    def sets(count: int) -> Any:
        return rng.normal(0, of_sets, (draws, count))

    def trainings(count: int) -> Any:
        return rng.normal(0, of_trainings, (draws, count))

    def rate(found: list[Difference]) -> float:
        return float(np.mean([verdict(d, 1e-9) in ("better", "worse") for d in found]))

    def over_seeds(count: int) -> float:
        one, others = sets(1) + trainings(count), sets(count) + trainings(count)
        return rate([paired(a, b) for a, b in zip(one, others, strict=True)])

    def against_sets(shift: float) -> float:
        one, others = shift + sets(1) + trainings(3), sets(10) + trainings(10)
        return rate([prediction(a, b) for a, b in zip(one, others, strict=True)])

    assert (over_seeds(5), over_seeds(10)) == pytest.approx((0.17, 0.32), abs=0.03)
    assert against_sets(0.0) == pytest.approx(0.03, abs=0.015)
    assert against_sets(0.05) == pytest.approx(0.96, abs=0.02)


def test_what_other_items_would_change_widens_the_interval() -> None:
    plain, wide = (prediction([1.3], [0.9, 1.0, 1.1], v) for v in (None, 0.03))
    half = 4.3027 * np.sqrt(0.01 * 4 / 3 + 0.03)
    assert wide.high - wide.value == pytest.approx(half, abs=1e-4)
    assert wide.p > plain.p
    assert (plain.over_items, wide.over_items) == (None, 0.03)


def test_the_variance_over_items_is_that_of_the_paired_differences() -> None:
    rng = np.random.default_rng(1)
    arm, random = rng.random((2, 50)), rng.random((3, 50))
    d = arm.mean(axis=0) - random.mean(axis=0)
    assert over_items(arm, random) == pytest.approx(stats.sem(d) ** 2)
    # What all items share cancels; a median has about pi / 2 times the variance of a normal mean.
    assert over_items(arm + 7, random) == pytest.approx(over_items(arm, random))
    values = rng.normal(size=(2, 4001))
    mean, median = (over_items(values[:1], values[1:], way) for way in ("mean", "median"))
    assert median / mean == pytest.approx(np.pi / 2, rel=0.2)


def test_an_interval_of_another_level_is_as_much_wider_as_students_t() -> None:
    arm, base = np.random.default_rng(2).normal(size=(2, 7))
    shown = paired(arm, base, level=0.01)
    interval = stats.ttest_rel(arm, base).confidence_interval(0.99)
    assert (shown.low, shown.high) == pytest.approx((interval.low, interval.high))
    assert shown.p == paired(arm, base).p
    wide, plain = prediction(arm, base, level=0.01), prediction(arm, base)
    wider = stats.t.ppf(0.995, 6) / stats.t.ppf(0.975, 6)
    assert wide.high - wide.value == pytest.approx(wider * (plain.high - plain.value))


def test_a_paired_interval_is_students() -> None:
    # d = 0.1, 0.2, 0.3: mean 0.2, sd 0.1, t(0.975, 2) = 4.3027.
    found = paired([1.1, 1.3, 0.8], [1.0, 1.1, 0.5])
    assert found.value == pytest.approx(0.2)
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 / np.sqrt(3), abs=1e-4)
    arm, base = np.random.default_rng(2).normal(size=(2, 7))
    expected = stats.ttest_rel(arm, base)
    interval = expected.confidence_interval()
    shown = paired(arm, base)
    assert (shown.low, shown.high) == pytest.approx((interval.low, interval.high))
    assert shown.p == pytest.approx(expected.pvalue)


def test_what_the_parts_share_cancels() -> None:
    shared = np.array([0.1, 0.9, 0.4, 0.6])
    found = paired(shared + np.array([0.05, 0.06, 0.05, 0.06]), shared)
    assert verdict(found, 0.01) == "better"


def _difference(low: float, high: float, **fields: Any) -> Difference:
    known = {"n": 5, "sd": 0.1, "over_items": None, "p": 0.5, "higher_is_better": True}
    return Difference((low + high) / 2, low, high, **{**known, **fields})


def test_a_verdict_is_a_sign_or_nothing_that_matters_or_that_it_cannot_be_told() -> None:
    found = [_difference(*ends) for ends in ((0.1, 0.3), (-0.3, -0.1), (-0.01, 0.02), (-0.1, 0.4))]
    assert [verdict(d, 0.05) for d in found] == [
        "better", "worse", "no measurable difference", "this protocol cannot tell",
    ]  # fmt: skip
    turned = [replace(d, higher_is_better=False) for d in found]
    assert [verdict(d, 0.05) for d in turned[:2]] == ["worse", "better"]
    # An interval that is as wide as what matters shows nothing; on its edge it does.
    assert verdict(_difference(-0.02, 0.02), 0.01) == "this protocol cannot tell"
    assert verdict(_difference(-0.02, 0.02), 0.02) == "no measurable difference"
    assert verdict(_difference(0.0, 0.4), 0.01) == "this protocol cannot tell"


def test_of_several_questions_the_corrected_p_must_be_small_too() -> None:
    for p, expected in ((0.04, "better"), (0.06, "this protocol cannot tell")):
        assert verdict(_difference(0.1, 0.3, p=0.01, p_corrected=p), 0.05) == expected
    small = _difference(0.01, 0.03, p_corrected=0.2)
    assert verdict(small, 0.05) == "no measurable difference"


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert found == {
        "a": pytest.approx(0.09), "b": pytest.approx(0.04), "c": pytest.approx(0.09), "d": 0.9,
    }  # fmt: skip
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_so_many_random_sets_would_decide() -> None:
    found = prediction([1.25], [0.9, 1.0, 1.1])
    number = deciding(found, "set", 0.01)
    assert number is not None
    assert half_width("set", number, 0.1, None) < 0.25 <= half_width("set", number - 1, 0.1, None)
    # Random sets differ from each other by more than this, however many are drawn.
    assert deciding(prediction([1.1], [0.9, 1.0, 1.1]), "set", 0.01) is None
    # The mean over parts gets ever surer.
    assert deciding(paired([1.0, 1.3], [0.9, 1.0]), "rule", 0.01) == 5


def test_what_training_adds_is_told_in_sd_between_random_sets() -> None:
    random = [0.9, 1.0, 1.1]
    assert learned(random, [0.7, 0.9], higher_is_better=True) == pytest.approx(2.0)
    assert learned(random, [0.7, 0.9], higher_is_better=False) == pytest.approx(-2.0)
    assert learned([1.0, 1.0], [0.5], higher_is_better=True) is None
    assert learned([1.0, 1.0], [1.0], higher_is_better=True) == 0.0


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]],) * 2])
def test_an_interval_over_parts_needs_two_that_both_arms_have(a: object, b: object) -> None:
    with pytest.raises(DataError, match="two or more parts"):
        paired(a, b)


@pytest.mark.parametrize(("a", "b"), [([], [1.0, 2.0]), ([1.0], [1.0]), ([[1.0]], [1.0, 2.0])])
def test_a_prediction_interval_needs_a_training_and_two_random_sets(a: object, b: object) -> None:
    with pytest.raises(DataError, match="two random sets or more"):
        prediction(a, b)


def test_an_interval_that_is_not_a_number_shows_nothing() -> None:
    nan = float("nan")
    assert verdict(_difference(nan, nan), 1.0) == "this protocol cannot tell"
    assert verdict(paired([nan, 1.0], [0.0, 0.0]), 1.0) == "this protocol cannot tell"
