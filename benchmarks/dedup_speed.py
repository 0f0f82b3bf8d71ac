"""Speed of deduplication against the libraries that people use, one thread each.

Each section is a ratio within one run on the same input. Where a peer would take minutes it is
timed on a part, and the table says that it is extrapolated. What works record by record is timed
in a process for each core too; `radius` and `semantic` take threads: OMP_NUM_THREADS=2.

    python -m benchmarks.dedup_speed [signatures] [clusters] [hashes] [radius] [semantic] [slopes]

Peers: datasketch, faiss (core or extra `cpu`), rensa, ImageHash: pip install rensa ImageHash.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

# Before any library reads them.
THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, THREADS)

import argparse
import io
import itertools
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from PIL import Image

from benchmarks.embed import photographs
from contracts import decode
from curation import _shingles
from curation.annotate.hamming_clusters import hamming_clusters
from curation.annotate.minhash_clusters import bands_of, minhash_clusters
from curation.annotate.minhash_signature import minhash_signature
from curation.annotate.nearest_centroid import nearest_centroid
from curation.annotate.perceptual_hash import perceptual_hash
from curation.annotate.semantic_duplicates import semantic_duplicates
from curation.fit.kmeans import kmeans

Work = Callable[[list[Any]], None]

REPEATS = 3
NOT_INSTALLED = "not installed"


def best_of(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the least seconds of several runs."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def rows(**columns: Any) -> pl.DataFrame:
    """Return columns under uids from 0."""
    frame = pl.DataFrame(columns)
    return frame.with_columns(uid=pl.int_range(frame.height, dtype=pl.UInt64))


def documents(count: int, words: int = 300, seed: int = 0) -> list[str]:
    """Texts of a vocabulary with Zipf's law, some 2.6 kB each."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(
        ["".join(rng.choice(letters, size=int(n))) for n in rng.integers(4, 13, 20_000)]
    )
    order = np.minimum(rng.zipf(1.2, size=(count, words)), len(vocabulary)) - 1
    return [" ".join(vocabulary[line]) for line in order]


def python_shingles(text: str) -> list[str]:
    """5-word shingles, as users of the peers make them."""
    words = text.split()
    return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]


def sign(texts: list[str]) -> None:
    minhash_signature(rows(text=texts))


def sign_by_rensa(texts: list[str]) -> None:
    from rensa import RMinHash

    for text in texts:
        sketch = RMinHash(num_perm=128, seed=0)
        sketch.update(python_shingles(text))
        sketch.digest()


def hash_pictures(files: list[bytes]) -> None:
    decode.forget()
    perceptual_hash(rows(image=files))


def hash_by_imagehash(files: list[bytes]) -> None:
    import imagehash

    for data in files:
        imagehash.phash(Image.open(io.BytesIO(data)))


_held: list[Any] = []


def hold(inputs: list[Any]) -> None:
    _held.extend(inputs)


def work_on_held(work: Work) -> None:
    work(_held)


def on_all_cores(inputs: list[Any], ours: Work, peer: str, theirs: Work) -> None:
    """Print what a process for each core makes of the inputs in a second, of us and of a peer.

    Each process holds its part before the clock starts, as a worker reads its own.
    """
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    speeds = []
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, hold, (inputs[i::cores] * 4,)))
            for i in range(cores)
        ]
        for work in (ours, theirs) if find_spec(peer) else (ours,):

            def all_work(work: Work = work) -> None:
                for future in [pool.submit(work_on_held, work) for pool in pools]:
                    future.result()

            all_work()
            speeds.append(4 * len(inputs) / best_of(all_work))
    line = f"\n{cores} processes: {speeds[0]:,.0f} a second"
    for speed in speeds[1:]:
        line += f", {peer} {speed:,.0f}: {speeds[0] / speed:.1f} times"
    print(line + ".")


def signatures() -> None:
    """Text to signature of 128 values: documents a second."""
    from datasketch import MinHash

    texts = documents(4000)
    frame = rows(text=texts)
    minhash_signature(frame)  # compiled, loaded
    ours = len(texts) / best_of(lambda: minhash_signature(frame))

    def by_datasketch() -> None:
        for text in texts[:200]:
            MinHash(num_perm=128).update_batch([s.encode() for s in python_shingles(text)])

    theirs = 200 / best_of(by_datasketch)
    size = np.mean([len(t) for t in texts])
    print(f"\n## MinHash: {len(texts):,} documents of {size:,.0f} bytes, 300 words, 128 values\n")
    print("| from text | documents/s | ours is |\n|---|---|---|")
    print(f"| winnow, fast | {ours:,.0f} | |")
    print(f"| datasketch update_batch | {theirs:,.0f} | {ours / theirs:.1f} times |")
    if find_spec("rensa"):
        rensa = len(texts) / best_of(lambda: sign_by_rensa(texts))
        print(f"| rensa RMinHash | {rensa:,.0f} | {ours / rensa:.1f} times |")
    else:
        print(f"| rensa RMinHash | {NOT_INSTALLED} | |")
    _on_shingles(texts)
    on_all_cores(texts, sign, "rensa", sign_by_rensa)
    _errors()


def _on_shingles(texts: list[str]) -> None:
    """Hashed shingles to signatures, as arrays on both sides."""
    ((_, tokens),) = list(_shingles.blocks(pl.Series(texts[:300]), "word"))
    grams = _shingles.shingles(tokens, 5)
    hashes = np.concatenate(
        [grams.hashes[a:b] for a, b in zip(grams.starts, grams.ends, strict=True)]
    )
    ends = np.cumsum(grams.ends - grams.starts)
    starts = np.append(0, ends[:-1])
    count = 20
    hashes = np.tile(hashes, count)
    starts = np.concatenate([starts + i * ends[-1] for i in range(count)])
    ends = np.concatenate([ends + i * ends[-1] for i in range(count)])
    values = np.zeros((len(starts), 128), dtype=np.uint32)
    offsets = np.arange(128, dtype=np.uint64)
    kernel = _shingles.kernels().one_permutation
    kernel(hashes[: ends[0]], starts[:1], ends[:1], offsets, values[:1])
    ours = len(starts) / best_of(lambda: kernel(hashes, starts, ends, offsets, values))
    print("\n| from hashed shingles | documents/s | ours is |\n|---|---|---|")
    print(f"| winnow, fast | {ours:,.0f} | |")
    if not find_spec("rensa"):
        print(f"| rensa RMinHash | {NOT_INSTALLED} | |")
        return
    from rensa import RMinHash

    limits = np.append(0, ends).astype(np.uint64)
    digests = RMinHash.digest_matrix_from_flat_token_hashes
    theirs = len(starts) / best_of(lambda: digests(hashes, limits, 128, 0))
    print(f"| rensa RMinHash, flat buffer | {theirs:,.0f} | {ours / theirs:.2f} times |")


def _errors() -> None:
    """Root mean square error of the estimate, over pairs of every similarity."""
    rng = np.random.default_rng(1)
    left, right, truth = [], [], []
    for _ in range(1500):
        shared, own = int(rng.integers(0, 240)), 300
        base = rng.integers(0, 10**9, own)
        other = np.append(base[:shared], rng.integers(0, 10**9, own - shared))
        pair = [" ".join(f"w{n}" for n in words) for words in (base, other)]
        sets = [set(python_shingles(text)) for text in pair]
        left.append(pair[0])
        right.append(pair[1])
        truth.append(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    print("\n| mode | root mean square error, 128 values, 1,500 pairs |\n|---|---|")
    for mode in ("fast", "datasketch"):
        a, b = (
            minhash_signature(rows(text=t), mode=mode)["values"].to_numpy() for t in (left, right)
        )
        error = np.sqrt(np.mean(((a == b).mean(axis=1) - truth) ** 2))
        print(f"| {mode} | {error:.4f} |")


def signature_table(count: int) -> pl.DataFrame:
    """Signatures of which a fifth is a near-duplicate of another: nine slots in ten."""
    rng = np.random.default_rng(0)
    values = np.empty((count, 128), dtype=np.uint32)
    copies = count // 5
    source = rng.integers(0, count - copies, copies)
    for a in range(0, count, 100_000):
        b = min(a + 100_000, count)
        values[a:b] = rng.integers(0, 2**32, (b - a, 128), dtype=np.uint32)
    for a in range(0, copies, 100_000):
        b = min(a + 100_000, copies)
        at = slice(count - copies + a, count - copies + b)
        values[at] = np.where(rng.random((b - a, 128)) < 0.9, values[source[a:b]], values[at])
    return rows(signature=pl.Series(values, dtype=pl.Array(pl.UInt32, 128)))


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cluster(count: int, verify: str) -> tuple[float, int, int, int]:
    """Return seconds, clusters, peak memory and that before the call; in a fresh process."""
    table = signature_table(count)
    minhash_clusters(table[:100], verify=verify)
    before = peak_bytes()
    start = time.perf_counter()
    found = minhash_clusters(table, verify=verify)
    took = time.perf_counter() - start
    return took, found["cluster"].n_unique(), peak_bytes(), before


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def clusters(count: int = 2_000_000, sample: int = 50_000) -> None:
    """Clusters of signatures against inserting into and querying an LSH index."""
    from datasketch import LeanMinHash, MinHashLSH

    table = signature_table(sample)["signature"].to_numpy()
    print(f"\n## Clusters of {count:,} signatures of 128 values, threshold 0.8\n")
    print(
        "| verify | bands x rows | seconds | clusters | peak GB (before) | datasketch, s | ours |"
    )
    print("|---|---|---|---|---|---|---|")
    for verify in ("none", "estimate"):
        bands = bands_of(128, 0.8, None, verify)  # type: ignore[arg-type]
        took, found, peak, before = fresh(cluster, count, verify)
        index = MinHashLSH(num_perm=128, params=bands)
        sketches = [LeanMinHash(seed=1, hashvalues=line, scheme="legacy") for line in table]
        start = time.perf_counter()
        for name, sketch in enumerate(sketches):
            index.insert(name, sketch)
        for sketch in sketches:
            index.query(sketch)
        theirs = (time.perf_counter() - start) * count / sample
        print(
            f"| {verify} | {bands[0]} x {bands[1]} | {took:.1f} | {found:,} | {peak / 1e9:.2f} "
            f"({before / 1e9:.2f}) | {theirs:,.0f} | {theirs / took:.0f} times |"
        )
    print(f"\ndatasketch: insert and query of {sample:,}, times {count // sample}, bands as ours.")


def crops(count: int, quality: int, **options: bool) -> list[bytes]:
    """JPEGs of 512 x 384 px cut out of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images

    photographs_2 = load_sample_images().images
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = photographs_2[number % 2]
        top, left = (
            int(rng.integers(0, n)) for n in (pixels.shape[0] - 384, pixels.shape[1] - 512)
        )
        file = io.BytesIO()
        window = Image.fromarray(pixels[top : top + 384, left : left + 512])
        window.save(file, "JPEG", quality=quality, **options)
        files.append(file.getvalue())
    return files


def hashes(count: int = 150) -> None:
    """JPEG bytes to pHash."""
    pools = {"grainy, 683 x 512, quality 90": photographs(count, 512)}
    if find_spec("sklearn"):
        for quality in (90, 75):
            pools[f"photographs, 512 x 384, quality {quality}"] = crops(count, quality)
        pools["the same, Huffman tables of their own"] = crops(count, 75, optimize=True)
    print(f"\n## JPEG bytes to pHash: {count} pictures, pictures a second\n")
    print("| | kB | winnow, fast | ImageHash with Pillow | Pillow's decode alone, at 1/8 | "
          "cv2's | ours, checked | bits apart from ImageHash, median, 95th |\n"
          "|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, files in pools.items():
        _hashes(name, files)
    on_all_cores(files, hash_pictures, "imagehash", hash_by_imagehash)


def _hashes(name: str, files: list[bytes]) -> None:
    frame = rows(image=files)
    perceptual_hash(frame[:2])

    def ours() -> pl.DataFrame:
        decode.forget()
        return perceptual_hash(frame)

    def by_pillow() -> None:
        for data in files:
            image = Image.open(io.BytesIO(data))
            image.draft("L", (48, 48))
            image.load()

    def by_cv2() -> None:
        for data in files:
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)

    def by_us() -> None:
        decode.forget()
        for data in files:
            decode.reduced(data, 48, "L")

    speed, *decoders = (len(files) / best_of(work, 5) for work in (ours, by_pillow, by_cv2, by_us))
    peer = NOT_INSTALLED
    if find_spec("imagehash"):
        per_s = len(files) / best_of(lambda: hash_by_imagehash(files))
        peer = f"{per_s:,.0f}: {speed / per_s:.1f} times"
    fast, full = ours()["bits"], perceptual_hash(frame, mode="imagehash")["bits"]
    apart = np.bitwise_count(fast.to_numpy() ^ full.to_numpy())
    size = np.mean([len(data) for data in files]) / 1000
    cells = (
        name,
        f"{size:.0f}",
        f"{speed:,.0f}",
        peer,
        *(f"{alone:,.0f}: {speed / alone:.0%}" for alone in decoders),
        f"{np.median(apart):.0f}, {np.percentile(apart, 95):.0f}",
    )
    print("| " + " | ".join(cells) + " |")


def bit_table(count: int) -> pl.DataFrame:
    """Random 64-bit hashes, a tenth of them within 6 bits of another."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, count, dtype=np.uint64)
    near = count // 10
    flips = np.zeros(near, dtype=np.uint64)
    for _ in range(6):
        flips |= np.uint64(1) << rng.integers(0, 64, near, dtype=np.uint64)
    bits[count - near :] = bits[rng.integers(0, count - near, near)] ^ flips
    return rows(bits=bits)


def radius(count: int = 1_000_000, sample: int = 2000) -> None:
    """All pairs within 6 bits."""
    table = bit_table(count)
    hamming_clusters(table[:10_000])
    ours = best_of(lambda: hamming_clusters(table, max_distance=6), 1)
    print(f"\n## Hamming radius 6 over {count:,} hashes of 64 bits\n")
    print("| | seconds | ours is |\n|---|---|---|")
    print(f"| winnow, exact | {ours:.1f} | |")
    if not find_spec("faiss"):
        print(f"| faiss | {NOT_INSTALLED} | |")
        return
    import faiss

    faiss.omp_set_num_threads(int(THREADS))
    codes = table["bits"].to_numpy().view(np.uint8).reshape(-1, 8)
    flat = faiss.IndexBinaryFlat(64)
    flat.add(codes)
    start = time.perf_counter()
    flat.range_search(codes[-sample:], 7)
    flat_s = (time.perf_counter() - start) * count / sample
    name = f"faiss IndexBinaryFlat, from {sample:,} queries"
    print(f"| {name} | {flat_s:,.0f} | {flat_s / ours:.0f} times |")
    # Seven substrings of 9 bits: two hashes within 6 bits agree in one of them.
    multi = faiss.IndexBinaryMultiHash(64, 7, 9)
    multi.add(codes)
    few = sample // 20
    start = time.perf_counter()
    multi.range_search(codes[-few:], 7)
    multi_s = (time.perf_counter() - start) * count / few
    name = f"faiss IndexBinaryMultiHash, 7 of 9 bits, full recall, from {few} queries"
    print(f"| {name} | {multi_s:,.0f} | {multi_s / ours:.0f} times |")


def vector_table(count: int, width: int) -> pl.DataFrame:
    """Half-precision vectors around some thousand directions, a tenth of them near-copies."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, width), dtype=np.float32)
    x = np.empty((count, width), dtype=np.float16)
    for a in range(0, count, 20_000):
        b = min(a + 20_000, count)
        noise = rng.standard_normal((b - a, width), dtype=np.float32)
        block = centres[rng.integers(0, 1000, b - a)] + noise
        x[a:b] = block / np.linalg.norm(block, axis=1, keepdims=True)
    near = count // 10
    x[count - near :] = x[rng.integers(0, count - near, near)]
    return rows(vector=pl.Series(x, dtype=pl.Array(pl.Float16, width)))


def semantic(
    count: int = 200_000, width: int = 512, centroids: int = 1000, iterations: int = 5
) -> None:
    """SemDeDup with the k-means it needs, against the matrix products of both."""
    table = vector_table(count, width)
    kmeans(table[:2000], num_clusters=4, iterations=1)
    start = time.perf_counter()
    model = kmeans(table, num_clusters=centroids, iterations=iterations)
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    assigned = nearest_centroid(table, model)
    assigned_s = time.perf_counter() - start
    grouped = table.with_columns(group=assigned["centroid"])
    semantic_duplicates(grouped[:1000])
    with growth() as grew:
        start = time.perf_counter()
        semantic_duplicates(grouped)
        found = time.perf_counter() - start

    x = np.ascontiguousarray(table["vector"].to_numpy(), dtype=np.float32)
    c = np.ascontiguousarray(model["vector"].to_numpy(), dtype=np.float32)

    def products() -> None:
        for a in range(0, len(x), 4096):
            (x[a : a + 4096] @ c.T).argmax(axis=1)

    one = best_of(products)
    drawn = min(1.0, 256 * centroids / count)
    number = assigned["centroid"].to_numpy()
    x = x[np.argsort(number, kind="stable")]
    ends = np.cumsum(np.bincount(number, minlength=centroids))

    def groups() -> None:
        for start, stop in itertools.pairwise([0, *ends.tolist()]):
            if stop > start:
                (x[start:stop] @ x[start:stop].T).max(axis=1)

    inside = best_of(groups)
    print(f"\n## Semantic duplicates: {count:,} vectors of {width}, {centroids:,} centroids\n")
    print("| | seconds | bare products, s | ratio |\n|---|---|---|---|")
    steps = {
        f"kmeans, {iterations} iterations": (fitted, one * drawn * iterations),
        "nearest_centroid": (assigned_s, one),
        "semantic_duplicates": (found, inside),
    }
    steps["all"] = tuple(map(sum, zip(*steps.values(), strict=True)))  # type: ignore[assignment]
    for name, (took, floor) in steps.items():
        print(f"| {name} | {took:.2f} | {floor:.2f} | {took / floor:.2f} |")
    needed = fitted + one + inside
    print(f"| all, against our k-means and bare products | {steps['all'][0]:.2f} | {needed:.2f} | "
          f"{steps['all'][0] / needed:.2f} |")  # fmt: skip
    print(f"\nsemantic_duplicates took {grew[0] / 1e6:,.0f} MB at most beside the vectors' "
          f"{count * width * 2 / 1e6:,.0f} MB.")  # fmt: skip


@contextmanager
def growth() -> Iterator[list[int]]:
    """Give a list that holds, afterwards, by how many bytes the resident memory rose at most."""
    grew, done = [0], threading.Event()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()

    def watch() -> None:
        while not done.wait(0.005):
            grew[0] = max(grew[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grew
    finally:
        done.set()
        watcher.join()


def slopes() -> None:
    """Cost against size on a log-log scale."""
    sizes = (10_000, 100_000, 1_000_000)
    works: dict[str, Callable[[int], float]] = {
        "minhash_signature (captions of 12 words)": _signature_s,
        "minhash_clusters, estimate": lambda n: fresh(cluster, n, "estimate")[0],
        "hamming_clusters, radius 6": _radius_s,
    }
    print("\n## Seconds by size\n")
    print("| | " + " | ".join(f"{n:,}" for n in sizes) + " | slope |\n|---|---|---|---|---|")
    for name, work in works.items():
        took = [work(n) for n in sizes]
        slope = np.polyfit(np.log(sizes), np.log(took), 1)[0]
        print(f"| {name} | " + " | ".join(f"{s:.2f}" for s in took) + f" | {slope:.2f} |")


def _signature_s(count: int) -> float:
    few = documents(10_000, words=12)
    frame = rows(text=few * (count // len(few)))
    minhash_signature(frame[:10])
    return best_of(lambda: minhash_signature(frame), 1 if count > 10**5 else REPEATS)


def _radius_s(count: int) -> float:
    table = bit_table(count)
    hamming_clusters(table[:10_000])
    return best_of(lambda: hamming_clusters(table), 1 if count > 10**5 else REPEATS)


SECTIONS = (signatures, clusters, hashes, radius, semantic, slopes)


def main() -> None:
    known = {section.__name__: section for section in SECTIONS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[[], *known], help="all by default")
    for name in parser.parse_args().sections or known:
        known[name]()


if __name__ == "__main__":
    main()
