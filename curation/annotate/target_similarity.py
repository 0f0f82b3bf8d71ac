"""How near a record is to a target set: to its nearest record, and to all of them (NormSim)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation import _neighbours
from curation._evaluation import Same, directions, nearest
from curation.step import Role, Table, in_order, rowwise


@rowwise(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={"cosine": pl.Float32, "mean_square": pl.Float32, "nearest": pl.UInt64},
    tables={"target": Table(("vector",), pool=True, wanted=True)},
)
def target_similarity(rows: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
    """Measure max_t f t and mean_t (f t)^2 of a vector f and the targets t, all at length 1.

    The second is f (T'T / |T|) f, which looks at no target by itself: T'T is D x D. NormSim of
    order 2 is its root times that of the number of targets and ranks alike. The published code's
    NormSim of order infinity takes the largest |f t|, so that a vector opposite to a target is as
    good as that target; here it is the largest f t.

    Reads:
        vector: what is compared with the target.
        target: the records that are wanted, `pool:<name>` or `pool:./folder`.
    Reference: Wang et al. 2024, CLIPLoss and Norm-Based Data Selection Methods for Multimodal
        Contrastive Learning, arXiv:2405.19547, NormSim.
    Writes:
        cosine: to the nearest target, in [-1, 1]; null where the vector or every target's is null
            or zero, as the others.
        mean_square: of the cosines to all targets, in [0, 1].
        nearest: uid of the nearest target, ties to the first.
    Cost: targets * D and D^2 multiplications a record; of more than 100,000 targets take the
        centroids in their place, or `mean_square` alone is worth the time.
    Raises:
        DataError: vectors of different lengths; NaN or infinity.
    """
    same = Same(target)
    near = nearest("target_similarity", rows["vector"], directions(same))
    _, x = _neighbours.in_place(rows["vector"], zeros=False)
    square = np.zeros(len(near.row))
    # Blocks of one shape: what a row has for a product does not depend on the rows beside it.
    padded = np.zeros((_neighbours.ROWS, x.shape[1]))
    for a, b in _neighbours.blocks(len(square)):
        padded[: b - a] = _neighbours.unit_64(x[a:b])
        square[a:b] = np.einsum("ij,ij->i", padded @ _moment(same), padded)[: b - a]
    uids = directions(same).items["uid"].gather(near.item)
    found = rows.select("uid")[near.row].with_columns(
        cosine=near.cosine, mean_square=square.astype(np.float32), nearest=uids
    )
    return in_order(rows["uid"], found)


@lru_cache(maxsize=2)
def _moment(same: Same) -> NDArray[np.float64]:
    """Return T'T / |T|."""
    targets = directions(same).vectors
    found = np.zeros((targets.shape[1], targets.shape[1]))
    for a, b in _neighbours.blocks(len(targets)):
        block = _neighbours.unit_64(targets[a:b])
        found += block.T @ block
    return found / len(targets)
