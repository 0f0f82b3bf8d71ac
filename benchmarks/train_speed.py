"""The trainer against its floors, each pair in turn within one run, the median ratio of all pairs.

A step: `train` on a resident batch, against forward, backward and torch's own update of the same
model. The loader: `batches` over exported tars, against stock `webdataset` with the same decode,
and against decoding alone with as many threads; again from memory. `knn` against the bare product
of its vectors. Going on from a saved state, against training's start.

    python -m benchmarks.train_speed [--pairs 5] [--steps 30] [--records 2000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.adamw import adamw

from benchmarks.ingest import pictures
from evaluation.features import Features, unit
from evaluation.protocols.knn import knn
from pretraining.batches import batches
from pretraining.build import Part, build
from pretraining.checkpoint import Checkpoint
from pretraining.codecs import Codec, ImageCodec, column
from pretraining.objective import Batch, Objective
from pretraining.train import moment_at, train
from storage import shards

BATCH, LR = 128, 1e-3
MODELS = {
    "simclr, small_cnn": ("simclr", "small_cnn"),
    "simclr, vit": ("simclr", "vit"),
    "clip, small_cnn and words": ("clip", "small_cnn"),
    "mae, vit": ("mae", "vit"),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--records", type=int, default=2000)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores\n")
    print("| what | ours, s | floor or peer, s | ratio (lowest to highest) | goal |")
    print("|---|---|---|---|---|")
    for name, (objective, encoder) in MODELS.items():
        made = build(objective, {}, {first(objective): Part(name=encoder, parameters={})}, seed=0)
        resident = batch_of(made)
        ours, floor = stepper(made, resident, given.steps), bare(made, resident, given.steps)
        report(f"step: {name}", ours, floor, given.pairs, "at most 1.05")
    with tempfile.TemporaryDirectory() as name:
        for side_px, goal in ((64, "at most 0.77"), (512, "said")):
            folder = export(Path(name) / str(side_px), given.records, side_px)
            compare_loaders(folder, side_px, given.records, given.pairs, goal)
        report_resume(Path(name), given.pairs)
    report_knn(given.pairs)


def first(objective: str) -> str:
    """Return the role that reads pictures."""
    return "image_encoder" if objective == "clip" else "encoder"


def batch_of(objective: Objective) -> Batch:
    """Return a batch of noise and of captions."""
    rng = np.random.default_rng(0)

    def values(codec: Codec) -> torch.Tensor:
        if codec.reads == "text":
            return column(codec, [f"a drawing of number {n}" for n in range(BATCH)])
        shape = (BATCH, *codec.shape)
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))

    return {name: values(codec) for name, codec in objective.codecs.items()}


def stepper(objective: Objective, batch: Batch, steps: int) -> Callable[[], Any]:
    """Return our training of some steps on one batch."""
    return lambda: train(
        objective, lambda start: iter([batch] * (steps - start)), steps=steps, lr=LR
    )


def bare(objective: Objective, batch: Batch, steps: int) -> Callable[[], Any]:
    """Return as many steps of forward, backward and a fused update."""
    weights = [w for w in objective.parameters() if w.requires_grad]

    def run() -> None:
        means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        counts = [torch.zeros(()) for _ in weights]
        for step in range(steps):
            for weight in weights:
                weight.grad = None
            loss = objective(batch, moment_at(step, steps, seed=0))["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            having = [i for i, w in enumerate(weights) if w.grad is not None]
            adamw(
                [weights[i].data for i in having],
                [weights[i].grad for i in having],  # type: ignore[misc]
                [means[i] for i in having], [squares[i] for i in having], [],
                [counts[i] for i in having], fused=True, amsgrad=False, beta1=0.9, beta2=0.98,
                lr=LR, weight_decay=0.1, eps=1e-6, maximize=False,
            )  # fmt: skip
            loss.item()

    return run


def export(folder: Path, records: int, side_px: int) -> Path:
    """Write tars of pictures as an export has them."""
    folder.mkdir(parents=True)
    samples = (
        shards.Sample(uid, data, "jpg", f"picture {uid}", b"{}")
        for uid, data in enumerate(pictures(records, side_px))
    )
    tar, rows = shards.write_tar(folder, "00000.tar", samples, 0)
    with shards.TableFile(folder, shards.INDEX, shards.INDEX_SCHEMA) as table:
        table.write(rows)
        index = table.publish()
    shards.seal(folder, [tar, index], {"records": records})
    return folder


def compare_loaders(folder: Path, side_px: int, records: int, pairs: int, goal: str) -> None:
    """Report our loader against webdataset, against decoding alone, and from memory."""
    import webdataset as wds

    codec, steps = ImageCodec(64), records // BATCH

    def ours(cache_bytes: int, epochs: int = 1) -> float:
        with closing(shards.ShardSamples(folder)) as samples:
            began = time.perf_counter()
            for step, _ in enumerate(
                batches(
                    samples,
                    codecs={"image": codec},
                    batch=BATCH,
                    seed=0,
                    start=0,
                    steps=steps * epochs,
                    cache_bytes=cache_bytes,
                )
            ):
                if step == steps * (epochs - 1) - 1:
                    began = time.perf_counter()
            return time.perf_counter() - began

    def stock() -> float:
        began = time.perf_counter()
        source = wds.WebDataset(str(folder / "00000.tar"), shardshuffle=False, empty_check=False)
        decoded = source.map_dict(jpg=codec.encode).to_tuple("jpg", "txt").batched(BATCH)
        loader = torch.utils.data.DataLoader(decoded, batch_size=None, num_workers=2)
        for _ in loader:
            pass
        return time.perf_counter() - began

    with closing(shards.ShardSamples(folder)) as samples:
        files = samples.read(np.arange(steps * BATCH))["image"]

    def decoding() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(codec.encode, files):
                pass
        return time.perf_counter() - began

    at = f"loader, {side_px} px"
    line(f"{at}: webdataset, 2 workers", [(ours(0), stock()) for _ in range(pairs)], goal)
    goal = "at most 1.11" if side_px == 512 else "said"
    line(f"{at}: decoding alone", [(ours(0), decoding()) for _ in range(pairs)], goal)
    line(
        f"{at}: from memory against the first epoch",
        [(ours(1 << 29, 2), ours(0)) for _ in range(pairs)], "at most 0.2",
    )  # fmt: skip


def report_resume(folder: Path, pairs: int) -> None:
    """Report how long a training takes from its state's bytes to its next step."""
    made = build("clip", {}, {"image_encoder": Part(name="vit", parameters={})}, seed=0)
    batch, kept = batch_of(made), []
    train(made, lambda _: iter([batch] * 2), kept.append, steps=2, lr=LR, save_every=1)
    path = folder / "state.safetensors"
    path.write_bytes(kept[0].to_bytes())

    def resumed() -> None:
        state = Checkpoint.from_bytes(path.read_bytes())
        fresh = build("clip", {}, {"image_encoder": Part(name="vit", parameters={})}, seed=0)
        train(fresh, lambda _: iter([batch]), resume=state, steps=2, lr=LR)

    def fresh() -> None:
        again = build("clip", {}, {"image_encoder": Part(name="vit", parameters={})}, seed=0)
        train(again, lambda _: iter([batch]), steps=1, lr=LR)

    report("resume and one step: build and one step", resumed, fresh, pairs, "5 s")


def report_knn(pairs: int) -> None:
    """Report 10,000 queries against a bank of 100,000 vectors of 256 numbers."""
    rng = np.random.default_rng(0)
    bank, queries = (rng.standard_normal((n, 256)).astype(np.float32) for n in (100_000, 10_000))
    labels = rng.integers(0, 100, 110_000).astype(str)
    train_, test = Features(bank, labels[:100_000]), Features(queries, labels[100_000:])
    unit_bank, unit_queries = unit(bank), unit(queries)

    def product() -> None:
        for start in range(0, len(queries), 1024):
            unit_queries[start : start + 1024] @ unit_bank.T

    report(
        "knn, 100,000 x 256 and 10,000", lambda: knn(train_, test), product, pairs, "at most 1.3"
    )


def report(
    what: str, ours: Callable[[], Any], floor: Callable[[], Any], pairs: int, goal: str
) -> None:
    """Time both in turn after one round that does not count."""
    line(what, list(timed(ours, floor, pairs)), goal)


def timed(
    ours: Callable[[], Any], floor: Callable[[], Any], pairs: int
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of both."""
    ours(), floor()
    for _ in range(pairs):
        seconds = []
        for run in (ours, floor):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        yield seconds[0], seconds[1]


def line(what: str, seconds: list[tuple[float, float]], goal: str) -> None:
    """Print a row of the table."""
    ratios = sorted(a / b for a, b in seconds)
    ours, floor = (statistics.median(of) for of in zip(*seconds, strict=True))
    middle = statistics.median(ratios)
    spread = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"| {what} | {ours:.3f} | {floor:.3f} | {spread} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
