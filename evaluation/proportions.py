"""How sure a share is, and a difference of two shares: Wilson's and Newcombe's intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05


def wilson(
    share_N: ArrayLike, n_N: ArrayLike, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends of Wilson's score intervals.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), with z that of
    1 - level / 2. It is of use at small n and at shares near 0 and 1, where p -+ z s is not.

    Args:
        share_N: shares p in [0, 1].
        n_N: of how many each is; an effective number where they do not weigh alike.
        level: how many of the intervals may miss the truth.

    Reference: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    share, n = np.asarray(share_N, dtype=np.float64), np.asarray(n_N, dtype=np.float64)
    z = _z(level)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def newcombe(
    hits_N: ArrayLike,
    of_N: ArrayLike,
    other_hits_N: ArrayLike,
    of_others_N: ArrayLike,
    level: float = LEVEL,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return p - q, and the lower and upper ends of its interval, of two independent shares.

    With Wilson's (l, u) of p and (l', u') of q: p - q - sqrt((p - l)^2 + (u' - q)^2) and
    p - q + sqrt((u - p)^2 + (q - l')^2).

    Args:
        hits_N: the counts behind p.
        of_N: of how many.
        other_hits_N: the counts behind q.
        of_others_N: of how many.
        level: how many of the intervals may miss the truth.

    Reference: Newcombe 1998, Interval estimation for the difference between independent
    proportions, method 10.
    """
    n, m = np.asarray(of_N, dtype=np.float64), np.asarray(of_others_N, dtype=np.float64)
    p, q = np.asarray(hits_N) / n, np.asarray(other_hits_N) / m
    (low, high), (other_low, other_high) = wilson(p, n, level), wilson(q, m, level)
    below = np.hypot(p - low, other_high - q)
    above = np.hypot(high - p, q - other_low)
    return p - q, p - q - below, p - q + above


def _z(level: float) -> Any:
    from scipy.special import ndtri  # scipy.stats takes a second to import.

    return ndtri(1 - level / 2)
