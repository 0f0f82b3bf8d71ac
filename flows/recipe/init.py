"""Write a first recipe: look at some records, switch on what needs no weights."""

from __future__ import annotations

import itertools
import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contracts import decode, methods
from contracts.errors import ConfigError, DataError, nearest
from flows.recipe.sections import PACKAGED
from flows.recipe.toml import dumps
from storage import commit
from storage.source import Columns, Found, Record, Rejected, detect, find, probe

LOOK_AT = 200
# Pictures are seen at this size, and of a flat one so many pixels are as the pixel before.
SEEN_PX, FLAT_RATIO, FLAT_LEVELS = 256, 0.7, 2
LOOK_BITS, LOOK_QUALITY = 4, 0.5


@dataclass(frozen=True)
class Alike:
    """What a rule of looks would do with the pictures that were looked at.

    Attributes:
        of: pictures without those that another equals pixel by pixel.
        merged: those that look like another of them.
        into: how many of these would stay.
        example: source ids of two that look alike.
        flat: of most of them the larger part is flat, as of icons, logos and drawings.
    """

    of: int
    merged: int
    into: int
    example: tuple[str, ...]
    flat: bool


@dataclass(frozen=True)
class Look:
    """What some records of a source have."""

    path: str
    found: Found
    kind: str
    records: int
    rejected: dict[str, int]
    images: int
    audio: int
    volumes: int
    texts: int
    meta: dict[str, str]
    passed_over: list[tuple[str, str, int, list[str]]]
    alike: Alike | None = None

    @property
    def pairs(self) -> bool:
        """Whether pictures have texts."""
        return self.images > 0 and self.texts > 0


def init(
    sources: Sequence[str], target: Path, *, like: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Write a recipe for some sources; return its path and what was found.

    Args:
        sources: folders, files, globs or brace ranges.
        target: the recipe to write.
        like: a packaged recipe to copy the rules of; without sources it is copied as it is.
        force: replace a recipe that is there.

    Raises:
        ConfigError: the recipe exists, or there is no packaged one of that name.
        DataError: a source is missing or empty.
    """
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists. Name another with --target, or remove it.")
    looks = [look(source) for source in sources]
    rules = packaged(like) if like is not None else suggested(looks)
    name = looks[0].found.name if looks else target.stem
    text = _head(name, looks, target) + rules if looks or like is None else _packaged(like)
    commit.write(target, text.encode())
    return {"recipe": str(target.resolve()), "found": [_described(one) for one in looks]}


def look(path: str) -> Look:
    """Look at the first records of a source.

    Raises:
        DataError: it is missing, or nothing in it can be read.
    """
    found = find(path)
    seen, passed_over = probe(found, Columns(), LOOK_AT)
    records = [r for r in seen if isinstance(r, Record)]
    rejected = Counter(r.code for r in seen if isinstance(r, Rejected))
    if not records:
        raise DataError(f"{path}: none of its first {len(seen)} records can be read: {rejected}.")
    kind = detect(found)
    meta: dict[str, str] = {}
    for record in records:
        for column, value in record.meta.items():
            if value is not None:
                meta.setdefault(column, type(value).__name__)
    return Look(
        path, found, kind, len(records), dict(rejected),
        sum(r.image is not None for r in records), sum(r.audio is not None for r in records),
        sum(r.volume is not None for r in records), sum(bool(r.text) for r in records),
        meta, passed_over.rows(),
        _alike(records, in_series=kind == "volumes"),
    )  # fmt: skip


def _alike(records: Sequence[Record], *, in_series: bool) -> Alike | None:
    """Try the rule of looks that would be written, None where there are no pictures."""
    rows = pl.DataFrame(
        [
            (i, r.source_id, r.image, r.series, r.position)
            for i, r in enumerate(records)
            if r.image is not None
        ],
        schema={"uid": pl.UInt64, "id": pl.String, "image": pl.Binary, "group": pl.String,
                "order": pl.Int64},
        orient="row",
    )  # fmt: skip
    digest = methods.find("content_hash")(rows.select("uid", payload="image"), mode="pixels")
    rows = rows.join(digest, on="uid", maintain_order="left").drop_nulls("digest")
    rows = rows.unique("digest", keep="first", maintain_order=True)
    if not rows.height:
        return None
    if in_series:
        found = methods.find("group_redundancy")(rows)
    else:
        bits = pl.when(pl.col("quality") >= LOOK_QUALITY).then("bits")
        looks = methods.find("perceptual_hash")(rows).select("uid", bits=bits)
        found = methods.find("hamming_clusters")(looks, max_distance=LOOK_BITS)
    several = rows.join(found, on="uid").filter(pl.col("size") > 1).sort("cluster", "uid")
    return Alike(
        of=rows.height,
        merged=several.height,
        into=several["cluster"].n_unique(),
        example=tuple(several["id"].head(2)),
        flat=float(np.median([_flat_ratio(image) for image in rows["image"]])) > FLAT_RATIO,
    )


def _flat_ratio(image: bytes) -> float:
    """Return the share of a picture's pixels that are as the pixel to their left."""
    seen = decode.reduced(image, SEEN_PX).astype(np.int16)
    steps = np.abs(np.diff(seen, axis=1)).max(axis=2)
    return float((steps <= FLAT_LEVELS).mean()) if steps.size else 1.0


def packaged(name: str) -> str:
    """Return a packaged recipe but for its names and sources, with its comments.

    Raises:
        ConfigError: there is none of that name.
    """
    lines = _packaged(name).splitlines(keepends=True)
    kept = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    comments: list[str] = []  # And empty lines, before the line that they belong to.
    skipping = True
    for line in lines[len(kept) :]:
        if line.startswith("#") or not line.strip():
            comments.append(line)
            continue
        if line.startswith("["):
            skipping = line.startswith("[[source]]")
        if not skipping:
            kept += [*comments, line]
        comments = []
    return "".join([*kept, *comments])


def packaged_recipes() -> dict[str, str]:
    """Return the packaged recipes by name, each with the first line of what it says of itself."""
    paths = sorted(PACKAGED.glob("*.toml"))
    lines = {p.stem: p.read_text(encoding="utf-8").partition("\n")[0] for p in paths}
    return {name: line.removeprefix("# ") for name, line in lines.items()}


def _packaged(name: str) -> str:
    names = [path.stem for path in PACKAGED.glob("*.toml")]
    if name not in names:
        raise ConfigError(f"--like {name}: there is no such recipe.{nearest(name, names)}")
    return (PACKAGED / f"{name}.toml").read_text(encoding="utf-8")


def suggested(looks: Sequence[Look]) -> str:
    """Return rules for what was found, each with a line of why."""
    images = any(one.images for one in looks)
    audio = any(one.audio for one in looks)
    whole = any(one.volumes for one in looks)
    pairs = any(one.pairs for one in looks)
    volumes = [one for one in looks if one.kind == "volumes"]
    rules = []
    if images:
        rules.append(_PIXELS)
        alike = [one.alike for one in volumes or looks if one.alike is not None]
        rules.append((_series if volumes else _near_pictures)(alike))
    elif audio:
        rules.append(_SAME_AUDIO)
    elif whole:
        rules.append(_SAME_VOLUMES)
    else:
        rules.append(_SAME_TEXTS)
        rules.append(_NEAR_TEXTS)
    if pairs:
        rules.append(_CAPTIONS)
    formats = '["webdataset"]' if images or audio or whole else '["parquet"]'
    rules.append(_EXPORT.format(formats=formats))
    rules.append(_EVALUATION if pairs else "")
    return "".join(rules)


def _near_pictures(alike: Sequence[Alike]) -> str:
    """Return the rule of looks, switched off where most pictures are flat."""
    if not any(one.flat for one in alike):
        return _comment(
            f"Pictures that look alike: perceptual hashes at most {LOOK_BITS} of 64 bits apart. "
            f"{_merges(alike)} Flat pictures are left out, since they all hash alike."
        ) + _NEAR_PICTURES.format(quality=LOOK_QUALITY, bits=LOOK_BITS)
    rule = _NEAR_PICTURES.format(quality=LOOK_QUALITY, bits=LOOK_BITS).rstrip()
    return (
        _comment(
            "Switched off: most of these pictures are flat, as icons, logos and drawings are, and "
            "different ones may have one perceptual hash. "
            f"{_merges(alike)} Look at them before you switch it on."
        )
        + textwrap.indent(rule, "# ", lambda _line: True).replace("# \n", "#\n")
        + "\n\n"
    )


def _series(alike: Sequence[Alike]) -> str:
    """Return the rule of looks within a volume."""
    return (
        _comment(
            "Slices that look like an earlier one of their volume, 6 of 64 bits apart at most: the "
            f"earlier one stays. {_merges(alike)} `target_ratio = 0.5` in place of the threshold "
            "keeps about half of every volume."
        )
        + _SERIES
    )


def _merges(alike: Sequence[Alike]) -> str:
    of, merged = sum(one.of for one in alike), sum(one.merged for one in alike)
    if not merged:
        return f"Of {of} that were looked at it merges none."
    first, second = next(one.example for one in alike if one.merged)
    return (
        f"Of {of} that were looked at it merges {merged} into {sum(one.into for one in alike)}, "
        f"such as {first} and {second}."
    )


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 96, break_long_words=False))


def _head(name: str, looks: Sequence[Look], target: Path) -> str:
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "pool"
    lines = [f"# What was found: {'; '.join(_sentence(one) for one in looks)}."] if looks else []
    text = "\n".join([*lines, ""]) + dumps({"name": safe, "pool": safe})
    recipe_dir = target.resolve().parent
    for one in looks:
        absolute = Path(one.path).absolute()
        path = os.path.relpath(absolute, recipe_dir)
        path = path if not path.startswith("..") else str(absolute)
        # Two sources may not share a name: their records would share ids.
        section: dict[str, Any] = {"path": path}
        if sum(other.found.name == one.found.name for other in looks) > 1:
            section["name"] = absolute.name.replace("*", "").strip(".") or one.found.name
        if one.kind == "volumes":
            section["slices"] = True
        text += dumps({"source": [section]})
        if one.kind == "volumes":
            text += "# Without slices each volume is one record.\n"
        texts = sorted(column for column, kind in one.meta.items() if kind == "str")
        if not (one.images or one.audio or one.volumes or one.texts) and texts:
            text += f'# text = "{texts[0]}"   # the column of the text, of {", ".join(texts)}\n'
        named = next((c for c in ("id", "uid", "key", "sample_id") if c in one.meta), None)
        if named is not None:
            text += (
                f'# id = "{named}"   # a column that names each record once: then rows may move\n'
            )
    return text + "\n"


def _sentence(one: Look) -> str:
    parts = [f"{one.path} ({one.kind}"]
    seen, noun = one.images, "a picture"
    if one.audio or one.volumes:
        seen, noun = (one.audio, "sound") if one.audio else (one.volumes, "a volume")
    parts.append(f", {seen} of {one.records} looked at have {noun}")
    parts.append(f", {one.texts} a text")
    if one.meta:
        parts.append(f", meta: {', '.join(sorted(one.meta))}")
    return "".join(parts).replace("\n", " ") + ")"


def _described(one: Look) -> dict[str, Any]:
    return {
        "source": one.path,
        "name": one.found.name,
        "kind": one.kind,
        "looked_at": one.records,
        "images": one.images,
        "audio": one.audio,
        "volumes": one.volumes,
        "texts": one.texts,
        "meta": one.meta,
        "rejected": one.rejected,
        "passed_over": one.passed_over,
        "alike": None if one.alike is None else asdict(one.alike),
    }


_PIXELS = """\
# Pictures that are equal pixel by pixel, whatever their files: keep one.
[annotate.pixels]
step = "content_hash"
payload = "image"
mode = "pixels"

[annotate.same_pixels]
step = "exact_clusters"
digest = "pixels.digest"

[[select]]
name = "one of each picture"
by = "one_per_cluster"
cluster = "same_pixels.cluster"

"""
_NEAR_PICTURES = """\
[annotate.look]
step = "perceptual_hash"

[annotate.alike]
step = "hamming_clusters"
bits = "CASE WHEN look.quality >= {quality} THEN look.bits END"
max_distance = {bits}

[[select]]
name = "one of each look"
by = "one_per_cluster"
cluster = "alike.cluster"

"""
_SAME_AUDIO = """\
# Clips whose files are equal byte for byte: keep one.
[annotate.bytes]
step = "content_hash"

[annotate.same_bytes]
step = "exact_clusters"
digest = "bytes.digest"

[[select]]
name = "one of each clip"
by = "one_per_cluster"
cluster = "same_bytes.cluster"

# More that needs no weights: duration_s, sample_rate and channels are columns.
# [[select]]
# name = "long enough"
# where = "duration_s >= 0.5"

"""
_SAME_VOLUMES = """\
# Volumes that are equal voxel by voxel, whatever their files: keep one.
[annotate.voxels]
step = "content_hash"
mode = "pixels"

[annotate.same_voxels]
step = "exact_clusters"
digest = "voxels.digest"

[[select]]
name = "one of each volume"
by = "one_per_cluster"
cluster = "same_voxels.cluster"

# More that needs no weights: width, height, depth, channels and spacing_z_mm are columns.
# [[select]]
# name = "enough slices"
# where = "depth >= 16"

"""
_SERIES = """\
[annotate.redundant]
step = "group_redundancy"

[[select]]
name = "one of each look in a volume"
by = "one_per_cluster"
cluster = "redundant.cluster"

"""
_CAPTIONS = """\
# Captions of at least two words; a record without one is dropped too.
[[select]]
name = "has a caption"
where = "caption_stats.words >= 2"

# With weights at hand, how well picture and caption agree (a local path or a pretrained tag):
# [embed.clip]
# encoder = "open_clip"
# model = "ViT-B-32"
# pretrained = "path/to/open_clip_model.safetensors"
#
# [[select]]
# name = "caption fits"
# where = "alignment.cosine > 0.25"

"""
_SAME_TEXTS = """\
# Texts that are equal but for case and white space: keep one.
[annotate.digest_of_text]
step = "content_hash"
payload = "text"
mode = "text"

[annotate.same_text]
step = "exact_clusters"
digest = "digest_of_text.digest"

[[select]]
name = "one of each text"
by = "one_per_cluster"
cluster = "same_text.cluster"

"""
_NEAR_TEXTS = """\
# Texts that share most of their 5-word shingles: keep one.
[[select]]
name = "one of each near-duplicate"
by = "one_per_cluster"
cluster = "minhash_clusters.cluster"

# More that needs no weights:
# [[select]]
# name = "long enough"
# where = "caption_stats.words >= 5"
#
# [[select]]
# name = "English"
# where = "language.label = 'en' AND language.confidence > 0.5"

"""
_EXPORT = """\
[export]
format = {formats}

"""
_EVALUATION = """\
# Is the selection better than a random one of equal size? Hold some records out, train and
# compare (minutes on a CPU at this size):
# [holdout]
# ratio = 0.1
# near = "same_pixels"
#
# [pretrain]
# objective = "clip"
# steps = 300
#
# [[evaluate]]
# protocol = "retrieval"
#
# [compare]
# random_sets = 10
"""
