"""Does each objective learn? Its encoder against an untrained one of the same kind, real data.

    python -m benchmarks.objectives FOLDER [--only mae clm ...] [--data ../shared/data]

For every objective a pool, an encoder and one downstream metric are named below, before anything
is trained. Three seeds are trained on all records but the hold-out; `salt` and `distillation` also
meet the same encoder trained from scratch for as many steps. FOLDER keeps pools and stores, so that
a second call finds what was trained.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from flows import run as runs
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

SEEDS = 3
PICTURES = """
[[source]]
name = "cifar"
path = "{data}/cifar10/{{train-000,train-001,train-002,test-000}}.tar"

[holdout]
where = "source_id LIKE 'test%'"
"""
DRAWINGS = """
[[source]]
path = "{data}/emoji/emoji.parquet"

[holdout]
by_group = "meta.base_codepoint"
ratio = 0.1
"""
SPEECH = """
[[source]]
name = "digits"
path = "{data}/spoken_digits/spoken_digits-000.tar"

[holdout]
where = "CAST(RIGHT(source_id, 1) AS INT) < 5"
"""
SENTENCES = """
[[source]]
path = "{data}/text_tasks/subjectivity.parquet"

[holdout]
where = "meta.split = 'test'"

[fit.pieces]
step = "byte_pair_encoding"
num_tokens = 2048
"""
DESCRIPTIONS = """
[[source]]
path = "{folder}/english.parquet"

[holdout]
by_group = "meta.source"
ratio = 0.1

[fit.pieces]
step = "byte_pair_encoding"
num_tokens = 2048
"""
POOLS = {
    "pictures": PICTURES, "drawings": DRAWINGS, "speech": SPEECH, "sentences": SENTENCES,
    "descriptions": DESCRIPTIONS,
}  # fmt: skip
CNN = '{ name = "small_cnn", width = 16, side_px = 32 }'
VIT = '{ name = "vit", width = 96, depth = 3, heads = 4, patch_px = 4, side_px = 32 }'
WORDS = (
    '{{ name = "text_transformer", width = {width}, depth = {depth}, heads = 4, max_tokens = 64, '
    'vocabulary = "fit.pieces" }}'
)
WIDE, NARROW = WORDS.format(width=128, depth=3), WORDS.format(width=64, depth=1)


@dataclass(frozen=True)
class Trial:
    """How an objective is tried.

    Attributes:
        pool: of POOLS.
        objective: the lines of [pretrain] that say it, its roles and parameters.
        protocol: the lines of [[evaluate]].
        metric: what decides, named before the first run.
        after: the trial whose weights it begins with.
        scratch: the trial that trains the same encoder as long, without what this one adds.
    """

    pool: str
    objective: str
    protocol: str
    metric: str
    steps: int = 400
    batch: int = 128
    lr: float = 1e-3
    after: str | None = None
    scratch: str | None = None


def _picture(objective: str, **given: Any) -> Trial:
    protocol = 'protocol = "knn"\nlabel = "meta.label"'
    return Trial("pictures", objective, protocol, "knn.accuracy", **given)


def _captions(objective: str, **given: Any) -> Trial:
    return Trial(
        "drawings", objective, 'protocol = "retrieval"', "retrieval.image_to_text.recall@1",
        **given,
    )  # fmt: skip


def _sentences(objective: str, **given: Any) -> Trial:
    return Trial(
        "sentences", objective, 'protocol = "linear_probe"\nlabel = "meta.label"',
        "linear_probe.accuracy", **given,
    )  # fmt: skip


def _language(objective: str, **given: Any) -> Trial:
    return Trial(
        "descriptions", objective, 'protocol = "bits_per_byte"', "bits_per_byte.bits_per_byte",
        **given,
    )  # fmt: skip


TEXT: dict[str, Any] = {"batch": 32, "lr": 2e-3}
TRIALS = {
    "simclr": _picture(f'objective = "simclr"\nencoder = {CNN}'),
    "mae": _picture(f'objective = "mae"\nencoder = {VIT}'),
    "mixed_barlow_twins": _picture(f'objective = "mixed_barlow_twins"\nencoder = {CNN}'),
    "dino": _picture(
        f'objective = "dino"\nteacher_momentum = 0.97\nlocal_crops = 2\nencoder = {CNN}'
    ),
    "batch_styles": _picture(f'objective = "batch_styles"\nencoder = {CNN}'),
    "distillation": _picture(
        f'objective = "distillation"\nstudent = {CNN}\n'
        'teacher = { name = "efficientnet_lite", side_px = 64 }',
        scratch="simclr",
    ),
    "clip": _captions('objective = "clip"\nimage_encoder = { name = "small_cnn", width = 16 }'),
    "siglip": _captions('objective = "siglip"\nimage_encoder = { name = "small_cnn", width = 16 }'),
    "ssast": Trial(
        "speech", 'objective = "ssast"\nencoder = { name = "spectrogram_transformer" }',
        'protocol = "linear_probe"\nlabel = "meta.digit"', "linear_probe.accuracy", batch=64,
    ),
    "mlm": _sentences(f'objective = "mlm"\nencoder = {WIDE}', **TEXT),
    "electra": _sentences(
        f'objective = "electra"\ngenerator = {NARROW}\ndiscriminator = {WIDE}', **TEXT
    ),
    "clm": _language(f'objective = "clm"\nencoder = {WIDE}', **TEXT),
    "small_clm": _language(f'objective = "clm"\nencoder = {NARROW}', **TEXT),
    "salt": _language(
        f'objective = "salt"\nstudent = {WIDE}\nteacher = {{ weights = "recipe:small_clm.toml" }}',
        after="small_clm", scratch="clm", **TEXT,
    ),
}  # fmt: skip


def main() -> None:
    """Train, and print a row for each objective."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, help="of every training, for a first look")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    english(options.data, options.folder / "english.parquet")
    print("| objective | metric | trained | untrained | difference, 95 % | minutes |")
    print("|---|---|---|---|---|---|")
    found: dict[str, dict[str, list[float]]] = {}
    for name in options.only:
        began, trial = time.monotonic(), TRIALS[name]
        for needed in {trial.after, trial.scratch} - {None}:
            if needed not in found:
                found[str(needed)] = values(str(needed), options)
        found[name] = values(name, options)
        minutes = (time.monotonic() - began) / 60
        trained, fresh = found[name]["recipe"], found[name]["untrained"]
        print(row(name, trial.metric, trained, fresh, minutes), flush=True)
        if trial.scratch:
            print(row(f"{name} against {trial.scratch}", trial.metric, trained,
                      found[trial.scratch]["recipe"], minutes), flush=True)  # fmt: skip


def english(data: Path, path: Path) -> None:
    """Write the English descriptions, which are those of many languages in one file."""
    if not path.is_file():
        texts = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
        texts.filter(pl.col("lang") == "en").select("text", "source").write_parquet(path)


def values(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Run the recipe of a trial; return what each seed of each arm reached."""
    trial = TRIALS[name]
    place = {"data": options.data.resolve(), "folder": options.folder.resolve()}
    # Without a rule all visible records are kept, so the random sets are them too, trained once.
    path = options.folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\npool = "{trial.pool}"\n{POOLS[trial.pool].format(**place)}\n'
        f"[pretrain]\n{trial.objective}\n"
        f"steps = {options.steps or trial.steps}\nbatch = {trial.batch}\nlr = {trial.lr}\n\n"
        f"[[evaluate]]\n{trial.protocol}\n\n"
        f'[compare]\narms = ["recipe", "random", "untrained"]\n'
        f"seeds = {SEEDS}\nrandom_sets = {SEEDS}\n"
    )
    given = Options(until="evaluate", workers=1, reporter=Reporter())
    result = runs.run(runs.read_recipe(path), Store(options.folder / ".winnow"), given)
    arms: dict[str, list[float]] = result["evaluation"]["metrics"][trial.metric]["values"]
    return arms


def row(name: str, metric: str, trained: list[float], other: list[float], minutes: float) -> str:
    """Return a row; the interval is Welch's over seeds."""
    t = stats.ttest_ind(trained, other, equal_var=False).confidence_interval(0.95)
    value = np.mean(trained) - np.mean(other)
    return (
        f"| {name} | {metric} | {np.mean(trained):.3f} | {np.mean(other):.3f} | "
        f"{value:+.3f} [{t.low:+.3f}, {t.high:+.3f}] | {minutes:.1f} |"
    )


if __name__ == "__main__":
    main()
