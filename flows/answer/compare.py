"""Compare: is the curated set better than a random one of equal size? Paired over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from contracts.errors import nearest
from contracts.uid import uniform
from flows.answer import evaluate
from flows.answer.evaluate import EvaluateSection, Evaluation, evaluated
from flows.answer.pretrain import Arm, Training, export_arm
from flows.measure.runtime import Runtime
from flows.recipe.sections import CompareSection, PretrainSection, Problems, Recipe
from storage.store import Object

STREAM = "compare.random"


def check(recipe: Recipe, sections: tuple[EvaluateSection, ...]) -> None:
    """Check [compare] before anything is trained.

    Raises:
        ConfigError: its metric is none that the protocols declare, or an arm is named twice.
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
    for arm in comparison.arms:
        if comparison.arms.count(arm) > 1:
            problems.add("compare.arms", f"{arm} is named twice: its seeds would count twice.")
    problems.raise_any()


def compare(
    runtime: Runtime,
    kept: pl.DataFrame,
    section: PretrainSection,
    comparison: CompareSection,
    sections: tuple[EvaluateSection, ...],
    records: Object,
    recipe: Arm,
) -> dict[str, Any]:
    """Train and evaluate every arm over the seeds.

    `recipe` has the kept records, as they were exported; `random` as many draws of the pool minus
    the hold-out, none repeated while records last, drawn anew for each seed; `all` the pool minus
    the hold-out; `untrained` the initial weights. Within a seed all arms share initial weights and
    order.

    Returns:
        answer, objective, steps, seeds, arms, metrics: values by arm and seed, the paired
        differences with their t intervals over seeds, and intervals within the first seed's run,
        which are bootstraps over items; unencoded: where an encoder gave records no vector.
    """
    steps = comparison.steps or section.steps
    seeds = [section.seed + i for i in range(comparison.seeds)]
    arms: dict[str, list[Arm]] = {}
    for name in comparison.arms:
        arms[name] = []
        for seed in seeds:
            arms[name].append(_arm(runtime, name, kept, seed, arms[name], recipe))
    tasks = [
        Evaluation(
            Training(
                runtime.store.root, runtime.pool.name, arms[name][i], section,
                0 if name == "untrained" else steps, seed,
                runtime.plan.recipe.recipe_dir, runtime.device,
            ),
            sections,
            records,
            runtime.pool.parts,
        )
        for i, seed in enumerate(seeds)
        for name in comparison.arms
    ]  # fmt: skip
    results = runtime.workers.map(evaluated, iter(tasks))
    by_arm: dict[str, list[dict[str, Any]]] = {name: [] for name in comparison.arms}
    with runtime.bar("training and evaluating", len(tasks)) as advance:
        for task, measured in zip(tasks, results, strict=True):
            by_arm[task.training.arm.name].append(measured)
            advance(1)
    metrics = _metrics({arm: [run["metrics"] for run in runs] for arm, runs in by_arm.items()})
    return {
        "answer": _answer(metrics, comparison.metric, arms, steps, seeds),
        "objective": section.objective,
        "steps": steps,
        "seeds": seeds,
        "arms": {
            name: {"records": of[0].records, "draws": of[0].draws} for name, of in arms.items()
        },
        "metrics": metrics,
        "unencoded": {
            arm: [run["unencoded"] for run in runs]
            for arm, runs in by_arm.items()
            if any(run["unencoded"] for run in runs)
        },
    }


def random_arm(everyone: pl.Series, draws: int, seed: int) -> pl.DataFrame:
    """Return as many draws of all records, none repeated while records last."""
    uids = everyone.to_numpy()
    order = np.lexsort((uids, uniform(uids, seed, STREAM)))
    rounds, rest = divmod(draws, len(uids))
    repeats = np.full(len(uids), rounds, dtype=np.uint16)
    repeats[order[:rest]] += 1
    frame = pl.DataFrame({"uid": everyone, "repeats": pl.Series(repeats, dtype=pl.UInt16)})
    return frame.filter(pl.col("repeats") > 0)


def arm_records(runtime: Runtime, kept: pl.DataFrame, name: str, seed: int) -> pl.DataFrame:
    """Return uid and repeats of the arm `random` or `all`."""
    everyone = runtime.frame([], runtime.visible)["uid"]
    if name == "random":
        return random_arm(everyone, int(kept["repeats"].sum()), seed)
    once = pl.lit(1, dtype=pl.UInt16)
    return pl.DataFrame({"uid": everyone}).with_columns(repeats=once)


def _arm(
    runtime: Runtime, name: str, kept: pl.DataFrame, seed: int, before: list[Arm], recipe: Arm
) -> Arm:
    """Return an arm's shards; only the random arm is another for each seed."""
    if name == "untrained":
        return Arm(name, None, 0, 0, "untrained")
    if name == "recipe":
        return recipe
    if before and name != "random":
        return before[0]
    return export_arm(
        runtime, name, arm_records(runtime, kept, name, seed), runtime.plan.recipe.export
    )


def _metrics(by_arm: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    from evaluation.interval import paired, verdict

    first = next(iter(by_arm.values()))
    found: dict[str, Any] = {}
    for name in first[0]:
        higher = first[0][name]["higher_is_better"]
        values = {arm: [run[name]["value"] for run in runs] for arm, runs in by_arm.items()}
        differences = {}
        # What is no score, such as a setting that was chosen, has no better and no worse.
        if higher is not None and "random" in values and len(values["random"]) > 1:
            for arm in values:
                if arm != "random":
                    difference = paired(values[arm], values["random"], higher_is_better=higher)
                    shown = {**difference.to_dict(), "verdict": verdict(difference)}
                    differences[f"{arm} - random"] = shown
        found[name] = {
            "higher_is_better": higher,
            "values": values,
            "differences": differences,
            "within": {arm: runs[0][name] for arm, runs in by_arm.items()},
        }
    return found


def _answer(
    metrics: dict[str, Any],
    chosen: str | None,
    arms: dict[str, list[Arm]],
    steps: int,
    seeds: list[int],
) -> dict[str, Any] | None:
    """Say what one metric shows against the random subset: the chosen one, or the first."""
    name = chosen or next(iter(metrics))
    metric = metrics[name]
    difference = metric["differences"].get("recipe - random")
    if difference is None:
        return None
    recipe, random = (float(np.mean(metric["values"][arm])) for arm in ("recipe", "random"))
    verdict = {
        "better": "The curated set is better than a random one of equal size",
        "worse": "The curated set is worse than a random one of equal size",
    }.get(difference["verdict"], "No measurable difference to a random set of equal size")
    text = (
        f"{verdict}: {name} {recipe:.3f} against {random:.3f}, difference "
        f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}] "
        f"(95 % t interval over {len(seeds)} seeds, {steps:,} steps each, "
        f"{arms['recipe'][0].draws:,} draws). "
        + (
            "The metric is that of [compare]."
            if chosen
            else "The metric is the first of the first [[evaluate]], as [compare] names none."
        )
    )
    return {"text": text, "verdict": difference["verdict"], "metric": name}
