"""Keep of each cluster of duplicates the record of the concept that is kept least so far."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from curation import _neighbours
from curation.select.one_per_cluster import explain as explain
from curation.step import Role, Table, selector

EVIDENCE = {"concept": pl.UInt32, "cosine": pl.Float32, "favoured": pl.UInt32}


@selector(
    version=1,
    reads={
        "vector": Role((pl.Array, pl.List)),
        "cluster": Role(pl.UInt64, default="semantic_clusters.cluster"),
        "group": Role(default="nearest_centroid.centroid", optional=True),
    },
    evidence=EVIDENCE,
    tables={"concepts": Table(("vector",), pool=True)},
)
def fair_dedup(candidates: pl.DataFrame, concepts: pl.DataFrame) -> pl.DataFrame:
    """Keep one candidate of each cluster, by turns what is most like each sensitive concept.

    A concept is a vector: the mean, say, of text vectors of prompts for a group of people, by the
    encoder of the candidates. Within a group (a k-means cluster; without the role all are one) a
    count is kept for each concept of the kept records that are most like it. First those that are
    alone in their cluster count, as they stay anyway. Then each further cluster, in the order of
    its smallest uid, keeps its record of largest cosine to the concept of lowest count, ties by
    number of the concept and by uid, and that counts too. With one concept that is the largest
    cosine to it. On `semantic_clusters` it keeps as many records as SemDeDup at that threshold.

    A cluster counts in the group of its smallest uid. A record without a cluster stays. One
    without a vector is kept only where its cluster has no other, and counts for no concept.

    Reads:
        vector: what is compared with the concepts.
        cluster: of duplicates.
        group: within what the concepts are counted; all are one group without it.
        concepts: a pool with a vector a concept, `pool:<name>` or `pool:./folder`.
    Reference: Slyman et al. 2024, FairDeDup, arXiv:2404.16123, section 4.
    Writes:
        concept: the number of the concept it is most like, in the order of the table (of a pool, of
            uids), and `cosine` to it; null without a vector.
        favoured: the concept of lowest count for which it was kept; null where it was alone.
    Cost: D * concepts multiplications a candidate, some microseconds a cluster; 8 bytes a candidate
    and concept.
    Raises:
        DataError: no concept, or one without a vector; vectors and concepts of different lengths;
            NaN or infinity.
    """
    cosine, known = _cosines(candidates, concepts)
    uids = candidates["uid"].to_numpy()
    like = _first_largest(cosine)
    row = pl.int_range(candidates.height, eager=True)
    # A rank is at most the number of rows: beyond it there is a number for each without a cluster.
    cluster = candidates["cluster"].rank("dense").cast(pl.Int64).fill_null(row + len(row) + 1)
    _, head, number, size = np.unique(
        cluster, return_index=True, return_inverse=True, return_counts=True
    )
    group = _group(candidates)
    counts = np.zeros((group.max(initial=-1) + 1, cosine.shape[1]), dtype=np.int64)
    alone = size[number] == 1
    np.add.at(counts, (group[alone & known], like[alone & known]), 1)

    kept: list[int] = np.flatnonzero(alone).tolist()
    favoured: list[int | None] = [None] * len(kept)
    # Candidates come sorted by uid, so a cluster's members do, and its head is the smallest.
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(size)[:-1])
    for place in np.argsort(head, kind="stable"):
        if size[place] > 1:
            count = counts[group[head[place]]]
            concept = int(count.argmin())
            choice = members[place]
            chosen = int(choice[_first_largest(cosine[choice, concept][None])[0]])
            if known[chosen]:
                count[like[chosen]] += 1
            kept.append(chosen)
            favoured.append(concept)
    return pl.DataFrame(
        {
            "uid": uids[kept],
            "concept": pl.Series(like[kept], dtype=pl.UInt32),
            "cosine": pl.Series(cosine[kept, like[kept]], dtype=pl.Float32),
            "favoured": pl.Series(favoured, dtype=pl.UInt32),
        }
    ).with_columns(pl.when(pl.Series(known[kept])).then(pl.col("concept", "cosine")))


def _cosines(
    candidates: pl.DataFrame, concepts: pl.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (n, concepts) cosines, -inf without a vector, and which candidates have one."""
    if "uid" in concepts.columns:
        concepts = concepts.sort("uid")
    there, c = _neighbours.directions(concepts["vector"].alias("concepts"))
    if not there.all() or not len(c):
        raise DataError(
            f"fair_dedup: {len(c)} of {len(there)} concepts have a vector; each needs one, and "
            "one concept at least."
        )
    known, x = _neighbours.in_place(candidates["vector"], zeros=False)
    if len(x) and x.shape[1] != c.shape[1]:
        raise DataError(
            f"fair_dedup: candidates of {x.shape[1]} dimensions, concepts of {c.shape[1]}; "
            "embed both with the same encoder."
        )
    cosine = np.full((len(known), len(c)), -np.inf)
    rows = np.flatnonzero(known)
    for a, b in _neighbours.blocks(len(x)):
        cosine[rows[a:b]] = _neighbours.unit_64(x[a:b]) @ _neighbours.unit_64(c).T
    return cosine, known


def _first_largest(cosine: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each line's first place of those that are the largest but for rounding."""
    largest: NDArray[np.int64] = (
        cosine >= cosine.max(axis=1, keepdims=True) - _neighbours.TIE
    ).argmax(axis=1)
    return largest


def _group(candidates: pl.DataFrame) -> NDArray[np.int64]:
    """Return group numbers from 0; null is a group too."""
    if "group" not in candidates.columns:
        return np.zeros(candidates.height, dtype=np.int64)
    return candidates["group"].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
