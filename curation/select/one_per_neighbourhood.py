"""Drop what is near to a record that is kept."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from contracts.errors import ConfigError
from curation.step import Role, selector

MEASURES = ("similarity", "distance", "cosine")


@selector(
    version=1,
    reads={
        "nearest": Role(pl.UInt64, default="semantic_duplicates.nearest"),
        "cosine": Role(default="semantic_duplicates.max_cosine", optional=True),
        "similarity": Role(optional=True),
        "distance": Role(optional=True),
        "score": Role(optional=True),
    },
)
def one_per_neighbourhood(
    candidates: pl.DataFrame,
    *,
    threshold: Annotated[float, Field(ge=0)],
    mode: Literal["keep_one", "semdedup"] = "keep_one",
) -> pl.DataFrame:
    """Go through the candidates; drop one that is near to a kept one, keep it otherwise.

    Two candidates are near if one is the `nearest` of the other and their cosine or similarity is
    above the threshold, or their distance at or below it. So no two kept ones are near, and each
    dropped one is near to a kept one: of A, B near to A, and C near to B, it keeps A and C. The
    order is the score, highest first, nulls last, ties by uid; without a score a record comes
    after its nearest, as in the order in which it was measured (the smallest uid first where
    records are each other's nearest). A neighbour that is no candidate drops nothing.

    mode = "semdedup" is the paper's code: drop whatever is near to its nearest, kept or not; of
    the chain above it keeps A alone.

    Reads:
        nearest: the record that a candidate is near to.
        cosine: to it.
        similarity: to it, instead of a cosine.
        distance: to it, instead of a cosine.
        score: whoever has more is looked at first, and so stays.
    Args:
        threshold: two are near above this cosine or similarity, or at or below this distance.
        mode: "keep_one" drops a record only beside a kept one; "semdedup" is the paper's code.
    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540, section 3, and its released code.
    Cost: linear; some 100 bytes and a microsecond or two a record that is near to another.
    Raises:
        ConfigError: not one of cosine, similarity and distance is there.
    """
    measure = _measure(candidates)
    near = pl.col(measure).cast(pl.Float64)
    near = near <= threshold if measure == "distance" else near > threshold
    near = (near & (pl.col("nearest") != pl.col("uid"))).fill_null(False)
    if mode == "semdedup":
        return candidates.filter(~near).select("uid")

    uids = candidates["uid"].to_numpy()
    edges = candidates.filter(near).select("uid", "nearest")
    edges = edges.filter(edges["nearest"].is_in(candidates["uid"].implode()))
    ends = np.union1d(edges["uid"].to_numpy(), edges["nearest"].to_numpy())
    # Positions among the records that have an edge, which stay sorted by uid.
    child = np.searchsorted(ends, edges["uid"].to_numpy())
    parent = np.searchsorted(ends, edges["nearest"].to_numpy())
    if "score" in candidates.columns:
        ranked = candidates.filter(pl.col("uid").is_in(pl.Series(ends).implode()))
        rank = ranked["score"].fill_nan(None).rank("dense", descending=True)
        rank = rank.cast(pl.Float64).fill_null(np.inf)
        order = np.lexsort((ends, rank.to_numpy())).tolist()
    else:
        order = _parents_first(child, parent, len(ends))
    dropped = ends[_greedy(order, child, parent)]
    return pl.DataFrame({"uid": np.setdiff1d(uids, dropped, assume_unique=True)})


def explain(candidates: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Name for each dropped candidate a kept one that it is near to.

    That is the nearer of its own nearest and of those whose nearest it is. Where "semdedup" kept
    none of these, it is the kept one at the end of the chain of nearest.

    Returns:
        uid, twin, edge (the measure), distance (1 - cosine or similarity, or the distance itself;
        along a chain that to the nearest).
    """
    measure = _measure(candidates)
    keeper = kept["uid"].implode()
    edges = candidates.select("uid", "nearest", value=pl.col(measure).cast(pl.Float32))
    dropped = edges.filter(~pl.col("uid").is_in(keeper))
    beside = pl.concat(
        [
            dropped.select("uid", "value", twin="nearest"),
            edges.select("value", uid="nearest", twin="uid"),
        ],
        how="diagonal",
    ).filter(pl.col("uid").is_in(dropped["uid"].implode()), pl.col("twin").is_in(keeper))
    best = beside.sort(
        ["uid", "value", "twin"],
        descending=[False, measure != "distance", False],
        nulls_last=True,
    ).unique("uid", keep="first", maintain_order=True)
    far = pl.col("value") if measure == "distance" else 1 - pl.col("value")
    chained = _chain_ends(edges, dropped.join(best, on="uid", how="anti"), kept)
    return (
        pl.concat([best.select("uid", "twin", "value"), chained])
        .sort("uid")
        .select("uid", "twin", edge=pl.lit(measure), distance=far)
    )


def _measure(candidates: pl.DataFrame) -> str:
    """Return the measure that is bound; the cosine, which has a default, gives way."""
    given = [name for name in MEASURES if name in candidates.columns]
    if not given or given[:2] == ["similarity", "distance"]:
        raise ConfigError(
            "one_per_neighbourhood needs one of cosine, similarity and distance; it has "
            f"{given}: bind one, that of the method which wrote `nearest`."
        )
    return given[0]


def _parents_first(child: NDArray[np.int64], parent: NDArray[np.int64], count: int) -> list[int]:
    """Order the records so that each comes after its nearest.

    Of a circle of nearest the smallest uid comes first, as if it had none.
    """
    shape = (count, count)
    graph = csr_array((np.ones(len(child), dtype=bool), (parent, child)), shape=shape)
    _, circle = connected_components(graph, directed=True, connection="strong")
    _, leader = np.unique(circle, return_index=True)
    # A strong component is a circle or one record: its leader starts unless it has a parent
    # outside; a record in a circle has its only parent inside.
    outside = np.zeros(count, dtype=bool)
    outside[child[circle[child] != circle[parent]]] = True
    starts = leader[~outside[leader]]
    rows = np.append(parent, np.full(len(starts), count))
    columns = np.append(child, starts)
    tree = csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count + 1,) * 2)
    order = breadth_first_order(tree, count, return_predecessors=False)
    reached: list[int] = order[1:].tolist()
    return reached


def _greedy(
    order: list[int], child: NDArray[np.int64], parent: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which records are dropped: each is beside one that came earlier and was kept."""
    beside: list[list[int]] = [[] for _ in order]
    for a, b in zip(child.tolist(), parent.tolist(), strict=True):
        beside[a].append(b)
        beside[b].append(a)
    dropped = bytearray(len(order))
    for record in order:
        if not dropped[record]:
            for other in beside[record]:
                dropped[other] = True
    return np.frombuffer(dropped, dtype=bool)


def _chain_ends(edges: pl.DataFrame, dropped: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Follow `nearest` from each record to a kept one."""
    nearest = dict(edges.select("uid", "nearest").iter_rows())
    keepers = set(kept["uid"])
    twins = []
    for uid in dropped["uid"]:
        seen, at = {uid}, nearest.get(uid)
        while at is not None and at not in keepers and at not in seen:
            seen.add(at)
            at = nearest.get(at)
        twins.append(at if at in keepers else None)
    return dropped.select("uid", pl.Series("twin", twins, dtype=pl.UInt64), "value")
