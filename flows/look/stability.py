"""How much of what a run keeps would change: by another seed, or by a hundredth of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from contracts.uid import uniform
from flows.select.verdict import Verdict, judge

if TYPE_CHECKING:
    from flows.look.views import RunView

SHARE = 0.01


@dataclass(frozen=True)
class Churn:
    """What one change does to the kept.

    Attributes:
        change: what is other.
        kept: records that the run keeps and that are there after the change.
        lost: of these, those that are no longer kept.
        ratio: lost by kept.
    """

    change: str
    kept: int
    lost: int
    ratio: float


def stability(run: RunView) -> list[Churn]:
    """Select anew from a run's notes, by the next seeds and from all records but a drawn hundredth.

    The notes stay as they are: what fits and clusters would change is not in it.
    """
    rules = run.recipe["select"]
    found = []
    if any("seed" in rule for rule in rules):
        other = [{**rule, "seed": rule["seed"] + 1} if "seed" in rule else rule for rule in rules]
        found.append(_churn("another seed", run, judge(run.runtime_of(run.planned(other)))))
    fewer = run.runtime_of(run.planned(rules))
    drawn = uniform(run.verdict["uid"].to_numpy(), 0, "stability") >= SHARE
    fewer.live = fewer.by_part(drawn)
    found.append(_churn(f"{SHARE:.0%} of the records less", run, judge(fewer)))
    return found


def text(found: Sequence[Churn]) -> str:
    """Return one line of it."""
    said = [f"{of.change} {of.ratio:.1%} of {of.kept:,}" for of in found]
    return "stability: of the kept records others are chosen with " + ", with ".join(said) + "."


def _churn(change: str, run: RunView, after: Verdict) -> Churn:
    there = run.verdict.join(after.rows.select("uid", after="dropped_by"), on="uid")
    kept = there.filter(pl.col("dropped_by").is_null())
    lost = kept["after"].len() - kept["after"].null_count()
    return Churn(change, kept.height, lost, lost / max(kept.height, 1))
