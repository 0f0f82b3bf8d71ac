"""Does curation help? Answers of winnow's own comparison on pools whose dirt is known.

    python -m benchmarks.does_it_help FOLDER [--only emoji clm schedules] [--data ../shared/data]

FOLDER keeps pools and stores, so that a second call finds what was trained. The minutes of each are
said before it begins, by what the last run took.

emoji: `winnow demo`'s pool (drawings with captions; dirt in published shares), `clip`: the raw
    pool, deduplicated, balanced, and by all of the demo's rules, against random sets as large.
cifar: 3,000 pictures of CIFAR-10 and near-duplicates of them, 30 % of the pool, `simclr`:
    deduplicated, against random sets of that size.
clm: English descriptions of Debian's packages, one a source, 40 % of a pool whose other records
    are, a fifth each, descriptions in six other languages, further packages of the same sources
    (near-duplicates), and paragraphs that many sources share (boilerplate); by rules for all three,
    in bits per byte of the descriptions of sources that the pool has nothing of.
schedules: CIFAR-10 in three versions of a pool, each with the pictures of other classes, `simclr`
    that goes on from version to version over what is new: the "infinite" schedule, from the state
    in front of its decay, against a cosine anew for each version; scored on the held-out pictures
    of all versions so far and on those of the first.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from evaluation.interval import paired
from flows import demo
from flows import run as runs
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

MINUTES = {"emoji": 12, "cifar": 8, "clm": 12, "schedules": 15}
DUPLICATES = 0.3
CIFAR = """
name = "cifar"
pool = "cifar"

[[source]]
path = "pool"

[holdout]
where = "meta.split = 'test'"

[annotate.look]
step = "perceptual_hash"

[annotate.near]
step = "hamming_clusters"
bits = "look.bits"

[[select]]
name = "one of each picture"
by = "one_per_cluster"
cluster = "near.cluster"

[pretrain]
objective = "simclr"
encoder = { name = "small_cnn", side_px = 32 }
steps = 400
batch = 128

[[evaluate]]
protocol = "knn"
label = "meta.label"

[compare]
metric = "knn.accuracy"
arms = ["recipe", "random", "all", "untrained"]
seeds = 3
random_sets = 10
"""

DESCRIPTIONS, HELD_OUT, SHARED_BY = 6000, 1500, 5
CLM = """
name = "clm"
pool = "clm"

[[source]]
path = "pool.jsonl"
id = "id"

[holdout]
where = "meta.kind = 'test'"

[annotate.language]

[annotate.repeated_paragraphs]
min_words = 4

[fit.pieces]
step = "byte_pair_encoding"
num_tokens = 1024

[[select]]
name = "English"
where = "language.label = 'en'"

[[select]]
name = "no boilerplate"
where = "repeated_paragraphs.repeated_ratio < 0.5"

[[select]]
name = "one of each text"
by = "one_per_cluster"
cluster = "minhash_clusters.cluster"

[pretrain]
objective = "clm"
steps = 200
batch = 16
lr = 3e-3
[pretrain.encoder]
width = 64
depth = 2
max_tokens = 128
vocabulary = "fit.pieces"
packing = "cut"

[[evaluate]]
protocol = "bits_per_byte"

[compare]
metric = "bits_per_byte.bits_per_byte"
arms = ["recipe", "random", "all", "untrained"]
seeds = 2
random_sets = 5
"""


CLASSES = (
    ("airplane", "automobile", "bird", "cat"),
    ("deer", "dog", "frog"),
    ("horse", "ship", "truck"),
)
"""What each version of the pool brings."""
SCHEDULES = {"infinite": 'schedule = "infinite"', "cosine": 'schedule = "cosine"'}
VERSION = """
name = "{name}"
pool = "schedules"

[holdout]
where = "meta.split = 'test'"

[[select]]
where = "meta.version = {version}"

[pretrain]
objective = "simclr"
{schedule}
{goes_on}
encoder = {{ name = "small_cnn", side_px = 32 }}
steps = {steps}
batch = 128
seed = {seed}

[[evaluate]]
name = "all"
protocol = "knn"
label = "meta.label"

[[evaluate]]
name = "first"
pool = "schedules@1"
protocol = "knn"
label = "meta.label"
"""


def main() -> None:
    """Run the comparisons and print tables of what they answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=MINUTES, default=list(MINUTES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    workers, packs = options.workers, options.data / "cifar10"
    texts = options.data / "descriptions"
    parts: dict[str, Callable[[], str]] = {
        "emoji": lambda: answered("emoji", emoji(options.folder / "emoji", workers), workers),
        "cifar": lambda: answered("cifar", cifar(options.folder / "cifar", packs), workers),
        "clm": lambda: answered("clm", clm(options.folder / "clm", texts), workers),
        "schedules": lambda: schedules(options.folder / "schedules", packs),
    }
    for name in options.only:
        print(f"{name}: about {MINUTES[name]} minutes foreseen", flush=True)
        began = time.monotonic()
        print(f"{parts[name]()}\n{(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def answered(name: str, recipe: Path, workers: int) -> str:
    """Return the table and the answer of a recipe."""
    found = run(recipe, workers)["evaluation"]
    return f"{table(name, found)}\n{found['answer']['text']}"


def run(recipe: Path, workers: int) -> dict[str, Any]:
    """Run a recipe in the store beside it."""
    given = Options(until="evaluate", workers=workers, reporter=Reporter())
    store = Store(recipe.parent / ".winnow")
    return runs.run(runs.read_recipe(recipe), store, given)


def table(name: str, found: dict[str, Any]) -> str:
    """Return a row for each arm."""
    metric = found["metrics"][found["answer"]["metric"]]
    rows = [
        "| pool | arm | draws | score | - random | interval | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, values in metric["values"].items():
        of = metric["differences"].get(f"{arm} - random")
        said = (
            "||"
            if of is None
            else (f"{of['value']:+.3f} | [{of['low']:+.3f}, {of['high']:+.3f}] | {of['verdict']}")
        )
        draws = found["arms"][arm]["draws"]
        rows.append(f"| {name} | {arm} | {draws:,} | {np.mean(values):.3f} | {said} |")
    return "\n".join(rows)


def emoji(folder: Path, workers: int) -> Path:
    """Make the demo's pool and its encoder of captions; return the recipe that compares."""
    boot, both = demo.prepare(folder, Reporter())
    runs.run(runs.read_recipe(boot), Store(folder / ".winnow"), Options(workers=workers))
    text = both.read_text()
    head, train = text[: text.index("[[select]]")], text[text.index("[pretrain]") :]
    rules = text[len(head) : text.index("[export]")].split("\n\n")
    named = {
        "deduplicated": ("one of each picture", "not nearly the same"),
        "balanced": ("balanced concepts",),
    }
    for name, wanted in named.items():
        kept = [rule for rule in rules if any(f'"{rule_name}"' in rule for rule_name in wanted)]
        (folder / f"{name}.toml").write_text(
            head.replace('name = "demo"', f'name = "{name}"') + "\n\n".join(kept) + "\n"
        )
    arms = [
        "recipe",
        "random",
        "recipe:deduplicated.toml",
        "recipe:balanced.toml",
        "all",
        "untrained",
    ]
    main_ = head.replace('name = "demo"', 'name = "both"') + "\n\n".join(rules) + "\n" + train
    path = folder / "both.toml"
    path.write_text(main_.replace(train[train.index("arms = ") :].partition("\n")[0],
                                  f"arms = {json.dumps(arms)}"))  # fmt: skip
    return path


def cifar(folder: Path, packs: Path) -> Path:
    """Write a pool of which 30 % are near-duplicates of others; return its recipe."""
    pool, rng = folder / "pool", np.random.default_rng(0)
    if not (pool / "metadata.jsonl").is_file():
        pool.mkdir(parents=True, exist_ok=True)
        listed = []
        train = [item for n in range(3) for item in pictures(packs / f"train-{n:03d}.tar")]
        test = [item for n in range(2) for item in pictures(packs / f"test-{n:03d}.tar")]
        copies = rng.choice(len(train), round(len(train) * DUPLICATES / (1 - DUPLICATES)))
        for split, name, data, label in (
            *(("train", f"{n}.jpg", d, c) for n, (d, c) in enumerate(train)),
            *(("test", f"test-{n}.jpg", d, c) for n, (d, c) in enumerate(test)),
            *(("train", f"copy-{n}.jpg", near(train[i][0], rng), train[i][1])
              for n, i in enumerate(copies)),
        ):  # fmt: skip
            (pool / name).write_bytes(data)
            listed.append({"file_name": name, "split": split, "label": label})
        lines = "".join(json.dumps(row) + "\n" for row in listed)
        (pool / "metadata.jsonl").write_text(lines)
    (folder / "cifar.toml").write_text(CIFAR)
    return folder / "cifar.toml"


def clm(folder: Path, pack: Path, descriptions: int = DESCRIPTIONS, held: int = HELD_OUT) -> Path:
    """Write a pool of descriptions of which 40 % are English and said once; return its recipe."""
    path, rng, dirt = folder / "pool.jsonl", np.random.default_rng(0), descriptions // 2
    if not path.is_file():
        texts = pl.read_parquet(pack / "descriptions.parquet").select(
            "package", "source", "text", "lang"
        )
        english = texts.filter(pl.col("lang") == "en")
        firsts = english.unique("source", keep="first", maintain_order=True)
        firsts = firsts[rng.permutation(firsts.height)[: descriptions + held]]
        test, clean = firsts[:held], firsts[held:]
        seen = english.filter(pl.col("source").is_in(clean["source"].implode()))
        further = seen.join(clean, on="package", how="anti")
        foreign = texts.filter(
            pl.col("lang") != "en", ~pl.col("source").is_in(test["source"].implode())
        )
        lines = english.join(test, on="source", how="anti").select(
            "source", text=pl.col("text").str.split("\n")
        )
        shared = (
            lines.explode("text")
            .filter(pl.col("text").str.len_chars() > 40)
            .group_by("text")
            .agg(sources=pl.col("source").n_unique())
            .filter(pl.col("sources") >= SHARED_BY)
            .sort("text")
        )
        likely = (shared["sources"] / shared["sources"].sum()).to_numpy()
        boilerplate = [
            "\n".join(rng.choice(shared["text"].to_numpy(), 3, replace=False, p=likely))
            for _ in range(dirt)
        ]
        of_kinds = {
            "test": test["text"], "clean": clean["text"], "boilerplate": boilerplate,
            "foreign": foreign["text"].sample(dirt, seed=0),
            "copy": further["text"].sample(dirt, seed=0),
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(
                json.dumps({"id": f"{kind}-{n}", "kind": kind, "text": text}) + "\n"
                for kind, of in of_kinds.items()
                for n, text in enumerate(of)
            )
        )
    (folder / "clm.toml").write_text(CLM)
    return folder / "clm.toml"


def schedules(folder: Path, packs: Path, *, steps: int = 300, seeds: int = 3, tars: int = 6) -> str:
    """Train over three versions of a pool by each schedule; return a row a schedule and version."""
    store, quiet = Store(folder / ".winnow"), Reporter()
    versions(folder, packs, tars)
    scores: dict[tuple[str, int, str], list[float]] = {}
    for seed in range(seeds):
        for schedule, line in SCHEDULES.items():
            for version in range(1, len(CLASSES) + 1):
                name = f"{schedule}-{seed}-{version}"
                before = f'continue_from = "recipe:{schedule}-{seed}-{version - 1}.toml"'
                text = VERSION.format(
                    name=name, version=version, schedule=line, steps=steps, seed=seed,
                    goes_on=before if version > 1 else "",
                )  # fmt: skip
                (folder / f"{name}.toml").write_text(text)
                given = Options(until="evaluate", at=version, reporter=quiet)
                found = runs.run(runs.read_recipe(folder / f"{name}.toml"), store, given)
                metrics = found["evaluation"]["metrics"]
                for of in ("all", "first"):
                    [value] = metrics[f"{of}.accuracy"]["values"]["recipe"]
                    scores.setdefault((schedule, version, of), []).append(value)
    lines = ["| held out | after version | infinite | cosine | difference | interval |"]
    lines.append("|---|---|---|---|---|---|")
    for of in ("all", "first"):
        for version in range(1, len(CLASSES) + 1):
            ours, theirs = (scores[schedule, version, of] for schedule in SCHEDULES)
            found = paired(ours, theirs)
            lines.append(
                f"| {of} | {version} | {np.mean(ours):.3f} | {np.mean(theirs):.3f} | "
                f"{found.value:+.3f} | [{found.low:+.3f}, {found.high:+.3f}] |"
            )
    return "\n".join(lines)


def versions(folder: Path, packs: Path, tars: int) -> None:
    """Read CIFAR-10 into a pool, the classes of one version after those of another."""
    store = Store(folder / ".winnow")
    names = [("train", f"train-{n:03d}.tar") for n in range(tars)]
    names += [("test", f"test-{n:03d}.tar") for n in range(2)]
    files = [(split, *item) for split, name in names for item in pictures(packs / name)]
    sources = ""
    for version, classes in enumerate(CLASSES, 1):
        into, listed = folder / str(version), []
        into.mkdir(parents=True, exist_ok=True)
        for number, (split, data, label) in enumerate(files):
            if label in classes:
                (into / f"{number}.jpg").write_bytes(data)
                row = {"file_name": f"{number}.jpg", "split": split, "version": version}
                listed.append({**row, "label": label})
        lines = "".join(json.dumps(row) + "\n" for row in listed)
        (into / "metadata.jsonl").write_text(lines)
        sources += f'[[source]]\npath = "{version}"\n'
        recipe = folder / "pool.toml"
        recipe.write_text(f'name = "pool"\npool = "schedules"\n{sources}')
        if version not in store.versions("pool", "schedules"):
            runs.run(runs.read_recipe(recipe), store, Options(until="ingest"))


def pictures(path: Path) -> list[tuple[bytes, str]]:
    """Return the pictures of a tar with their classes."""
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
        return [
            (archive.extractfile(member).read(), name.rpartition("_")[2].removesuffix(".jpg"))  # type: ignore[union-attr]
            for name, member in members.items()
            if name.endswith(".jpg")
        ]


def near(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a picture a little brighter or darker, encoded anew."""
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float64)
    changed = np.clip(image * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(changed).save(out, "JPEG", quality=int(rng.integers(60, 90)))
    return out.getvalue()


if __name__ == "__main__":
    main()
