"""Another threshold on a measured pool: seconds, and that nothing is measured again.

    python benchmarks/recut.py --records 100000

The pool is made by this program: captions of random words, one in ten a copy. Printed beside the
re-run is the floor, reading the same notes with polars and counting, in the same process.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import polars as pl

from flows import run as runs
from flows.recipe.sections import read
from flows.reporter import Reporter
from storage.store import Store

RECIPE = """
name = "recut"
[[source]]
path = "captions.jsonl"
[annotate.digest_of_text]
step = "content_hash"
payload = "text"
mode = "text"
[annotate.same]
step = "exact_clusters"
digest = "digest_of_text.digest"
[[select]]
name = "words"
where = "caption_stats.words >= 3 AND caption_stats.letter_ratio > 0.5"
[[select]]
by = "one_per_cluster"
cluster = "same.cluster"
"""


def captions(path: Path, records: int) -> None:
    """Write captions of 1 to 12 random words; every tenth is a copy of the one before."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(5000)]
    text = ""
    with path.open("w") as lines:
        for i in range(records):
            if i % 10:
                text = " ".join(rng.choices(words, k=rng.randint(1, 12)))
            lines.write(json.dumps({"text": text}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    records = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        recipe_dir = Path(folder)
        captions(recipe_dir / "captions.jsonl", records)
        recipe = recipe_dir / "recut.toml"
        recipe.write_text(RECIPE)
        store = Store(recipe_dir / ".winnow")
        computed = {}
        reporter = Reporter(table=lambda table, count: computed.update({table: count}))
        rows = []
        for what, words in (("first run", 3), ("another threshold", 5), ("and another", 4)):
            computed.clear()
            recipe.write_text(RECIPE.replace(">= 3", f">= {words}"))
            start = time.perf_counter()
            result = runs.run(read(recipe), store, runs.Options(until="select", reporter=reporter))
            seconds = time.perf_counter() - start
            measured = sum(count.computed for count in computed.values())
            rows.append((what, seconds, measured, result["kept"]))
        notes = [p for p in (store.root / "objects").rglob("*.parquet") if "annotate." in str(p)]
        start = time.perf_counter()
        for path in notes:
            pl.read_parquet(path).height  # noqa: B018
        floor = time.perf_counter() - start
    print(f"| {records:,} records | seconds | measured again | kept |\n|---|---|---|---|")
    for what, seconds, measured, kept in rows:
        print(f"| {what} | {seconds:.2f} | {measured:,} | {kept:,} |")
    print(f"| floor: polars reads all notes | {floor:.2f} | | |")


if __name__ == "__main__":
    main()
