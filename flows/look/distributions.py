"""Histograms of the numbers that rules look at, over the records that reached each rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp

from contracts.uid import uniform
from flows.look.drawing import Axis
from flows.look.views import RunView
from flows.recipe.expressions import Expression

BINS = 40
SAMPLE = 20_000
STREAM = "distributions"
# Numbers whose differences are still numbers, and integers that a float tells from their halves.
HUGE, TINY, EXACT = 1e300, 1e-300, 2.0**50
# The roles of a selector that its threshold cuts.
CUT = ("cosine", "similarity", "distance")


@dataclass(frozen=True)
class Criterion:
    """A number that a rule looks at.

    Attributes:
        rule: its name.
        clause: the clause that names the column; None for a selector.
        column: the number.
        whole: whether it is a whole one.
        threshold: of a selector.
    """

    rule: str
    clause: str | None
    column: str
    whole: bool
    threshold: float | None


@dataclass(frozen=True)
class Bin:
    """A bar: the records with a value from `low` to `high`, by what became of them."""

    low: float
    high: float
    kept: int
    here: int
    elsewhere: int


@dataclass(frozen=True)
class Histogram:
    """The bars of a distribution.

    Attributes:
        marks: thresholds to be drawn.
        off_axis: thresholds that lie too far from every value to be drawn.
        below: records left of the axis.
        above: records right of it.
    """

    bins: tuple[Bin, ...]
    marks: tuple[float, ...]
    off_axis: tuple[float, ...]
    below: int
    above: int
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Distribution:
    """What a clause or a selector saw of a column: the records that no earlier rule dropped.

    Attributes:
        reached: how many these are.
        failed: those whose first failing clause it is; that the selector drops.
        unmeasured: those without a value.
        histogram: None where none has a value that can be drawn.
    """

    criterion: Criterion
    reached: int
    failed: int
    unmeasured: int
    histogram: Histogram | None


def criteria(run: RunView, types: Mapping[str, Any]) -> list[Criterion]:
    """Return the numbers that rules look at, in the rules' order.

    A clause of a `where` rule looks at each column that it names, a selector at those of its roles.
    """
    cuts: dict[tuple[str, str | None, str], float | None] = {}
    for rule, node in run.plan.rules:
        for clause in rule.where.clauses if rule.where is not None else ():
            cuts |= {(rule.name, clause, path): None for path in Expression(clause).paths}
        if node is not None:
            cuts |= {(rule.name, None, path): None for path in node.paths}
            threshold = node.step.bound.get("threshold")
            measured = [node.roles[role] for role in CUT if role in node.roles]
            cuts |= {(rule.name, None, e.text.strip()): threshold for e in measured if e.is_column}
    return [
        Criterion(rule, clause, path, types[path].is_integer(), threshold)
        for (rule, clause, path), threshold in cuts.items()
        # 64 unsigned bits are a uid or a hash: they have no distribution to look at.
        if types[path].is_numeric() and types[path] != pl.UInt64
    ]


def distribution(run: RunView, criterion: Criterion) -> Distribution:
    """Return what became of the records that reached a criterion's rule, by their values.

    Cost: two passes over the column and the verdict. Memory for one part and 20,000 values.
    """
    span = _Span()
    reached = failed = unmeasured = 0
    for rows in _reached(run, criterion):
        reached += rows.height
        failed += int(rows["here"].sum())
        unmeasured += int(rows["value"].is_nan().sum())
        span.add(rows)
    histogram = _histogram(run, criterion, span) if len(span.sample) else None
    return Distribution(criterion, reached, failed, unmeasured, histogram)


@dataclass
class _Span:
    """The least and the greatest of the values that can be drawn, and a sample of them.

    The sample is of the smallest draws, so it is the same however the values lie in parts.
    """

    low: float = math.inf
    high: float = -math.inf
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    sample: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def add(self, rows: pl.DataFrame) -> None:
        rows = rows.filter(pl.col("value").abs() < HUGE)
        values = rows["value"].to_numpy()
        self.low = min(self.low, values.min(initial=math.inf))
        self.high = max(self.high, values.max(initial=-math.inf))
        draws = np.append(self.draws, uniform(rows["uid"].to_numpy(), 0, STREAM))
        first = np.argsort(draws)[:SAMPLE]
        self.draws, self.sample = draws[first], np.append(self.sample, values)[first]


def _reached(run: RunView, criterion: Criterion) -> Iterator[pl.DataFrame]:
    """Yield of each part the records that reached the rule: uid, value, kept, here.

    A value is NaN where there is none; `here` says that the record is dropped here.
    """
    rules = [str(rule["name"]) for rule in run.ref["funnel"]]
    later = rules[rules.index(criterion.rule) :]
    rule, clause = pl.col("dropped_by"), pl.col("clause")
    here = (rule == criterion.rule) & clause.eq_missing(pl.lit(criterion.clause, pl.String))
    for part in range(len(run.ref["verdict"])):
        found = run.runtime.frame([criterion.column], part=part)[criterion.column]
        fates = run.verdict_of(part).select(
            "uid",
            value=found.cast(pl.Float64).fill_null(math.nan),
            kept=rule.is_null(),
            here=here.fill_null(False),
            reached=rule.is_null() | rule.is_in(later),
        )
        yield fates.filter("reached")


def _histogram(run: RunView, criterion: Criterion, span: _Span) -> Histogram:
    whole = criterion.whole and max(-span.low, span.high) < EXACT
    if criterion.clause is not None:
        marks = _thresholds(criterion.clause, criterion.column, whole)
    else:
        marks = [] if criterion.threshold is None else [criterion.threshold]
    ends = _edges(span, whole, marks)
    low, high = float(ends[0]), float(ends[-1])
    counts = np.zeros((3, len(ends) - 1), dtype=np.int64)
    below = above = 0
    kept, here = pl.col("kept"), pl.col("here")
    for rows in _reached(run, criterion):
        fates = [rows.filter(fate)["value"] for fate in (kept, here, ~kept & ~here)]
        counts += [np.histogram(values, ends)[0] for values in fates]
        below += int((rows["value"] < low).sum())
        above += int((rows["value"].fill_nan(None) > high).sum())
    # The bars take at least a third of the axis.
    drawn = [mark for mark in marks if low - (high - low) <= mark <= high + (high - low)]
    return Histogram(
        bins=tuple(
            Bin(float(a), float(b), *map(int, of_bin))
            for (a, b), of_bin in zip(itertools.pairwise(ends), counts.T, strict=True)
        ),
        marks=tuple(drawn),
        off_axis=tuple(mark for mark in marks if mark not in drawn),
        below=below,
        above=above,
        x=Axis(min([low, *drawn]), max([high, *drawn]), 52, 332, whole),
        y=Axis(0, float(counts.sum(axis=0).max()), 128, 12, whole=True),
    )


def _edges(span: _Span, whole: bool, marks: Sequence[float]) -> NDArray[np.float64]:
    """Return the ends of about 40 bins, one of them at a mark: no bar straddles it.

    A long tail is left out, some 0.5 % of the values at either end.
    """
    low, high = span.low, span.high
    inner = np.quantile(span.sample, (0.005, 0.995))
    if high - low > 3 * (inner[1] - inner[0]) > 0:
        low, high = inner.tolist()
    if whole:
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
        width = float(math.ceil((high - low) / BINS))
    else:
        width = (high - low) / BINS
    if width <= TINY:
        half = max(0.5, abs(low) / 10)
        low, high, width = low - half, high + half, 2 * half
    # A bar of whole numbers has its edges between them, and a mark at one of them in its middle.
    between = [mark for mark in marks if low < mark < high and not (whole and mark.is_integer())]
    fixed = between[0] if between else low
    before, after = (math.ceil(length / width - 1e-9) for length in (fixed - low, high - fixed))
    edges: NDArray[np.float64] = np.arange(-before, after + 1, dtype=np.float64) * width + fixed
    # Rounding may not push the least or the greatest value off the axis.
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges


_SIDES: Mapping[Any, int] = {exp.GTE: -1, exp.LT: -1, exp.GT: 1, exp.LTE: 1, exp.EQ: 0, exp.NEQ: 0}


def _thresholds(clause: str, column: str, whole: bool) -> list[float]:
    """Return where a clause, or an operand of its OR, compares its column with numbers.

    Among whole numbers the cut lies between the last that passes and the first that does not.
    """
    tree = sqlglot.parse_one(clause, dialect="postgres").unnest()
    compared = tree.flatten() if isinstance(tree, exp.Or) else [tree]
    return [mark for operand in compared for mark in _cuts(operand.unnest(), column, whole)]


def _cuts(tree: exp.Expr, column: str, whole: bool) -> list[float]:
    operands = list(tree.iter_expressions())
    numbers = [float(o.to_py()) for o in operands if o.is_number]
    columns = [o for o in operands if isinstance(o, exp.Column)]
    if len(columns) != 1 or len(columns) + len(numbers) != len(operands):
        return []
    if ".".join(part.name for part in columns[0].parts) != column:
        return []
    if isinstance(tree, exp.Between):
        sides = [-1, 1]
    elif type(tree) in _SIDES:
        sides = [_SIDES[type(tree)] * (-1 if operands[0].is_number else 1)]
    else:
        return []
    return [
        number + side / 2 if whole and number.is_integer() else number
        for number, side in zip(numbers, sides, strict=True)
    ]
