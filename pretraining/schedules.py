"""How the learning rate goes through training: a factor for every progress in [0, 1)."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "constant"]


def factor(schedule: Schedule, progress: float, *, warmup_ratio: float) -> float:
    """Return the share of the full rate: a linear warm-up, then the schedule.

    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    if schedule == "constant":
        return 1.0
    rest = (progress - warmup_ratio) / (1 - warmup_ratio)
    return 0.5 * (1 + math.cos(math.pi * rest))
