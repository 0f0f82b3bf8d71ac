"""What the trainings of a recipe will take, by some steps that are tried before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import ConfigError, DataError
from flows.answer import evaluate, grid
from flows.answer.arms import UNTRAINED, Arm
from flows.answer.pretrain import Training, timed
from flows.options import Options
from flows.recipe.sections import CompareSection, PretrainSection, Recipe
from flows.workers import Workers
from storage import shards, tables
from storage.runs import load_run
from storage.store import Store

NO_EXPORT = "no tars to try steps on yet: `winnow run --until export` with the format webdataset"
NOTES = "it reads values of notes or of a fit, which tars do not hold"


def foresee(recipe: Recipe, store: Store, options: Options) -> dict[str, Any] | None:
    """Return how long the trainings take, and how much memory; None where there is none.

    Steps are tried on what was exported of the pool before. Trainings that will be found are
    counted too: which these are is known when the records are chosen.

    Returns:
        trainings, steps, step_s, seconds, evaluation apart, with so many workers;
        peak_memory_bytes of one worker; text. Or `unknown`, why nothing is known.
    """
    section = recipe.pretrain
    if section is None or not options.reaches("pretrain"):
        return None
    if section.bound() or section.orders() or section.fits():
        return {"unknown": NOTES}
    folder = _exported(recipe, store)
    if folder is None:
        return {"unknown": NO_EXPORT}
    try:
        return _tried(recipe, section, folder, options)
    except (ConfigError, DataError) as error:
        return {"unknown": str(error)}


def _tried(
    recipe: Recipe, section: PretrainSection, folder: Path, options: Options
) -> dict[str, Any]:
    comparison = recipe.compare or CompareSection(arms=("recipe",), seeds=1)
    steps = comparison.steps or section.steps
    with tempfile.TemporaryDirectory() as name:
        scratch = Store(Path(name))
        with closing(shards.ShardSamples(folder)) as samples:
            rows = pl.DataFrame({"uid": samples.uids, "repeats": samples.repeats}).sort("uid")
        item = tables.put(scratch, rows, pool=recipe.pool, table="arm", part="tried")
        arm = Arm("tried", (folder,), item, rows.height, int(rows["repeats"].sum()))
        plain = Training(
            scratch.root, recipe.pool, arm, section, steps, section.seed, recipe.recipe_dir,
            options.device,
        )  # fmt: skip
        trained = [
            [grid.training(plain, cell, comparison.grid) for cell in cells]
            for _ in range(_sets(recipe, comparison))
            for cells in grid.rows(section, steps, comparison.grid)
        ]
        with Workers(options.workers, options.dask) as workers:
            cost = next(workers.map(timed, [trained[-1][0]]))
    return {
        "trainings": sum(map(len, trained)),
        "steps": sum(sum(grid.steps_of(row)) for row in trained),
        "step_s": cost.step_s,
        "seconds": round(grid.seconds_of(trained, cost) / options.workers, 1),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "text": grid.said(trained, cost, options.workers)
        + f"; {cost.peak_memory_bytes / 1e6:,.0f} MB of memory a worker",
    }


def _sets(recipe: Recipe, comparison: CompareSection) -> int:
    """Return on how many sets and seeds each cell of the grid is trained."""
    if not evaluate.sections(recipe):
        return 1
    count: Callable[[str], int] = {
        "rule": lambda _arm: comparison.parts,
        "set": lambda arm: comparison.random_sets if arm == "random" else comparison.seeds,
    }[comparison.claim]
    of_arms = sum(count(arm) for arm in comparison.arms if arm != UNTRAINED)
    # With "set" the encoder that a run hands on is the recipe's first.
    apart = comparison.claim == "rule" or "recipe" not in comparison.arms
    return of_arms + apart


def _exported(recipe: Recipe, store: Store) -> Path | None:
    """Return a folder with tars of the pool: of the last run's kept records, else of its arms."""
    last = load_run(store, recipe.name)
    folders = sorted((store.root / "arms" / recipe.pool).glob("union-*"))
    if last is not None and last["result"].get("export"):
        folders.insert(0, Path(last["result"]["export"]))
    return next((f for f in folders if (f / shards.INDEX).is_file()), None)
