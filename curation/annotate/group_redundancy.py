"""Near-copies inside one series: slices of a volume, frames of a video, shots of a burst."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import decode
from contracts.errors import ConfigError
from contracts.params import Ratio
from curation import _neighbours, _pictures
from curation.annotate.perceptual_hash import dhash_bits, perceptual_hash
from curation.step import Role, Step, groupwise

Measure = Literal["hash", "ssim", "mutual_information", "embedding", "every_nth"]
Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Thresholds = NDArray[np.float64]
# Gives the similarities of one record of a group to some others.
Similarity = Callable[[int, Indices], Floats]

HASH_BITS, HASH_DISTANCE = 64, 6
GRID = 100
_OF_MEASURE: dict[str, dict[str, Role]] = {
    "hash": {
        "bits": Role(pl.UInt64, optional=True),
        "image": Role(pl.Binary, default="image", optional=True),
    },
    "ssim": {"image": Role(pl.Binary)},
    "mutual_information": {"image": Role(pl.Binary)},
    "embedding": {"vector": Role((pl.Array, pl.List))},
    "every_nth": {},
}


def _reads(parameters: dict[str, Any]) -> dict[str, Role]:
    by = {"group": Role(default="series"), "order": Role(default="position")}
    return by | _OF_MEASURE[parameters["measure"]]


def _writes(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the written columns; parameters that contradict each other have none."""
    _check(**parameters)
    columns: dict[str, Any] = {
        "cluster": pl.UInt64, "size": pl.UInt32, "nearest": pl.UInt64, "similarity": pl.Float32
    }  # fmt: skip
    return columns | ({"distance": pl.UInt16} if parameters["measure"] == "hash" else {})


@groupwise(version=1, by="group", order=("order",), reads=_reads, writes=_writes)
def group_redundancy(
    groups: pl.DataFrame,
    *,
    measure: Measure = "hash",
    threshold: float | None = None,
    target_ratio: Ratio | None = None,
) -> pl.DataFrame:
    """Find the records of each group that an earlier one of it makes redundant.

    A group is walked in its own order: by `order` (the slice number, not the file's name), then
    by uid. The first record that no exemplar covers becomes an exemplar, and covers all later
    ones that are alike and not covered yet. So each covered record is alike to its exemplar, and
    no two exemplars are alike. `one_per_cluster` keeps the exemplars.

    Alike means: "hash": at most `threshold` (6) of 64 bits differ; `bits` where they are bound,
    else the dHash of `image` as `perceptual_hash` makes it in mode "imagehash", but of 16-bit
    grey at its own depth, where that library cuts off all above 255. "ssim",
    "mutual_information" (normalised, see `curation._pictures`), "embedding" (cosine): the
    similarity exceeds `threshold`, which has no default. "every_nth": fewer than `threshold`
    places after its exemplar in the order, so that every n-th stays.

    `target_ratio` sets the threshold of each group by itself, so that what is said of a group
    depends on no other: of 0 to 64 bits, 1.00 to 0.00 in steps of 0.01, or n from 1 up, that
    whose exemplars are closest in number to `target_ratio` times the group's records; of equally
    close ones the first named, which covers least. The count need not fall as a threshold gets
    laxer, therefore all are tried. `threshold_table` shows them, to choose one for all groups.

    Records without a value (null bits or vector, undecodable image), without a group, or of a
    size that none shares are covered by none and cover none.

    Reads:
        group: what makes a series.
        order: the place in the series.
        bits: "hash": bit strings to compare, instead of pictures.
        image: the picture to compare.
        vector: "embedding": the vector to compare.
    Args:
        measure: how two records are compared.
        threshold: from where on two are alike, in the measure's own unit; 6 bits for "hash".
        target_ratio: the share to keep of each series, instead of a threshold.
    Reference: Wolf et al. 2024, Less is More: Selective Reduction of CT Data, arXiv:2410.14524,
    section 3 (HASH is "hash" at 6; the thresholds of the others are not published).
    Writes:
        cluster: the uid of the exemplar; of an exemplar its own.
        size: records in the cluster, at least 1.
        nearest: the exemplar; for an exemplar the most similar that it covers, ties by uid; null
            for one that covers none.
        similarity: to `nearest`, null where that is. "hash": 1 - distance / 64; null for
            "every_nth".
        distance: "hash" only: to `nearest`, in bits.
    Cost: comparisons of each exemplar with the records after it: of bits some 0.1 microseconds,
        of vectors D multiplications, of pictures 1 ms each; with `target_ratio` up to half the
        square of the group, and 65 or 101 times 4 bytes a record.
    Raises:
        ConfigError: no threshold where the measure has none of its own, both a threshold and a
            target_ratio, a threshold out of the measure's range; neither bits nor image.
        DataError: vectors of different lengths; NaN or infinity.
    """
    _check(measure, threshold, target_ratio)
    exemplar = np.arange(groups.height)
    similarity = np.full(groups.height, np.nan, dtype=np.float32)
    for start, stop in _several(groups["group"].to_numpy()):
        known, compare = _compared(groups[start:stop], measure)
        found = _exemplars(len(known), compare, measure, threshold, target_ratio, stop - start)
        exemplar[start + known] = start + known[found]
        for one, covered in _clusters(found) if measure != "every_nth" else ():
            similarity[start + known[covered]] = compare(one, covered)
    return _described(groups["uid"], exemplar, similarity, measure)


def threshold_table(
    frame: pl.DataFrame | pl.LazyFrame, *, measure: Measure = "hash"
) -> pl.DataFrame:
    """Return how many records each group keeps under every threshold, in one pass over the data.

    The threshold for all groups whose sum is closest to a budget:
    `table.group_by("threshold").agg(pl.col("kept").sum())`.

    Args:
        frame: `uid`, `group`, `order` and what the measure reads, as `group_redundancy` takes it.
        measure: "hash": thresholds 0 to 64; "every_nth": 1 to the records of the largest group;
            the others 1.00 to 0.00 in steps of 0.01.

    Returns:
        group, threshold: Float64, records and kept: UInt32; sorted by group, those without a group
        last and together; thresholds as named above.

    Cost: as `group_redundancy` with `target_ratio`.
    Raises:
        ConfigError, DataError: as `group_redundancy`.
    """
    step: Step = group_redundancy.bind(measure=measure)
    rows = step.select(frame).sort("group", "order", "uid", nulls_last=True)
    found = rows.group_by("group", maintain_order=True).agg(records=pl.len().cast(pl.UInt32))
    largest = found.filter(pl.col("group").is_not_null())["records"].max()
    settings = _settings(measure, largest if isinstance(largest, int) else 1)
    kept = []
    for part in rows.partition_by("group", maintain_order=True):
        kept.append(np.full(len(settings), len(part)))
        if part["group"][0] is not None:
            known, compare = _compared(part, measure)
            kept[-1] += _kept(len(known), compare, measure, settings) - len(known)
    columns = {
        "threshold": pl.Series([settings] * len(kept), dtype=pl.List(pl.Float64)),
        "kept": pl.Series(kept, dtype=pl.List(pl.UInt32)),
    }
    table = found.with_columns(**columns).explode(*columns, empty_as_null=False)
    return table.select("group", "threshold", "records", "kept")


def _check(measure: Measure, threshold: float | None, target_ratio: float | None) -> None:
    if threshold is not None and target_ratio is not None:
        raise ConfigError("threshold: give it or target_ratio, not both.")
    if threshold is None:
        if target_ratio is None and measure != "hash":
            raise ConfigError(f'threshold: measure = "{measure}" needs it, or target_ratio.')
        return
    least, most = {"hash": (0, HASH_BITS), "every_nth": (1, 2**31)}.get(measure, (-1, 1))
    counted = measure in ("hash", "every_nth")
    if not least <= threshold <= most or (counted and threshold != int(threshold)):
        what = "a whole number" if counted else "a similarity"
        limits = f"from {least} up" if measure == "every_nth" else f"from {least} to {most}"
        raise ConfigError(f'threshold: of "{measure}" is {what} {limits} (got {threshold}).')


def _several(group: NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of groups of two records or more."""
    ends = np.append(np.flatnonzero(group[1:] != group[:-1]) + 1, len(group))
    for start, stop in itertools.pairwise([0, *ends.tolist()]):
        if stop - start > 1:
            yield start, stop


def _compared(rows: pl.DataFrame, measure: Measure) -> tuple[Indices, Similarity]:
    """Return which rows of a group have a value, and how alike two of those are."""
    if measure == "hash":
        bits = _bits(rows)
        known = bits.is_not_null().to_numpy()
        words = bits.drop_nulls().to_numpy()

        def compare(one: int, others: Indices) -> Floats:
            apart = np.bitwise_count(words[others] ^ words[one]).astype(np.float32)
            alike: Floats = 1 - apart / np.float32(HASH_BITS)
            return alike

    elif measure == "embedding":
        known, x = _neighbours.matrix(rows["vector"], zeros=False)

        def compare(one: int, others: Indices) -> Floats:
            same = np.broadcast_to(x[one], (len(others), x.shape[1]))
            return _neighbours.cosine(x[others], same).astype(np.float32)

    elif measure == "every_nth":
        known = np.ones(rows.height, dtype=bool)

        def compare(one: int, others: Indices) -> Floats:
            return (one - others).astype(np.float32)

    else:
        pictures = _pictures.Pictures(rows["image"].to_list(), measure)
        known = pictures.known
        number = np.flatnonzero(known)

        def compare(one: int, others: Indices) -> Floats:
            return pictures.similarity(int(number[one]), number[others])

    return np.flatnonzero(known), compare


def _bits(rows: pl.DataFrame) -> pl.Series:
    if "bits" in rows.columns:
        return rows["bits"]
    if "image" not in rows.columns:
        raise ConfigError('group_redundancy: "hash" needs the role bits or image: bind one.')
    deep = pl.Series([data is not None and _pictures.is_deep(data) for data in rows["image"]])
    usual = rows.select(image=pl.when(~deep).then("image"))
    bits = perceptual_hash.function(usual, kind="dhash", mode="imagehash")["bits"].to_list()
    for at in deep.arg_true():
        try:
            picture = decode.picture(rows["image"][at])
        except decode.Undecodable:
            continue
        packed = np.packbits(dhash_bits(np.asarray(picture)))
        bits[at] = int.from_bytes(packed.tobytes(), "big")
    return pl.Series(bits, dtype=pl.UInt64)


def _clusters(exemplar: Indices) -> Iterator[tuple[int, Indices]]:
    """Yield each exemplar that covers something, and what it covers."""
    by_exemplar = np.argsort(exemplar, kind="stable")
    ends = np.flatnonzero(np.diff(exemplar[by_exemplar])) + 1
    for one, *covered in np.split(by_exemplar, ends) if len(exemplar) else ():
        if covered:
            yield int(one), np.array(covered)


def _settings(measure: Measure, records: int) -> Thresholds:
    """Return all thresholds of a measure, the one that covers least first."""
    if measure == "hash":
        return np.arange(HASH_BITS + 1, dtype=np.float64)
    if measure == "every_nth":
        return np.arange(1, records + 1, dtype=np.float64)
    return np.arange(GRID, -1, -1) / GRID


def _cuts(measure: Measure, thresholds: Thresholds) -> Floats:
    """Return what a similarity must exceed, in the precision in which it is written."""
    if measure == "hash":
        # Half a bit below, so that the threshold itself is within.
        return (1 - (thresholds + 0.5) / HASH_BITS).astype(np.float32)
    return (-thresholds if measure == "every_nth" else thresholds).astype(np.float32)


def _exemplars(
    count: int,
    compare: Similarity,
    measure: Measure,
    threshold: float | None,
    target_ratio: float | None,
    records: int,
) -> Indices:
    """Return which record is the exemplar of each of a group's records that have a value."""
    if target_ratio is not None:
        settings = _settings(measure, records)
        kept = _kept(count, compare, measure, settings)
        far = np.abs(kept + (records - count) - target_ratio * records)
        threshold = float(settings[np.argmin(far)])
    chosen = HASH_DISTANCE if threshold is None else threshold
    exemplar: Indices = _walked(count, compare, measure, np.array([chosen], dtype=np.float64))[0]
    return exemplar


def _kept(count: int, compare: Similarity, measure: Measure, thresholds: Thresholds) -> Indices:
    """Return how many of a group's records with a value are exemplars under each threshold."""
    if measure == "every_nth":
        every: Indices = -(-count // thresholds.astype(np.int64))
        return every
    names_it = _walked(count, compare, measure, thresholds) == np.arange(count)
    kept: Indices = names_it.sum(axis=1)
    return kept


def _walked(count: int, compare: Similarity, measure: Measure, thresholds: Thresholds) -> Indices:
    """Return for each threshold the exemplar of each record: one walk, each pair compared once."""
    cuts = _cuts(measure, thresholds)
    exemplar = np.full((len(cuts), count), -1, dtype=np.int32)
    for one in range(count):
        ahead = exemplar[:, one:]
        names = np.flatnonzero(ahead[:, 0] < 0)
        if not len(names):
            continue
        ahead[names, 0] = one
        waiting = ahead[names] < 0
        later = np.flatnonzero(waiting.any(axis=0))
        if len(later):
            near = waiting[:, later] & (compare(one, one + later) > cuts[names, None])
            cut, at = np.nonzero(near)
            ahead[names[cut], later[at]] = one
    return exemplar.astype(np.int64)


def _described(
    uids: pl.Series, exemplar: Indices, similarity: Floats, measure: Measure
) -> pl.DataFrame:
    rows = pl.DataFrame({"uid": uids, "cluster": uids.to_numpy()[exemplar]}).with_columns(
        similarity=pl.Series(similarity, nan_to_null=True)
    )
    closest = (
        rows.filter(pl.col("uid") != pl.col("cluster"))
        .sort("similarity", "uid", descending=[True, False], nulls_last=True)
        .unique("cluster", keep="first", maintain_order=True)
        .select("cluster", closest="uid", top="similarity")
    )
    names_it = pl.col("uid") == pl.col("cluster")
    placed = rows.join(closest, on="cluster", how="left", maintain_order="left").select(
        "cluster",
        size=pl.len().over("cluster").cast(pl.UInt32),
        nearest=pl.when(names_it).then("closest").otherwise("cluster"),
        similarity=pl.when(names_it).then("top").otherwise("similarity"),
    )
    if measure != "hash":
        return placed
    bits = ((1 - pl.col("similarity")) * HASH_BITS).round().cast(pl.UInt16)
    return placed.with_columns(distance=bits)
