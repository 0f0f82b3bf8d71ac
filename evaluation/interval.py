"""How sure a number is: a bootstrap over items, and Student's t over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from contracts.report import Metric

Verdict = Literal["better", "worse", "no measurable difference"]

_TAILS = (0.025, 0.975)


def bootstrap(
    values_N: ArrayLike,
    *,
    statistic: Literal["mean", "median"] = "mean",
    samples: Count = 1000,
    seed: Seed = 0,
) -> Metric:
    """Return a statistic over items and its 95 % percentile bootstrap interval.

    The items are drawn n out of n with repetition, `samples` times; the interval goes from the
    2.5th to the 97.5th percentile of the statistic. It says how far another sample of test items
    would move the number, and nothing of another training seed. The order of the items is
    without effect.

    Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    Cost: O(samples * n).
    Raises:
        DataError: when there is no item.
    """
    values = np.sort(np.asarray(values_N, dtype=np.float64))
    if not len(values):
        raise DataError("there is no item to measure.")
    of: Callable[[NDArray[np.float64]], Any] = np.mean if statistic == "mean" else np.median
    rng = np.random.default_rng(seed)
    drawn = [of(values[rng.integers(len(values), size=len(values))]) for _ in range(samples)]
    low, high = np.quantile(drawn, _TAILS)
    return Metric(float(of(values)), len(values), float(low), float(high))


def paired(arm_S: ArrayLike, baseline_S: ArrayLike, *, higher_is_better: bool = True) -> Metric:
    """Return the mean difference of two arms over seeds and its 95 % t interval.

    With d = arm - baseline seed by seed: mean(d) +- t(0.975, S - 1) * sd(d) / sqrt(S). Within a
    seed both arms share initial weights and order, so what seeds have in common cancels.

    Reference: Student 1908, The probable error of a mean, Biometrika 6.
    Raises:
        DataError: when the arms have not the same seeds, or fewer than two.
    """
    arm, baseline = np.asarray(arm_S, dtype=np.float64), np.asarray(baseline_S, dtype=np.float64)
    if arm.shape != baseline.shape or arm.ndim != 1 or len(arm) < 2:
        raise DataError(
            f"an interval over seeds needs two arms of the same two or more seeds; "
            f"found {arm.shape} and {baseline.shape}."
        )
    from scipy.special import stdtrit  # scipy.stats takes a second to import.

    difference = arm - baseline
    count = len(difference)
    mean = float(difference.mean())
    half = float(stdtrit(count - 1, _TAILS[1]) * difference.std(ddof=1) / np.sqrt(count))
    return Metric(mean, count, mean - half, mean + half, higher_is_better)


def verdict(difference: Metric) -> Verdict:
    """Return what a paired difference shows: its sign where the interval excludes zero.

    An interval that is not a number excludes nothing.
    """
    if difference.low > 0:
        return "better" if difference.higher_is_better else "worse"
    if difference.high < 0:
        return "worse" if difference.higher_is_better else "better"
    return "no measurable difference"
