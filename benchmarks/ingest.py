"""Images per second of ingest against a bare read-and-hash, and peak memory at two sizes.

    python benchmarks/ingest.py --small 2000 --large 20000

The images are JPEGs of 64 px made by this program, all different. Each size is ingested in a
process of its own, whose peak is its own (VmHWM) and that of its decoding child.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import re
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def images(folder: Path, count: int) -> None:
    """Write `count` different JPEGs in folders of 1,000, each with a caption beside it."""
    rng = np.random.default_rng(0)
    for i in range(count):
        parent = folder / f"{i // 1000:03d}"
        parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(coarse).resize((64, 64)).save(data, "JPEG", quality=90)
        (parent / f"{i:06d}.jpg").write_bytes(data.getvalue())
        (parent / f"{i:06d}.txt").write_text(f"picture number {i}")


def floor(folder: Path) -> float:
    """Return the seconds of reading every file and hashing it with sha256."""
    start = time.perf_counter()
    for path in sorted(folder.rglob("*.jpg")):
        hashlib.sha256(path.read_bytes()).digest()
    return time.perf_counter() - start


def ingest(folder: str, store: str, workers: int, answers: multiprocessing.Queue) -> None:
    import winnow

    start = time.perf_counter()
    result = winnow.ingest(folder, pool="bench", store=store, workers=workers)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    own = int(re.search(r"VmHWM:\s*(\d+)", status)[1])
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    answers.put(json.dumps([seconds, result["accepted"], own, children]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    head = "| records | ingest, 1/s | read and hash, 1/s | ratio | peak MB | peak of children MB |"
    print(head + "\n|" + "---|" * 6)
    peaks = []
    for count in (arguments.small, arguments.large):
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "pictures"
            images(pictures, count)
            bare = floor(pictures)
            answers = context.Queue()
            task = (str(pictures), str(Path(folder) / "store"), arguments.workers, answers)
            process = context.Process(target=ingest, args=task)
            process.start()
            seconds, accepted, own, children = json.loads(answers.get(timeout=600))
            process.join()
        peaks.append(own)
        print(
            f"| {accepted:,} | {accepted / seconds:,.0f} | {count / bare:,.0f} "
            f"| {bare / seconds:.3f} | {own / 1024:.0f} | {children / 1024:.0f} |"
        )
    print(
        f"\npeak grows by {peaks[1] / peaks[0] - 1:+.1%} from {arguments.small:,} to "
        f"{arguments.large:,} records"
    )


if __name__ == "__main__":
    main()
