"""Compare: does the curated set lie outside of what random sets of equal size reach?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from contracts.errors import ConfigError, DataError, nearest
from contracts.report import Metric
from flows.answer import arms, evaluate, grid, overlap
from flows.answer.asked import ask
from flows.answer.evaluate import Evaluated, EvaluateSection, Evaluation, HoldOut
from flows.answer.grid import Cell
from flows.answer.pretrain import Training
from flows.answer.sets import OTHER, Set, other_plan
from flows.measure.runtime import Runtime
from flows.recipe.sections import CompareSection, PretrainSection, Problems, Recipe
from storage.runs import load_run
from storage.store import Store

ARMS = ("recipe", "random", "stratified", "all", "untrained")
OF_PARTS = ("recipe", "random", "all", "untrained")
CANNOT_TELL = "this protocol cannot tell"
SAVED = ("value", "low", "high")
LEARNED = 2.0
"""Sd between random sets by which they must lie above the untrained encoder."""

Values = Mapping[str, Sequence[Metric]]
ByCell = Mapping[Cell, Mapping[str, list[Evaluated]]]
"""Of each cell of the grid the arms' trainings."""


def check(
    recipe: Recipe,
    sections: tuple[EvaluateSection, ...],
    store: Store,
    given: Mapping[str, Any],
) -> None:
    """Check [compare] before anything is trained.

    Raises:
        ConfigError: with every problem of its metric and its arms.
    """
    comparison = recipe.compare
    if comparison is None:
        return
    problems = Problems()
    known = evaluate.metrics(recipe, sections)
    metric = comparison.metric
    if metric is not None and known.get(metric) is None:
        is_no = "is no score, but a setting" if metric in known else "no [[evaluate]] measures it"
        scores = [name for name, way in known.items() if way is not None]
        problems.add("compare.metric", f"{metric}: {is_no}.{nearest(metric, scores)}")
    for arm in dict.fromkeys(comparison.arms):
        if comparison.arms.count(arm) > 1:
            problems.add("compare.arms", f"{arm} is named twice: its trainings would count twice.")
        if comparison.claim == "rule" and arm not in OF_PARTS:
            problems.add("compare.arms", f'{arm}: claim = "rule" has {", ".join(OF_PARTS)}.')
        elif arm.startswith(OTHER):
            with problems.at("compare.arms"):
                try:
                    other_plan(recipe, arm, store, given)
                except ConfigError as error:
                    raise ConfigError(f"{arm}: {error}") from None
        elif arm not in ARMS:
            problems.add("compare.arms", f"{arm}: is no arm.{nearest(arm, [*ARMS, OTHER])}")
    if ("stratified" in comparison.arms) != (comparison.stratify_by is not None):
        problems.add("compare.stratify_by", 'goes with the arm "stratified".')
    if comparison.grid == "full":
        _check_grid(recipe, comparison, problems)
    problems.raise_any()


def _check_grid(recipe: Recipe, comparison: CompareSection, problems: Problems) -> None:
    section = recipe.pretrain
    if "random" not in comparison.arms:
        problems.add("compare.grid", 'of "full" the random sets choose the rate: name that arm.')
    if section is not None and (comparison.steps or section.steps) < 2:
        problems.add("compare.grid", '"full" needs two steps or more, the last of which decay.')
    if section is not None and section.warmup_ratio > grid.TRUNK_RATIO:
        problems.add(
            "pretrain.warmup_ratio",
            f'is above {grid.TRUNK_RATIO}, where with [compare] grid = "full" the decay begins.',
        )


def compare(
    runtime: Runtime,
    sets: Mapping[str, Sequence[Set]],
    made: Mapping[str, Sequence[arms.Arm]],
    section: PretrainSection,
    comparison: CompareSection,
    sections: tuple[EvaluateSection, ...],
    holdout: HoldOut,
    on_line: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Train and evaluate every arm, and say what the metric of the answer shows.

    Args:
        runtime: of the run.
        sets: for each arm its sets, with the seeds of their trainings.
        made: the same as a trainer reads them.
        section: [pretrain].
        comparison: [compare].
        sections: what is evaluated.
        holdout: on which records.
        on_line: told what a grid takes, and what differences can be found, before they are.

    Returns:
        answer, claim, objective, seeds of the recipe's trainings; grid, and lr, budget and steps
        of its cell that answers; arms: records and draws of the first set of each, and how many
        trainings it has; metrics: of that cell the values by arm and training, the differences to
        the random sets with their intervals, and intervals within the first training, which are
        bootstraps over items; unencoded: where an encoder gave records no vector; shared: of each
        other pool that is evaluated on what the arms have of it (`flows.answer.overlap`);
        passed_over, sealed: of the hold-out.
    """
    steps = comparison.steps or section.steps
    recipe = runtime.plan.recipe
    rates = grid.rows(section, steps, comparison.grid)
    ways = evaluate.metrics(recipe, sections)
    wanted = comparison.metric or next(iter(ways))

    def task(arm: str, number: int, seed: int, cell: Cell) -> Evaluation:
        plain = Training(
            runtime.store.root, runtime.pool.name, made[arm][number], section,
            0 if arm == "untrained" else steps, seed, recipe.recipe_dir, runtime.device,
        )  # fmt: skip
        training = grid.training(plain, cell, comparison.grid)
        return Evaluation(training, sections, holdout.records, holdout.parts)

    # The random sets come first: two of them tell what can be found.
    order = sorted(sets, key=lambda arm: arm != "random")
    # The initial weights are the same in every cell.
    every_cell = tuple(cell for cells in rates for cell in cells)
    work = [
        (arm, cells, [task(arm, i, seed, cell) for cell in cells])
        for arm in order
        for i, (_, seed) in enumerate(sets[arm])
        for cells in (rates if arm != "untrained" else (every_cell,))
    ]
    foreseen = "random" not in sets or _foresee(runtime, wanted, comparison, steps, on_line)
    grid.foretell(runtime.store, [of for _, _, of in work], runtime.workers, on_line)
    by_cell: ByCell = {cell: {arm: [] for arm in sets} for cell in every_cell}
    results = runtime.workers.map(grid.evaluated_in_turn, (of for _, _, of in work))
    with runtime.bar("training and evaluating", sum(len(of) for _, _, of in work)) as advance:
        for (arm, cells, of), measured in zip(work, results, strict=True):
            for cell, one in zip(cells, measured, strict=True):
                by_cell[cell][arm].append(one)
            advance(len(of))
            if not foreseen and all(len(by_cell[cell]["random"]) == 2 for cell in every_cell):
                two = by_cell[_decides(by_cell, wanted, ways)]["random"]
                _foresee_by(two, wanted, comparison, on_line)
                foreseen = True
    decides = _decides(by_cell, wanted, ways)
    by_arm = by_cell[decides]
    metrics = found({arm: [run.metrics for run in of] for arm, of in by_arm.items()}, comparison)
    # With claim = "rule" the recipe has a set in each part.
    of_recipe = {arm.content: arm.draws for arm in made.get("recipe", ())}
    answer = answered(
        metrics, comparison, sum(of_recipe.values()), decides.steps,
        cells_of(by_cell, decides, metrics, comparison),
        saved_of(by_cell, decides, metrics, comparison),
    )  # fmt: skip
    shared = overlap.counted(runtime, holdout.others, sets)
    for line in overlap.lines(shared):
        on_line(line)
    if answer is not None and shared:
        answer["shared"] = shared
        answer["text"] += "".join(f" {line}." for line in overlap.lines(shared))
    if answer is not None:
        question = {
            "kept": " ".join(of_recipe), "metric": answer["metric"],
            "recipe": runtime.plan.recipe.name, "verdict": answer["verdict"],
        }  # fmt: skip
        asked = ask(runtime.store, holdout.digest, question)
        answer["asked"] = len(asked)
        answer["text"] += _asked_text(asked, sealed=holdout.sealed)
    return {
        "answer": answer,
        "claim": comparison.claim,
        "objective": section.objective,
        "grid": comparison.grid,
        "lr": decides.lr,
        "budget": decides.budget,
        "steps": decides.steps,
        "seeds": [seed for _, seed in sets.get("recipe", next(iter(sets.values())))],
        "arms": {
            name: {"records": of[0].records, "draws": of[0].draws, "trainings": len(of)}
            | ({"passed_over": of[0].passed_over[1]} if of[0].passed_over[1] else {})
            for name, of in made.items()
        },
        "metrics": metrics,
        "unencoded": {
            arm: [run.unencoded for run in runs]
            for arm, runs in by_arm.items()
            if any(run.unencoded for run in runs)
        },
        "passed_over": _passed_over(holdout, [run for runs in by_arm.values() for run in runs]),
        **({"shared": shared} if shared else {}),
        "sealed": holdout.sealed,
    }


def _passed_over(holdout: HoldOut, runs: Sequence[Evaluated]) -> dict[str, dict[str, int]]:
    """Return what each section passed over, with the texts that a model's vocabulary cannot count.

    All arms have the same vocabulary, so the same texts.
    """
    passed_over = {name: dict(counts) for name, counts in holdout.passed_over.items()}
    for run in runs:
        for name, lacking in run.unknown.items():
            passed_over.setdefault(name, {})[evaluate.UNKNOWN] = lacking
    return passed_over


# ------------------------------------------------------------------ what is found


def found(by_arm: Mapping[str, Sequence[Mapping[str, Metric]]], comparison: CompareSection) -> Any:
    """Return for each metric what the arms' trainings show of it."""
    from evaluation.interval import holm, verdict

    chosen = comparison.metric or next(iter(next(iter(by_arm.values()))[0]))
    metrics = {
        name: _of_metric({arm: [run[name] for run in of] for arm, of in by_arm.items()}, comparison)
        for name in next(iter(by_arm.values()))[0]
    }
    recipes = [arm for arm in by_arm if arm == "recipe" or arm.startswith(OTHER)]
    pairs = [_pair(arm) for arm in recipes]
    # The chosen metric is one question a recipe; all others are questions together.
    for family in ([chosen], [name for name in metrics if name != chosen]):
        asked = {
            (name, pair): metrics[name]["differences"][pair]
            for name in family
            for pair in pairs
            if pair in metrics[name]["differences"]
        }
        corrected = holm({key: difference.p for key, difference in asked.items()})
        for (name, pair), difference in asked.items():
            metrics[name]["differences"][pair] = replace(
                difference, p_corrected=corrected[name, pair]
            )
    for metric in metrics.values():
        metric["differences"] = {
            pair: asdict(difference)
            | {"verdict": verdict(difference, metric["worth"]) if _learned(metric) else CANNOT_TELL}
            for pair, difference in metric["differences"].items()
        }
    return metrics


def _learned(metric: Mapping[str, Any]) -> bool:
    """Whether random sets lie above the untrained encoder, as far as that was asked."""
    return metric["learned"] is None or bool(metric["learned"] >= LEARNED)


def _pair(arm: str) -> str:
    return f"{arm} - random"


def _of_metric(
    by_arm: Values, comparison: CompareSection, level: float | None = None
) -> dict[str, Any]:
    from evaluation import interval

    first = next(iter(by_arm.values()))[0]
    values = {arm: [run.value for run in runs] for arm, runs in by_arm.items()}
    metric: dict[str, Any] = {
        "higher_is_better": first.higher_is_better,
        "values": values,
        "worth": None,
        "learned": None,
        "differences": {},
        "within": {arm: runs[0].to_dict() for arm, runs in by_arm.items()},
    }
    # What is no score, such as a setting that was chosen, has no better and no worse.
    if first.higher_is_better is None or len(values.get("random", ())) < 2:
        return metric
    higher = first.higher_is_better
    metric["worth"] = _worth(values, comparison)
    if "untrained" in values:
        metric["learned"] = interval.learned(
            values["random"], values["untrained"], higher_is_better=higher
        )
    way = interval.prediction if comparison.claim == "set" else interval.paired
    for arm, runs in by_arm.items():
        if arm != "random":
            over_items = _over_items(runs, by_arm["random"])
            metric["differences"][_pair(arm)] = way(
                values[arm], values["random"], over_items, higher_is_better=higher,
                level=level or interval.LEVEL,
            )  # fmt: skip
    return metric


def _over_items(arm: Sequence[Metric], random: Sequence[Metric]) -> float | None:
    from evaluation.interval import over_items

    of_arm = [run.items for run in arm if run.items is not None]
    of_random = [run.items for run in random if run.items is not None]
    if len(of_arm) < len(arm) or len(of_random) < len(random):
        return None
    return over_items(np.stack(of_arm), np.stack(of_random), arm[0].statistic)


def _worth(values: Mapping[str, Sequence[float]], comparison: CompareSection) -> float:
    """Return the smallest difference that matters: 0.01 where all values are shares, else 1 %."""
    if comparison.worth is not None:
        return comparison.worth
    if all(0 <= value <= 1 for of in values.values() for value in of):
        return 0.01
    return 0.01 * abs(float(np.mean(values["random"])))


# ------------------------------------------------------------------ rates and budgets


def _decides(by_cell: ByCell, metric: str, ways: Mapping[str, bool | None]) -> Cell:
    """Return the cell of the largest budget at the rate that is best there for random sets.

    Raises:
        DataError: no cell was trained to its end.
    """
    trained = [cell for cell, by_arm in by_cell.items() if not _diverged(by_arm)]
    if not trained:
        runs = [run for of in by_cell.values() for arm in of.values() for run in arm]
        said = next(run.diverged for run in runs if run.diverged is not None)
        raise DataError(f"[compare] grid: at no rate and budget do all trainings end: {said}")
    if len(by_cell) == 1:
        return trained[0]
    way = -1 if ways[metric] is False else 1
    largest = max(cell.budget for cell in trained)
    return max(
        (cell for cell in trained if cell.budget == largest),
        key=lambda cell: (
            way * _mean([run.metrics[metric].value for run in by_cell[cell]["random"]])
        ),
    )


def _diverged(by_arm: Mapping[str, Sequence[Evaluated]]) -> bool:
    return any(run.diverged is not None for runs in by_arm.values() for run in runs)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def cells_of(
    by_cell: ByCell, decides: Cell, metrics: Mapping[str, Any], comparison: CompareSection
) -> list[dict[str, Any]]:
    """Return what each cell of a grid shows of the metric that answers; nothing of one cell alone.

    Returns:
        lr, budget, steps; state: "trained", "not trained enough" where random sets are not above
        the untrained encoder, "diverged"; recipe and random: their means; difference, low, high
        and verdict, by an interval that is corrected for the number of cells; decides: whether
        the answer is this cell's; contradicts: whether the verdict is better or worse, and the
        answer's another.
    """
    from evaluation.interval import LEVEL, verdict

    name = comparison.metric or next(iter(metrics))
    answer = metrics[name]["differences"].get(_pair("recipe"))
    if len(by_cell) == 1 or answer is None:
        return []
    cells: list[dict[str, Any]] = []
    for cell, by_arm in by_cell.items():
        said = {**asdict(cell), "state": "diverged", "decides": cell == decides}
        nothing = dict.fromkeys(("recipe", "random", "difference", "low", "high", "verdict"))
        cells.append({**said, **nothing, "contradicts": False})
        if _diverged(by_arm):
            continue
        of_arm = {arm: [run.metrics[name] for run in runs] for arm, runs in by_arm.items()}
        metric = _of_metric(of_arm, comparison, LEVEL / len(by_cell))
        difference = metric["differences"][_pair("recipe")]
        learned = _learned(metric)
        found = verdict(difference, metric["worth"]) if learned else CANNOT_TELL
        cells[-1] |= {
            "state": "trained" if learned else "not trained enough",
            **{arm: _mean(metric["values"][arm]) for arm in ("recipe", "random")},
            "difference": difference.value, "low": difference.low, "high": difference.high,
            "verdict": found,
            "contradicts": found in {"better", "worse"} - {answer["verdict"]} and cell != decides,
        }  # fmt: skip
    return cells


def saved_of(
    by_cell: ByCell, decides: Cell, metrics: Mapping[str, Any], comparison: CompareSection
) -> dict[str, float | str] | None:
    """Return how many times fewer steps the recipe needs for the score that random sets end with.

    None where the budgets are one, or the random sets end with what is not trained enough.
    """
    from evaluation.steps_saved import steps_saved

    name = comparison.metric or next(iter(metrics))
    curve = [
        cell for cell, by_arm in by_cell.items() if cell.lr == decides.lr and not _diverged(by_arm)
    ]
    if len(curve) < 2 or not _learned(metrics[name]) or not metrics[name]["differences"]:
        return None
    scores = {
        arm: np.array([[run.metrics[name].value for run in by_cell[c][arm]] for c in curve]).T
        for arm in ("recipe", "random")
        if arm in by_cell[decides]
    }
    if "recipe" not in scores or not all(np.isfinite(of).all() for of in scores.values()):
        return None
    return steps_saved(
        scores["recipe"], scores["random"], [cell.steps for cell in curve],
        claim=comparison.claim, higher_is_better=metrics[name]["higher_is_better"],
    ).to_dict()  # fmt: skip


# ------------------------------------------------------------------ what is said


def answered(
    metrics: Mapping[str, Any],
    comparison: CompareSection,
    draws: int,
    steps: int,
    cells: Sequence[Mapping[str, Any]] = (),
    saved: Mapping[str, float | str] | None = None,
) -> dict[str, Any] | None:
    """Say what one metric shows against random sets: the chosen one, or the first."""
    name = comparison.metric or next(iter(metrics))
    metric = metrics[name]
    difference = metric["differences"].get(_pair("recipe"))
    if difference is None:
        return None
    answer = {
        "verdict": difference["verdict"],
        "claim": comparison.claim,
        "metric": name,
        "difference": difference["value"],
        "low": difference["low"],
        "high": difference["high"],
        "worth": metric["worth"],
        "seeds": len(metric["values"]["recipe"]),
        "random_sets": len(metric["values"]["random"]),
        "cells": list(cells),
        "steps_saved": None if saved is None else dict(saved),
    }
    return {**answer, "text": _text(answer, metric, difference, comparison, draws, steps)}


def _text(
    answer: Mapping[str, Any],
    metric: Mapping[str, Any],
    difference: Mapping[str, Any],
    comparison: CompareSection,
    draws: int,
    steps: int,
) -> str:
    recipe, random = (float(np.mean(metric["values"][arm])) for arm in ("recipe", "random"))
    of_set = comparison.claim == "set"
    what = "The curated set is" if of_set else "Sets that the recipe cuts are"
    verdict = {
        "better": f"{what} better than random sets of equal size",
        "worse": f"{what} worse than random sets of equal size",
        "no measurable difference": "No measurable difference to random sets of equal size",
    }.get(answer["verdict"], "This protocol cannot tell the curated set from random ones")
    trainings = f"{answer['seeds']} training{'s' * (answer['seeds'] > 1)}"
    over = (
        f"95 % prediction interval, {trainings} against {answer['random_sets']} random sets"
        if of_set
        else f"95 % t interval over {answer['seeds']} disjoint parts, each cut by the recipe"
    )
    items = difference["over_items"]
    spread = f"sd {difference['sd']:.4f} between {'random sets' if of_set else 'parts'}" + (
        "" if items is None else f", {np.sqrt(items):.4f} over held-out items"
    )
    saved = answer["steps_saved"]
    at = "at this rate and budget"
    if answer["cells"]:
        cell = next(cell for cell in answer["cells"] if cell["decides"])
        at = f"at {_place(cell)}, the largest budget of the rate that is best for random sets"
    sentences = [
        f"{verdict}, {at}: {answer['metric']} {recipe:.3f} against "
        f"{random:.3f}, difference {difference['value']:+.3f} [{difference['low']:+.3f}, "
        f"{difference['high']:+.3f}] ({over}; {spread}; {steps:,} steps each, "
        f"{draws:,} draws{'' if of_set else ' in all parts'}).",
        *_undecided(answer, metric, difference, comparison),
        *_others(metric),
        *_elsewhere(answer["cells"]),
        *([] if saved is None else [f"Steps saved for random's final score: {saved_text(saved)}."]),
        "The metric is that of [compare]."
        if comparison.metric
        else "The metric is the first of the first [[evaluate]], as [compare] names none.",
    ]
    return " ".join(sentences)


def _others(metric: Mapping[str, Any]) -> list[str]:
    """Say the same of other recipes, whose verdicts are corrected for their number."""
    found = {arm: metric["differences"][_pair(arm)] for arm in metric["values"] if OTHER in arm}
    said = [
        f"{arm} {of['value']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}], {of['verdict']}"
        for arm, of in found.items()
    ]
    corrected = f"All {len(found) + 1} verdicts are corrected for their number (Holm)."
    return [f"{'; '.join(said)}. {corrected}"] if said else []


def _elsewhere(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which cells of a grid contradict the one that answers, and which say nothing."""
    if not cells:
        return []
    level = f"level 1 - 0.05 / {len(cells)}"
    against = [
        f"{_place(c)}: {c['verdict']}, {c['difference']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]"
        for c in cells
        if c["contradicts"]
    ]
    said = (
        f"Contradicted at {'; '.join(against)} ({level})."
        if against
        else f"No other of the {len(cells)} rates and budgets contradicts it ({level})."
    )
    for state in ("not trained enough", "diverged"):
        steps_of: dict[float, list[str]] = {}
        for cell in cells:
            if cell["state"] == state:
                steps_of.setdefault(cell["lr"], []).append(f"{cell['steps']:,}")
        places = [f"lr {lr:.2g} and {' or '.join(of)} steps" for lr, of in steps_of.items()]
        said += f" {state.capitalize()}: {'; '.join(places)}." if places else ""
    return [said]


def _place(cell: Mapping[str, Any]) -> str:
    return f"lr {cell['lr']:.2g} and {cell['steps']:,} steps"


def saved_text(saved: Mapping[str, float | str]) -> str:
    """Return steps saved and their interval as the answer has them, such as "1.41 [< 1, > 4]"."""
    value, low, high = (
        of if isinstance(of, str) else f"{of:.2f}" for of in (saved[k] for k in SAVED)
    )
    return f"{value} [{low}, {high}]"


def _undecided(
    answer: Mapping[str, Any],
    metric: Mapping[str, Any],
    difference: Mapping[str, Any],
    comparison: CompareSection,
) -> list[str]:
    """Say why a protocol cannot tell, and what would decide."""
    from evaluation.interval import Difference, deciding

    if answer["verdict"] != CANNOT_TELL:
        return []
    if not _learned(metric):
        return [
            f"Random sets lie {metric['learned']:+.1f} sd above the untrained encoder, less than "
            f"{LEARNED:.0f}: this training learns nothing that the metric measures. Train longer, "
            "or choose another protocol."
        ]
    shown = Difference(**{k: v for k, v in difference.items() if k != "verdict"})
    number = deciding(shown, comparison.claim, answer["worth"])
    key = "random_sets" if comparison.claim == "set" else "parts"
    if number is None:
        return [
            f"Were difference and sd the same, 100 {key} would not decide: random sets differ "
            f"from each other by as much. Differences of {answer['worth']:.3g} matter ([compare] "
            "worth)."
        ]
    return [f"Were difference and sd the same, {key} = {number} would decide."]


def _foresee(
    runtime: Runtime,
    metric: str,
    comparison: CompareSection,
    steps: int,
    on_line: Callable[[str], None],
) -> bool:
    """Say which difference can be found, from the last version's trainings of this section."""
    recipe = runtime.plan.recipe
    last = load_run(runtime.store, recipe.name)
    if last is None or last["recipe"].get("pretrain") != runtime.plan.resolved().get("pretrain"):
        return False
    before = last["result"].get("evaluation") or {}
    differences = before.get("metrics", {}).get(metric, {}).get("differences", {})
    known = differences.get(_pair("recipe"))
    if known is None or (before.get("claim"), before.get("grid", "one"), before["steps"]) != (
        comparison.claim, comparison.grid, steps * before.get("budget", 1),
    ):  # fmt: skip
        return False
    _say_foreseen(
        metric, comparison, known["sd"], known["over_items"], f"version {last['version']}", on_line
    )
    return True


def _foresee_by(
    random: Sequence[Evaluated],
    metric: str,
    comparison: CompareSection,
    on_line: Callable[[str], None],
) -> None:
    values = [run.metrics[metric].value for run in random]
    if comparison.claim == "set":
        sd = float(np.std(values, ddof=1))
        _say_foreseen(metric, comparison, sd, None, "the first two random sets", on_line)


def _say_foreseen(
    metric: str,
    comparison: CompareSection,
    sd: float,
    over_items: float | None,
    source: str,
    on_line: Callable[[str], None],
) -> None:
    from evaluation.interval import half_width

    n = comparison.random_sets if comparison.claim == "set" else comparison.parts
    if n > 1:
        half = half_width(comparison.claim, n, sd, over_items)
        on_line(
            f"{metric}: a difference beyond ±{half:.3g} can be told (sd {sd:.3g}, as of {source})"
        )


def _asked_text(asked: Sequence[Mapping[str, Any]], *, sealed: bool) -> str:
    what = "sealed part of the hold-out" if sealed else "hold-out"
    if len(asked) == 1:
        return f" It is the first question to this {what}."
    # A part that was sealed is worth naming who opened it.
    names = ", ".join(f"{one['recipe']} by {one['metric']}" for one in asked) if sealed else ""
    return (
        f" It is one of {len(asked)} different questions to this {what}"
        + (f" ({names})" if names else "")
        + "; each may find by chance what is not there."
    )
