"""A small hostile table for any step: nulls, ties, many scripts, broken bytes, a big group."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import methods
from contracts.params import schema_of
from contracts.uid import mix
from curation.step import Parameters, Role, Step

TEXTS = [
    "A photo of a small brown dog that runs on the beach at noon.",
    "a photo of a small brown dog that runs on the beach at noon",
    "A photo of a small brown cat that sleeps on the sofa at night.",
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.",
    "cat",
    "dog",
    "",
    "   ",
    "!!!",
    "\u200b",
    "一只棕色的小狗在海滩上奔跑，天空很蓝。",
    "一只棕色的小狗在沙滩上奔跑，天空很蓝。",
    "茶色の小さな犬が浜辺を走っています。",
    "สุนัขสีน้ำตาลตัวเล็กวิ่งบนชายหาด",
    "كلب بني صغير يركض على الشاطئ",
    "कुत्ता समुद्र तट पर दौड़ रहा है",
    "Маленькая коричневая собака бежит по пляжу.",
    "Un petit café près de la plage, à l'ombre d'un vieux chêne.",
    "Un petit cafe\u0301 pre\u0300s de la plage, a\u0300 l'ombre d'un vieux che\u0302ne.",
    "STRASSE straße ﬁne ① Ⅳ ½",
    "🐶🏽 👩\u200d👩\u200d👧 👍",
    "12 345,67 € on 2024-02-29",
    "Write to ann@example.org or call +1 555 010 9999; card 4111 1111 1111 1111.",
    "# Title\n\n- one\n- two…\n- three...\n\nThe end of it, and that is that.\n" * 2,
]
NAMES = ["dog", "cat", "a", "photo of", "the beach", "U.S.", "café", "dog", "  ", "card", "fox"]
LANGUAGES = ["en", "fr", "zh"]
LABELS = ["apple", "bear", "cat"]
DIMENSIONS = 16
SLOTS = 128


class SampleScorer:
    """A scorer for slots: a number in [0, 1) that depends on the value's bytes alone."""

    fingerprint = "sample"

    def __call__(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return the first 3 bytes of each value's blake2b as a fraction."""
        digests = [hashlib.blake2b(repr(value).encode(), digest_size=3) for value in values]
        whole = [int.from_bytes(digest.digest(), "big") for digest in digests]
        return np.array(whole, dtype=np.float32) / np.float32(2**24)


def sample(step: Step, rows: int = 64) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return a table made for the step's roles, and by name its further tables and slots.

    It holds nulls (one whole row of them), empty values, ties, several scripts, broken images,
    near-duplicates, and one group of half the rows; it is the same on every machine.
    """
    table = _columns(step.reads, rows)
    others: dict[str, Any] = {name: _further(step, name) for name in step.tables}
    return table, others | {name: SampleScorer() for name in step.slots}


def parameters(step: Step) -> list[Parameters]:
    """Return the parameters to check a step under: the defaults, then each other mode or switch.

    What has no default gets a usual value, and every budget is 16.
    """
    usual = {"threshold": 0.9, "cap": 4, "num_clusters": 4, "levels": [8, 2], "target_ratio": 0.5,
             "lists": os.devnull}  # fmt: skip
    schema = schema_of(step.function)
    fields = {name: f for name, f in schema.model_fields.items() if name not in step.bound}
    first = {k: usual[k] for k, field in fields.items() if field.is_required() and k in usual}
    if "budget" in fields:
        first["budget"] = 16
    found = [first]
    described = schema.model_json_schema().get("properties", {})
    for name, field in fields.items():
        is_switch = described[name].get("type") == "boolean"
        values = [True, False] if is_switch else described[name].get("enum", [])
        found += [{**first, name: value} for value in values if value != field.default]
    return found


def _columns(roles: Mapping[str, Role], rows: int) -> pl.DataFrame:
    number = np.arange(rows)
    columns = [_uids(rows).alias("uid")]
    for name, role in roles.items():
        # One row in twelve is null, in each column another; row 5 is null in all of them.
        shift = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest(), "big")
        there = pl.Series((number != 5) & ((number + shift) % 12 != 0))
        columns.append(pl.select(pl.when(there).then(_values(name, role, rows)).alias(name))[name])
    return pl.DataFrame(columns)


def _values(name: str, role: Role, rows: int) -> pl.Series:
    """Return a role's values: those of its well-known name if the type fits, else of its type."""
    allowed = role.dtype if isinstance(role.dtype, tuple) else (role.dtype,)
    if name in ROLES:
        known = ROLES[name](rows)
        if None in allowed or any(known.dtype == dtype for dtype in allowed):
            return known
        if known.dtype.is_numeric() and allowed[0].is_numeric():
            return known.cast(allowed[0])
    first = pl.Float64 if allowed[0] is None else allowed[0]
    ties = pl.Series(np.arange(rows) % 5)
    if first.is_numeric():
        return ties.cast(first)
    if first == pl.Boolean:
        return ties > 1
    if first == pl.String:
        return _texts(rows)
    if first == pl.Binary:
        return ties.cast(pl.String).cast(pl.Binary)
    if first == pl.Array:
        return _vectors(rows, name)
    return pl.Series([list(range(n)) for n in ties]).cast(
        first if isinstance(first, pl.List) else pl.List(pl.UInt32)
    )


def _further(step: Step, name: str) -> pl.DataFrame:
    """Return a further table: the model of its default fit, or columns by their names."""
    table = step.tables[name]
    folder, _, fit = (table.default or "").partition(".")
    if folder == "fit" and fit in methods.names("curation.fit"):
        model: Step = methods.load("curation.fit", fit)
        model = model.bind(**parameters(model)[0])
        rows, others = sample(model)
        return model(rows, **others)
    if name in TABLES:
        return TABLES[name]()
    roles = {column: step.reads.get(column, Role()) for column in table.columns}
    if table.pool and not roles:
        roles = step.reads
    named = table.pool or roles.pop("uid", None) is not None
    made = _columns(roles, 64).gather_every(3).drop_nulls()
    return made if named or not roles else made.drop("uid")


def _bits(rows: int, width: int, stream: str) -> NDArray[np.uint64]:
    """Return (rows, width) random 64-bit numbers."""
    start = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=7).digest(), "big")
    counted = np.arange(rows * width, dtype=np.uint64) + np.uint64(start)
    return mix(counted).reshape(rows, width)


def _fractions(rows: int, width: int, stream: str) -> NDArray[np.float64]:
    return (_bits(rows, width, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _uids(rows: int) -> pl.Series:
    uids = mix(np.arange(rows, dtype=np.uint64))
    extremes = np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)
    uids[: len(extremes)] = extremes[:rows]
    return pl.Series(uids)


def _groups(rows: int) -> NDArray[np.int64]:
    """Return group numbers: every second row is of group 0, the others form pairs."""
    number = np.arange(rows)
    return np.where(number % 2 == 0, 0, 1 + number // 4)


def _clusters(rows: int, column: str) -> pl.Series:
    """Return the smallest uid of the row's group, or the smallest other one, or its size."""
    table = pl.DataFrame({"uid": _uids(rows), "group": _groups(rows)})
    smallest = pl.col("uid").min()
    other = pl.col("uid").sort().get(1, null_on_oob=True)
    made = table.select(
        cluster=smallest.over("group"),
        size=pl.len().over("group").cast(pl.UInt32),
        nearest=pl.when(pl.col("uid") == smallest.over("group"))
        .then(other.over("group"))
        .otherwise(smallest.over("group")),
    )
    return made[column]


def _neighbours(rows: int) -> pl.Series:
    """Return lists of up to four other uids, as many as other lists of the sample hold."""
    uids = _uids(rows).to_list()
    lists = [[uids[(n + 2 * k) % rows] for k in range(1, 1 + n % 5)] for n in range(rows)]
    return pl.Series(lists, dtype=pl.List(pl.UInt64))


def _texts(rows: int) -> pl.Series:
    return pl.Series([TEXTS[n % len(TEXTS)] for n in range(rows)])


def _vectors(rows: int, name: str) -> pl.Series:
    """Return unit vectors near the centre of their group; every eighth equals the one before."""
    groups = _groups(rows)
    centres = _fractions(int(groups.max(initial=0)) + 1, DIMENSIONS, "centre") - 0.5
    vectors = centres[groups] + 0.4 * (_fractions(rows, DIMENSIONS, name) - 0.5)
    vectors[8::8] = vectors[6:-2:8]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pl.Series(vectors.astype(np.float16), dtype=pl.Array(pl.Float16, DIMENSIONS))


def _signatures(rows: int) -> pl.Series:
    """Return MinHash signatures of which those of a group differ in up to a third of the slots."""
    groups = _groups(rows)
    own = _bits(rows, SLOTS, "own").astype(np.uint32)
    shared = _bits(int(groups.max(initial=0)) + 1, SLOTS, "shared").astype(np.uint32)[groups]
    changed = np.arange(SLOTS) < (np.arange(rows) % 43)[:, None]
    return pl.Series(np.where(changed, own, shared), dtype=pl.Array(pl.UInt32, SLOTS))


def _hashes(rows: int) -> pl.Series:
    """Return 64-bit hashes of which those of a group differ by up to twelve bits."""
    flips = np.uint64(2) ** (np.arange(rows, dtype=np.uint64) % np.uint64(13)) - np.uint64(1)
    groups = _groups(rows)
    return pl.Series(_bits(int(groups.max(initial=0)) + 1, 1, "bits")[groups, 0] ^ flips)


def _probabilities(rows: int) -> pl.Series:
    raw = _fractions(rows, len(LABELS), "probabilities") + 0.01
    shares = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    return pl.Series(list(shares), dtype=pl.List(pl.Float32))


def _entries(rows: int) -> pl.Series:
    return pl.Series([[e for e in range(n % 5) if e < 3 or n % 4 == 0] for n in range(rows)]).cast(
        pl.List(pl.UInt32)
    )


def _payloads(rows: int) -> pl.Series:
    """Return texts and lossless images as bytes, some of them equal."""
    return pl.Series([[*_images()[:4], b"", b"text"][n % 6] for n in range(rows)])


@cache
def _images() -> list[bytes]:
    """Return encoded images: several modes and formats, near-duplicates, and three broken ones."""
    from PIL import Image

    def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    y, x = np.mgrid[0:30, 0:40]
    ramp = Image.fromarray(np.stack([6 * x, 8 * y, 3 * x + 4 * y], axis=2).astype(np.uint8))
    noise = Image.fromarray((_bits(30, 40, "noise") & np.uint64(255)).astype(np.uint8))
    half = Image.fromarray(np.where(x < 20, 255, 0).astype(np.uint8))
    translucent = ramp.copy()
    translucent.putalpha(half)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    whole = encoded(ramp, "PNG")
    return [
        encoded(ramp, "BMP"),
        encoded(noise, "BMP"),
        encoded(Image.new("RGB", (40, 30), "grey"), "BMP"),
        encoded(Image.new("RGB", (1, 1), "red"), "BMP"),
        whole,
        encoded(ramp, "JPEG", quality=90),
        encoded(ramp, "JPEG", quality=50),
        encoded(ramp, "JPEG", quality=90, exif=rotated),
        encoded(translucent, "PNG"),
        encoded(half, "PNG"),
        encoded(ramp.quantize(8), "PNG"),
        encoded(ramp.convert("CMYK"), "JPEG"),
        encoded(half, "GIF", save_all=True, append_images=[noise]),
        whole[: len(whole) // 2],
        b"not an image",
        b"",
    ]


def _cycle(values: Sequence[Any], dtype: Any = None) -> Callable[[int], pl.Series]:
    return lambda rows: pl.Series([values[n % len(values)] for n in range(rows)], dtype=dtype)


def _counted(dtype: Any) -> Callable[[int], pl.Series]:
    return lambda rows: pl.Series(range(rows), dtype=dtype)


def _ties(dtype: Any, scale: float, offset: float = 0.0) -> Callable[[int], pl.Series]:
    """Return values of nine steps from the offset, so that many rows tie."""
    return lambda rows: pl.Series(np.arange(rows) * 5 % 9 * scale / 8 + offset).cast(dtype)


def _regions(rows: int) -> pl.Series:
    """Return up to two rectangles a row, some beyond the edge of a small picture."""
    sides = dict.fromkeys(("left", "top", "right", "bottom"), pl.UInt32)
    dtype = pl.Struct({**sides, "confidence": pl.Float32, "text": pl.String})
    two = [
        {"left": n, "top": 0, "right": n + 9, "bottom": 5, "confidence": 0.9, "text": None}
        for n in (2, 30)
    ]
    return pl.Series([two[: n % 3] for n in range(rows)], dtype=pl.List(dtype))


ROLES: Mapping[str, Callable[[int], pl.Series]] = {
    "text": _texts,
    "payload": _payloads,
    "image": lambda rows: pl.Series([_images()[n % len(_images())] for n in range(rows)]),
    "digest": lambda rows: pl.Series([bytes(15) + bytes([g]) for g in _groups(rows) % 256]),
    "group": lambda rows: pl.Series(_groups(rows), dtype=pl.UInt32),
    "centroid": lambda rows: pl.Series(_groups(rows), dtype=pl.UInt32),
    "cluster": lambda rows: _clusters(rows, "cluster"),
    "size": lambda rows: _clusters(rows, "size"),
    "nearest": lambda rows: _clusters(rows, "nearest"),
    "vector": lambda rows: _vectors(rows, "vector"),
    "image_vector": lambda rows: _vectors(rows, "image_vector"),
    "text_vector": lambda rows: _vectors(rows, "text_vector"),
    "signature": _signatures,
    "bits": _hashes,
    "entries": _entries,
    "neighbours": _neighbours,
    "language": _cycle(LANGUAGES),
    "lang": _cycle(LANGUAGES),
    "label": _cycle(LABELS),
    "probabilities": _probabilities,
    "score": _ties(pl.Float32, 3.0, -1.0),
    "weight": _ties(pl.Float64, 2.0, 0.25),
    "cosine": _ties(pl.Float32, 0.5, 0.5),
    "similarity": _ties(pl.Float32, 0.5, 0.5),
    "distance": _ties(pl.UInt16, 16.0),
    "quantile": _ties(pl.Float32, 1.0),
    "probability": _ties(pl.Float64, 0.75, 0.25),
    "tokens": _ties(pl.UInt32, 800.0),
    "repeats": _ties(pl.UInt16, 4.0),
    "passed": _cycle([True, True, False]),
    "position": lambda rows: pl.Series(np.arange(rows) // 2, dtype=pl.Int64),
    "regions": _regions,
    "entry": _counted(pl.UInt32),
    "bucket": _counted(pl.UInt32),
    "count": _ties(pl.UInt64, 80.0, 1.0),
    "name": _cycle(NAMES),
}

# Further tables whose rows are no records.
TABLES: Mapping[str, Callable[[], pl.DataFrame]] = {
    "head": lambda: pl.DataFrame({"weight": _fractions(DIMENSIONS, 1, "head")[:, 0], "bias": 0.5}),
}
