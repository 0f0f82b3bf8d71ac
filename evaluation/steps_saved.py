"""How many steps a curated set saves: where it reaches the score that random sets end with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from evaluation.interval import LEVEL, Claim

Curves = NDArray[np.float64]
"""The last axis is over budgets, B."""


@dataclass(frozen=True)
class StepsSaved:
    """How many times fewer steps an arm needs for random's final score, and its 95 % interval.

    Attributes:
        value: the largest budget by that at which the arm has the score; infinite where it has it
            at the smallest budget already, 0 where it has it at none.
        low: lower end of the interval.
        high: upper end.
        most: the largest budget by the smallest: what can be told.
    """

    value: float
    low: float
    high: float
    most: float

    def to_dict(self) -> dict[str, float | str]:
        """Return `{"value", "low", "high"}`, each a number, "< 1" or such as "> 4"."""
        return {name: self._said(getattr(self, name)) for name in ("value", "low", "high")}

    def _said(self, factor: float) -> float | str:
        if np.isinf(factor):
            return f"> {self.most:g}"
        return factor if factor else "< 1"


def steps_saved(
    arm_SB: ArrayLike,
    random_RB: ArrayLike,
    steps_B: ArrayLike,
    *,
    claim: Claim = "set",
    higher_is_better: bool = True,
    samples: Count = 2000,
    seed: Seed = 0,
) -> StepsSaved:
    """Return how many times fewer steps an arm needs for the score that random sets end with.

    Both curves of mean scores are made monotone; between two budgets a score goes linearly with
    the logarithm of the steps. An arm like random sets has 1.

    The interval is a bootstrap over trainings, each with its scores at all budgets. With
    `claim = "set"` the arm is one set, so its curve moves as one random set's curve lies about
    their mean, and that mean as R sets drawn with repetition; with "rule" the parts are drawn for
    both arms. Deviations are as much wider as n trainings lie too near to their own mean, by
    sqrt(n / (n - 1)), and as Student's t is wider than the normal. Of held-out items it says
    nothing.

    Args:
        arm_SB: scores, a row a training of the arm, a column a budget.
        random_RB: likewise of the random sets; with "rule" the same parts in the same order.
        steps_B: of the budgets, ascending.
        claim: see above.
        higher_is_better: of the score.
        samples: of the bootstrap.
        seed: of the bootstrap.
    Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 9 (residuals)
        and 13.
    Raises:
        DataError: there are fewer than two budgets or random sets, or scores lack.
    """
    from scipy.special import ndtri, stdtrit

    arm, random = np.asarray(arm_SB, dtype=np.float64), np.asarray(random_RB, dtype=np.float64)
    log_steps = np.log(np.asarray(steps_B, dtype=np.float64))
    budgets, count = len(log_steps), len(random)
    fits = arm.ndim == random.ndim == 2 and arm.shape[1] == random.shape[1] == budgets
    if not fits or min(budgets, count) < 2 or not len(arm):
        raise DataError(
            f"steps saved need an arm and two random sets or more at two budgets or more; found "
            f"{arm.shape} and {random.shape} at {budgets}."
        )
    if not higher_is_better:
        arm, random = -arm, -random
    rng = np.random.default_rng(seed)
    rows_XR = rng.integers(count, size=(samples, count))
    off_random_XB = random[rows_XR].mean(axis=1) - random.mean(axis=0)
    if claim == "set":
        off_arm_XB = random[rng.integers(count, size=samples)] - random.mean(axis=0)
    else:
        off_arm_XB = arm[rows_XR].mean(axis=1) - arm.mean(axis=0)
    tail = 1 - LEVEL / 2
    wider = np.sqrt(count / (count - 1)) * stdtrit(count - 1, tail) / ndtri(tail)
    found = _factors(
        arm.mean(axis=0) + wider * np.concatenate([np.zeros((1, budgets)), off_arm_XB]),
        random.mean(axis=0) + wider * np.concatenate([np.zeros((1, budgets)), off_random_XB]),
        log_steps,
    )
    # Between a number and infinity there is no other: an end is one of the draws.
    low = np.quantile(found[1:], LEVEL / 2, method="lower")
    high = np.quantile(found[1:], tail, method="higher")
    most = float(np.exp(log_steps[-1] - log_steps[0]))
    return StepsSaved(float(found[0]), float(low), float(high), most)


def monotone(values: ArrayLike) -> Curves:
    """Return the nearest curves, by least squares, that fall nowhere along the last axis.

    At i it is the largest over j <= i of the smallest over k >= i of the mean from j to k: what
    pooling adjacent violators ends with, for all curves at once.

    Reference: Robertson, Wright and Dykstra 1988, Order Restricted Statistical Inference, theorem
        1.4.4.
    """
    curves = np.asarray(values, dtype=np.float64)
    places = range(curves.shape[-1])

    def least_mean(j: int, i: int) -> Any:
        return np.min([curves[..., j : k + 1].mean(axis=-1) for k in places[i:]], axis=0)

    found: Curves = np.stack(
        [np.max([least_mean(j, i) for j in places[: i + 1]], axis=0) for i in places], axis=-1
    )
    return found


def _factors(arm_XB: Curves, random_XB: Curves, log_steps_B: Curves) -> NDArray[np.float64]:
    """Return the largest budget by that at which each arm's curve reaches random's last score."""
    curve_XB, score_X = monotone(arm_XB), monotone(random_XB)[:, -1]
    there_XB = curve_XB >= score_X[:, None]
    at_X = there_XB.argmax(axis=1)
    rows = np.arange(len(curve_XB))
    above_X, below_X = curve_XB[rows, at_X], curve_XB[rows, np.maximum(at_X - 1, 0)]
    # At the smallest budget there is none below: who has just the score there needs all its steps.
    part_X = np.divide(
        score_X - below_X, above_X - below_X, out=np.ones(len(rows)), where=above_X > below_X
    )
    steps_X = log_steps_B[at_X] - (1 - part_X) * (
        log_steps_B[at_X] - log_steps_B[np.maximum(at_X - 1, 0)]
    )
    factor_X: NDArray[np.float64] = np.exp(log_steps_B[-1] - steps_X)
    factor_X[there_XB[:, 0] & (curve_XB[:, 0] > score_X)] = np.inf
    factor_X[~there_XB.any(axis=1)] = 0.0
    return factor_X
