"""The report of a run: one HTML page that stands alone, the answer first."""

from __future__ import annotations

import importlib.metadata
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

from flows.look.composition import compositions, named
from flows.look.distributions import TINY, criteria, distribution
from flows.look.drawing import Axis, around
from flows.look.examples import EXAMPLES, clipped, clusters, examples, types_of
from flows.look.thresholds import signals, tables_of
from flows.look.training import curves
from flows.look.views import RunView
from flows.recipe.sections import SECTIONS
from flows.recipe.toml import dumps
from storage import commit, seals

LIMIT_BYTES = 20_000_000
PLACES = 5
RECIPE_CHARACTERS = 200_000
HISTOGRAMS = 60
TABLES = 20
ARMS = ("recipe", "random", "stratified", "all", "untrained")
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
_RIGHT_TO_LEFT = (
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+"
)
_RUNS = re.compile(rf"({_RIGHT_TO_LEFT}(?:\s+{_RIGHT_TO_LEFT})*)")
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

    Cost: of every record the columns that rules name, one at a time, for their histograms a part
    at a time; of the examples the text and the payload.
    """
    types = types_of(run)
    evaluation = run.result.get("evaluation")
    comparisons = _comparisons(evaluation)
    looked_at = criteria(run, types)
    numbers = signals(run)
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
        "curves": curves(run.training),
        "distributions": [distribution(run, c) for c in looked_at[:HISTOGRAMS]],
        "undrawn": len(looked_at[HISTOGRAMS:]),
        "thresholds": tables_of(run, dict(list(numbers.items())[:TABLES])),
        "uncut": len(numbers) - TABLES,
        "compositions": compositions(run, types, seed),
        "concepts": named(run, types),
        "random_seed": seed,
        "examples": examples(run, types),
        "clusters": clusters(run),
        "duplicates": run.result.get("duplicates") or {},
        "guard": run.result.get("guard") or {},
        "certificate": run.result.get("certificate") or {},
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
        "runs": _RUNS.split,  # Every other one is of right-to-left letters.
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
        claim: what the comparison claims, "set" or "rule".
        values: for each arm one value a training.
        within: for each arm the first training's value with its bootstrap interval over items.
        differences: for each arm its difference to the random sets.
    """

    name: str
    claim: str
    higher_is_better: bool | None
    values: Mapping[str, Sequence[float]]
    within: Mapping[str, Mapping[str, Any]]
    differences: Mapping[str, Mapping[str, Any]]

    @property
    def drawn_arms(self) -> list[str]:
        """The arms whose values are worth an axis: the untrained control would squeeze them."""
        return [arm for arm in ("recipe", "random", "stratified", "all") if arm in self.values]

    @property
    def value_axis(self) -> Axis:
        """Of the values of the drawn arms; of one seed with the bootstrap intervals."""
        drawn = [value for arm in self.drawn_arms for value in self.values[arm]]
        if len(drawn) == len(self.drawn_arms):
            drawn += [self.within[arm][end] for arm in self.drawn_arms for end in ("low", "high")]
        return around(drawn)

    @property
    def dots(self) -> list[float]:
        """Each random set's distance from their mean; of parts each part's difference."""
        random = self.values["random"]
        if self.claim == "set":
            return [value - float(np.mean(random)) for value in random]
        both = zip(self.values["recipe"], random, strict=True)
        return [mine - other for mine, other in both]

    @property
    def difference_axis(self) -> Axis:
        """Of recipe - random: zero, the interval and every dot."""
        found = self.differences["recipe"]
        return around([0.0, found["low"], found["high"], *self.dots])

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
    # A run of before there were claims has differences of another kind: its text stands alone.
    if evaluation is None or "claim" not in evaluation:
        return []
    first = (evaluation["answer"] or {}).get("metric")
    names = sorted(evaluation["metrics"], key=lambda name: (name != first, name))
    claim = evaluation["claim"]
    return [_comparison(name, claim, evaluation["metrics"][name]) for name in names]


def _comparison(name: str, claim: str, metric: Mapping[str, Any]) -> Comparison:
    differences = {k.removesuffix(" - random"): v for k, v in metric["differences"].items()}
    return Comparison(
        name,
        claim,
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
