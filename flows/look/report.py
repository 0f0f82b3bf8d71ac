"""The report of a run: one HTML page that stands alone, the answer first."""

from __future__ import annotations

import importlib.metadata
import itertools
import math
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp

from flows.look.composition import compositions
from flows.look.drawing import Axis, around
from flows.look.examples import EXAMPLES, clipped, clusters, examples, types_of
from flows.look.views import RunView
from flows.pool_reader import HOLDOUT
from flows.recipe.expressions import Expression
from flows.recipe.sections import SECTIONS
from flows.recipe.toml import dumps
from storage import commit, seals

LIMIT_BYTES = 20_000_000
PLACES, BINS = 5, 40
RECIPE_CHARACTERS = 200_000
COLUMNS = 60
# Numbers whose differences are still numbers, and integers that a float tells from their halves.
HUGE, TINY, EXACT = 1e300, 1e-300, 2.0**50
ARMS = ("recipe", "random", "all", "untrained")
PACKAGES = (
    "winnow", "numpy", "polars", "pyarrow", "pillow", "opencv-python-headless", "scipy",
    "faiss-cpu", "torch", "torchvision", "open_clip_torch", "sqlglot",
)  # fmt: skip

# Drawn as nothing, or as an order that the text does not have: C0, C1, bidirectional controls,
# zero-width space, separators, byte order mark; and surrogates, which UTF-8 cannot hold.
_UNSEEN = (
    *range(0x80, 0xA0), 0x061C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F),
    *range(0x2066, 0x206A), 0xFEFF, *range(0xD800, 0xE000),
)  # fmt: skip
_MARKS = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
    | {0x7F: "\u2421"}
    | {code: f"⟨U+{code:04X}⟩" for code in _UNSEEN}
)
_CREDENTIALS = re.compile(r'(?<=://)[^/@\s"]+(?=@)')


def write(run: RunView, path: Path) -> None:
    """Write the report of a run as one file."""
    commit.write(path, seals.sealed(render(run).encode()))


def render(run: RunView) -> str:
    """Return the report as one HTML text of at most 20 MB, which opens without a network.

    It has no script. Every value of the data is escaped, and characters that would not show, or
    would reorder the line, are shown as marks. Pictures are encoded anew, never copied. Examples
    are drawn by uniform(uid, 0, "report"), so a run always has the same report; where 12 a rule
    would not fit, there are fewer.

    Cost: of every record the columns that rules name, one at a time; of the examples the text and
    the payload.
    """
    types = types_of(run)
    evaluation = run.result.get("evaluation")
    comparisons = _comparisons(evaluation)
    seed = evaluation["seeds"][0] if evaluation else 0
    facts = {
        "run": run,
        "records": run.result["records"],
        "kept": run.result["kept"],
        "draws": int(run.verdict["repeats"].sum()),
        "funnel": _funnel(run),
        "evaluation": evaluation,
        "comparisons": comparisons,
        "forest_axis": _forest_axis(comparisons),
        "distributions": _distributions(run, types),
        "compositions": compositions(run, types, seed),
        "random_seed": seed,
        "examples": examples(run, types),
        "clusters": clusters(run),
        "duplicates": run.result.get("duplicates") or {},
        "canaries": run.result.get("canaries") or {},
        "quarantine": _quarantine(run),
        "recipe": _recipe(run),
        "packages": _packages(),
        "most_wanted": EXAMPLES,
    }
    template = _template()
    for most in (EXAMPLES, 6, 3, 1, 0):
        page = template.render(facts, most=most)
        if len(page.encode()) <= LIMIT_BYTES:
            break
    return page


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "percent": "{:.1%}".format,
        "metric": _metric,
        "signed": lambda value: _metric(value, "+"),
        "tick": "{:,.10g}".format,
        "signed_tick": lambda value: f"{value:+,.10g}" if value else "0",
        "clip": clipped,
    }
    text = Path(__file__).with_name("report.html").read_text("utf-8")
    return environment.from_string(text)


def _visible(value: Any) -> Any:
    """Replace what a browser would hide or obey by a mark, in whatever the template prints."""
    return value.translate(_MARKS) if isinstance(value, str) else value


def _metric(value: float, sign: str = "") -> str:
    return format(value, f"{sign}z.3f" if abs(value) < 10 else f"{sign}z,.1f")


# ------------------------------------------------------------------ funnel


@dataclass(frozen=True)
class FunnelRow:
    """One line of the funnel.

    Attributes:
        left: records after the rule; None for a clause.
        before: shares of the pool at which the dropped segment of the bar begins, and its width.
    """

    rule: str
    clause: str | None
    reached: int | None
    dropped: int
    unmeasured: int
    left: int | None
    begins: float
    width: float


def _funnel(run: RunView) -> list[FunnelRow]:
    rows: list[FunnelRow] = []
    total = run.result["records"]
    begins = 0
    for row in run.funnel().iter_rows(named=True):
        reached, dropped = row["reached"], row["dropped"]
        left = None if reached is None else reached - dropped
        # A rule's bar is cut at what it left; its clauses share the piece cut off, in order.
        begins = begins if left is None else left
        rows.append(
            FunnelRow(
                row["rule"], row["clause"], reached, dropped, row["unmeasured"], left,
                begins / total, dropped / total,
            )
        )  # fmt: skip
        begins += dropped if left is None else 0
    return rows


# ------------------------------------------------------------------ evaluation


@dataclass(frozen=True)
class Comparison:
    """One metric over the arms.

    Attributes:
        values: for each arm one value a seed.
        within: for each arm the first seed's value with its bootstrap interval over items.
        differences: for each arm its paired difference to the random arm.
    """

    name: str
    higher_is_better: bool | None
    values: Mapping[str, Sequence[float]]
    within: Mapping[str, Mapping[str, Any]]
    differences: Mapping[str, Mapping[str, Any]]

    @property
    def drawn_arms(self) -> list[str]:
        """The arms whose values are worth an axis: the untrained control would squeeze them."""
        return [arm for arm in ("recipe", "random", "all") if arm in self.values]

    @property
    def value_axis(self) -> Axis:
        """Of the values of the drawn arms; of one seed with the bootstrap intervals."""
        drawn = [value for arm in self.drawn_arms for value in self.values[arm]]
        if len(drawn) == len(self.drawn_arms):
            drawn += [self.within[arm][end] for arm in self.drawn_arms for end in ("low", "high")]
        return around(drawn)

    @property
    def by_seed(self) -> list[float]:
        """Recipe - random, a difference a seed."""
        both = zip(self.values["recipe"], self.values["random"], strict=True)
        return [mine - random for mine, random in both]

    @property
    def difference_axis(self) -> Axis:
        """Of recipe - random: zero, the interval and every seed's difference."""
        found = self.differences["recipe"]
        return around([0.0, found["low"], found["high"], *self.by_seed])

    @property
    def relative(self) -> dict[str, float] | None:
        """Recipe - random in percent of random's mean, more being better, for the forest plot.

        None where there is no difference, or random's mean is zero.
        """
        difference = self.differences.get("recipe")
        if difference is None or self.higher_is_better is None:
            return None
        random = abs(float(np.mean(self.values["random"])))
        ends = {end: float(difference[end]) for end in ("low", "value", "high")}
        if random < TINY or not all(math.isfinite(end) for end in ends.values()):
            return None
        if not self.higher_is_better:
            ends = {"low": -ends["high"], "value": -ends["value"], "high": -ends["low"]}
        return {end: 100 * value / random for end, value in ends.items()}


def _comparisons(evaluation: Mapping[str, Any] | None) -> list[Comparison]:
    """Return the metrics, that of the answer first."""
    if evaluation is None:
        return []
    first = (evaluation["answer"] or {}).get("metric")
    names = sorted(evaluation["metrics"], key=lambda name: (name != first, name))
    return [_comparison(name, evaluation["metrics"][name]) for name in names]


def _comparison(name: str, metric: Mapping[str, Any]) -> Comparison:
    differences = {k.removesuffix(" - random"): v for k, v in metric["differences"].items()}
    return Comparison(
        name,
        metric["higher_is_better"],
        _in_order(metric["values"]),
        _in_order(metric["within"]),
        _in_order(differences),
    )


def _forest_axis(comparisons: Sequence[Comparison]) -> Axis | None:
    """Return the axis of all relative differences, zero included; None where there is none."""
    ends = [end for c in comparisons if c.relative for end in c.relative.values()]
    return around([0.0, *ends]) if ends else None


def _in_order(arms: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: i for i, name in enumerate(ARMS)}
    return dict(sorted(arms.items(), key=lambda item: (known.get(item[0], len(ARMS)), item[0])))


# ------------------------------------------------------------------ distributions


@dataclass(frozen=True)
class Bin:
    """A bar: the records with a value from `low` to `high`, by what became of them."""

    low: float
    high: float
    kept: int
    dropped: int
    elsewhere: int


@dataclass(frozen=True)
class Distribution:
    """A column that a rule names.

    Attributes:
        rules: the rules that name it, with the clauses that do.
        counts: for each of them the records that reached the rule, those that failed here first,
            and those of these that were unmeasured.
        marks: thresholds to be drawn.
        unmeasured: records without a value.
        below: records left of the axis.
        above: records right of it.
    """

    column: str
    rules: tuple[str, ...]
    counts: tuple[tuple[int, int, int], ...]
    bins: tuple[Bin, ...]
    marks: tuple[float, ...]
    unmeasured: int
    below: int
    above: int
    x: Axis
    y: Axis


def _distributions(run: RunView, types: Mapping[str, Any]) -> list[Distribution]:
    """Return the numeric columns that rules name, in the rules' order."""
    naming: dict[str, list[tuple[str, str | None]]] = {}
    limits: dict[str, list[float]] = {}
    for rule, node in run.plan.rules:
        for clause in rule.where.clauses if rule.where is not None else ():
            for path in Expression(clause).paths:
                naming.setdefault(path, []).append((rule.name, clause))
        if node is None:
            continue
        for path in node.paths:
            naming.setdefault(path, []).append((rule.name, None))
            if "threshold" in node.step.bound:
                limits.setdefault(path, []).append(float(node.step.bound["threshold"]))
    # 64 unsigned bits are a uid or a hash: they have no distribution to look at.
    numeric = [c for c in naming if types[c].is_numeric() and types[c] != pl.UInt64]
    found = (
        _distribution(run, c, naming[c], limits.get(c, ()), types[c].is_integer())
        for c in numeric[:COLUMNS]
    )
    return [distribution for distribution in found if distribution is not None]


def _distribution(
    run: RunView,
    column: str,
    naming: Sequence[tuple[str, str | None]],
    limits: Sequence[float],
    whole: bool,
) -> Distribution | None:
    """Return a column's distribution, None where no record has a value that can be drawn.

    Args:
        run: the run.
        column: its name.
        naming: the rules that name it, each with the clause that does, None for a selector.
        limits: the `threshold` of each selector that reads it.
        whole: whether it holds whole numbers.
    """
    rule, clause = pl.col("dropped_by"), pl.col("clause")
    here = pl.any_horizontal(
        (rule == name) & (True if text is None else clause == text) for name, text in naming
    )
    held_out = rule.eq_missing(pl.lit(HOLDOUT)) if "holdout" in run.recipe else pl.lit(False)
    fates = run.verdict.select(kept=rule.is_null(), here=here.fill_null(False), held=held_out)
    kept, dropped, held = (fates[name].to_numpy() for name in fates.columns)
    flat = run.runtime.frame([column])[column]
    values = flat.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    drawable = (np.abs(values) < HUGE) & ~held
    if not drawable.any():
        return None
    whole = whole and bool(np.abs(values[drawable]).max() < EXACT)
    marks = [
        mark for _, text in naming if text is not None for mark in _thresholds(text, column, whole)
    ]
    marks += limits
    edges = _edges(values[drawable], whole, marks)
    counts = [
        np.histogram(values[drawable & which], edges)[0]
        for which in (kept, dropped, ~kept & ~dropped)
    ]
    low, high = float(edges[0]), float(edges[-1])
    near = (high - low) / 4
    marks = [mark for mark in marks if low - near <= mark <= high + near]
    return Distribution(
        column,
        tuple(name if text is None else f"{name}: {text}" for name, text in naming),
        _counts(run, naming),
        tuple(
            Bin(float(a), float(b), *map(int, of_bin))
            for (a, b), *of_bin in zip(itertools.pairwise(edges), *counts, strict=True)
        ),
        tuple(dict.fromkeys(marks)),
        int((~held & np.isnan(values)).sum()),
        int((~held & (values < low)).sum()),
        int((~held & (values > high)).sum()),
        Axis(min([low, *marks]), max([high, *marks]), 52, 332, whole),
        Axis(0, float(np.sum(counts, axis=0).max()), 128, 12, whole=True),
    )  # fmt: skip


def _counts(
    run: RunView, naming: Sequence[tuple[str, str | None]]
) -> tuple[tuple[int, int, int], ...]:
    """Return for each rule and clause how many reached the rule, failed here, were unmeasured."""
    found: dict[tuple[str, str | None], tuple[int, int, int]] = {}
    reached = 0
    for row in run.funnel().iter_rows(named=True):
        # A clause's row follows its rule's; the only clause of a rule has none of its own.
        reached = reached if row["reached"] is None else row["reached"]
        found[row["rule"], row["clause"]] = (reached, row["dropped"], row["unmeasured"])
    return tuple(found.get((name, text)) or found[name, None] for name, text in naming)


def _edges(values: NDArray[np.float64], whole: bool, marks: Sequence[float]) -> NDArray[np.float64]:
    """Return the ends of about 40 bins, one of them at a mark: no bar straddles it.

    A long tail is left out, 0.5 % of the values at either end at most.
    """
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, (0.005, 0.995))
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
    fixed = next((mark for mark in marks if low < mark < high), low)
    before, after = (math.ceil(span / width - 1e-9) for span in (fixed - low, high - fixed))
    edges: NDArray[np.float64] = np.arange(-before, after + 1, dtype=np.float64) * width + fixed
    # Rounding may not push the least or the greatest value off the axis.
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges


_SIDES: Mapping[Any, int] = {exp.GTE: -1, exp.LT: -1, exp.GT: 1, exp.LTE: 1, exp.EQ: 0, exp.NEQ: 0}


def _thresholds(clause: str, column: str, whole: bool) -> list[float]:
    """Return where a clause cuts its column, where it compares the column with numbers.

    Among whole numbers the cut lies between the last that passes and the first that does not.
    """
    tree = sqlglot.parse_one(clause, dialect="postgres").unnest()
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


# ------------------------------------------------------------------ quarantine, recipe, versions


@dataclass(frozen=True)
class Reason:
    """One code of the quarantine: how many, and the first places."""

    code: str
    records: int
    places: tuple[Mapping[str, Any], ...]


def _quarantine(run: RunView) -> list[Reason]:
    """Return the reasons, the most frequent first."""
    reasons = [
        Reason(str(code), rows.height, tuple(rows.head(PLACES).iter_rows(named=True)))
        for (code,), rows in run.pool.quarantine().group_by("code", maintain_order=True)
    ]
    return sorted(reasons, key=lambda reason: (-reason.records, reason.code))


def _recipe(run: RunView) -> str:
    """Return the resolved recipe as TOML, in the order of its sections, without credentials."""
    recipe = run.recipe
    text = dumps({section: recipe[section] for section in SECTIONS if section in recipe})
    return clipped(_CREDENTIALS.sub("…", text), RECIPE_CHARACTERS)


def _packages() -> list[tuple[str, str]]:
    """Return the versions of what computes, in the process that writes the report."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append((name, importlib.metadata.version(name)))
    return found
