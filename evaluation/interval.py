"""How sure a number is: over held-out items, and over random sets and trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from contracts.report import Metric, Statistic

Verdict = Literal["better", "worse", "no measurable difference", "this protocol cannot tell"]
Claim = Literal["set", "rule"]
K = TypeVar("K")

LEVEL = 0.05
_TAILS = (LEVEL / 2, 1 - LEVEL / 2)
_MOST = 100


def bootstrap(
    values_N: ArrayLike,
    *,
    statistic: Statistic = "mean",
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
    items = np.asarray(values_N, dtype=np.float64)
    values = np.sort(items)
    if not len(values):
        raise DataError("there is no item to measure.")
    of: Callable[[NDArray[np.float64]], Any] = np.mean if statistic == "mean" else np.median
    rng = np.random.default_rng(seed)
    drawn = [of(values[rng.integers(len(values), size=len(values))]) for _ in range(samples)]
    low, high = np.quantile(drawn, _TAILS)
    return Metric(
        float(of(values)), len(values), float(low), float(high), items=items, statistic=statistic
    )


def by_influence(value: float, influence_N: ArrayLike) -> Metric:
    """Return a number that is no statistic over items, and its 95 % interval: the jackknife's.

    value +- 1.96 sqrt(sum(influence^2)) / n, the influence of an item being n times the derivative
    of the value by its weight, 0 in the mean. A bootstrap would not do for what relates items: two
    draws of one item always lie together.

    Reference: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6 (the
    infinitesimal jackknife).
    """
    from scipy.special import ndtri

    influence = np.asarray(influence_N, dtype=np.float64)
    half = float(ndtri(_TAILS[1]) * np.linalg.norm(influence) / len(influence))
    return Metric(value, len(influence), value - half, value + half)


@dataclass(frozen=True)
class Difference:
    """How far an arm lies from random sets of equal size, and its interval, of 95 % as a rule.

    Attributes:
        value: mean of the arm less mean of the random sets.
        low: lower end of the interval.
        high: upper end.
        n: random sets, or parts of the pool.
        sd: between random sets, each with a training of its own; between the differences of parts.
        over_items: variance of the value over other held-out items; None where the metric is no
            statistic over items, and the interval leaves it out.
        p: two-sided, of no difference.
        higher_is_better: of the metric.
        p_corrected: p where it is one of several questions, see `holm`.
    """

    value: float
    low: float
    high: float
    n: int
    sd: float
    over_items: float | None
    p: float
    higher_is_better: bool
    p_corrected: float | None = None


def prediction(
    arm_S: ArrayLike,
    random_R: ArrayLike,
    over_items: float | None = None,
    *,
    higher_is_better: bool = True,
    level: float = LEVEL,
) -> Difference:
    """Return where an arm lies among random sets: `claim = "set"`.

    mean(arm) - mean(random) +- t(0.975, R - 1) * sqrt(sd^2 (1 + 1 / R) + over_items), sd that of
    the R random sets. So the arm differs where it lies outside of what one more random set would
    reach. Its own trainings average the luck of training out; the luck of its set is in sd. With
    another `level`, the share of intervals that may err, it is t(1 - level / 2, R - 1).

    Reference: Hahn and Meeker 1991, Statistical Intervals, section 4.8.
    Raises:
        DataError: the arm has no training, or there are fewer than two random sets.
    """
    arm, random = np.asarray(arm_S, dtype=np.float64), np.asarray(random_R, dtype=np.float64)
    if arm.ndim != 1 or random.ndim != 1 or not len(arm) or len(random) < 2:
        raise DataError(
            f"a prediction interval needs a training of the arm and two random sets or more; "
            f"found {arm.shape} and {random.shape}."
        )
    value, sd = float(arm.mean() - random.mean()), float(random.std(ddof=1))
    return _difference("set", value, len(random), sd, over_items, higher_is_better, level)


def paired(
    arm_P: ArrayLike,
    random_P: ArrayLike,
    over_items: float | None = None,
    *,
    higher_is_better: bool = True,
    level: float = LEVEL,
) -> Difference:
    """Return how far an arm lies from random over disjoint parts of a pool: `claim = "rule"`.

    With d = arm - random part by part: mean(d) +- t(0.975, P - 1) * sqrt(sd(d)^2 / P +
    over_items); with another `level` t(1 - level / 2, P - 1).

    Reference: Student 1908, The probable error of a mean, Biometrika 6.
    Raises:
        DataError: the arms have not the same parts, or fewer than two.
    """
    arm, random = np.asarray(arm_P, dtype=np.float64), np.asarray(random_P, dtype=np.float64)
    if arm.shape != random.shape or arm.ndim != 1 or len(arm) < 2:
        raise DataError(
            f"an interval over parts needs two arms of the same two or more parts; "
            f"found {arm.shape} and {random.shape}."
        )
    d = arm - random
    value, sd = float(d.mean()), float(d.std(ddof=1))
    return _difference("rule", value, len(d), sd, over_items, higher_is_better, level)


def _difference(
    claim: Claim,
    value: float,
    n: int,
    sd: float,
    over_items: float | None,
    higher: bool,
    level: float,
) -> Difference:
    from scipy.special import stdtr  # scipy.stats takes a second to import.

    half = half_width(claim, n, sd, over_items, level)
    error = _error(claim, n, sd, over_items)
    p = 2 * float(stdtr(n - 1, -abs(value) / error)) if error else float(value == 0)
    return Difference(value, value - half, value + half, n, sd, over_items, p, higher)


def half_width(
    claim: Claim, n: int, sd: float, over_items: float | None, level: float = LEVEL
) -> float:
    """Return the smallest difference that n random sets, or parts, can tell from none."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - level / 2)) * _error(claim, n, sd, over_items)


def _error(claim: Claim, n: int, sd: float, over_items: float | None) -> float:
    over_sets = sd**2 * (1 + 1 / n if claim == "set" else 1 / n)
    return float(np.sqrt(over_sets + (over_items or 0.0)))


def over_items(arm_SN: ArrayLike, random_RN: ArrayLike, statistic: Statistic = "mean") -> float:
    """Return the variance of a difference over other held-out items, drawn for all trainings.

    Of means var(d) / N with d the items' differences of the two means over trainings; of medians
    the variance over 1,000 bootstrap draws of items.

    Args:
        arm_SN: the items' values, a row a training.
        random_RN: likewise of the random sets, the same items in the same order.
        statistic: what of the items the metric is.
    """
    arm, random = np.asarray(arm_SN, dtype=np.float64), np.asarray(random_RN, dtype=np.float64)
    count = arm.shape[1]
    if statistic == "mean":
        return float((arm.mean(axis=0) - random.mean(axis=0)).var(ddof=1) / count)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        rows = rng.integers(count, size=count)
        drawn.append(
            np.median(arm[:, rows], axis=1).mean() - np.median(random[:, rows], axis=1).mean()
        )
    return float(np.var(drawn, ddof=1))


def verdict(difference: Difference, worth: float) -> Verdict:
    """Return what a difference shows, `worth` being the smallest that matters.

    `better` and `worse` where the interval excludes zero, of several questions where the corrected
    p does; `no measurable difference` where the interval lies within +- worth; else the protocol
    cannot tell. What is not a number excludes nothing.
    """
    p = difference.p_corrected
    apart = difference.low > 0 or difference.high < 0
    if apart and (p is None or p < LEVEL):
        return "better" if (difference.value > 0) == difference.higher_is_better else "worse"
    if -worth <= difference.low and difference.high <= worth:
        return "no measurable difference"
    return "this protocol cannot tell"


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Return the p-values of several questions, corrected by Holm's step-down.

    The i-th smallest of m times m - i + 1, none smaller than the one before it, at most 1.

    Reference: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    corrected: dict[K, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, p[name] * (len(p) - place)))
        corrected[name] = largest
    return {name: corrected[name] for name in p}


def deciding(difference: Difference, claim: Claim, worth: float) -> int | None:
    """Return how many random sets, or parts, would decide, were the difference and sd the same.

    None where not even 100 would: what one random set differs from the next does not shrink.
    """
    size = abs(difference.value)
    for n in range(difference.n + 1, _MOST + 1):
        half = half_width(claim, n, difference.sd, difference.over_items)
        if size > half or size + half <= worth:
            return n
    return None


def learned(random_R: ArrayLike, untrained_S: ArrayLike, *, higher_is_better: bool) -> float | None:
    """Return how far random sets lie above the untrained encoder, in sd between random sets.

    Below 2 the protocol measures nothing that this training learns. None where random sets are
    above it and all alike.
    """
    random = np.asarray(random_R, dtype=np.float64)
    untrained = np.asarray(untrained_S, dtype=np.float64)
    gain = float(random.mean() - untrained.mean()) * (1 if higher_is_better else -1)
    sd = float(random.std(ddof=1))
    if not sd:
        return None if gain > 0 else 0.0
    return gain / sd
