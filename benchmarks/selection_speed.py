"""Selectors and neighbours against their peers and floors: seconds of the processor in one run.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.selection_speed [SECTION ...]

facility_location: 20,000 records of 256 numbers in 50 clusters, 2,000 picks, beside one pass over
    all pairs (the bare product of all vectors); on lists of 64 neighbours; and 10,000 records
    beside apricot-select 0.6.1 and submodlib-py, where these are installed.
certificate: of 10,000 of 100,000 records, all that it tells, beside two products of its sample with
    all records.
nearest_neighbours: 100,000 records in 2,000 clusters, by 2 and 4 probes of 1,024 centroids, beside
    the exact search from 2,000 records, and beside faiss's inverted file of 8-bit codes with 2, 8
    and 32 probes: each with the fastest of ours whose recall is no lower.
simcore: 100,000 records, a target of 5,000, a tenth of the records, beside the conversion of the
    vectors, their product with the centroids and one partial sort for each of these.
k_center: 100,000 records, 500 picks, beside the bare distances of all records to all picks, a pick
    at a time.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl

from contracts.uid import uniform
from curation.annotate.entry_matches import entry_matches
from curation.annotate.nearest_centroid import nearest_centroid
from curation.annotate.nearest_neighbours import nearest_neighbours
from curation.certificate import certify
from curation.fit.kmeans import kmeans
from curation.select.balance_entries import balance_entries
from curation.select.facility_location import facility_location
from curation.select.k_center import k_center
from curation.select.simcore import simcore
from flows.workers import one_thread

DIMENSIONS = 256


def clustered(records: int, clusters: int) -> pl.DataFrame:
    """Return `uid` and unit vectors around random centers, in half precision."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((clusters, DIMENSIONS), dtype=np.float32)
    x = centers[rng.integers(0, clusters, records)]
    x += 0.8 * rng.standard_normal((records, DIMENSIONS), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    vector = pl.Series(x.astype(np.float16), dtype=pl.Array(pl.Float16, DIMENSIONS))
    return pl.DataFrame({"uid": np.arange(records, dtype=np.uint64), "vector": vector})


def timed(name: str, work: Callable[[], Any], floor: float | None = None) -> tuple[float, Any]:
    """Run it; print the seconds of the processor, and their ratio to a floor."""
    start = time.process_time()
    result = work()
    took = time.process_time() - start
    print(f"{name}: {took:.2f} s" + (f", {took / floor:.2f} of it" if floor else ""), flush=True)
    return took, result


def vectors(rows: pl.DataFrame) -> np.ndarray:
    """Return the vectors in single precision."""
    return rows["vector"].to_numpy().astype(np.float32)


def measure_facility_location() -> None:
    """Print the seconds beside one pass over all pairs, on lists, and beside the peers."""
    rows = clustered(20_000, 50)
    x = vectors(rows)
    floor, _ = timed("one pass over all pairs", lambda: _products_with(x, x))
    pick = facility_location.bind(budget=2000)
    timed("facility_location of all pairs", lambda: pick(rows, None, None), floor)
    lists = nearest_neighbours(rows.with_columns(group=0), k=64)
    near = facility_location.bind(budget=2000, similarity="neighbours")
    timed("facility_location of 64 neighbours", lambda: near(lists, None, None), floor)

    rows = clustered(10_000, 50)
    x = vectors(rows)
    pick = facility_location.bind(budget=1000)
    ours, kept = timed("\n10,000: facility_location", lambda: pick(rows, None, None))
    similar = np.maximum(x @ x.T, 0)
    print(f"its value: {similar[kept['uid'].to_numpy()].max(axis=0).sum():.1f}")
    for name, run in (("apricot", _apricot), ("submodlib", _submodlib)):
        if find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        took, chosen = timed(name, lambda run=run: run(similar, 1000))
        print(f"  {took / ours:.1f} times ours, value {similar[chosen].max(axis=0).sum():.1f}")


def _apricot(similar: np.ndarray, count: int) -> np.ndarray:
    from apricot import FacilityLocationSelection

    selection = FacilityLocationSelection(count, metric="precomputed", optimizer="lazy")
    ranking: np.ndarray = selection.fit(similar).ranking
    return ranking


def _submodlib(similar: np.ndarray, count: int) -> list[int]:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(
        n=len(similar), mode="dense", sijs=similar, separate_rep=False
    )
    return [row for row, _ in function.maximize(budget=count, optimizer="LazyGreedy")]


def measure_certificate() -> None:
    """Print the seconds of a certificate, and the floor: the products that it cannot do without."""
    rows = clustered(100_000, 2000)
    x = vectors(rows)
    uids = rows["uid"].to_numpy()
    dropped_by = np.where(uniform(uids, 0, "bench") < 0.1, 1, 0).astype(np.int64)
    floor, _ = timed("two products", lambda: [_products_with(x, x[:2000]) for _ in range(2)])
    halves = rows["vector"].to_numpy()
    _, found = timed("certificate", lambda: certify(halves, uids, dropped_by, rules=1), floor)
    print(f"value {found.value:.4f}, bound {found.bound:.4f}, percentile {found.percentile:.3f}")


def _products_with(x: np.ndarray, some: np.ndarray) -> float:
    return sum(float((x[a : a + 1024] @ some.T)[0, 0]) for a in range(0, len(x), 1024))


def measure_nearest_neighbours() -> None:
    """Print the recall at 10 and the seconds, exact search and faiss beside them."""
    rows = clustered(100_000, 2000)
    x = vectors(rows)
    queries = np.random.default_rng(1).choice(len(x), 2000, replace=False)

    def exactly() -> np.ndarray:
        scores = x[queries] @ x.T
        scores[np.arange(len(queries)), queries] = -2
        return np.argpartition(-scores, 10, axis=1)[:, :10]

    took, truth = timed("exact search from 2,000", exactly)
    exact = took * len(x) / len(queries)
    print(f"exact search from all, extrapolated: {exact:.1f} s")

    def recall(found: Any) -> float:
        pairs = zip(truth, found, strict=True)
        return sum(len(set(a) & set(b)) for a, b in pairs) / truth.size

    fitted, centroids = timed("kmeans", lambda: kmeans(rows, num_clusters=1024, iterations=10))

    def search(probes: int) -> pl.DataFrame:
        near = nearest_centroid(rows, centroids, probes=probes)
        return nearest_neighbours(rows.with_columns(group=near["probes"]), k=10)

    ours: list[tuple[float, float]] = []
    for probes in (2, 4):
        took, lists = timed(f"{probes} probes", lambda probes=probes: search(probes))
        ours.append((recall(lists["neighbours"].gather(queries).to_list()), took))
        print(f"  recall {ours[-1][0]:.4f}; {exact / (fitted + took):.1f} times exact with kmeans")
    if find_spec("faiss") is None:
        print("faiss is not installed")
        return
    import faiss

    faiss.omp_set_num_threads(1)
    quantizer = faiss.IndexFlatIP(DIMENSIONS)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, DIMENSIONS, 1024, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    timed("faiss: train and add", lambda: (index.train(x[::2]), index.add(x)))
    for index.nprobe in (2, 8, 32):
        took, (_, found) = timed(f"faiss, {index.nprobe} probes", lambda: index.search(x, 11))
        lines = zip(queries, found[queries], strict=True)
        theirs = recall([line[line != row][:10] for row, line in lines])
        beaten = min((mine for value, mine in ours if value >= theirs), default=None)
        said = "more than ours" if beaten is None else f"ours takes {beaten / took:.2f} of it"
        print(f"  recall {theirs:.4f}; {said}")


def measure_simcore() -> None:
    """Print the seconds beside what no search can leave out, with and without the centroids."""
    rows, target = clustered(100_000, 200), clustered(5000, 20)
    budget = rows.height // 10
    fitting, centroids = timed("k-means of the target", lambda: kmeans(target, num_clusters=100))
    of = vectors(centroids)
    x = rows["vector"].to_numpy()

    def bare() -> np.ndarray:
        blocks = [x[a : a + 1024].astype(np.float32) @ of.T for a in range(0, len(x), 1024)]
        scores = np.concatenate(blocks).T
        return np.argpartition(-scores, budget // len(of), axis=1)

    floor, _ = timed("conversion, product and partial sort", bare)
    ours, _ = timed("simcore", lambda: simcore(rows, target, budget=budget), floor)
    print(f"without the k-means: {(ours - fitting) / floor:.2f} of it")


def measure_k_center() -> None:
    """Print the seconds beside the distances to each pick."""
    rows = clustered(100_000, 200)
    x = vectors(rows)
    ours, kept = timed("k_center", lambda: k_center(rows, budget=500))
    picks = kept["uid"].to_numpy()
    lengths = np.einsum("ij,ij->i", x, x)

    def bare() -> np.ndarray:
        nearest = np.full(len(x), np.inf, dtype=np.float32)
        for pick in picks:
            np.minimum(nearest, lengths + lengths[pick] - 2 * (x @ x[pick]), out=nearest)
        return nearest

    floor, _ = timed("the bare distances", bare)
    print(f"k_center takes {ours / floor:.2f} of it")


def measure_entry_matches() -> None:
    """Print the seconds a caption in both modes, beside the peer and the naive loop."""
    rng = np.random.default_rng(0)
    # Frequencies as of words: the n-th in proportion to 1 / n.
    odds = 1 / np.arange(1, 30_001)
    words = np.array([f"w{n:x}" for n in range(30_000)])
    drawn = words[rng.choice(30_000, (600_000, 3), p=odds / odds.sum())]
    names = [*words, *(" ".join(one[: 2 + n % 2]) for n, one in enumerate(drawn))]
    names = list(dict.fromkeys(names))[:500_000]
    texts = [" ".join(one) for one in words[rng.choice(30_000, (100_000, 10), p=odds / odds.sum())]]
    metadata = pl.DataFrame({"entry": np.arange(len(names), dtype=np.uint32), "name": names})
    rows = pl.DataFrame({"uid": np.arange(len(texts), dtype=np.uint64), "text": texts})
    print(f"{len(names):,} names, {len(texts):,} captions")
    entry_matches(rows[:9], metadata[:9])  # compiles
    ours: dict[str, tuple[float, pl.Series]] = {}
    for mode in ("reference", "improved"):
        search = entry_matches.bind(mode=mode)
        timed(f"{mode}: table of names", lambda search=search: search(rows[:1], metadata))
        took, found = timed(mode, lambda search=search: search(rows, metadata))
        ours[mode] = took, found["entries"]
    took, expected = ours["reference"]
    print(f"  {expected.list.len().mean():.1f} matches a caption")
    some = [[e for e, name in enumerate(names) if f" {name} " in f" {text} "] for text in texts[:3]]
    assert some == expected[:3].to_list()
    naive, _ = timed(
        "a search for each name in 50 captions",
        lambda: [[name for name in names if f" {name} " in text] for text in texts[:50]],
    )
    print(f"  {naive / 50 * len(texts) / took:,.0f} times ours")
    if find_spec("ahocorasick") is None:
        print("pyahocorasick is not installed")
        return
    import ahocorasick

    automaton = ahocorasick.Automaton()
    for entry, name in enumerate(names):
        automaton.add_word(f" {name} ", entry)
    timed("pyahocorasick: its automaton", automaton.make_automaton)
    marks = {mark: f" {mark} " for mark in ",.;:?!`"} | dict.fromkeys("\t\n\r", " ")
    table = str.maketrans(marks)
    direct, found = timed(
        "pyahocorasick",
        lambda: [{e for _, e in automaton.iter(f" {text} ".translate(table))} for text in texts],
    )
    assert [sorted(one) for one in found] == expected.to_list()
    print(f"  {direct / took:.1f} times ours in the reference mode")


def measure_balance_entries() -> None:
    """Print the seconds of 20 million matches, beside a loop over some, and with a budget."""
    rng = np.random.default_rng(0)
    records = 5_000_000
    entries = (125_000 * rng.random((records, 4)) ** 4).astype(np.uint32) * 4
    entries = np.sort(entries + np.arange(4, dtype=np.uint32), axis=1)
    lists = pl.Series(entries, dtype=pl.Array(pl.UInt32, 4)).cast(pl.List(pl.UInt32))
    rows = pl.DataFrame({"uid": np.arange(records, dtype=np.uint64), "entries": lists})
    balance = balance_entries.bind(cap=200)
    balance(rows[:9])  # compiles
    took, _ = timed("balance_entries of 20,000,000 matches", lambda: balance(rows))
    some = entries[:500_000].tolist()

    def loop() -> list[float]:
        count = Counter(entry for one in some for entry in one)
        return [1 - math.prod(1 - min(1, 200 / count[entry]) for entry in one) for one in some]

    python, _ = timed("a loop of Python over 2,000,000", loop)
    print(f"  {10 * python / took:.1f} times ours")
    timed("balance_entries to a budget", lambda: balance(rows, budget=1_000_000), took)


SECTIONS = {
    "facility_location": measure_facility_location,
    "certificate": measure_certificate,
    "nearest_neighbours": measure_nearest_neighbours,
    "entry_matches": measure_entry_matches,
    "balance_entries": measure_balance_entries,
    "simcore": measure_simcore,
    "k_center": measure_k_center,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    one_thread()
    for section in parser.parse_args().sections or SECTIONS:
        print(f"\n## {section}\n")
        SECTIONS[section]()
