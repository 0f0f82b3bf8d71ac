"""The k records most alike to each, and the cosines to them: a graph of neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from contracts.params import Count
from curation import _groups, _neighbours
from curation.step import Role, groupwise

WRITES = {"neighbours": pl.UInt64, "cosines": pl.Float32}
FOLDED_AT_ONCE = 100_000


def group_keys(rows: pl.DataFrame, **_: Any) -> pl.Series:
    """Return the groups of each record; a record without one has a key of its own."""
    return _groups.keys(rows)


def nearest(partials: pl.DataFrame, *, k: int, **_: Any) -> pl.DataFrame:
    """Fold what was found of a record in several groups: the k of largest cosine, ties by uid."""
    partials = partials.sort("uid", maintain_order=True)
    return pl.concat(_folded(partials, k))


def _folded(partials: pl.DataFrame, k: int) -> Iterator[pl.DataFrame]:
    """Yield the lists of some records at a time."""
    starts = partials["uid"].ne_missing(partials["uid"].shift(1)).arg_true().to_numpy()
    ends = [*starts[FOLDED_AT_ONCE::FOLDED_AT_ONCE].tolist(), partials.height]
    begin = 0
    for end in ends:
        some = partials[begin:end]
        begin = end
        single = some["uid"].is_unique()
        yield some.filter(single)
        each = some.filter(~single)
        pairs = each.explode("neighbours", "cosines", empty_as_null=True)
        pairs = pairs.unique(["uid", "neighbours"])
        pairs = pairs.sort("uid", "cosines", "neighbours", descending=[False, True, False])
        # A list was null where a record has no direction, which is so in all of its groups.
        lists = pl.col("neighbours", "cosines").drop_nulls().head(k)
        folded = pairs.group_by("uid", maintain_order=True).agg(lists)
        known = each.filter(pl.col("neighbours").is_not_null())["uid"].implode()
        yield folded.with_columns(
            pl.when(pl.col("uid").is_in(known)).then(pl.col("neighbours", "cosines"))
        )


@groupwise(
    version=1,
    by="group",
    keys=group_keys,
    merge=nearest,
    reads={
        "vector": Role((pl.Array, pl.List)),
        "group": Role(default="nearest_centroid.probes"),
    },
    writes={name: pl.List(dtype) for name, dtype in WRITES.items()},
)
def nearest_neighbours(groups: pl.DataFrame, *, k: Count = 10) -> pl.DataFrame:
    """Find the k others of largest cosine among the records that share a group with each.

    Groups are the lists of an inverted file, searched from both ends: with
    `[annotate.nearest_centroid] probes = 4` a record is compared with whatever has one of its four
    nearest centroids among its own four. All in one group, group = "0", is exact: n² D
    multiplications. The vectors alone decide, in double precision where two are close, ties by
    uid: not the order of rows, threads or device.

    Reads:
        vector: what is compared.
        group: within what: a list of groups a record, one, or "0" for all.
    Args:
        k: how many neighbours a record has at most.
    Reference: inverted files: Sivic and Zisserman 2003, Video Google, ICCV; Jégou et al. 2011,
    Product quantization, TPAMI 33(1), section 4. The graph is what facility location on sparse
    similarities, densities and label noise by neighbours look at.
    Writes:
        neighbours: their uids, nearest first; fewer than k where the groups hold fewer, none where
            they hold no other; null where the vector is null or zero, as the other.
        cosines: to each of them.
    Cost: sum of size² * D multiplications over groups, a pass over the scores, and k D
    multiplications a record and group in double precision; some 40 bytes a neighbour, record and
    group while they are put together.
    Raises:
        DataError: vectors of different lengths; NaN or infinity.
    """
    known, x = _neighbours.matrix(groups["vector"], zeros=False)
    rows = groups.select("uid", "group").filter(known)
    uids, group = rows["uid"].to_numpy(), rows["group"].to_numpy()
    starts = np.append(np.flatnonzero(np.diff(group, prepend=0)), len(group))
    found_rows, found_others, found_cosines = [starts[:0]], [starts[:0]], [np.empty(0)]
    for a, b in itertools.pairwise(starts.tolist()):
        row, other, cosine = _neighbours.nearest_others(x[a:b], k)
        found_rows.append(a + row)
        found_others.append(a + other)
        found_cosines.append(cosine)
    pairs = pl.DataFrame(
        {
            "row": np.concatenate(found_rows),
            "neighbours": uids[np.concatenate(found_others)],
            "cosines": np.concatenate(found_cosines).astype(np.float32),
        }
    )
    lists = pairs.group_by("row", maintain_order=True).agg("neighbours", "cosines")
    found = rows.select("uid", row=pl.int_range(pl.len(), dtype=pl.Int64))
    found = found.join(lists, on="row", how="left", maintain_order="left").drop("row")
    found = found.with_columns(pl.col(name).fill_null([]) for name in WRITES)
    nothing = groups.select("uid").filter(~pl.Series(known))
    return pl.concat([found, nothing], how="diagonal")
