"""Selectors over vectors of a large pool: seconds, and the memory that is the process's own.

    python benchmarks/selectors.py --records 2000000 --dimensions 256 --budget 1000

The pool is written by this program: parts of 100,000 records and random vectors in half precision.
The candidates are read as a run reads them, their vectors into a file that is mapped, so what a
selector takes is RssAnon of /proc/self/status; its peak is looked at twenty times a second. The
clustering selectors fit --clusters centroids; fair_dedup has no budget and keeps one of each two.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from curation.select.d4 import d4
from curation.select.fair_dedup import fair_dedup
from curation.select.k_center import k_center
from curation.select.prototypes import prototypes
from curation.select.simcore import simcore
from flows.pool_reader import PoolReader
from flows.recipe.expressions import Expression
from flows.workers import one_thread
from storage import tables
from storage.store import Store

PART = 100_000


def pool(store: Store, records: int, dimensions: int) -> PoolReader:
    """Write a pool whose records have a vector, a number and a cluster of two."""
    parts, notes = [], []
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, records, PART)):
        count, name = min(PART, records - start), f"{number:05d}"
        uid = rng.integers(0, 2**64, count, dtype=np.uint64)
        text = pl.DataFrame({"uid": uid, "text": pl.Series(["."]).extend_constant(".", count - 1)})
        parts.append(
            tables.Part(name, tables.put(store, text, pool="p", table="records", part=name))
        )
        vectors = rng.standard_normal((count, dimensions), dtype=np.float32).astype(np.float16)
        rows = pl.DataFrame({
            "uid": uid,
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float16, dimensions)),
            "max_cosine": rng.random(count, dtype=np.float32),
            "cluster": (start + np.arange(count, dtype=np.uint64)) // 2,
        })  # fmt: skip
        notes.append(tables.put(store, rows, pool="p", table="annotate.v", part=name))
    columns = {f"v.{name}": "annotate.v" for name in ("vector", "max_cosine", "cluster")}
    whole = tables.Pool("p", version=1, records=records, parts=tuple(parts))
    return PoolReader(store, whole, notes={"annotate.v": tuple(notes)}, columns=columns)


def anonymous_mb() -> float:
    """Return RssAnon."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def measured(name: str):
    """Print seconds, those of the processor, and the peak of RssAnon."""
    peak, done = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(anonymous_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    start, busy = time.perf_counter(), time.process_time()
    yield
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    done.set()
    thread.join()
    of_memory = f"peak RssAnon {max(peak):6.0f} MB"
    print(f"{name:12} {seconds:8.1f} s   CPU {cpu:8.1f} s   {of_memory}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--budget", type=int, default=1_000)
    parser.add_argument("--clusters", type=int, default=100)
    given = parser.parse_args()
    one_thread()
    budget, clusters = given.budget, given.clusters
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        reader = pool(store, given.records, given.dimensions)
        store.temporary.mkdir(exist_ok=True)
        with measured("candidates"):
            roles = {name: Expression(f"v.{name}") for name in ("vector", "max_cosine", "cluster")}
            rows = reader.candidates(roles, reader.live)
        target = rows.head(500).select("uid", "vector")
        concepts = target.head(8).select("vector")
        selectors: dict[str, Callable[[], pl.DataFrame]] = {
            "prototypes": lambda: prototypes(rows, None, budget=budget, num_clusters=clusters),
            "d4": lambda: d4(rows, budget=budget, num_clusters=clusters),
            "simcore": lambda: simcore(rows, target, budget=budget),
            "fair_dedup": lambda: fair_dedup(rows, concepts),
            "k_center": lambda: k_center(rows, budget=budget),
        }
        for name, select in selectors.items():
            with measured(name):
                select()


if __name__ == "__main__":
    main()
