"""How well duplicates are found where it is known which records are the same, beside its peers.

    python -m benchmarks.dedup_quality [emoji] [texts] [planted] [volumes] --data FOLDER

emoji: drawings of one concept by four vendors, skin tones, identical pictures; hashes beside
imagehash and imagededup. texts: licence texts, MinHash beside datasketch and datatrove. planted:
changed copies of pictures and captions. volumes: slices of MRI volumes, how many each measure of
`group_redundancy` keeps, and what an encoder learns from those. FOLDER holds the packs emoji,
cifar10, camvid, descriptions and hippocampus; without it, the folder named in WINNOW_TEST_DATA.
The texts come with the package licensedcode-data. A peer that is not installed is named as such.
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
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from contracts import decode
from contracts.errors import ConfigError
from contracts.uid import digest_of, shuffled
from curation import _shingles
from curation.annotate.hamming_clusters import hamming_clusters
from curation.annotate.minhash_clusters import bands_of, minhash_clusters
from curation.annotate.minhash_signature import minhash_signature
from curation.annotate.perceptual_hash import perceptual_hash
from curation.annotate.semantic_clusters import semantic_clusters
from curation.annotate.semantic_duplicates import semantic_duplicates
from embeddings.color_layout import ColorLayout
from evaluation.protocols.duplicates import duplicates
from flows.canaries import IMAGES, NEAR_MISS, TEXTS, Planted

Numbers = NDArray[Any]
Labels = Mapping[str, Numbers]
Hash = Callable[[Sequence[bytes]], Numbers]

BLOCK = 256
NUM_PERM, NGRAM = 128, 5
RADII = {1: (0, 2, 4, 6, 8, 10, 12), 4: (0, 8, 16, 24, 31, 40, 48)}
"""By the 64-bit words of a hash."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
FINE = np.arange(0.3, 0.99, 0.02).round(2)


def main() -> None:
    sections = {"emoji": emoji, "texts": texts, "planted": planted}
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
    pixels = [digest_of(decode.image(image).tobytes()) for image in images]
    identical = numbered(zip(vendors, pixels, strict=True))
    labels = {
        "identical": identical,
        "near": joined(identical, numbered(zip(vendors, concepts, strict=True))),
        "concept": joined(identical, numbered(concepts)),
    }
    wanted = {name: pairs_in(label) for name, label in labels.items()}
    print(
        f"{len(images):,} drawings of 64 px. identical: equal pixels of one vendor, "
        f"{wanted['identical']:,} pairs. near: these, and one vendor's skin tones of a concept, "
        f"{wanted['near']:,}. concept: these, and all drawings of a concept, "
        f"{wanted['concept']:,}. A line is the pairs within a radius or above a cosine; of "
        "`components`, `exemplar` and `clusters` the pairs that share a cluster.\n"
    )
    measures = [f"{label} {letter}" for label in ("near", "concept") for letter in "PRF"]
    head("method", "at", "identical R", *measures)

    def line(method: str, at: float, right: Mapping[str, float], joined: float) -> None:
        scores = [
            share
            for label in ("near", "concept")
            for share in precision_recall_f1(right[label], joined, wanted[label])
        ]
        row(method, at, right["identical"] / wanted["identical"], *scores)

    rows = pl.DataFrame({"image": images}).with_row_index("uid").cast({"uid": pl.UInt64})
    for name, function in hashes().items():
        bits = function(images)
        counts = tally(hamming(bits), labels, bits.shape[1] * 64 + 1)
        for radius in RADII[bits.shape[1]]:
            within = {label: n[: radius + 1].sum() for label, n in counts.items()}
            line(name, radius, within, within["all"])
        if name.startswith("ours"):
            hashed = rows.select("uid", bits=pl.Series([word.tobytes() for word in bits]))
            for rule in ("components", "exemplar"):
                for radius in RADII[bits.shape[1]]:
                    found = hamming_clusters(hashed, max_distance=radius, rule=rule)["cluster"]
                    line(f"{name}, {rule}", radius, *of_clusters(found, labels))
    for missing in absent("imagehash", "imagededup"):
        print(f"| {missing} |")
    for name, vector in vectors_of(rows).items():
        counts = tally(cosines(vector), labels, 202)
        cuts = (2, 4, 6, 8, 10, 15, 20, 30)
        for cut in cuts:
            above = {label: n[:cut].sum() for label, n in counts.items()}
            line(name, 1 - cut / 100, above, above["all"])
        measured = semantic_duplicates(rows.select("uid", vector=vector, group=pl.lit(0)))
        for cut in cuts:
            found = semantic_clusters(measured, threshold=1 - cut / 100)["cluster"]
            line(f"{name}, clusters", 1 - cut / 100, *of_clusters(found, labels))


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


# --------------------------------------------------------------------------------------- hashes


def hashes() -> dict[str, Hash]:
    """Return what makes words (N, W) of pictures: ours, and the peers that are installed."""
    found: dict[str, Hash] = {
        f"ours {kind}": partial(own, kind) for kind in ("dhash", "phash", "pdq")
    }
    if not absent("imagehash"):
        found |= {f"imagehash {kind}": partial(of_imagehash, kind) for kind in ("dhash", "phash")}
    if not absent("imagededup"):
        found |= {f"imagededup {kind}": partial(of_imagededup, kind) for kind in ("DHash", "PHash")}
    return found


def own(kind: str, images: Sequence[bytes]) -> Numbers:
    rows = pl.DataFrame({"uid": np.arange(len(images), dtype=np.uint64), "image": images})
    bits = perceptual_hash(rows, kind=kind)["bits"]
    if kind == "pdq":
        return np.frombuffer(b"".join(bits), dtype=np.uint64).reshape(len(images), -1)
    return bits.to_numpy().reshape(-1, 1)


def of_imagehash(kind: str, images: Sequence[bytes]) -> Numbers:
    function = getattr(importlib.import_module("imagehash"), kind)
    return as_words(str(function(Image.open(io.BytesIO(image)))) for image in images)


def of_imagededup(kind: str, images: Sequence[bytes]) -> Numbers:
    """Encode as `encode_image` does with a file."""
    method = getattr(importlib.import_module("imagededup.methods"), kind)(verbose=False)
    pictures = (Image.open(io.BytesIO(i)).convert("RGBA").convert("RGB") for i in images)
    return as_words(method.encode_image(image_array=np.asarray(one)) for one in pictures)


def as_words(hexadecimal: Iterable[str]) -> Numbers:
    return np.array([int(text, 16) for text in hexadecimal], dtype=np.uint64).reshape(-1, 1)


def hamming(words: Numbers) -> Callable[[int, int], Numbers]:
    return lambda start, stop: distances(words[start:stop], words[start:])


def distances(a: Numbers, b: Numbers) -> Numbers:
    return np.bitwise_count(a[:, None] ^ b).sum(axis=2, dtype=np.int64)


def cosines(vector: pl.Series) -> Callable[[int, int], Numbers]:
    """Return which hundredth below 1 the cosine of a pair lies in, 201 where a vector is null."""
    known = vector.is_not_null().to_numpy()
    x_ND = np.zeros((len(vector), vector.dtype.shape[0]), dtype=np.float32)  # type: ignore[attr-defined]
    x_ND[known] = vector.drop_nulls().to_numpy()
    x_ND[known] /= np.linalg.norm(x_ND[known], axis=1, keepdims=True)

    def apart(start: int, stop: int) -> Numbers:
        cosine = x_ND[start:stop] @ x_ND[start:].T
        steps = np.clip((1 - cosine) * 100, 0, 200).astype(np.int64)
        return np.where(known[start:stop, None] & known[start:], steps, 201)

    return apart


# ------------------------------------------------------------------------------- pairs and peers


def tally(apart: Callable[[int, int], Numbers], labels: Labels, steps: int) -> dict[str, Numbers]:
    """Return how many pairs are so many steps apart: of all, and of those of equal label.

    Args:
        apart: gives the steps of the rows from start to stop with all rows from start on.
        labels: of each row.
        steps: how many there are.
    """
    count = len(next(iter(labels.values())))
    found = {name: np.zeros(steps, dtype=np.int64) for name in ("all", *labels)}
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        distance = apart(start, stop)
        pairs = np.triu(np.ones(distance.shape, dtype=bool), 1)
        found["all"] += np.bincount(distance[pairs], minlength=steps)
        for name, label in labels.items():
            same = pairs & (label[start:stop, None] == label[start:])
            found[name] += np.bincount(distance[same], minlength=steps)
    return found


def of_clusters(found: Any, labels: Labels) -> tuple[dict[str, float], float]:
    """Return how many pairs of each label share a cluster, and how many pairs do."""
    clusters = numbered(found)
    right = {}
    for name, label in labels.items():
        recall = duplicates(clusters, label, samples=1)["recall"]
        right[name] = recall.value * recall.n
    return right, pairs_in(clusters)


def numbered(values: Iterable[Any]) -> Numbers:
    """Return a number for each value, equal for equal ones."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values])


def pairs_in(label: Numbers) -> int:
    sizes = np.bincount(label)
    return int((sizes * (sizes - 1) // 2).sum())


def joined(*labels: Numbers) -> Numbers:
    """Return the components of the records that share a label of either kind."""
    count = len(labels[0])
    a, b, size = [], [], count
    for label in labels:
        a.append(np.arange(count))
        b.append(label + size)
        size += int(label.max()) + 1
    return components(size, np.concatenate(a), np.concatenate(b))[:count]


def components(count: int, a: Numbers, b: Numbers) -> Numbers:
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    found: Numbers = connected_components(graph, directed=False)[1]
    return found


def precision_recall_f1(right: float, joined: float, wanted: float) -> tuple[float, float, float]:
    precision = right / joined if joined else float("nan")
    return precision, right / wanted, 2 * right / (joined + wanted)


@cache
def absent(*peers: str) -> list[str]:
    """Return which of some packages cannot be imported, and why."""
    missing = []
    for name in peers:
        try:
            if name == "imagededup":
                from embeddings import _torchvision  # noqa: F401
            importlib.import_module(MODULES.get(name, name))
        except ImportError as error:
            missing.append(f"{name}: not installed ({error})")
    return missing


MODULES = {
    "imagededup": "imagededup.methods",
    "datatrove": "datatrove.pipeline.dedup.minhash",
}


def head(*names: str) -> None:
    print(f"| {' | '.join(names)} |\n|---|" + "---:|" * (len(names) - 1))


def row(*cells: object) -> None:
    shown = ("–" if c != c else f"{c:.3f}" if isinstance(c, float) else f"{c}" for c in cells)
    print(f"| {' | '.join(shown)} |", flush=True)


# ---------------------------------------------------------------------------------------- texts


def texts(_: Path) -> None:
    """Score MinHash clusters of licence texts by label, exact similarity and exact copies."""
    if absent("licensedcode"):
        print(*absent("licensedcode"))
        return
    table = licences()
    labels = {
        "copies": numbered(" ".join(words_of(text)) for text in table["text"]),
        "licence": numbered(table["label"]),
    }
    a, b, similarity = similar_pairs(table["text"])
    wanted = {name: pairs_in(label) for name, label in labels.items()}
    print(
        f"{table.height:,} licence texts and notices longer than 200 characters, "
        f"{table['label'].n_unique():,} licences. copies: equal words, {wanted['copies']:,} "
        f"pairs. J >= 0.8: Jaccard similarity of the sets of 5-grams of words, computed exactly, "
        f"{(similarity >= 0.8).sum():,} pairs. licence: one licence expression, "
        f"{wanted['licence']:,} pairs, most of which share no sentence. A line is the pairs that "
        "share a cluster; `exact` joins all pairs that are as similar as the threshold.\n"
    )

    def scores(clusters: Numbers) -> dict[str, float]:
        right, together = of_clusters(clusters, labels)
        near = similarity >= 0.8
        both = (clusters[a[near]] == clusters[b[near]]).sum()
        precision, recall, _ = precision_recall_f1(both, together, near.sum())
        licence = precision_recall_f1(right["licence"], together, wanted["licence"])
        return {
            "joined": together,
            "copies R": right["copies"] / wanted["copies"],
            "J P": precision,
            "J R": recall,
            "licence P": licence[0],
            "licence R": licence[1],
        }

    signed = {
        num_perm: table.with_columns(
            signature=minhash_signature(table, num_perm=num_perm)["values"]
        )
        for num_perm in (NUM_PERM, 112)
    }

    def ours(threshold: float, verify: str, num_perm: int = NUM_PERM, **bands: int) -> Numbers:
        found = minhash_clusters(signed[num_perm], threshold=threshold, verify=verify, **bands)
        return numbered(found["cluster"])

    head("method", "threshold", "pairs joined", "copies R", "J P", "J R", "licence P", "licence R")
    for threshold in THRESHOLDS:
        near = similarity >= threshold
        exact = components(table.height, a[near], b[near])
        row("exact", threshold, *scores(exact).values())
    for verify in ("none", "estimate", "text"):
        for threshold in THRESHOLDS:
            row(f"ours, verify {verify}", threshold, *scores(ours(threshold, verify)).values())
    for verify in ("none", "estimate"):
        found = scores(ours(0.72, verify, 112, bands=14))
        row(f"ours, 14 bands of 8, verify {verify}", 0.72, *found.values())
    peers = {}
    sketches = datasketch_of(table["text"], NGRAM)
    for threshold in THRESHOLDS:
        peers["datasketch MinHashLSH", threshold] = lsh(sketches, threshold=threshold)
    peers["datasketch MinHashLSH, 14 bands of 8", 0.72] = lsh(sketches, params=(14, 8))
    if not absent("datatrove"):
        peers["datatrove, 14 buckets of 8", 0.72] = datatrove(table["text"])
    for (name, threshold), clusters in peers.items():
        row(name, threshold, *scores(clusters).values())
    for missing in absent("datatrove"):
        print(f"| {missing} |")

    print(
        "\nOur largest recall at a precision not below the peer's, over thresholds of 0.30 to 0.98:\n"
    )
    sweep = {
        verify: {threshold: scores(ours(threshold, verify)) for threshold in FINE}
        for verify in ("none", "estimate", "text")
    }
    head("peer", "at", "against", "P", "R", *(f"ours, {verify}" for verify in sweep))
    for (name, threshold), clusters in peers.items():
        theirs = scores(clusters)
        for what in ("J", "licence"):
            best = [
                max(
                    (
                        s[f"{what} R"]
                        for s in found.values()
                        if s[f"{what} P"] >= theirs[f"{what} P"]
                    ),
                    default=float("nan"),
                )
                for found in sweep.values()
            ]
            row(name, threshold, what, theirs[f"{what} P"], theirs[f"{what} R"], *best)


def licences() -> pl.DataFrame:
    """Return uid, text and licence label of the texts longer than 200 characters."""
    spec = importlib.util.find_spec("licensedcode")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    rows = []
    for path in sorted(folder.glob("*/*")):
        # The fields stand between two lines of dashes, the text after them.
        _, fields, text = (path.read_text("utf-8").split("---\n", 2) + ["", ""])[:3]
        label = re.search(r"^(?:license_expression|key): *(.+)$", fields, re.MULTILINE)
        if label and len(text.strip()) > 200:
            rows.append((text.strip(), label[1]))
    table = pl.DataFrame(rows, schema=["text", "label"], orient="row")
    return table.with_row_index("uid").cast({"uid": pl.UInt64})


def own_clusters(texts: Sequence[str], threshold: float, verify: str, ngram: int) -> Numbers:
    rows = pl.DataFrame({"text": texts}).with_row_index("uid").cast({"uid": pl.UInt64})
    rows = rows.with_columns(signature=minhash_signature(rows, ngram=ngram)["values"])
    found = minhash_clusters(rows, threshold=threshold, verify=verify, ngram=ngram)
    return numbered(found["cluster"])


def similar_pairs(texts: Iterable[str]) -> tuple[Numbers, Numbers, Numbers]:
    """Return all pairs with a Jaccard similarity of their n-grams of 0.3 or more, and that."""
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
        a, b = np.nonzero(np.triu(share >= 0.3, start + 1))
        parts.append((a + start, b, share[a, b]))
    a, b, share = (np.concatenate(part) for part in zip(*parts, strict=True))
    return a, b, share


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def datasketch_of(texts: Iterable[str], ngram: int) -> list[Any]:
    """Return a MinHash of each text's n-grams of words in lower case."""
    from datasketch import MinHash

    sketches = []
    for text in texts:
        words = words_of(text)
        grams = {" ".join(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1))}
        sketches.append(MinHash(num_perm=NUM_PERM))
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


def datatrove(texts: Iterable[str]) -> Numbers:
    """Return the components of equal buckets, which are the clusters of its later stages.

    Its own words and signatures, as FineWeb was made: SHA-1 of 64 bits.
    """
    minhash = importlib.import_module("datatrove.pipeline.dedup.minhash")
    config = minhash.MinhashConfig(hash_config=minhash.HashConfig(hash_fc="sha1", precision=64))
    with tempfile.TemporaryDirectory() as folder:
        step = minhash.MinhashDedupSignature(folder, config)
        first: dict[tuple[int, ...], int] = {}
        edges = [(0, 0)]
        for at, text in enumerate(texts):
            shingles = step.get_shingles(text)
            for bucket, values in enumerate(step.get_signature(shingles) if len(shingles) else ()):
                edges.append((at, first.setdefault((bucket, *values), at)))
    a, b = np.array(edges).T
    return components(at + 1, a, b)


# -------------------------------------------------------------------------------------- planted


def planted(data: Path) -> None:
    """Plant changed copies of pictures and texts, and count those that are found."""
    plant("CIFAR-10 (32 px)", list(pictures(data / "cifar10", -1)), 1000)
    plant("CamVid (240 x 180 px)", list(pictures(data / "camvid", 0)), 300)
    plant("photographs (300 to 2,000 px)", list(photographs()), 100)
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


def plant(what: str, pictures: Sequence[tuple[bytes, str]], count: int) -> None:
    """Print which share of the copies, and of pictures of other classes, is within each radius."""
    images = [image for image, _ in pictures]
    of_class = numbered(name for _, name in pictures)
    chosen = shuffled(np.arange(len(images), dtype=np.uint64), 0, "dedup_quality")[:count]
    drawn = [
        Planted("", {"image": images[at]}, {"image": images[other]})
        for at, other in zip(chosen, np.roll(chosen, 1), strict=True)
    ]
    kinds = [kind for kind in IMAGES if kind not in ("copy", "corrupt")]
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
            row(name, radius, *(float((far <= radius).mean()) for far in apart.values()))
    for missing in absent("imagehash", "imagededup"):
        print(f"| {missing} |")
    print()


def nearest_other(bits: Numbers, label: Numbers) -> Numbers:
    """Return each row's distance to the nearest row of another label."""
    far = 64 * bits.shape[1]
    return np.concatenate(
        [
            np.where(label[start : start + BLOCK, None] == label, far, apart).min(axis=1)
            for start in range(0, len(bits), BLOCK)
            for apart in [distances(bits[start : start + BLOCK], bits)]
        ]
    )


def plant_texts(path: Path, count: int) -> None:
    """Print which share of edited texts MinHash joins to their originals."""
    table = (
        pl.read_parquet(path).filter(lang="en").unique("source", keep="first", maintain_order=True)
    )
    order = shuffled(np.arange(table.height, dtype=np.uint64), 0, "dedup_quality")[:count]
    originals = table["text"].gather(order).to_list()
    drawn = [
        Planted("", {"uid": uid, "text": text}, {"text": originals[uid - 1]})
        for uid, text in enumerate(originals)
    ]
    edits = [TEXTS["edit"](one) for one in drawn]
    halves = [TEXTS[NEAR_MISS](one) for one in drawn]
    both = originals + edits, originals + halves
    print(
        f"Package descriptions, {count:,} English texts of as many sources, "
        f"{np.median([len(text.split()) for text in originals]):.0f} words in the median. edit: one "
        f"word in twenty is replaced, one at least. {NEAR_MISS}: the second half is another text's. "
        "J >= t: edited texts whose exact similarity is at or above the threshold, which is what "
        "can be asked for. originals: those that share a cluster with another original.\n"
    )
    head("method", "n", "threshold", "J >= t", "edit", "edit where J >= t", NEAR_MISS, "originals")
    for ngram in (5, 3, 2):
        sets = [
            [set(_shingles.grams(t, "word", ngram)) for t in part] for part in (originals, edits)
        ]
        exact = np.array([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])

        def line(method: str, threshold: float, edited: Numbers, halved: Numbers) -> None:
            found = edited[:count] == edited[count:]
            half = halved[:count] == halved[count:]
            sizes = np.bincount(edited[:count])
            within = exact >= threshold
            row(
                method, ngram, threshold, float(within.mean()), float(found.mean()),
                float(found[within].mean()), float(half.mean()),
                float((sizes[edited[:count]] > 1).mean()),
            )  # fmt: skip

        for verify in ("estimate", "text", "none"):
            for threshold in (0.5, 0.65, 0.8):
                line(
                    f"ours, {verify}",
                    threshold,
                    *(own_clusters(texts, threshold, verify, ngram) for texts in both),
                )
        sketches = [datasketch_of(texts, ngram) for texts in both]
        for threshold in (0.5, 0.65, 0.8):
            line(
                "datasketch MinHashLSH",
                threshold,
                *(lsh(one, threshold=threshold) for one in sketches),
            )
        if ngram == NGRAM and not absent("datatrove"):
            line("datatrove, 14 buckets of 8", 0.72, *(datatrove(texts) for texts in both))


if __name__ == "__main__":
    main()
