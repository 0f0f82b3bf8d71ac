"""Near-duplicate clusters of texts: MinHash bands that meet, verified before joining."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import ConfigError, DataError
from contracts.params import Count, Ratio
from curation import _shingles
from curation.step import Parameters, Role, groupwise

Verify = Literal["none", "estimate", "text"]
Signatures = NDArray[np.unsignedinteger]
UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]

_MULTIPLIER = np.uint64(0x9E6C63D0676A9A99)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

RECALL = 0.95
"""Chance with which the bands bring together two texts that are just similar enough."""
EXEMPLARS = 32
"""Records of a bucket that each further one is compared with."""


def bands_of(num_perm: int, threshold: float, bands: int | None, verify: Verify) -> tuple[int, int]:
    """Return the number of bands, and of slots in a band.

    By default the largest r with 1 - (1 - threshold^r)^floor(num_perm / r) >= 0.95, in
    floor(num_perm / r) bands; without verification the optimum of datasketch, which weighs
    missed pairs and false ones alike.

    Raises:
        ConfigError: more bands than slots.
    """
    if bands is not None:
        if bands > num_perm:
            raise ConfigError(
                f"minhash_clusters: {bands} bands of signatures of {num_perm} slots; give at most "
                f"{num_perm} bands, or raise num_perm of minhash_signature."
            )
        return bands, num_perm // bands
    if verify == "none" and num_perm > 1:
        from datasketch import MinHashLSH

        index = MinHashLSH(threshold=threshold, num_perm=num_perm)
        return index.b, index.r
    enough = [
        r for r in range(1, num_perm + 1) if 1 - (1 - threshold**r) ** (num_perm // r) >= RECALL
    ]
    slots = max(enough, default=1)
    return num_perm // slots, slots


def _keys(
    rows: pl.DataFrame, *, threshold: float, bands: int | None, verify: Verify, **_others: object
) -> pl.Series:
    """Return for each row a hash of each band; null for a row without a signature."""
    signatures = _matrix(rows["signature"])
    count, slots = bands_of(signatures.shape[1] or 1, threshold, bands, verify)
    keys = np.empty((len(signatures), count), dtype=np.uint64)
    _compiled().hash_bands(signatures, slots, keys)
    known = rows.select("uid").filter(rows["signature"].is_not_null())
    found = known.with_columns(
        pl.Series("key", keys, dtype=pl.Array(pl.UInt64, count)).arr.to_list()
    )
    return rows.select("uid").join(found, on="uid", how="left", maintain_order="left")["key"]


def _reads(parameters: Parameters) -> dict[str, Role]:
    signature = Role((pl.Array, pl.List), default="minhash_signature.values")
    text = {"text": Role(pl.String)} if parameters["verify"] == "text" else {}
    return {"signature": signature, **text}


@groupwise(
    version=1,
    reads=_reads,
    writes={
        "cluster": pl.UInt64,
        "size": pl.UInt32,
        "nearest": pl.UInt64,
        "similarity": pl.Float32,
    },
    keys=_keys,
    edges="similarity",
)
def minhash_clusters(
    groups: pl.DataFrame,
    *,
    threshold: Ratio = 0.8,
    bands: Count | None = None,  # noqa: ARG001 (it is for the keys)
    verify: Verify = "estimate",
    ngram: Count = 5,
    unit: _shingles.Unit = "word",
) -> pl.DataFrame:
    """Join texts that share a band of their signatures and are as similar as the threshold.

    Two texts of Jaccard similarity s share one of b bands of r slots with the probability
    1 - (1 - s^r)^b. A bucket holds the records that share a band; each of them, by uid, is
    compared with at most 32 exemplars, gets an edge to those at or above the threshold, else
    becomes an exemplar. A cluster is a connected component of the edges. `estimate` compares by
    the share of equal slots; `text` by the exact Jaccard similarity of the n-grams (`ngram` and
    `unit` must be those of the signature); `none` does not compare, but joins each record of a
    bucket to its smallest uid.

    Reads:
        signature: as `minhash_signature` writes it.
        text: `verify = "text"`: the texts to compare.
    Args:
        threshold: the Jaccard similarity from which on two texts are joined.
        bands: parts of a signature of which one must be equal for two texts to meet; by itself so
            many that a pair at the threshold meets with a probability of 0.95.
        verify: how a pair that met is compared before it is joined: by its signatures
            ("estimate"), by its n-grams ("text"), or not at all ("none").
        ngram: `verify = "text"`: the signature's.
        unit: `verify = "text"`: the signature's.
    Reference: Broder 1997, On the resemblance and containment of documents; bands: Leskovec,
    Rajaraman and Ullman, Mining of Massive Datasets, section 3.4; the case for verifying before
    joining: Lee et al. 2022, arXiv:2107.06499, appendix A.
    Writes:
        cluster: the smallest uid of the cluster; its own for a record alone.
        size: records in the cluster, at least 1.
        nearest: the record of its most similar edge, ties by uid; null without an edge.
        similarity: of that edge, in [0, 1]; the estimate, for `none` too; null without an edge.
    Cost: O(records * bands) and at most 32 comparisons of num_perm slots a record and bucket; a
        record that shares no band costs its keys. `text` reads the texts of shared buckets.
    Raises:
        ConfigError: more bands than slots.
        DataError: signatures of different lengths.
    """
    group = groups["group"].cast(pl.Int64).to_numpy()
    limits = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    by_text = verify == "text"
    sets = _sets(groups, ngram, unit) if by_text else _Sets(*np.empty((3, 0), dtype=np.int64))
    least, most = (0.0, 1) if verify == "none" else (threshold, EXEMPLARS)
    a, b, similarity = _compiled().compare(
        _matrix(groups["signature"]), *sets, by_text, limits, least, most
    )
    uids = groups["uid"].to_numpy()
    edges = pl.DataFrame({"a": uids[a], "b": uids[b], "similarity": similarity})
    return edges.unique(["a", "b"]).sort("a", "b")


def _matrix(signature: pl.Series) -> Signatures:
    """Return the signatures that are not null, one a row.

    Raises:
        DataError: they differ in length.
    """
    known = signature.drop_nulls()
    if known.dtype == pl.List:
        lengths = known.list.len().unique()
        if len(lengths) > 1:
            raise DataError(
                f"minhash_clusters: signatures of {sorted(lengths)} slots; make all of them with "
                "one num_perm of minhash_signature."
            )
        known = known.list.to_array(lengths.item() if len(lengths) else 1)
    matrix: Signatures = known.to_numpy()
    return np.ascontiguousarray(matrix)


class _Sets(NamedTuple):
    """Sets of n-gram hashes, ascending: that of row i is `hashes[starts[i]:ends[i]]`."""

    hashes: UInt64s
    starts: Int64s
    ends: Int64s


def _sets(rows: pl.DataFrame, ngram: int, unit: _shingles.Unit) -> _Sets:
    """Return each row's set of n-grams, made once for a uid; empty for a null text."""
    _, first, record = np.unique(rows["uid"].to_numpy(), return_index=True, return_inverse=True)
    texts = rows["text"][first].fill_null("")
    parts, at = [], 0
    starts, ends = np.empty((2, len(texts)), dtype=np.int64)
    for block, tokens in _shingles.blocks(texts, unit):
        grams = _shingles.shingles(tokens, ngram)
        kept = grams.ends.copy()
        _compiled().make_sets(grams.hashes, grams.starts, kept)
        starts[block], ends[block] = grams.starts + at, kept + at
        parts.append(grams.hashes.copy())
        at += len(grams.hashes)
    hashes = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
    return _Sets(hashes, starts[record], ends[record])


class _Kernels(NamedTuple):
    """The compiled functions."""

    hash_bands: Callable[..., None]
    make_sets: Callable[..., None]
    compare: Callable[..., tuple[Int64s, Int64s, NDArray[np.float32]]]


@cache
def _compiled() -> _Kernels:
    from numba import njit

    compiled = njit(cache=True)
    return _Kernels(compiled(_hash_bands), compiled(_make_sets), compiled(_compare))


def _hash_bands(signatures: Signatures, slots: int, keys: UInt64s) -> None:
    """Write a hash of each band: a polynomial of its slots modulo 2**64, mixed. Compiled."""
    for row in range(len(keys)):
        for band in range(keys.shape[1]):
            z = np.uint64(band + 1)
            for value in signatures[row, band * slots : (band + 1) * slots]:
                z = z * _MULTIPLIER + np.uint64(value)
            z = (z ^ (z >> np.uint64(30))) * _MIX_1
            z = (z ^ (z >> np.uint64(27))) * _MIX_2
            keys[row, band] = z ^ (z >> np.uint64(31))


def _make_sets(hashes: UInt64s, starts: Int64s, ends: Int64s) -> None:
    """Sort each text's hashes in place and move its end to behind the last distinct. Compiled."""
    for text in range(len(starts)):
        own = hashes[starts[text] : ends[text]]
        own.sort()
        count = 0
        for value in own:
            if count == 0 or own[count - 1] != value:
                own[count] = value
                count += 1
        ends[text] = starts[text] + count


def _compare(
    signatures: Signatures,
    hashes: UInt64s,
    starts: Int64s,
    ends: Int64s,
    by_text: bool,
    limits: Int64s,
    least: float,
    most: int,
) -> tuple[Int64s, Int64s, NDArray[np.float32]]:
    """Return the edges, as rows, that compare each group's rows with its exemplars. Compiled."""
    a = np.empty(len(signatures), dtype=np.int64)
    b = np.empty(len(signatures), dtype=np.int64)
    similarity = np.empty(len(signatures), dtype=np.float32)
    exemplars = np.empty(most, dtype=np.int64)
    edges = 0
    for group in range(len(limits) - 1):
        count = 0
        for row in range(limits[group], limits[group + 1]):
            alone = True
            for exemplar in exemplars[:count]:
                equal = 0
                if by_text:
                    i, j = starts[exemplar], starts[row]
                    while i < ends[exemplar] and j < ends[row]:
                        x, y = hashes[i], hashes[j]
                        equal += x == y
                        i += x <= y
                        j += y <= x
                    both = ends[exemplar] - starts[exemplar] + ends[row] - starts[row] - equal
                else:
                    one, other = signatures[exemplar], signatures[row]
                    for i in range(len(one)):
                        equal += one[i] == other[i]
                    both = len(one)
                share = equal / both if both else 0.0
                if share >= least:
                    alone = False
                    if edges == len(a):
                        a = np.concatenate((a, np.empty_like(a)))
                        b = np.concatenate((b, np.empty_like(b)))
                        similarity = np.concatenate((similarity, np.empty_like(similarity)))
                    a[edges], b[edges], similarity[edges] = exemplar, row, share
                    edges += 1
            if alone and count < most:
                exemplars[count] = row
                count += 1
    return a[:edges], b[:edges], similarity[:edges]
