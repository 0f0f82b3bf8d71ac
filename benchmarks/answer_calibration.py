"""How often an answer errs, and what it finds: the comparison itself on sets that are known.

    python -m benchmarks.answer_calibration FOLDER [--steps 150] [--workers 2]

FOLDER is where `winnow demo` put its pool; trainings are kept there, so that a second run finds
them. Asked is, with the comparison's own sets, trainings, evaluations and verdicts:

- null recipes, whose only rule is `random_sample` at a kept share (the demo's is 0.31), each with a
  stream of its own, against random sets: how many get a verdict (at most 5 % should);
- the same by the design of before, one set against another random one at each seed, under a paired
  t interval;
- null recipes whose captions are shuffled at 3, 10 and 30 %: how many are found worse;
- two mutants that must be found: random sets that are all one set, and an arm that was trained on
  held-out records.

A rate's standard error is a jackknife over the null recipes' sets.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from contracts.report import Metric
from contracts.uid import uniform
from curation.select.random_sample import random_sample
from flows import run as runs
from flows.answer import arms, compare, evaluate, sets
from flows.answer.pretrain import Training
from flows.measure.runtime import Runtime
from flows.options import Options
from flows.recipe.sections import CompareSection, PretrainSection
from flows.workers import Workers
from storage.store import Store

RANDOM, SEEDS = 10, 3
BANKS = 2
"""Disjoint banks of random sets, each of which every null recipe is answered against."""
ONE_SET = 2
"""Random sets that are trained ten times, to stand for ten sets."""
SHUFFLED = (0.3, 0.1, 0.03)
"""Shares of shuffled captions."""


class Pool:
    """A project over the demo's pool: its sets, and what trainings on them score."""

    def __init__(self, folder: Path, steps: int, workers: Workers) -> None:
        self.folder, self.steps, self.workers = folder, steps, workers
        recipe = runs.read_recipe(folder / "calibration.toml")
        self.store = Store(folder / ".winnow")
        runs.run(recipe, self.store, Options(until="select"))
        self.runtime = _runtime(self.store, workers)
        self.recipe = self.runtime.plan.recipe
        assert recipe.pretrain is not None
        self.section: PretrainSection = recipe.pretrain
        self.everyone = self.runtime.frame([], self.runtime.visible)["uid"]

    def null(self, number: int, draws: int) -> pl.DataFrame:
        """The set of a null recipe: `random_sample` with a stream of its own."""
        kept = random_sample(
            pl.DataFrame({"uid": self.everyone}).sort("uid"), budget=draws, stream=f"null {number}"
        )
        return kept.select("uid", repeats=pl.lit(1, dtype=pl.UInt16))

    def score(
        self, wanted: Mapping[str, Sequence[sets.Set]], holdout: Any
    ) -> dict[str, list[dict[str, Metric]]]:
        """Train and evaluate sets on held-out records; what was done before is found."""
        with self.store.lease():
            frames = {name: [frame for frame, _ in of] for name, of in wanted.items()}
            made = arms.make(self.runtime, frames, None, self.everyone)
        tasks = [
            (name, self._task(arm, seed, holdout))
            for name, of in wanted.items()
            for arm, (_, seed) in zip(made[name], of, strict=True)
        ]
        found: dict[str, list[dict[str, Metric]]] = {name: [] for name in wanted}
        results = self.workers.map(evaluate.evaluated, (task for _, task in tasks))
        for done, ((name, _), result) in enumerate(zip(tasks, results, strict=True), 1):
            found[name].append(result.metrics)
            print(f"\r{done} of {len(tasks)} trainings", end="", flush=True)
        print()
        return found

    def _task(self, arm: arms.Arm, seed: int, holdout: Any) -> evaluate.Evaluation:
        training = Training(
            self.store.root, self.runtime.pool.name, arm, self.section, self.steps, seed,
            self.recipe.recipe_dir,
        )  # fmt: skip
        sections, records, parts = holdout
        return evaluate.Evaluation(training, sections, records, parts)

    def holdout(self) -> Any:
        """The held-out records of this pool, with what is asked of them."""
        sections = tuple(evaluate.sections(self.recipe))
        masks = self.runtime.holdout_masks
        assert masks is not None
        with self.store.lease():
            found = evaluate.records(self.runtime, masks, sections)
        return sections, found.records, self.runtime.pool.parts


def _runtime(store: Store, workers: Workers) -> Runtime:
    from flows.look.views import Winnow

    runtime = Winnow(store, {}).run("calibration").runtime
    return replace(runtime, workers=workers)


def _write_pool(folder: Path, demo: Path, shuffled: float) -> None:
    """Make a project over the demo's pictures, a share of the training captions shuffled."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "calibration.toml").is_file():
        return
    shutil.copytree(demo / "openmoji", folder / "openmoji")
    rows = [
        json.loads(line) for line in (demo / "openmoji/metadata.jsonl").read_text().splitlines()
    ]
    own = [row for row in rows if row["split"] == "train" and row["text"] is not None]
    draws = uniform(np.arange(len(own), dtype=np.uint64), 0, "calibration.shuffled")
    chosen = [row for row, draw in zip(own, draws, strict=True) if draw < shuffled]
    texts = [row["text"] for row in chosen]
    for row, text in zip(chosen, np.random.default_rng(0).permutation(texts), strict=True):
        row["text"] = str(text)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "openmoji/metadata.jsonl").write_text("".join(lines))
    recipe = (demo / "demo.toml").read_text()
    train = recipe[recipe.index("[pretrain]") : recipe.index("[compare]")]
    (folder / "calibration.toml").write_text(HEAD + train)


HEAD = """
name = "calibration"
pool = "openmoji"
[[source]]
path = "openmoji"
[holdout]
where = "meta.split = 'evaluated'"
by_group = "meta.concept"
near = "pixels"
[annotate.hash]
step = "content_hash"
payload = "image"
mode = "pixels"
[annotate.pixels]
step = "exact_clusters"
digest = "hash.digest"
"""


def _verdict(recipe: list[dict[str, Metric]], random: list[dict[str, Metric]], metric: str) -> str:
    """What the comparison says of trainings of a recipe and of random sets."""
    found = compare.found({"recipe": recipe, "random": random}, CompareSection(metric=metric))
    return str(found[metric]["differences"]["recipe - random"]["verdict"])


def _paired_verdict(
    recipe: list[dict[str, Metric]], random: list[dict[str, Metric]], metric: str
) -> bool:
    """Whether the design of before excludes zero: seed by seed, a paired t interval."""
    d = [a[metric].value - b[metric].value for a, b in zip(recipe, random, strict=False)]
    half = stats.t.ppf(0.975, len(d) - 1) * np.std(d, ddof=1) / np.sqrt(len(d))
    return bool(abs(np.mean(d)) > half)


def _rate(hits: Sequence[Sequence[bool]]) -> str:
    """A rate over null recipes, each with several answers, and its jackknife standard error."""
    of_each = np.array([np.mean(of) for of in hits])
    count = len(of_each)
    if count == 1:
        return f"{of_each.mean():.1%} ({len(hits[0])} answers, one set)"
    left_out = np.array([np.delete(of_each, i).mean() for i in range(count)])
    error = np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
    return f"{of_each.mean():.1%} ± {error:.1%} ({sum(map(len, hits))} answers, {count} sets)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of `winnow demo`")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--kept-ratio", type=float, default=0.31, help="of what is not held out")
    parser.add_argument("--nulls", type=int, default=25)
    parser.add_argument("--shuffled", type=int, default=10, help="null recipes of each share")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    demo: Path = options.folder.resolve()
    home = demo / f"calibration-{options.steps}"
    with Workers(options.workers) as workers:
        _write_pool(home / "0", demo, 0.0)
        clean = Pool(home / "0", options.steps, workers)
        sections = tuple(evaluate.sections(clean.recipe))
        metric = next(iter(evaluate.metrics(clean.recipe, sections)))
        draws = round(options.kept_ratio * len(clean.everyone))
        holdout = clean.holdout()
        seeds = range(SEEDS)
        wanted: dict[str, list[sets.Set]] = {
            f"bank {b}": [
                (sets.random_arm(clean.everyone, draws, s), s)
                for s in range(b * RANDOM, (b + 1) * RANDOM)
            ]
            for b in range(BANKS)
        }
        nulls = [clean.null(i, draws) for i in range(options.nulls)]
        wanted |= {
            f"null {i}": [(frame, 100 + i * SEEDS + s) for s in seeds]
            for i, frame in enumerate(nulls)
        }
        wanted |= {
            f"one set {i}": [
                (sets.random_arm(clean.everyone, draws, 900 + i), 900 + s) for s in range(RANDOM)
            ]
            for i in range(ONE_SET)
        }
        leak = _with_held_out(clean, nulls[0])
        wanted["leak"] = [(leak, 800 + s) for s in seeds]
        scores = clean.score(wanted, holdout)
        banks = [scores[f"bank {b}"] for b in range(BANKS)]
        shuffled: dict[float, list[list[dict[str, Metric]]]] = {}
        for share in SHUFFLED:
            _write_pool(home / f"{share}", demo, share)
            pool = Pool(home / f"{share}", options.steps, workers)
            these = {
                f"null {i}": [(pool.null(i, draws), 500 + i * SEEDS + s) for s in seeds]
                for i in range(options.shuffled)
            }
            # The held-out records are the clean pool's: the same, with their captions.
            found = pool.score(these, _held_out_of(clean, pool, holdout))
            shuffled[share] = [found[name] for name in these]
    _print(scores, banks, shuffled, metric, options.nulls, draws)


def _with_held_out(pool: Pool, null: pl.DataFrame) -> pl.DataFrame:
    """A null set in which held-out records stand for a part of its own."""
    masks = pool.runtime.holdout_masks
    assert masks is not None
    held_out = pool.runtime.frame([], masks)["uid"]
    kept = null.head(null.height - len(held_out))
    leaked = pl.DataFrame({"uid": held_out}).with_columns(repeats=pl.lit(1, dtype=pl.UInt16))
    return pl.concat([kept, leaked])


def _held_out_of(clean: Pool, pool: Pool, holdout: Any) -> Any:
    """The clean pool's held-out records as another store has them."""
    sections, _, _ = holdout
    mine = pool.holdout()
    uids = [pl.read_parquet(p.store.path(h[1]))["uid"] for p, h in ((clean, holdout), (pool, mine))]
    assert uids[0].equals(uids[1]), "the pools hold out other records"
    return sections, mine[1], mine[2]


def _print(
    scores: Mapping[str, list[dict[str, Metric]]],
    banks: Sequence[list[dict[str, Metric]]],
    shuffled: Mapping[float, list[list[dict[str, Metric]]]],
    metric: str,
    count: int,
    draws: int,
) -> None:
    nulls = [scores[f"null {i}"] for i in range(count)]
    names = ("better", "worse")
    by_prediction = [[_verdict(n, bank, metric) in names for bank in banks] for n in nulls]
    by_pairs = [[_paired_verdict(n, bank, metric) for bank in banks] for n in nulls]
    alike = [
        [_verdict(n, scores[f"one set {i}"], metric) in names for i in range(ONE_SET)]
        for n in nulls
    ]
    leaked = [[_verdict(scores["leak"], bank, metric) == "better" for bank in banks]]
    random = np.array([[run[metric].value for run in bank] for bank in banks])
    one = np.array([[run[metric].value for run in scores[f"one set {i}"]] for i in range(ONE_SET)])
    null_means = [np.mean([run[metric].value for run in n]) for n in nulls]
    print(f"{metric}: random sets of {draws:,} draws, mean {random.mean():.4f}")
    print(f"sd between random sets {random.std(axis=1, ddof=1).mean():.4f}, of one set's "
          f"trainings {one.std(axis=1, ddof=1).mean():.4f}, of null recipes' means of {SEEDS} "
          f"{np.std(null_means, ddof=1):.4f}\n")  # fmt: skip
    print("| what | design | verdicts |\n|---|---|---:|")
    print(f"| null recipes | prediction interval, {RANDOM} random sets | {_rate(by_prediction)} |")
    print(f"| null recipes | one set, another random one a seed, paired | {_rate(by_pairs)} |")
    print(f"| mutant: the random sets are one set | prediction | {_rate(alike)} |")
    print(f"| mutant: held-out records in the arm | prediction | {_rate(leaked)} better |")
    for share, of in shuffled.items():
        hits = [[_verdict(n, bank, metric) == "worse" for bank in banks] for n in of]
        means = np.mean([run[metric].value for n in of for run in n])
        print(f"| captions shuffled, {share:.0%}: {means - random.mean():+.4f} | prediction | "
              f"{_rate(hits)} worse |")  # fmt: skip


if __name__ == "__main__":
    main()
