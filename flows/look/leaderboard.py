"""The leaderboard of a store: what each recipe's last version reached, beside random sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.answer.compare import saved_text
from storage.runs import load_run
from storage.store import Store

READ = (
    "Scores are means over trainings, on records that no training saw. Random sets have as many "
    "draws as the recipe; a difference to them has its 95 % interval. Seconds are those of one "
    'training, where its log is left. Steps saved are known where `[compare] grid` is "full": '
    "random's steps by the recipe's, at random's final score."
)
HEAD = (
    "recipe", "records", "draws", "steps", "seconds", "score", "difference to random", "answer",
    "steps saved",
)  # fmt: skip
SHARES = ("kept", "records", "recipe", "random", "difference to random", "answer")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the last version of a recipe reached.

    Attributes:
        share: of the records that are not held out, how many are kept.
        seconds: of one training, by its log; None where that is gone.
        evaluation: what `flows.answer.compare` found.
    """

    recipe: str
    pool: str
    share: float
    seconds: float | None
    evaluation: Mapping[str, Any]

    @property
    def answer(self) -> Mapping[str, Any]:
        """What the metric that decides shows."""
        return dict(self.evaluation["answer"])

    @property
    def steps(self) -> int:
        """Of each training."""
        return int(self.evaluation["steps"])

    @property
    def score(self) -> float:
        """The recipe's mean of that metric."""
        return self.mean("recipe")

    def mean(self, arm: str) -> float:
        """Return the mean over an arm's trainings."""
        return float(np.mean(self.evaluation["metrics"][self.answer["metric"]]["values"][arm]))

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric points."""
        return bool(self.evaluation["metrics"][self.answer["metric"]]["higher_is_better"])


def page(store: Store) -> str:
    """Return the leaderboard of a store as Markdown, see `text`."""
    return text(entries(store))


def text(known: Sequence[Entry]) -> str:
    """Return entries as Markdown: a table for each pool and metric, the best score first.

    Below each recipe stand the random sets that it was compared with. Of several recipes with the
    same steps a second table says how the score goes with the share of records that are kept.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in known:
        groups.setdefault((entry.pool, entry.answer["metric"]), []).append(entry)
    lines = ["# Leaderboard", "", READ]
    for (pool, metric), found in sorted(groups.items()):
        way = "more" if found[0].higher_is_better else "less"
        lines += ["", f"## {pool}: {metric} ({way} is better)", ""]
        best = sorted(found, key=lambda e: (-e.score if e.higher_is_better else e.score, e.recipe))
        lines += _table(HEAD, [row for entry in best for row in _rows(entry)])
        for steps in sorted({entry.steps for entry in found}):
            alike = sorted((e for e in found if e.steps == steps), key=lambda e: e.share)
            if len(alike) > 1:
                lines += ["", f"{metric} after {steps:,} steps by the share of records kept:", ""]
                lines += _table(SHARES, [_share(entry) for entry in alike])
    return "\n".join(lines) + "\n"


def entries(store: Store) -> list[Entry]:
    """Return an entry for each recipe whose last version has an answer."""
    found = []
    keys: dict[str, str] | None = None
    for name in store.names("run"):
        run = load_run(store, name)
        evaluation = (run or {}).get("result", {}).get("evaluation") or {}
        # A run of before there were claims has differences of another kind.
        if run is None or "claim" not in evaluation or evaluation["answer"] is None:
            continue
        keys = _keys(store) if keys is None else keys
        result = run["result"]
        found.append(
            Entry(
                recipe=name,
                pool=run["pool"],
                share=result["kept"] / (result["records"] - result["dropped"].get("holdout", 0)),
                seconds=_seconds(store, keys.get(run["checkpoint"]["path"]), evaluation["steps"]),
                evaluation=evaluation,
            )
        )
    return found


def _keys(store: Store) -> dict[str, str]:
    """Return for each checkpoint's path the key of its training."""
    found = {}
    for path in (store.root / "manifests").glob("*.json"):
        content = store.sealed(path)
        if content["made_by"].get("method") == "pretrain":
            found[content["parts"][0]["path"]] = path.stem
    return found


def _seconds(store: Store, key: str | None, steps: int) -> float | None:
    """Return the seconds of a training: its steps, by the mean time of those that are logged."""
    log = store.root / "training" / f"{key}.jsonl"
    if key is None or not log.is_file():
        return None
    batch = store.sealed(store.root / "manifests" / f"{key}.json")["made_by"]["section"]["batch"]
    each = [batch / json.loads(line)["records_per_s"] for line in log.read_text().splitlines()]
    return steps * float(np.mean(each)) if each else None


def _rows(entry: Entry) -> list[tuple[str, ...]]:
    arms, answer = entry.evaluation["arms"], entry.answer
    sizes = {
        arm: [f"{n:,}" for n in (of["records"], of["draws"], entry.steps)]
        for arm, of in arms.items()
    }
    saved = saved_text(answer["steps_saved"]) if answer.get("steps_saved") else ""
    seconds = "" if entry.seconds is None else f"{entry.seconds:,.0f}"
    sets = f"{answer['random_sets']} random sets of equal size"
    return [
        (
            entry.recipe, *sizes["recipe"], seconds, f"{entry.score:.4g}", _difference(answer),
            answer["verdict"], saved,
        ),
        (sets, *sizes["random"], "", f"{entry.mean('random'):.4g}", "", "", ""),
    ]  # fmt: skip


def _difference(answer: Mapping[str, Any]) -> str:
    return f"{answer['difference']:+.3g} [{answer['low']:+.3g}, {answer['high']:+.3g}]"


def _share(entry: Entry) -> tuple[str, ...]:
    records = f"{entry.evaluation['arms']['recipe']['records']:,}"
    return (
        f"{entry.share:.0%}", records, f"{entry.score:.4g}", f"{entry.mean('random'):.4g}",
        _difference(entry.answer), entry.answer["verdict"],
    )  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
