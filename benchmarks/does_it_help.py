"""Does curation help? Answers of winnow's own comparison on pools whose dirt is known.

    python -m benchmarks.does_it_help FOLDER [--only emoji cifar clm] [--data ../shared/data]

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

from flows import demo
from flows import run as runs
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

MINUTES = {"emoji": 12, "cifar": 8, "clm": 12}
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


def main() -> None:
    """Run the comparisons and print a table of what they answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=MINUTES, default=list(MINUTES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    makers: dict[str, Callable[[], Path]] = {
        "emoji": lambda: emoji(options.folder / "emoji", options.workers),
        "cifar": lambda: cifar(options.folder / "cifar", options.data / "cifar10"),
        "clm": lambda: clm(options.folder / "clm", options.data / "descriptions"),
    }
    print("| pool | arm | draws | score | - random | interval | verdict |")
    print("|---|---|---|---|---|---|---|")
    for name in options.only:
        print(f"{name}: about {MINUTES[name]} minutes foreseen", flush=True)
        began = time.monotonic()
        found = run(makers[name](), options.workers)["evaluation"]
        print(table(name, found))
        print(
            f"{found['answer']['text']}\n{(time.monotonic() - began) / 60:.1f} minutes", flush=True
        )


def run(recipe: Path, workers: int) -> dict[str, Any]:
    """Run a recipe in the store beside it."""
    given = Options(until="evaluate", workers=workers, reporter=Reporter())
    store = Store(recipe.parent / ".winnow")
    return runs.run(runs.read_recipe(recipe), store, given)


def table(name: str, found: dict[str, Any]) -> str:
    """Return a row for each arm."""
    metric = found["metrics"][found["answer"]["metric"]]
    rows = []
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
