"""Precision and recall of each cut of a signal, from some answers that were drawn by strata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.proportions import LEVEL, wilson


@dataclass(frozen=True)
class Estimate:
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cut:
    """What a cut keeps: the strata from `level` on.

    Attributes:
        level: the first stratum that is kept.
        kept: the share of all records that is.
        precision: the share of what is kept that is good.
        recall: the share of what is good that is kept; None where nothing good was answered.
    """

    level: int
    kept: float
    precision: Estimate
    recall: Estimate | None

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        if self.recall is None or not self.recall.value:
            return 0.0
        p, r = self.precision.value, self.recall.value
        return 2 * p * r / (p + r)


def score_card(
    sizes_LG: ArrayLike, answered_LG: ArrayLike, good_LG: ArrayLike, level: float = LEVEL
) -> list[Cut]:
    """Return precision and recall of the cut at each level that has records.

    Strata are levels of a signal, ascending, by groups. With W a stratum's share of the records,
    k of n answers good and p = k / n, precision is sum(W p) / sum(W) over the strata that are kept,
    recall sum(W p) over these by that over all. Their intervals are Wilson's at the effective
    number P (1 - P) / variance: of precision sum(w^2 q (1 - q) (1 - n / N) / n), w = W / sum(W), of
    recall R that of the linearised ratio, whose weights are W (1 - R) where kept and -W R
    elsewhere, by the squared sum of W p. As five equal answers would say that nothing varies, q is
    (k + 1/2) / (n + 1) over a level and its two neighbours. A level without an answer has p = q;
    where some stratum of a level that has answers has none, levels alone are strata.

    Args:
        sizes_LG: records N of each stratum, a row a level.
        answered_LG: answers n, drawn at random within the stratum.
        good_LG: of these, the good ones k.
        level: how many of the intervals may miss the truth.

    Reference: Cochran 1977, Sampling Techniques, chapters 5 and 6; Korn and Graubard 1998,
    Confidence intervals for proportions with small expected number of positive counts.
    """
    sizes, n, k = (np.asarray(x, dtype=np.float64) for x in (sizes_LG, answered_LG, good_LG))
    if ((sizes > 0) & (n == 0) & (n.sum(axis=1, keepdims=True) > 0)).any():
        sizes, n, k = (x.sum(axis=1, keepdims=True) for x in (sizes, n, k))
    weights = sizes / sizes.sum()
    q = (_with_neighbours(k) + 0.5) / (_with_neighbours(n) + 1)
    p = np.where(n > 0, k / np.maximum(n, 1), q)
    left = np.where(sizes > 0, 1 - n / np.maximum(sizes, 1), 0)
    variance = q * (1 - q) * left / np.maximum(n, 0.5)
    good, smooth = float((weights * p).sum()), float((weights * q).sum())
    cuts = []
    for first in range(len(sizes)):
        kept = np.zeros_like(sizes)
        kept[first:] = 1
        inside = weights * kept
        share = float(inside.sum())
        if not sizes[first].any():
            continue
        precision = _estimate(
            float((inside * p).sum()) / share, float((inside * q).sum()) / share,
            float((inside**2 * variance).sum()) / share**2, level,
        )  # fmt: skip
        recall = None
        if good:
            r, r_smooth = float((inside * p).sum()) / good, float((inside * q).sum()) / smooth
            lever = weights * (kept - r_smooth)
            recall = _estimate(r, r_smooth, float((lever**2 * variance).sum()) / good**2, level)
        cuts.append(Cut(first, share, precision, recall))
    return cuts


def proposed(cuts: Sequence[Cut]) -> Cut | None:
    """Return the cut of the largest F1, of equal ones that which keeps the most."""
    best = max(cuts, key=lambda cut: (cut.f1, -cut.level), default=None)
    return best if best is not None and best.f1 else None


def _with_neighbours(x_LG: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(x_LG, ((1, 1), (0, 0)))
    return np.asarray(padded[:-2] + padded[1:-1] + padded[2:])


def _estimate(value: float, smooth: float, variance: float, level: float) -> Estimate:
    effective = max(smooth * (1 - smooth) / variance, 1.0) if variance > 0 else np.inf
    low, high = wilson(min(value, 1.0), effective, level)
    return Estimate(min(value, 1.0), float(low), float(high))
