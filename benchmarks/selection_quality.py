"""What selections are worth on data whose labels are known.

    python -m benchmarks.selection_quality hierarchical [--tars 10] [--seeds 5] [--data DATA]

hierarchical: CIFAR-10 with a hundred pictures of the most common class for each of the rarest, in
    another order of the classes for each seed; how even the classes are of what an even sample of
    clusters keeps, in bits (log2 10 is 3.32), beside random subsets and as even as labels allow.
    Of the pack's ten tars of training pictures, a hundred of each class in each.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from contracts.uid import shuffled
from curation.annotate.cluster_path import cluster_path
from curation.annotate.nearest_centroid import nearest_centroid
from curation.fit.hierarchical_kmeans import hierarchical_kmeans
from curation.fit.kmeans import kmeans
from curation.select.balance_groups import balance_groups
from curation.select.density_quota import density_quota
from curation.select.hierarchical_sample import hierarchical_sample
from curation.select.random_sample import random_sample

IMBALANCE = 100
# Records of a cluster on each level, and of the pool for each one kept.
CLUSTERS = (10, 40, 200)
BUDGETS = (25, 10, 5)


def pictures(data: Path, tars: int) -> pl.DataFrame:
    """Return uid, label and image of so many tars of the pack's training pictures."""
    files: dict[str, bytes] = {}
    for number in range(tars):
        with tarfile.open(data / "cifar10" / f"train-{number:03}.tar") as tar:
            files |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    names = sorted(name.removesuffix(".jpg") for name in files if name.endswith(".jpg"))
    return pl.DataFrame(
        {
            "uid": pl.Series(range(len(names)), dtype=pl.UInt64),
            "image": [files[f"{name}.jpg"] for name in names],
            "label": [files[f"{name}.cls"].decode() for name in names],
        }
    )


def embedded(rows: pl.DataFrame) -> pl.DataFrame:
    """Return uid and vector."""
    from embeddings.efficientnet_lite import EfficientnetLite

    return rows.select("uid", EfficientnetLite(side_px=96)(rows.select("uid", "image"))["vector"])


def imbalanced(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return all of one class, fewer of each next one by a constant factor, 1 / 100 of the last."""
    numbers = rows["label"].unique().sort()
    order = shuffled(np.arange(len(numbers), dtype=np.uint64), seed, "imbalanced")
    parts = []
    for place, label in enumerate(numbers.gather(order)):
        members = rows.filter(pl.col("label") == label)
        count = round(members.height * IMBALANCE ** (-place / (len(numbers) - 1)))
        parts.append(members[shuffled(members["uid"].to_numpy(), seed, "members")[:count]])
    return pl.concat(parts).sort("uid")


def entropy(labels: pl.Series) -> float:
    """Return the entropy of the labels in bits."""
    share = labels.value_counts()["count"] / len(labels)
    return float(-(share * share.log(2)).sum())


def kept_by(rows: pl.DataFrame, seed: int) -> dict[str, Callable[[int], pl.DataFrame]]:
    """Return by name what each selection keeps for a budget; all that needs no budget is fitted."""
    levels = [rows.height // each for each in CLUSTERS]
    centroids = kmeans(rows, num_clusters=levels[0], seed=seed)
    flat = nearest_centroid(rows, centroids)
    found: dict[str, Callable[[int], pl.DataFrame]] = {
        "random": lambda budget: random_sample(rows, budget=budget, seed=seed),
        "balance_groups of clusters": lambda budget: balance_groups(
            flat.rename({"centroid": "group"}), budget=budget, seed=seed
        ),
        "density_quota": lambda budget: density_quota(
            flat, centroids, budget=budget, temperature=0.1
        ),
    }
    for resamples in (0, 10):
        tree = hierarchical_kmeans(rows, levels=levels, resamples=resamples, seed=seed)
        paths = cluster_path(rows, tree)
        found[f"hierarchical_sample, resampled {resamples} times"] = lambda budget, paths=paths: (
            hierarchical_sample(paths, budget=budget, seed=seed)
        )
    found["as even as labels allow"] = lambda budget: balance_groups(
        rows.rename({"label": "group"}), budget=budget, seed=seed
    )
    return found


def measure_hierarchical(data: Path, tars: int, seeds: int) -> None:
    """Print the entropy of the classes and the records of the three rarest, mean and deviation."""
    pools = [imbalanced(pictures(data, tars), seed) for seed in range(seeds)]
    vectors = embedded(pl.concat(pools).unique("uid").sort("uid"))
    entropies: dict[str, list[list[float]]] = {}
    rare: dict[str, list[int]] = {}
    for seed, pool in enumerate(pools):
        rows = pool.select("uid", "label").join(vectors, on="uid", maintain_order="left")
        rarest = rows["label"].value_counts().sort("count", "label")["label"][:3].implode()
        budgets = [rows.height // each for each in BUDGETS]
        print(
            f"seed {seed}: {rows.height:,} pictures, {entropy(rows['label']):.2f} bits", flush=True
        )
        for name, keep in kept_by(rows, seed).items():
            chosen = [rows.join(keep(budget), on="uid", how="semi")["label"] for budget in budgets]
            entropies.setdefault(name, []).append([entropy(labels) for labels in chosen])
            rare.setdefault(name, []).append(int(chosen[-1].is_in(rarest).sum()))
    head = " | ".join(f"{budget} kept" for budget in budgets)
    print(f"| | {head} | of the three rarest at {budgets[-1]} |\n|---|---:|---:|---:|---:|")
    for name, values in entropies.items():
        mean, spread = np.mean(values, axis=0), np.std(values, axis=0)
        cells = " | ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, spread, strict=True))
        print(f"| {name} | {cells} | {np.mean(rare[name]):.1f} |")


def main() -> None:
    """Run the part that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("hierarchical")
    part.add_argument("--tars", type=int, default=10)
    part.add_argument("--seeds", type=int, default=5)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    measure_hierarchical(given.data, given.tars, given.seeds)


if __name__ == "__main__":
    main()
