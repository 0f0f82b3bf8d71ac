"""How rate and weight decay go through training: functions of the progress in [0, 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from contracts.errors import ConfigError, Problem, nearest
from contracts.params import Ratio, Share, names_of, parse

Schedule = Literal["cosine", "constant", "repeated_cosine", "warmup_stable_decay", "infinite"]
Cycles = Annotated[int, Field(ge=2)]


def cosine(progress: float, *, warmup_ratio: Ratio) -> float:
    """Return the share of the full rate: up linearly, then half a cosine down to nothing.

    With w the warm-up, p / w below it, then (1 + cos(pi (p - w) / (1 - w))) / 2.

    Args:
        progress: p, the share of the steps done, in [0, 1).
        warmup_ratio: the share of the steps in which the rate rises.
    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    return half_cosine(1.0, 0.0, (progress - warmup_ratio) / (1 - warmup_ratio))


def constant(progress: float, *, warmup_ratio: Ratio) -> float:
    """Return the share of the full rate: up linearly, then all of it.

    Args:
        progress: the share of the steps done, in [0, 1).
        warmup_ratio: the share of the steps in which the rate rises.
    """
    return progress / warmup_ratio if progress < warmup_ratio else 1.0


def repeated_cosine(progress: float, *, warmup_ratio: Ratio, cycles: Cycles) -> float:
    """Return the share of the full rate: `cosine`, so many times one after the other.

    It is continuous where there is a warm-up, else it jumps back to 1 between two cycles.

    Args:
        progress: the share of the steps done, in [0, 1).
        warmup_ratio: the share of each cycle in which the rate rises.
        cycles: all of one length.
    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5 with T_mult = 1; each
        cycle warmed up, as the baseline of Singh et al. 2025, arXiv:2503.02844.
    """
    return cosine(progress * cycles % 1, warmup_ratio=warmup_ratio)


def warmup_stable_decay(progress: float, *, warmup_ratio: Ratio, decay_ratio: Share = 0.2) -> float:
    """Return the share of the full rate: up linearly, all of it, and down linearly at the end.

    Args:
        progress: the share of the steps done, in [0, 1).
        warmup_ratio: the share of the steps in which the rate rises.
        decay_ratio: the share of the steps, at the end, in which it falls to nothing.
    Reference: Hu et al. 2024, arXiv:2404.06395 (the three stages); the linear fall over a fifth
        of the steps as in Hägele et al. 2024, arXiv:2405.18392.
    """
    warm = constant(progress, warmup_ratio=warmup_ratio)
    return min(warm, max(0.0, 1 - progress) / decay_ratio)


def infinite(
    progress: float,
    *,
    warmup_ratio: Ratio,
    cooldown_ratio: Share = 0.15,
    decay_ratio: Share = 0.2,
    constant_rate_ratio: Share = 0.4,
    end_rate_ratio: Share = 0.01,
) -> float:
    """Return the share of the full rate: up, a cosine to a constant rate, that rate, an anneal.

    With c the constant rate and e the last one: after the linear warm-up
    c + (1 - c) (1 + cos(pi t)) / 2 while t, the part of the cooldown that is done, is below 1;
    then c; at the end c (e / c)^t with t the part of the anneal that is done. It is continuous.
    A training that goes on with other records starts from a state before the anneal, at c.

    Args:
        progress: the share of the steps done, in [0, 1).
        warmup_ratio: the share of the steps in which the rate rises.
        cooldown_ratio: the share of the steps after it in which the rate falls to the constant.
        decay_ratio: the share of the steps, at the end, of the anneal.
        constant_rate_ratio: c, a share of the full rate.
        end_rate_ratio: e, a share of the full rate.
    Reference: Singh, Janson et al. 2025, "Beyond Cosine Decay", arXiv:2503.02844. The anneal's
        exponent counts from where the anneal begins, the cooldown's cosine from the warm-up's
        end.
    """
    cooled = warmup_ratio + cooldown_ratio
    if progress < warmup_ratio:
        return progress / warmup_ratio
    if progress < cooled:
        return half_cosine(1.0, constant_rate_ratio, (progress - warmup_ratio) / cooldown_ratio)
    annealed = max(0.0, (progress - (1 - decay_ratio)) / decay_ratio)
    return float(constant_rate_ratio * (end_rate_ratio / constant_rate_ratio) ** annealed)


def half_cosine(start: float, end: float, progress: float) -> float:
    """Return the value on half a cosine from start to end."""
    return end + (start - end) * (0.5 * (1 + math.cos(math.pi * progress)))


SCHEDULES: Mapping[str, Callable[..., float]] = {
    schedule.__name__: schedule
    for schedule in (cosine, constant, repeated_cosine, warmup_stable_decay, infinite)
}
STEADY = ("constant", "warmup_stable_decay", "infinite")
"""Schedules with a constant rate, at which a training may go on."""
_PHASES = ("warmup_ratio", "cooldown_ratio", "decay_ratio")


def parameters(schedule: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a schedule, those that are not given (None) at their defaults.

    Raises:
        ConfigError: there is no such schedule, a parameter belongs to another, lacks or is out of
            range, or the phases take more than all the steps; with every problem, under its key.
    """
    if schedule not in SCHEDULES:
        hint = nearest(schedule, SCHEDULES)
        raise ConfigError([Problem("pretrain.schedule", f"there is no {schedule!r}.{hint}")])
    given = {name: value for name, value in given.items() if value is not None}
    foreign = [name for name in given if name not in names_of(SCHEDULES[schedule])]
    if foreign:
        raise ConfigError(
            Problem(f"pretrain.{name}", f"is of {_schedules_with(name)}, not of {schedule!r}.")
            for name in foreign
        )
    parsed = parse(SCHEDULES[schedule], given, where="pretrain")
    phases = {name: parsed[name] for name in _PHASES if name in parsed}
    if sum(phases.values()) > 1 + 1e-9:
        shares = ", ".join(f"{name} {share}" for name, share in phases.items())
        raise ConfigError([Problem("pretrain.schedule", f"{shares} are more than all the steps.")])
    if parsed.get("end_rate_ratio", 0) > parsed.get("constant_rate_ratio", 1):
        raise ConfigError([Problem("pretrain.end_rate_ratio", "is above constant_rate_ratio.")])
    return parsed


def factor(schedule: str, progress: float, **own: Any) -> float:
    """Return a schedule's share of the full rate, in [0, 1].

    Args:
        schedule: one of `SCHEDULES`.
        progress: the share of the steps done, in [0, 1).
        own: the parameters of the schedule, as `parameters` returns them.
    """
    return SCHEDULES[schedule](progress, **own)


def steady_from(**own: Any) -> float:
    """Return the progress from which a schedule of `STEADY` has its constant rate."""
    return float(own["warmup_ratio"] + own.get("cooldown_ratio", 0.0))


def steps_before_decay(steps: int, **own: Any) -> int | None:
    """Return how many steps are done when the last decay begins, one at least; None without one."""
    if "decay_ratio" not in own:
        return None
    # A step at the very beginning of the decay is of it, whatever rounding says.
    return max(1, math.ceil((1 - float(own["decay_ratio"])) * steps - 0.5 - 1e-9))


def weight_decay_at(progress: float, weight_decay: float, end: float | None) -> float:
    """Return the weight decay: half a cosine from the first to the last, or always the first.

    Args:
        progress: the share of the steps done, in [0, 1).
        weight_decay: the first.
        end: the last; None where it stays.
    Reference: Caron et al. 2021, arXiv:2104.14294, section 3.2.
    """
    return weight_decay if end is None else half_cosine(weight_decay, end, progress)


def _schedules_with(parameter: str) -> str:
    return " and ".join(repr(n) for n, s in SCHEDULES.items() if parameter in names_of(s))
