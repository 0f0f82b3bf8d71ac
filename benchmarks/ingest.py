"""Ingest against the floor of each of its works: CPU seconds of all processes, and wall seconds.

    python -m benchmarks.ingest [json] [parquet] [tars] [hf] [workers] [growth] [update] [memory]
        [start] [whole] [--repeats 5] [--texts 200000] [--pictures 20000 2000] ...

A floor is the least that the work takes without winnow, on the same input; ROWS name each. Ours
and the floor are measured in turn, each time in a process of its own that has done the same on a
tiny input before, so that no import is counted. Printed are the medians of --repeats such pairs;
the ratio is the median of the pairs' ratios. A goal that is missed is printed as that. Inputs are
made by this program, below TMPDIR. The peer of `json`, datatrove, is compared where it is
installed. Memory is read from /proc: Linux alone.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FILES = 8
TINY = 40
VERSIONS = 10
SIDES_PX = (64, 512)

RECIPE = """
name = "whole"
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.text_digest]
step = "content_hash"
payload = "text"
mode = "text"
[annotate.same]
step = "exact_clusters"
digest = "text_digest.digest"
[[select]]
name = "words"
where = "caption_stats.words >= 3 AND caption_stats.letter_ratio > 0.5"
[[select]]
name = "no copies"
by = "one_per_cluster"
cluster = "same.cluster"
[[select]]
name = "no near-copies"
by = "one_per_cluster"
cluster = "minhash_clusters.cluster"
[export]
format = ["parquet"]
"""
ROWWISE = {"annotate.caption_stats", "annotate.text_digest", "annotate.minhash_signature"}
OF_TEXT = "annotate: " + ", ".join(sorted(name.partition(".")[2] for name in ROWWISE))
METHODS = (
    "caption_stats", "content_hash", "exact_clusters", "minhash_signature", "minhash_clusters",
    "one_per_cluster",
)  # fmt: skip

# ------------------------------------------------------------------ how it is measured


class Cost(NamedTuple):
    """What a work took.

    Attributes:
        cpu: seconds of this process and of its children that have ended.
        wall: seconds.
        records: what it was done with.
    """

    cpu: float
    wall: float
    records: int


Work = Callable[[Path, Path], int]
"""Takes a source in, writes into a folder or file, and returns how many records it took."""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def cost(work: Callable[[], int]) -> Cost:
    cpu, wall = cpu_seconds(), time.perf_counter()
    records = work()
    return Cost(cpu_seconds() - cpu, time.perf_counter() - wall, records)


def after_warm_up(work: Work, source: Path, tiny: Path) -> Cost:
    """Return what a work costs in a process that has done it before; runs in a fresh one."""
    with tempfile.TemporaryDirectory() as folder:
        work(tiny, Path(folder) / "tiny")
        return cost(lambda: work(source, Path(folder) / "whole"))


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    return watched(function, *arguments)[0]


def watched(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Call a function in a process of its own; return the peak of `anonymous_mb` too."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    peak = 0.0
    while not ours.poll(0.1):
        assert process.pid is not None
        peak = max(peak, anonymous_mb(process.pid))
    try:
        answer = ours.recv()
    except EOFError:
        raise SystemExit("what was measured failed, as said above") from None
    process.join()
    return answer, peak


def _answer(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def status_mb(key: str, pid: int | str = "self") -> float:
    """Return a size of /proc/PID/status; 0 for a process that is gone."""
    try:
        found = re.search(rf"^{key}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def anonymous_mb(pid: int) -> float:
    """Return RssAnon of a process and of all below it: memory that no file backs."""
    below: list[str] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below += children.read_text().split()
        except OSError:  # the thread has ended
            continue
    return status_mb("RssAnon", pid) + sum(anonymous_mb(int(child)) for child in below)


def in_turn(repeats: int, *calls: Callable[[], Cost]) -> list[list[Cost]]:
    """Return the costs of each call, of the rounds in which they take turns."""
    rounds = []
    for _ in range(repeats):
        rounds.append([call() for call in calls])
        if len({found.records for found in rounds[-1]}) > 1:
            raise SystemExit(f"not the same work: {rounds[-1]}")
    return [list(costs) for costs in zip(*rounds, strict=True)]


def report(
    what: str, size: int, ours: Sequence[float], floor: Sequence[float], goal: float | None = None
) -> None:
    """Print a row: medians, and the median of the pairs' ratios against the goal at most."""
    ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
    said = f"{statistics.median(ours):.2f} | {statistics.median(floor):.2f} | {ratio:.2f}"
    print(f"| {what} | {size:,} | {said} | {against(ratio, goal)} |", flush=True)


def report_alone(what: str, size: int, ours: Sequence[float], goal: float | None = None) -> None:
    """Print a row that has no floor: the median against the goal at most."""
    value = statistics.median(ours)
    print(f"| {what} | {size:,} | {value:.2f} | | | {against(value, goal)} |", flush=True)


def against(value: float, goal: float | None) -> str:
    if goal is None:
        return ""
    if value <= 0:  # less than the start of a child that was taken off
        return f"at most {goal:g}: too few records to say"
    return f"at most {goal:g}: {'met' if value <= goal else 'MISSED'}"


def report_both(
    what: str,
    ours: Sequence[Cost],
    floor: Sequence[Cost],
    cpu: float | None = None,
    wall: float | None = None,
) -> None:
    """Print CPU seconds and wall seconds, each against its goal."""
    size = ours[0].records
    report(f"{what}, CPU s", size, [c.cpu for c in ours], [c.cpu for c in floor], cpu)
    report(f"{what}, wall s", size, [c.wall for c in ours], [c.wall for c in floor], wall)


# ------------------------------------------------------------------ what is read


def texts(numbers: range, changed: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield documents of some 1.5 kB of random words, the same for the same numbers.

    One in ten is the one before it, every other of these with a word more.

    Args:
        numbers: one a document.
        changed: of each ten numbers the one whose text is another one.
    """
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(5000)]
    rng.seed(numbers.start)
    text = ""
    for i in numbers:
        if i % 10 != 9 or not text:
            text = " ".join(rng.choices(words, k=230))
        elif i % 20 == 19:
            text += " more"
        yield {
            "id": f"document-{i:08d}",
            "url": f"https://example.org/{i % 997}/{i}.html",
            "score": rng.random(),
            "n": rng.randrange(1000),
            "text": f"{text} changed" if i % 10 == changed else text,
        }


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    with path.open("w") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def shares(count: int, parts: int) -> list[range]:
    """Return the numbers below a count in parts, as equal as they can be."""
    return [range(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def write_files(folder: Path, count: int) -> Path:
    """Write JSON lines in FILES files."""
    folder.mkdir()
    for file, numbers in enumerate(shares(count, FILES)):
        write_lines(folder / f"{file:05d}.jsonl", texts(numbers))
    return folder


def write_compressed(path: Path, count: int) -> Path:
    import zstandard

    with zstandard.open(path, "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in texts(range(count)))
    return path


def write_parquet(path: Path, count: int) -> Path:
    pq.write_table(
        pa.Table.from_pylist(list(texts(range(count)))),
        path,
        row_group_size=10_000,
        compression="zstd",
    )
    return path


def pictures(count: int, side_px: int) -> Iterator[bytes]:
    """Yield JPEGs of smooth random colours with some grain, all different."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 6, (2 * side_px, 2 * side_px, 3)).astype(np.int16)
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC))
        y, x = rng.integers(0, side_px, 2)
        pixels = np.clip(smooth + grain[y : y + side_px, x : x + side_px], 0, 255)
        data = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=90)
        yield data.getvalue()


def write_tars(folder: Path, count: int, side_px: int) -> Path:
    """Write WebDataset tars, FILES of them: of each sample a .jpg and a .txt."""
    folder.mkdir()
    images = pictures(count, side_px)
    for file, numbers in enumerate(shares(count, FILES)):
        with tarfile.open(folder / f"{file:05d}.tar", "w") as archive:
            for i in numbers:
                members = {"jpg": next(images), "txt": f"picture number {i}".encode()}
                for suffix, data in members.items():
                    member = tarfile.TarInfo(f"{i:08d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return folder


def write_hf(folder: Path, count: int, side_px: int) -> Path:
    """Write Parquet as Hugging Face's datasets do, FILES of them, row groups of 100."""
    folder.mkdir()
    images = pictures(count, side_px)
    for file, numbers in enumerate(shares(count, FILES)):
        rows = [
            {"image": {"bytes": next(images), "path": f"{i}.jpg"}, "caption": f"picture number {i}"}
            for i in numbers
        ]
        path = folder / f"{file:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    return folder


# ------------------------------------------------------------------ ours, the floors, the peer


def ingest(source: Path, store: Path, **options: Any) -> int:
    import winnow

    result = winnow.ingest(source, pool="bench", source="bench", store=store, **options)
    if result["quarantined"]:
        raise SystemExit(f"quarantined: {result['quarantined']}")
    accepted: int = result["accepted"]
    return accepted


ingest_by_id = partial(ingest, id="id")


def lines_floor(source: Path, path: Path) -> int:
    """Parse, digest id and text, write tables of 5,000 rows, hash and fsync the file."""
    import orjson

    writer, count = None, 0
    with source.open("rb") as lines:
        while block := list(itertools.islice(lines, 5000)):
            rows = [orjson.loads(line) for line in block]
            for row in rows:
                hashlib.blake2b(row["id"].encode(), digest_size=8).digest()
                hashlib.blake2b(row["text"].encode(), digest_size=16).digest()
            table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            count += len(rows)
    assert writer is not None
    writer.close()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
    return count


def parquet_floor(source: Path, path: Path) -> int:
    frame = pl.read_parquet(source)
    frame.write_parquet(path, compression="zstd")
    return frame.height


def tars_floor(source: Path, _path: Path) -> int:
    """Read each member of each tar and decode each picture."""
    count = 0
    for path in sorted(source.iterdir()):
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                data = file.read()
                if member.name.endswith(".jpg"):
                    Image.open(io.BytesIO(data)).load()
                    count += 1
    return count


def hf_floor(source: Path, _path: Path) -> int:
    """Read each column of each file and decode each picture."""
    count = 0
    for path in sorted(source.iterdir()):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=100):
            batch["caption"].to_pylist()
            for image in batch["image"].to_pylist():
                Image.open(io.BytesIO(image["bytes"])).load()
            count += batch.num_rows
    return count


def by_datatrove(source: Path, folder: Path) -> int:
    """Read the lines and write Parquet, as a pipeline of datatrove does in one process."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    reader = JsonlReader(str(source.parent), glob_pattern=source.name)
    count = 0
    with ParquetWriter(str(folder), compression="zstd") as writer:
        for document in reader():
            writer.write(document)
            count += 1
    return count


def decoder_start(picture: bytes) -> Cost:
    """Return what it costs to start a decoding child, hand it one picture and end it."""
    from flows.ingest import decoding
    from flows.workers import Workers

    def started() -> int:
        with Workers(1, isolated=True) as workers:
            batches = workers.map_batches(
                decoding.seen, [[("image", picture)]], list, decoding.crashed
            )
            return len(list(batches))

    started()
    return cost(started)


# ------------------------------------------------------------------ rows


def json_row(given: argparse.Namespace, folder: Path) -> None:
    """JSON lines; floor: parse, digest, write Parquet, hash, fsync. datatrove where installed."""
    source = write_lines(folder / "texts.jsonl", texts(range(given.texts)))
    tiny = write_lines(folder / "tiny.jsonl", texts(range(TINY)))
    works = [ingest_by_id, lines_floor]
    if find_spec("datatrove"):
        works.append(by_datatrove)
    calls = [partial(fresh, after_warm_up, work, source, tiny) for work in works]
    ours, floor, *peers = in_turn(given.repeats, *calls)
    report_both("JSON lines", ours, floor, 1.6)
    for peer in peers:
        report_both("JSON lines against datatrove", ours, peer, 1 / 5)
    if not peers:
        print(f"| JSON lines against datatrove | {given.texts:,} "
              "| | | | datatrove is not installed: not compared |")  # fmt: skip


def parquet_row(given: argparse.Namespace, folder: Path) -> None:
    """Parquet of the same texts; floor: polars reads and writes it."""
    source = write_parquet(folder / "texts.parquet", given.texts)
    tiny = write_parquet(folder / "tiny.parquet", TINY)
    works = (ingest_by_id, parquet_floor)
    calls = [partial(fresh, after_warm_up, work, source, tiny) for work in works]
    report_both("Parquet texts", *in_turn(given.repeats, *calls), 3)


def tars_row(given: argparse.Namespace, folder: Path) -> None:
    """WebDataset tars of pictures; floor: tarfile and Pillow, in one process."""
    pictures_row("tars", write_tars, tars_floor, given, folder)


def hf_row(given: argparse.Namespace, folder: Path) -> None:
    """Hugging Face Parquet of pictures; floor: pyarrow and Pillow, in one process."""
    pictures_row("Hugging Face Parquet", write_hf, hf_floor, given, folder)


def pictures_row(
    what: str,
    write: Callable[[Path, int, int], Path],
    floor: Work,
    given: argparse.Namespace,
    folder: Path,
) -> None:
    """Print pictures of both sizes, less the start-up of each side, which has rows of its own.

    Ingest with one worker decodes in one process, the child that it hands the pictures; so does
    the floor. The start-up is what the same work costs for TINY pictures, the least of all pairs;
    that of ours starts the child and commits.
    """
    for count, side_px in zip(given.pictures, SIDES_PX, strict=True):
        source = write(folder / f"{side_px}px", count, side_px)
        tiny = write(folder / f"tiny-{side_px}px", TINY, side_px)
        began, whole = (
            in_turn(
                given.repeats,
                *(partial(fresh, after_warm_up, work, of, tiny) for work in (ingest, floor)),
            )
            for of in (tiny, source)
        )
        report_both(f"{what}, {side_px} px, start-up", *began)
        ours, theirs = (
            [less_start_up(cost, start) for cost in costs]
            for costs, start in zip(whole, began, strict=True)
        )
        report_both(f"{what}, {side_px} px", ours, theirs, 2, 2)
    [picture] = pictures(1, SIDES_PX[0])
    started: list[Cost] = [fresh(decoder_start, picture) for _ in range(given.repeats)]
    report_alone("start of a decoding child, wall s", 1, [c.wall for c in started], 0.5)


def less_start_up(whole: Cost, began: Sequence[Cost]) -> Cost:
    cpu, wall = min(c.cpu for c in began), min(c.wall for c in began)
    return whole._replace(cpu=whole.cpu - cpu, wall=whole.wall - wall)


def workers_row(given: argparse.Namespace, folder: Path) -> None:
    """Wall seconds of two workers; floor: CPU seconds of one."""
    inputs = {
        f"{FILES} files of JSON lines": (
            write_files(folder / "lines", given.texts),
            write_files(folder / "tiny-lines", TINY),
            {"id": "id"},
            0.6,
        ),
        f"{FILES} tars, {SIDES_PX[0]} px": (
            write_tars(folder / "tars", given.pictures[0], SIDES_PX[0]),
            write_tars(folder / "tiny-tars", TINY, SIDES_PX[0]),
            {},
            0.6,
        ),
        "one plain file of JSON lines": (
            write_lines(folder / "texts.jsonl", texts(range(given.texts))),
            write_lines(folder / "tiny.jsonl", texts(range(TINY))),
            {"id": "id"},
            0.6,
        ),
        "one compressed file of JSON lines": (
            write_compressed(folder / "texts.jsonl.zst", given.texts),
            write_compressed(folder / "tiny.jsonl.zst", TINY),
            {"id": "id"},
            None,
        ),
    }
    for what, (source, tiny, options, goal) in inputs.items():
        calls = [
            partial(fresh, after_warm_up, partial(ingest, workers=n, **options), source, tiny)
            for n in (2, 1)
        ]
        two, one = in_turn(given.repeats, *calls)
        report(
            f"2 workers' wall s, 1 worker's CPU s: {what}",
            two[0].records,
            [c.wall for c in two],
            [c.cpu for c in one],
            goal,
        )


def growth_row(given: argparse.Namespace, folder: Path) -> None:
    """A pool of short records grows by 1 %; it is made by ingest, in VERSIONS versions."""
    source, store = folder / "short", folder / "store"
    source.mkdir()
    known = fresh(grown, source, store, given.known)
    write_short(source / "more.jsonl", range(known, known + max(1, known // 100)))
    seconds = []
    for number in range(given.repeats):
        copy = folder / f"store-{number}"
        # What a store holds is written once: only the names are copied.
        shutil.copytree(store, copy, copy_function=os.link)
        seconds.append(fresh(seconds_to_first_record, source, copy))
    report_alone("growth by 1 %: seconds to the first record", known, seconds, 5)
    sizes = [fresh(known_bytes, store) for _ in range(given.repeats)]
    report_alone("growth by 1 %: bytes of memory a known record", known, sizes, 24)


def write_short(path: Path, numbers: range) -> None:
    with path.open("w") as lines:
        lines.writelines(
            f'{{"id": "short-{i:010d}", "text": "caption of picture {i}"}}\n' for i in numbers
        )


def grown(source: Path, store: Path, count: int) -> int:
    """Make a pool by ingests that each add a file; return its records."""
    made = 0
    for file, numbers in enumerate(shares(count, VERSIONS)):
        write_short(source / f"{file:05d}.jsonl", numbers)
        made += ingest_by_id(source, store)
    return made


def seconds_to_first_record(source: Path, store: Path) -> float:
    """Return how long an ingest takes until its first batch of records is read."""
    from flows.ingest.ingest import SourceSpec, ingest
    from flows.reporter import Progress
    from storage.source import Columns, find
    from storage.store import Store

    def read(path: Path, into: Path) -> float:
        spec, times = SourceSpec(find(path), "bench", Columns(id="id")), []
        progress = Progress(show=lambda *_: times.append(time.perf_counter()))
        opened, start = Store(into), time.perf_counter()
        with opened.lease():
            ingest(opened, "bench", spec, progress=progress)
        return times[0] - start

    with tempfile.TemporaryDirectory() as folder:
        tiny = write_lines(Path(folder) / "tiny.jsonl", texts(range(TINY)))
        read(tiny, Path(folder) / "store")
    return read(source, store)


def known_bytes(store: Path) -> float:
    """Return by how much RssAnon grows with the index of known records, per record."""
    from flows.ingest.known import Known
    from storage.store import Store
    from storage.tables import load_pool

    pool = load_pool(Store(store), "bench")
    assert pool is not None
    gc.collect()
    before = status_mb("RssAnon")
    known = Known(Store(store), pool)
    gc.collect()
    after = status_mb("RssAnon")
    del known
    return (after - before) * 2**20 / pool.records


def update_row(given: argparse.Namespace, folder: Path) -> None:
    """`update` with a tenth of the records changed; floor: a first ingest of the same records."""
    numbers = range(given.updated)
    first = write_lines(folder / "first.jsonl", texts(numbers))
    changed = write_lines(folder / "changed.jsonl", texts(numbers, changed=5))
    source = folder / "source"
    source.mkdir()
    ours, floor = [], []
    for number in range(given.repeats):
        store = folder / f"store-{number}"
        shutil.copyfile(first, source / "texts.jsonl")
        floor.append(fresh(updated, source, store, False))
        shutil.copyfile(changed, source / "texts.jsonl")
        ours.append(fresh(updated, source, store, True))
    wanted = len(range(5, given.updated, 10))
    if {c.records for c in ours} != {wanted}:
        raise SystemExit(f"changed: {wanted:,}, taken: {ours}")
    ours = [c._replace(records=given.updated) for c in ours]
    report_both("update of 10 %", ours, floor, 1.3, 1.3)


def updated(source: Path, store: Path, update: bool) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_lines(Path(folder) / "tiny.jsonl", texts(range(TINY)))
        ingest_by_id(tiny, Path(folder) / "store")
        write_lines(tiny, texts(range(TINY), changed=5))
        ingest_by_id(tiny, Path(folder) / "store", update=True)
    return cost(lambda: ingest_by_id(source, store, update=update))


def memory_row(given: argparse.Namespace, folder: Path) -> None:
    """Peaks of memory at two sizes; floor: the smaller one."""

    def lines(path: Path, count: int) -> Path:
        return write_lines(path.with_suffix(".jsonl"), texts(range(count)))

    kinds = {
        "JSON lines": (lines, ingest_by_id),
        f"tars, {SIDES_PX[0]} px": (partial(write_tars, side_px=SIDES_PX[0]), ingest),
    }
    small, large = given.memory
    for what, (write, work) in kinds.items():
        anonymous, resident = [], []
        for count in (small, large):
            source = write(folder / f"{what}-{count}", count)
            hwm, peak = watched(peak_resident_mb, work, source, folder / f"{what}-store-{count}")
            anonymous.append(peak)
            resident.append(hwm)
        said = f"memory, {what}, {small:,} to {large:,}"
        report(f"{said}: peak RssAnon MB", large, anonymous[1:], anonymous[:1], 1.1)
        report_alone(f"{said}: peak RssAnon MB", large, anonymous[1:], 600)
        report(f"{said}: VmHWM MB of the first process", large, resident[1:], resident[:1])


def peak_resident_mb(work: Work, source: Path, store: Path) -> float:
    work(source, store)
    return status_mb("VmHWM")


def start_row(given: argparse.Namespace, folder: Path) -> None:
    """Seconds of commands that read a small store."""
    write_lines(folder / "texts.jsonl", texts(range(TINY)))
    fresh(stages, folder)
    program = Path(sys.executable).with_name("winnow")
    for words in (["why", "document-00000001"], [], ["ls"]):
        seconds = []
        for _ in range(given.repeats):
            start = time.perf_counter()
            subprocess.run([program, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        report_alone(f"`{' '.join(['winnow', *words])}`, wall s", TINY, seconds, 1)


def whole_row(given: argparse.Namespace, folder: Path) -> None:
    """A run stage by stage, CPU seconds; floor: the methods called directly, polars for the rest.

    The stage ingest has rows of its own and no floor here: the sums leave it out.
    """
    write_lines(folder / "texts.jsonl", texts(range(given.texts)))
    ours, floor = [], []
    for _ in range(given.repeats):
        shutil.rmtree(folder / ".winnow", ignore_errors=True)
        ran, kept = fresh(stages_after_warm_up, folder)
        called, wanted = fresh(direct_after_warm_up, folder)
        if kept != wanted:
            raise SystemExit(f"not the same work: the run keeps {kept:,}, the calls {wanted:,}")
        ours.append(ran)
        floor.append(called)
    for name in ours[0]:
        what, seconds = f"whole: {name}, CPU s", [found[name] for found in ours]
        if name in floor[0]:
            report(what, given.texts, seconds, [found[name] for found in floor])
        else:
            report_alone(what, given.texts, seconds)
    sums = [
        [sum(seconds for name, seconds in found.items() if name != "ingest") for found in side]
        for side in (ours, floor)
    ]
    report("whole: all but ingest, CPU s", given.texts, *sums, 1.3)


def stages_after_warm_up(folder: Path) -> tuple[dict[str, float], int]:
    with tempfile.TemporaryDirectory() as tiny:
        write_lines(Path(tiny) / "texts.jsonl", texts(range(TINY)))
        stages(Path(tiny))
    return stages(folder)


def direct_after_warm_up(folder: Path) -> tuple[dict[str, float], int]:
    with tempfile.TemporaryDirectory() as tiny:
        direct(write_lines(Path(tiny) / "texts.jsonl", texts(range(TINY))))
    return direct(folder / "texts.jsonl")


class Stages:
    """CPU seconds by name: each lasts until the next begins."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._since = "", cpu_seconds()

    def begin(self, name: str) -> None:
        """End what lasts and begin another."""
        now = cpu_seconds()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = name, now


def stages(folder: Path) -> tuple[dict[str, float], int]:
    """Run RECIPE beside its texts; return CPU seconds by stage and method, and records kept."""
    from flows import run as runs
    from flows.options import Options
    from flows.recipe.sections import read
    from flows.reporter import Reporter
    from storage.store import Store

    recipe = folder / "whole.toml"
    recipe.write_text(RECIPE)
    run = Stages()
    run.begin("plan")
    reporter = Reporter(
        stage=run.begin, table=lambda table, _: run.begin(OF_TEXT if table in ROWWISE else table)
    )
    options = Options(until="export", reporter=reporter)
    result = runs.run(read(recipe), Store(folder / ".winnow"), options)
    run.begin("")
    return run.seconds, result["kept"]


def direct(path: Path) -> tuple[dict[str, float], int]:
    """Do what RECIPE does to texts in memory by calls; return what `stages` does."""
    import winnow

    rows = pl.read_ndjson(path).with_row_index("uid").cast({"uid": pl.UInt64})
    steps = {name: winnow.method(name) for name in METHODS}
    run = Stages()
    run.begin(OF_TEXT)
    words = steps["caption_stats"](rows)
    digests = steps["content_hash"](rows.select("uid", payload="text"), mode="text")
    signatures = steps["minhash_signature"](rows)
    run.begin("annotate.same")
    same = steps["exact_clusters"](digests)
    run.begin("annotate.minhash_clusters")
    near = steps["minhash_clusters"](signatures.rename({"values": "signature"}))
    run.begin("select")
    enough = (words["words"] >= 3) & (words["letter_ratio"] > 0.5)
    kept = same.filter(enough).select("uid", "cluster")
    kept = near.join(steps["one_per_cluster"](kept), on="uid", how="semi")
    kept = steps["one_per_cluster"](kept.select("uid", "cluster"))
    run.begin("export")
    with tempfile.TemporaryDirectory() as folder:
        kept_rows = rows.join(kept, on="uid", how="semi")
        kept_rows.write_parquet(Path(folder) / "kept.parquet", compression="zstd")
    run.begin("")
    return run.seconds, kept.height


ROWS = {
    "json": json_row,
    "parquet": parquet_row,
    "tars": tars_row,
    "hf": hf_row,
    "workers": workers_row,
    "growth": growth_row,
    "update": update_row,
    "memory": memory_row,
    "start": start_row,
    "whole": whole_row,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="\n".join(
            f"{name}: {row.__doc__.partition(chr(10))[0]}" for name, row in ROWS.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="all by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--pictures", type=int, nargs=2, default=(20_000, 2_000),
                        help="of 64 px, and of 512 px")  # fmt: skip
    parser.add_argument("--known", type=int, default=10_000_000, help="records of growth's pool")
    parser.add_argument("--updated", type=int, default=100_000)
    parser.add_argument("--memory", type=int, nargs=2, default=(20_000, 400_000))
    given = parser.parse_args(arguments)
    print("| what | size | ours | floor | ratio | goal |\n|" + "---|" * 6)
    for name in given.rows or ROWS:
        with tempfile.TemporaryDirectory() as folder:
            ROWS[name](given, Path(folder))


if __name__ == "__main__":
    main()
