"""Score of a linear head on vectors that the pool has: aesthetics, NSFW, quality."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from curation import _neighbours
from curation.step import Role, Table, in_order, rowwise


@rowwise(
    version=1,
    reads={"vector": Role((pl.Array, pl.List))},
    writes={"score": pl.Float32},
    tables={"head": Table(("weight",))},
)
def linear_score(
    rows: pl.DataFrame,
    head: pl.DataFrame,
    *,
    activation: Literal["none", "sigmoid"] = "none",
) -> pl.DataFrame:
    """Multiply each vector by the weights of a head and add its bias.

    score = weight . vector + bias, then 1 / (1 + exp(-score)) with `sigmoid`. Vectors of an
    encoder have length 1, as LAION's heads want them; those of a file are taken as they are. Layers
    without anything between them, as in LAION's second aesthetic predictor, are one head: multiply
    their weights.

    Reads:
        vector: of the encoder that the head was trained on.
        head: the file of the weights, safetensors or npz: `weight` of shape (1, D) or (D,), and
            `bias` of shape (1,) where there is one.
    Args:
        activation: "sigmoid" makes the score a probability.
    Reference: Schuhmann et al. 2022, LAION-5B, arXiv:2210.08402, for heads of aesthetics and
    safety on CLIP's vectors.
    Writes:
        score: in the head's own unit; null where the vector is.
    Cost: D multiplications a record.
    Raises:
        DataError: the head has other than D weights and one bias; NaN or infinity.
    """
    weight, bias = _weights(head)
    known, x = _neighbours.in_place(rows["vector"])
    if len(x) and x.shape[1] != len(weight):
        raise DataError(
            f"linear_score: vectors of {x.shape[1]} numbers, and a head of {len(weight)} weights; "
            "bind `vector` to the encoder that the head was trained on."
        )
    score = np.empty(len(x))
    for a, b in _neighbours.blocks(len(x)):
        score[a:b] = np.einsum("nd,d->n", x[a:b].astype(np.float64), weight) + bias
    if activation == "sigmoid":
        # In this form exp overflows for no score.
        score = np.exp(-np.logaddexp(0.0, -score))
    found = rows.select("uid").filter(known).with_columns(score=score.astype(np.float32))
    return in_order(rows["uid"], found)


def _weights(head: pl.DataFrame) -> tuple[NDArray[np.float64], float]:
    """Return the weights and the bias of a head's file."""
    column = head["weight"]
    if column.dtype in (pl.Array, pl.List):
        if head.height != 1:
            raise DataError(
                f"linear_score: the head has {head.height} rows of weights, and a score has one; "
                "of two classes it is the difference of their rows."
            )
        column = column.explode()
    weight = column.cast(pl.Float64).to_numpy()
    bias = head["bias"].cast(pl.Float64) if "bias" in head.columns else pl.Series([0.0])
    if bias.n_unique() != 1:
        raise DataError(f"linear_score: the head has {len(bias)} biases, and a score has one.")
    if not np.isfinite([*weight, bias[0]]).all():
        raise DataError("linear_score: the head's weights hold NaN or infinity.")
    return weight, float(bias[0])
