"""How well duplicates are found where it is known which records are the same, beside its peers.

    python -m benchmarks.dedup_quality [emoji] [texts] [planted] [volumes] --data FOLDER

emoji: drawings of one concept by four vendors, skin tones, identical pictures; hashes beside
imagehash and imagededup. texts: licence texts, MinHash beside datasketch and datatrove. planted:
changed copies of pictures and texts. volumes: slices of MRI volumes, how many each measure of
`group_redundancy` keeps, and what an encoder learns from half of them. FOLDER holds the packs
emoji, cifar10, camvid, descriptions and hippocampus; without it, WINNOW_TEST_DATA names it. The
licence texts come with the package licensedcode-data. A peer that is not installed is named so.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import re
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from contracts import (
    _torchvision,  # noqa: F401 (before a peer imports torchvision)
    decode,
)
from contracts.decode import square
from contracts.errors import ConfigError
from contracts.report import Metric
from contracts.uid import digest_of, shuffled, uid_of
from curation import _shingles
from curation.annotate.group_redundancy import Measure, group_redundancy, threshold_table
from curation.annotate.hamming_clusters import hamming_clusters
from curation.annotate.minhash_clusters import minhash_clusters
from curation.annotate.minhash_signature import minhash_signature
from curation.annotate.perceptual_hash import perceptual_hash
from curation.annotate.semantic_clusters import semantic_clusters
from curation.annotate.semantic_duplicates import semantic_duplicates
from curation.select.random_sample import random_sample
from embeddings.color_layout import ColorLayout
from evaluation.features import Features
from evaluation.interval import paired, verdict
from evaluation.protocols.duplicates import duplicates
from evaluation.protocols.linear_probe import linear_probe
from flows.select.canaries import CORRUPT, IMAGES, NEAR_MISS, TEXTS, Planted
from pretraining.batches import batches
from pretraining.build import Part, build
from pretraining.train import train
from storage.source import Columns, Record, find
from storage.sources.volumes import Volumes

Numbers = NDArray[Any]
Labels = Mapping[str, Numbers]
Hash = Callable[[Sequence[bytes]], Numbers]
Apart = Callable[[int, int], Numbers]

STREAM = "dedup_quality"
BLOCK = 256
RADII = {1: (0, 4, 6, 8, 12), 4: (0, 16, 31, 40, 48)}
"""By the 64-bit words of a hash."""
CUTS = (2, 4, 6, 10, 15, 20)
"""Hundredths below a cosine of 1."""
SEEDS = (0, 1, 2)
NUM_PERM, NGRAM = 128, 5
NEAR = 0.8
VERIFY = ("none", "estimate", "text")
MODULES = {
    "datatrove": "datatrove.pipeline.dedup.minhash",
    "imagededup": "imagededup.methods",
    "licensedcode-data": "licensedcode",
}
"""What is imported of a package."""


def main() -> None:
    sections = {"emoji": emoji, "texts": texts, "planted": planted, "volumes": volumes}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections))
    parser.add_argument("--data", type=Path, default=os.environ.get("WINNOW_TEST_DATA"))
    options = parser.parse_args()
    if options.data is None or not set(options.sections) <= set(sections):
        parser.error(f"give --data or WINNOW_TEST_DATA, and sections of {', '.join(sections)}.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers
    for name in options.sections or sections:
        print(f"\n## {name}\n")
        sections[name](Path(options.data))


# ---------------------------------------------------------------------------------------- emoji


def emoji(data: Path) -> None:
    """Score hashes and vectors against vendors, concepts and identical pixels."""
    table = pl.read_parquet(data / "emoji" / "emoji.parquet")
    vendors, concepts = table["vendor"].to_list(), table["base_codepoint"].to_list()
    images = table["image"].struct.field("bytes").to_list()
    pixels = [digest_of(decode.picture(image).convert("RGBA").tobytes()) for image in images]
    identical = numbered(zip(vendors, pixels, strict=True))
    labels = {
        "identical": identical,
        "near": connected(identical, numbered(zip(vendors, concepts, strict=True))),
        "concept": connected(identical, numbered(concepts)),
    }
    wanted = {name: pairs_in(label) for name, label in labels.items()}
    print(
        f"{len(images):,} drawings of 64 px. identical: equal pixels of one vendor, "
        f"{wanted['identical']:,} pairs. near: these, and one vendor's skin tones of a concept, "
        f"{wanted['near']:,}. concept: these, and all drawings of a concept, "
        f"{wanted['concept']:,}. P, R, F1 of the pairs within a radius or above a cosine. Both "
        "peers drop the alpha channel, under which these drawings are black; `on white` gets them "
        "as our decoder lays them.\n"
    )
    measures = [f"{label} {share}" for label in ("near", "concept") for share in ("P", "R", "F1")]
    rows = pl.DataFrame({"image": images}).with_row_index("uid").cast({"uid": pl.UInt64})
    curves = {}

    def sweep(method: str, apart: Apart, steps: int, cuts: Mapping[float, int]) -> None:
        counts = {name: n.cumsum() for name, n in tally(apart, labels, steps).items()}
        curves[method] = np.array([counts["near"] / counts["all"], counts["near"] / wanted["near"]])
        for at, cut in cuts.items():
            scores = [
                share
                for label in ("near", "concept")
                for share in precision_recall_f1(
                    counts[label][cut], counts["all"][cut], wanted[label]
                )
            ]
            row(method, at, counts["identical"][cut] / wanted["identical"], *scores)

    head("method", "at", "identical R", *measures)
    hashed = {name: function(images) for name, function in hashes().items()}
    if not absent("imagehash"):
        on_white = [as_png(decode.image(image)) for image in images]
        hashed |= {f"imagehash {k}, on white": imagehash(k, on_white) for k in ("dhash", "phash")}
    for name, bits in hashed.items():
        radii = RADII[bits.shape[1]]
        sweep(name, hamming(bits), bits.shape[1] * 64 + 1, dict(zip(radii, radii, strict=True)))
    for missing in absent("imagehash", "imagededup"):
        print(f"| {missing} |")
    vectors = vectors_of(rows)
    for name, vector in vectors.items():
        sweep(name, cosines(vector), 202, {1 - cut / 100: cut - 1 for cut in CUTS})

    print("\nThe recall of near pairs of our hash of the same kind at the precision of a peer's:\n")
    head("peer", "radius", "P", "R", "ours R")
    for name, curve in curves.items():
        if not name.startswith(("ours", *vectors)):
            kind = name.split()[1].strip(",").lower()
            for radius in (2, 6, 10):
                precision, recall = curve[:, radius]
                row(name, radius, precision, recall, recall_at(precision, curves[f"ours {kind}"]))
    if not absent("imagededup"):
        few = hashed["imagededup PHash"][:3000]
        counts = tally(hamming(few), {}, 65)["all"]
        print(
            f"\nOf the first {len(few):,} drawings find_duplicates of imagededup returns "
            f"{find_duplicates(few, 10):,} pairs within 10; its hashes compared here have "
            f"{counts[:11].sum():,}."
        )

    print("\nThe pairs that share one of our clusters:\n")
    head("method", "at", "near P", "near R", "near F1", "concept F1")

    def clustered(method: str, at: float, clusters: Iterable[int]) -> None:
        found = numbered(clusters)
        near, concept = (
            duplicates(found, labels[name], samples=200) for name in ("near", "concept")
        )
        row(method, at, near["precision"].value, near["recall"].value, near["f1"], concept["f1"])

    for name, bits in hashed.items():
        if name.startswith("ours"):
            at = rows.select("uid", bits=pl.Series([word.tobytes() for word in bits]))
            for rule in ("components", "exemplar"):
                for radius in RADII[bits.shape[1]]:
                    found = hamming_clusters(at, max_distance=radius, rule=rule)
                    clustered(f"{name}, {rule}", radius, found["cluster"])
    for name, vector in vectors.items():
        measured = semantic_duplicates(rows.select("uid", vector=vector, group=pl.lit(0)))
        for cut in CUTS:
            found = semantic_clusters(measured, threshold=1 - cut / 100)
            clustered(f"{name}, semantic_clusters", 1 - cut / 100, found["cluster"])


def vectors_of(rows: pl.DataFrame) -> dict[str, pl.Series]:
    """Return the vectors of each encoder that is installed."""
    found = {"color_layout": ColorLayout()(rows)["vector"]}
    try:
        from embeddings.efficientnet_lite import EfficientnetLite

        encoder = EfficientnetLite("cpu", side_px=96)
    except ConfigError as error:
        print(f"| {error} |")
    else:
        found["efficientnet_lite at 96 px"] = encoder(rows)["vector"]
    return found


def as_png(pixels: Numbers) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# --------------------------------------------------------------------------------------- hashes


def hashes() -> dict[str, Hash]:
    """Return what makes words (N, W) of pictures: ours, and the peers that are installed."""
    found: dict[str, Hash] = {
        f"ours {kind}": partial(our_hash, kind) for kind in ("dhash", "phash", "pdq")
    }
    if not absent("imagehash"):
        found |= {f"imagehash {kind}": partial(imagehash, kind) for kind in ("dhash", "phash")}
    if not absent("imagededup"):
        found |= {f"imagededup {kind}": partial(imagededup, kind) for kind in ("DHash", "PHash")}
    return found


def our_hash(kind: str, images: Sequence[bytes]) -> Numbers:
    rows = pl.DataFrame({"uid": np.arange(len(images), dtype=np.uint64), "image": images})
    bits = perceptual_hash(rows, kind=kind)["bits"]
    if kind == "pdq":
        return np.frombuffer(b"".join(bits), dtype=np.uint64).reshape(len(images), -1)
    return bits.to_numpy().reshape(-1, 1)


def imagehash(kind: str, images: Sequence[bytes]) -> Numbers:
    function = getattr(importlib.import_module("imagehash"), kind)
    return as_words(str(function(Image.open(io.BytesIO(image)))) for image in images)


def imagededup(kind: str, images: Sequence[bytes]) -> Numbers:
    """Encode pictures as `encode_image` does with a file."""
    method = getattr(importlib.import_module("imagededup.methods"), kind)(verbose=False)
    pictures = (Image.open(io.BytesIO(one)).convert("RGBA").convert("RGB") for one in images)
    return as_words(method.encode_image(image_array=np.asarray(one)) for one in pictures)


def find_duplicates(words: Numbers, radius: int) -> int:
    """Return how many pairs imagededup finds within the radius."""
    method = importlib.import_module("imagededup.methods").PHash(verbose=False)
    encodings = {str(at): f"{word:016x}" for at, word in enumerate(words[:, 0].tolist())}
    found = method.find_duplicates(
        encoding_map=encodings, max_distance_threshold=radius, num_dist_workers=0
    )
    return sum(map(len, found.values())) // 2


def as_words(hexadecimal: Iterable[str]) -> Numbers:
    return np.array([int(text, 16) for text in hexadecimal], dtype=np.uint64).reshape(-1, 1)


def hamming(words: Numbers) -> Apart:
    return lambda start, stop: distances(words[start:stop], words[start:])


def distances(a: Numbers, b: Numbers) -> Numbers:
    return cast(Numbers, np.bitwise_count(a[:, None] ^ b).sum(axis=2, dtype=np.int64))


def cosines(vector: pl.Series) -> Apart:
    """Return which hundredth below 1 the cosine of a pair lies in, 201 where a vector is null."""
    known = vector.is_not_null().to_numpy()
    x_ND = np.zeros((len(vector), len(vector.drop_nulls()[0])), dtype=np.float32)
    x_ND[known] = vector.drop_nulls().to_numpy()
    x_ND[known] /= np.linalg.norm(x_ND[known], axis=1, keepdims=True)

    def apart(start: int, stop: int) -> Numbers:
        cosine = x_ND[start:stop] @ x_ND[start:].T
        steps = np.clip((1 - cosine) * 100, 0, 200).astype(np.int64)
        return np.where(known[start:stop, None] & known[start:], steps, 201)

    return apart


# ------------------------------------------------------------------------------- pairs and peers


def tally(apart: Apart, labels: Labels, steps: int) -> dict[str, Numbers]:
    """Return how many pairs are so many steps apart: of all, and of those of equal label.

    Args:
        apart: gives the steps of the rows from start to stop with all rows from start on.
        labels: of each row.
        steps: how many there are.
    """
    found = {name: np.zeros(steps, dtype=np.int64) for name in ("all", *labels)}
    start = 0
    while len(distance := apart(start, start + BLOCK)):
        pairs = np.triu(np.ones(distance.shape, dtype=bool), 1)
        found["all"] += np.bincount(distance[pairs], minlength=steps)
        for name, label in labels.items():
            same = pairs & (label[start : start + BLOCK, None] == label[start:])
            found[name] += np.bincount(distance[same], minlength=steps)
        start += BLOCK
    return found


def numbered(values: Iterable[Any]) -> Numbers:
    """Return a number for each value, equal for equal ones."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values])


def pairs_in(label: Numbers) -> int:
    sizes = np.bincount(label)
    return int((sizes * (sizes - 1) // 2).sum())


def connected(one: Numbers, other: Numbers) -> Numbers:
    """Return a label for each record, equal where a chain of equal labels of either kind leads."""
    count = len(one)
    records = np.arange(count)
    size = count + one.max() + 1
    ends = np.concatenate([one + count, other + size])
    return components(size + other.max() + 1, np.tile(records, 2), ends)[:count]


def components(count: int, a: Numbers, b: Numbers) -> Numbers:
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    return cast(Numbers, connected_components(graph, directed=False)[1])


def precision_recall_f1(right: float, joined: float, wanted: float) -> tuple[float, float, float]:
    return right / joined if joined else 1.0, right / wanted, 2 * right / (joined + wanted)


def recall_at(precision: float, curve: Numbers) -> float:
    """Return the largest recall at a precision or above, linear between points of (P, R)."""
    precisions, recalls = curve[:, np.argsort(curve[0])]
    best = np.maximum.accumulate(recalls[::-1])[::-1]
    return float(np.interp(precision, precisions, best, right=np.nan))


@cache
def absent(*peers: str) -> list[str]:
    """Return which of some packages cannot be imported, and why."""
    missing = []
    for name in peers:
        try:
            importlib.import_module(MODULES.get(name, name))
        except ImportError as error:
            missing.append(f"{name}: not installed ({error})")
    return missing


def head(*names: str) -> None:
    print(f"| {' | '.join(names)} |\n|---|" + "---:|" * (len(names) - 1))


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(shown, cells))} |", flush=True)


def shown(cell: object) -> str:
    if isinstance(cell, Metric):
        return f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]"
    if isinstance(cell, float | np.floating):
        return "–" if np.isnan(cell) else f"{cell:.3f}"
    return str(cell)


# ---------------------------------------------------------------------------------------- texts


def texts(_: Path) -> None:
    """Score MinHash clusters of licence texts by label, exact similarity and exact copies."""
    if absent("licensedcode-data"):
        print(*absent("licensedcode-data"))
        return
    table = licences()
    labels = {
        "copies": numbered(" ".join(words_of(text)) for text in table["text"]),
        "licence": numbered(table["label"]),
    }
    a, b, similarity = similar_pairs(table["text"])
    a_near, b_near = a[similarity >= NEAR], b[similarity >= NEAR]
    has_twin = np.isin(np.arange(table.height), np.concatenate([a_near, b_near]))
    print(
        f"{table.height:,} licence texts and notices longer than 200 characters. copies: equal "
        f"words, {pairs_in(labels['copies']):,} pairs. twins: the {has_twin.sum():,} texts that "
        f"have another with an exact Jaccard similarity of their {NGRAM}-grams of words of {NEAR} "
        "or more; R: those that share a cluster with one, P: these of all that share a cluster. "
        f"pairs: the {len(a_near):,} pairs that are so similar. licence: B-cubed, by the "
        f"{table['label'].n_unique():,} licence expressions. Means over {len(SEEDS)} seeds of the "
        "hashes. `exact` joins all pairs that are as similar as the threshold.\n"
    )

    def scores(clusters: Numbers) -> Numbers:
        met = clusters[a_near] == clusters[b_near]
        with_twin = len(np.unique(np.concatenate([a_near[met], b_near[met]])))
        together = np.bincount(clusters)[clusters] > 1
        copies, licence = (
            duplicates(clusters, labels[name], samples=1) for name in ("copies", "licence")
        )
        return np.array(
            [
                copies["recall"].value,
                with_twin / max(1, together.sum()),
                with_twin / has_twin.sum(),
                met.sum() / max(1, pairs_in(clusters)),
                met.mean(),
                licence["bcubed_precision"].value,
                licence["bcubed_recall"].value,
            ]
        )

    def mean(clusters: Callable[[int], Numbers]) -> Numbers:
        return cast(Numbers, np.mean([scores(clusters(seed)) for seed in SEEDS], axis=0))

    signed = {
        (num_perm, seed): table.with_columns(
            signature=minhash_signature(table, num_perm=num_perm, seed=seed)["values"]
        )
        for num_perm in (NUM_PERM, 112)
        for seed in SEEDS
    }

    def ours(num_perm: int = NUM_PERM, **parameters: Any) -> Numbers:
        step = minhash_clusters.bind(**parameters)
        return mean(lambda seed: numbered(step(signed[num_perm, seed])["cluster"]))

    shown_at = (0.6, 0.7, 0.8, 0.9)
    columns = [f"{of} {share}" for of in ("twins", "pairs", "licence") for share in "PR"]
    head("method", "threshold", "copies R", *columns)
    for threshold in shown_at:
        near = similarity >= threshold
        row("exact", threshold, *scores(components(table.height, a[near], b[near])))
    thresholds = np.arange(0.5, 0.96, 0.05).round(2).tolist()
    sweep = {
        verify: {at: ours(verify=verify, threshold=at) for at in thresholds} for verify in VERIFY
    }
    for verify, found in sweep.items():
        for at in shown_at:
            row(f"ours, {verify}", at, *found[at])
    for verify in ("none", "estimate"):
        row(
            f"ours, {verify}, 14 bands of 8",
            0.72,
            *ours(112, verify=verify, threshold=0.72, bands=14),
        )
    peers = {}
    sketches = {seed: sketched(table["text"], NGRAM, seed) for seed in SEEDS}
    for at in shown_at:
        peers["datasketch MinHashLSH", at] = mean(
            lambda seed, at=at: lsh(sketches[seed], threshold=at)  # type: ignore[misc]
        )
    peers["datasketch MinHashLSH, 14 bands of 8", 0.72] = mean(
        lambda seed: lsh(sketches[seed], params=(14, 8))
    )
    if not absent("datatrove"):
        grams = datatrove_shingles(table["text"])
        peers["datatrove, 14 buckets of 8", 0.72] = mean(partial(datatrove, grams))
    for (name, at), found_by_peer in peers.items():
        row(name, at, *found_by_peer)
    for missing in absent("datatrove"):
        print(f"| {missing} |")

    print("\nOur recall at the precision of a peer, between thresholds of 0.5 to 0.95:\n")
    head("peer", "threshold", "of", "P", "R", *(f"ours, {verify}, R" for verify in VERIFY))
    for (name, at), theirs in peers.items():
        for what, place in (("twins", 1), ("licence", 5)):
            precision, recall = theirs[place : place + 2]
            curves = [np.array(list(found.values())).T for found in sweep.values()]
            best = [recall_at(precision, curve[place : place + 2]) for curve in curves]
            row(name, at, what, precision, recall, *best)


def licences() -> pl.DataFrame:
    """Return uid, text and licence label of the texts longer than 200 characters."""
    module = importlib.import_module("licensedcode")
    folder = Path(next(iter(module.__path__))) / "data"
    rows = []
    for path in sorted([*folder.glob("licenses/*.LICENSE"), *folder.glob("rules/*.RULE")]):
        # The fields stand between two lines of dashes, the text after them.
        _, fields, text = [*path.read_text("utf-8").split("---\n", 2), "", ""][:3]
        label = re.search(r"^(?:license_expression|key): *(.+)$", fields, re.MULTILINE)
        if label and len(text.strip()) > 200:
            rows.append((text.strip(), label[1]))
    table = pl.DataFrame(rows, schema=["text", "label"], orient="row")
    return table.with_row_index("uid").cast({"uid": pl.UInt64})


def similar_pairs(texts: Iterable[str]) -> tuple[Numbers, Numbers, Numbers]:
    """Return all pairs with a Jaccard similarity of their n-grams of 0.5 or more, and that."""
    known: dict[str, int] = {}
    sets = [
        [known.setdefault(gram, len(known)) for gram in set(_shingles.grams(text, "word", NGRAM))]
        for text in texts
    ]
    sizes = np.array([len(one) for one in sets])
    columns = np.array([gram for one in sets for gram in one])
    rows = np.repeat(np.arange(len(sets)), sizes)
    x = csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)))
    parts = []
    for start in range(0, len(sets), BLOCK):
        both = (x[start : start + BLOCK] @ x.T).toarray()
        share = both / (sizes[start : start + BLOCK, None] + sizes - both)
        a, b = np.nonzero(np.triu(share >= 0.5, start + 1))
        parts.append((a + start, b, share[a, b]))
    a, b, share = (np.concatenate(part) for part in zip(*parts, strict=True))
    return a, b, share


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def sketched(texts: Iterable[str], ngram: int, seed: int) -> list[Any]:
    """Return datasketch's MinHash of each text's n-grams of words in lower case."""
    from datasketch import MinHash

    sketches = []
    for text in texts:
        words = words_of(text)
        grams = {" ".join(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1))}
        sketches.append(MinHash(num_perm=NUM_PERM, seed=seed + 1))
        sketches[-1].update_batch([gram.encode() for gram in grams])
    return sketches


def lsh(sketches: Sequence[Any], **settings: Any) -> Numbers:
    """Return the components of what MinHashLSH finds for each text."""
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=NUM_PERM, **settings)
    for at, sketch in enumerate(sketches):
        index.insert(at, sketch)
    edges = [(at, other) for at, sketch in enumerate(sketches) for other in index.query(sketch)]
    a, b = np.array(edges).T
    return components(len(sketches), a, b)


def datatrove_step(seed: int) -> Any:
    """Return its first stage as FineWeb sets it: 5-grams, 14 buckets of 8, SHA-1 of 64 bits."""
    minhash = importlib.import_module("datatrove.pipeline.dedup.minhash")
    hashing = minhash.HashConfig(hash_fc="sha1", precision=64)
    config = minhash.MinhashConfig(hash_config=hashing, seed=seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        return minhash.MinhashDedupSignature(folder, config)


def datatrove_shingles(texts: Iterable[str]) -> list[Numbers]:
    step = datatrove_step(0)
    return [step.get_shingles(text) for text in texts]


def datatrove(shingles: Sequence[Numbers], seed: int) -> Numbers:
    """Return the components of equal buckets, which its later stages call clusters."""
    step = datatrove_step(seed)
    first: dict[tuple[int, ...], int] = {}
    edges = [(0, 0)]
    for at, grams in enumerate(shingles):
        # A text of fewer than five words has no shingle.
        for bucket, values in enumerate(step.get_signature(grams) if len(grams) else ()):
            edges.append((at, first.setdefault((bucket, *values), at)))
    a, b = np.array(edges).T
    return components(len(shingles), a, b)


# -------------------------------------------------------------------------------------- planted


def planted(data: Path) -> None:
    """Plant changed copies of pictures and texts, and count those that are found."""
    plant_pictures("CIFAR-10, 32 px", list(pictures(data / "cifar10", -1)), 1000)
    plant_pictures("CamVid, 240 x 180 px", list(pictures(data / "camvid", 0)), 300)
    plant_pictures("photographs, 300 to 1,400 px", list(photographs()), 100)
    plant_texts(data / "descriptions" / "descriptions.parquet", 3000)


def pictures(folder: Path, part: int) -> Iterator[tuple[bytes, str]]:
    """Yield each JPEG of the tars, and its class: a part of its key."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and member.name.endswith(".jpg"):
                    yield file.read(), member.name[:-4].split("_")[part]


def photographs() -> Iterator[tuple[bytes, str]]:
    """Yield the photographs that scikit-learn and scikit-image bring along, each its own class."""
    names = {"astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"}
    names |= {"china", "flower", "hubble_deep_field", "ihc", "moon", "retina", "rocket"}
    for package, folder in (("sklearn", "datasets/images"), ("skimage", "data")):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            print(f"{package}: not installed\n")
            continue
        for path in sorted((Path(spec.origin).parent / folder).iterdir()):
            if path.stem in names and path.suffix in (".png", ".jpg"):
                yield path.read_bytes(), path.name


def plant_pictures(what: str, pictures: Sequence[tuple[bytes, str]], count: int) -> None:
    """Print which share of the copies, and of pictures of other classes, is within each radius."""
    images = [image for image, _ in pictures]
    of_class = numbered(name for _, name in pictures)
    chosen = shuffled(np.arange(len(images), dtype=np.uint64), 0, STREAM)[:count]
    drawn = [
        Planted("", {"image": images[at]}, {"image": images[other]})
        for at, other in zip(chosen, np.roll(chosen, 1), strict=True)
    ]
    kinds = [kind for kind in IMAGES if kind not in ("copy", CORRUPT)]
    copies = {kind: [IMAGES[kind](one) for one in drawn] for kind in kinds}
    print(
        f"{what}: copies of {len(chosen):,} pictures. another class: of all {len(images):,} "
        "pictures, those that have one of another class within the radius.\n"
    )
    head("method", "radius", *kinds, "another class")
    for name, function in hashes().items():
        bits = function(images)
        apart = {
            kind: np.bitwise_count(function(made) ^ bits[chosen]).sum(axis=1)
            for kind, made in copies.items()
        }
        apart["another class"] = nearest_other(bits, of_class)
        for radius in RADII[bits.shape[1]]:
            row(name, radius, *(np.mean(far <= radius) for far in apart.values()))
    for missing in absent("imagehash", "imagededup"):
        print(f"| {missing} |")
    print()


def nearest_other(bits: Numbers, label: Numbers) -> Numbers:
    """Return each row's distance to the nearest row of another label."""
    nearest = []
    for start in range(0, len(bits), BLOCK):
        apart = distances(bits[start : start + BLOCK], bits)
        apart[label[start : start + BLOCK, None] == label] = 64 * bits.shape[1]
        nearest.append(apart.min(axis=1))
    return np.concatenate(nearest)


def plant_texts(path: Path, count: int) -> None:
    """Print which share of edited texts MinHash joins to their originals."""
    table = pl.read_parquet(path).filter(lang="en")
    table = table.unique("source", keep="first", maintain_order=True)
    chosen = shuffled(np.arange(table.height, dtype=np.uint64), 0, STREAM)[:count]
    originals = table["text"].gather(chosen).to_list()
    drawn = [
        Planted("", {"uid": at, "text": text}, {"text": originals[at - 1]})
        for at, text in enumerate(originals)
    ]
    edits, halves = ([TEXTS[kind](one) for one in drawn] for kind in ("edit", NEAR_MISS))
    pools = originals + edits, originals + halves
    print(
        f"Package descriptions: {count:,} English texts, each of another source, "
        f"{np.median([len(text.split()) for text in originals]):.0f} words in the median. edit: "
        f"one word in twenty is replaced, one at least. {NEAR_MISS}: the second half is another "
        "text's. J >= t: edited texts whose exact similarity reaches the threshold, all that can "
        "be asked for. originals: those that share a cluster with another original.\n"
    )
    head("method", "n", "threshold", "J >= t", "edit", "edit, J >= t", NEAR_MISS, "originals")
    for ngram in (5, 3, 2):
        kept, changed = (
            [set(_shingles.grams(text, "word", ngram)) for text in part]
            for part in (originals, edits)
        )
        exact = np.array([len(x & y) / len(x | y) for x, y in zip(kept, changed, strict=True)])
        line = partial(text_line, ngram, exact)
        signed = [signatures(pool, ngram) for pool in pools]
        for verify in VERIFY:
            for at in (0.5, 0.65, 0.8):
                step = minhash_clusters.bind(threshold=at, verify=verify, ngram=ngram)
                line(f"ours, {verify}", at, *(numbered(step(rows)["cluster"]) for rows in signed))
        sketches = [sketched(pool, ngram, 0) for pool in pools]
        for at in (0.5, 0.65, 0.8):
            line("datasketch MinHashLSH", at, *(lsh(some, threshold=at) for some in sketches))
        if ngram == NGRAM and not absent("datatrove"):
            found = (datatrove(datatrove_shingles(pool), 0) for pool in pools)
            line("datatrove, 14 buckets of 8", 0.72, *found)
    for missing in absent("datatrove"):
        print(f"| {missing} |")


def signatures(texts: Sequence[str], ngram: int) -> pl.DataFrame:
    rows = pl.DataFrame({"text": texts}).with_row_index("uid").cast({"uid": pl.UInt64})
    return rows.with_columns(signature=minhash_signature(rows, ngram=ngram)["values"])


def text_line(
    ngram: int, exact: Numbers, method: str, at: float, edited: Numbers, halved: Numbers
) -> None:
    """Print a line; the clusters are of the originals, then of their copies."""
    count, within = len(exact), exact >= at
    found = edited[:count] == edited[count:]
    half = halved[:count] == halved[count:]
    shared = np.bincount(edited[:count])[edited[:count]] > 1
    means = (np.mean(of) for of in (within, found, found[within], half, shared))
    row(method, ngram, at, *means)


# -------------------------------------------------------------------------------------- volumes

KEPT: Mapping[Measure, tuple[float, ...]] = {
    "hash": (2, 4, 6, 8, 10, 16),
    "ssim": (0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    "mutual_information": (0.4, 0.35, 0.3, 0.25, 0.2, 0.15),
    "embedding": (0.99, 0.98, 0.97, 0.96, 0.95, 0.9),
    "every_nth": (2, 3, 4, 6, 8, 12),
}
"""Measures of `group_redundancy`, and thresholds at which to look."""
PARTS = {1: "anterior", 2: "posterior"}
SIDE_PX, BATCH, STEPS, LR, FEW = 32, 64, 300, 3e-3, 5
ENCODER = Part(name="small_cnn", parameters={"side_px": SIDE_PX})


def volumes(data: Path) -> None:
    """Print what each measure keeps of the slices, and what SimCLR learns from half of them."""
    images, maps = (slices(data / "hippocampus" / name) for name in ("images", "labels"))
    vector = ColorLayout()(images)["vector"]
    rows = images.with_columns(vector, group="series", order="position")
    print(
        f"{rows.height:,} axial slices of {rows['series'].n_unique()} MRI volumes of the "
        "hippocampus. Threshold, and the share of the slices that it keeps:\n"
    )
    print("| measure |" + " |" * 6 + "\n|---|" + "---:|" * 6)
    for measure, thresholds in KEPT.items():
        table = threshold_table(rows, measure=measure).drop("group").group_by("threshold").sum()
        kept = dict(table.select("threshold", pl.col("kept") / pl.col("records")).iter_rows())
        row(measure, *(f"{at:g}: {kept[at]:.2f}" for at in thresholds))
    learn(rows, np.array([parts_in(one) for one in maps.iter_rows(named=True)]))


def slices(folder: Path) -> pl.DataFrame:
    """Return the slices of a folder of volumes, as they enter a pool."""
    found = find(folder)
    source = Volumes(found.root, found.paths, Columns(slices=True))
    records = [one for unit in source.units() for one in source.records(unit)]
    columns = ("source_id", "image", "series", "position", "meta")
    table = pl.DataFrame(
        [{name: getattr(one, name) for name in columns} for one in records if type(one) is Record]
    )
    uids = [uid_of("hippocampus", name) for name in table["source_id"]]
    return table.with_columns(uid=pl.Series(uids, dtype=pl.UInt64))


def parts_in(slice_of_map: Mapping[str, Any]) -> str:
    """Return which parts of the hippocampus a slice of a label map holds."""
    grey = np.asarray(decode.picture(slice_of_map["image"]), dtype=np.float64)
    meta = slice_of_map["meta"]
    values = np.rint(grey * meta["slope"] + meta["intercept"])
    return " ".join(part for value, part in PARTS.items() if (values == value).any())


class Slices:
    """The records of an arm, as `pretraining.batches.Samples`."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.uids = rows["uid"].to_numpy()
        self.repeats = np.ones(rows.height, dtype=np.uint16)
        self._images = rows["image"]

    def read(self, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """Return the encoded pictures of some rows."""
        return {"image": self._images.gather(rows).to_list()}


def learn(rows: pl.DataFrame, parts: Numbers) -> None:
    """Print how well a linear probe tells the parts that a slice holds, per arm."""
    names = rows["series"].unique().sort()
    drawn = names.gather(shuffled(np.arange(len(names), dtype=np.uint64), 0, STREAM))
    third = len(names) // 3
    is_test, is_few = (
        rows["series"].is_in(some.implode()).to_numpy()
        for some in (drawn[:third], drawn[third : third + FEW])
    )
    own = rows.filter(~is_test)
    arms = {"all slices": own}
    for measure in KEPT:
        found = group_redundancy(own, measure=measure, target_ratio=0.5)
        arms[f"half by {measure}"] = own.filter(found["cluster"] == found["uid"])
    half = random_sample(own, budget_ratio=0.5)["uid"]
    arms["half at random"] = own.filter(own["uid"].is_in(half.implode()))
    pixels = [square(decode.reduced(image, SIDE_PX), SIDE_PX) for image in rows["image"]]
    x_BCHW = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def scores(arm: pl.DataFrame, steps: int) -> Numbers:
        """Return the accuracy with the labels of all training volumes and of few, (2, seeds)."""
        found = []
        for seed in SEEDS:
            encoder = pretrained(arm, steps, seed)
            with torch.inference_mode():
                x_ND = torch.cat([encoder(some) for some in torch.split(x_BCHW, BATCH)]).numpy()
            test = Features(x_ND[is_test], parts[is_test])
            labelled = (Features(x_ND[of], parts[of]) for of in (~is_test, is_few))
            found.append([linear_probe(some, test)["accuracy"].value for some in labelled])
        return np.array(found).T

    print(
        f"\nSimCLR, images of {SIDE_PX} px, batches of {BATCH}, {len(SEEDS)} seeds, on slices of "
        f"{len(names) - third} volumes; accuracy of a linear probe for which of the parts "
        f"({', '.join(PARTS.values())}, both, none) a slice holds, on {third} other volumes, with "
        f"the labels of all training volumes and of {FEW} (commonest class: "
        f"{max(np.unique(parts[is_test], return_counts=True)[1]) / is_test.sum():.3f}). Less all: "
        "the difference to all slices with all labels, seed by seed, and its 95 % interval.\n"
    )
    head("arm", "slices", "steps", "all labels", f"labels of {FEW}", "less all", "says")
    row("untrained", 0, 0, *scores(own, 0).mean(axis=1), "", "")
    baseline = scores(own, STEPS)
    row("all slices", own.height, STEPS, *baseline.mean(axis=1), "", "")
    for equal in ("steps", "epochs"):
        for name, arm in arms.items():
            if arm is own:
                continue
            steps = STEPS if equal == "steps" else round(STEPS * arm.height / own.height)
            accuracy = scores(arm, steps)
            difference = paired(accuracy[0], baseline[0])
            said = difference, verdict(difference)
            row(f"{name}, equal {equal}", arm.height, steps, *accuracy.mean(axis=1), *said)


def pretrained(arm: pl.DataFrame, steps: int, seed: int) -> torch.nn.Module:
    """Return the encoder after some steps of SimCLR; none gives the initial weights."""
    objective = build("simclr", {}, {"encoder": ENCODER}, seed=seed)
    if steps:
        train(
            objective,
            lambda start: batches(
                Slices(arm), codecs=objective.codecs, batch=BATCH,
                seed=seed, start=start, steps=steps,
            ),
            steps=steps, lr=LR, seed=seed,
        )  # fmt: skip
    return cast(torch.nn.Module, objective.eval().encoder)


if __name__ == "__main__":
    main()
