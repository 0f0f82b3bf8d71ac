"""Which labels contradict what the other records of the pool say: confident learning."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from curation.step import Parameters, Role, in_order, poolwise

Floats = NDArray[np.float32]
Int64s = NDArray[np.int64]
Mask = NDArray[np.bool_]
LABEL = Role((pl.String, pl.Boolean, pl.Int64, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32))
NEAR = 1e-6


def _reads(parameters: Parameters) -> dict[str, Any]:
    lists = {"neighbours": Role(pl.List(pl.UInt64), default="nearest_neighbours.neighbours")}
    by_probabilities = {"probabilities": Role((pl.List, pl.Array))}
    return {"label": LABEL} | (lists if parameters["mode"] == "knn" else by_probabilities)


@poolwise(
    version=2,
    reads=_reads,
    writes={
        "suggested": pl.String,
        "self_confidence": pl.Float32,
        "margin": pl.Float32,
        "issue": pl.Boolean,
    },
)
def label_issues(
    rows: pl.DataFrame, *, mode: Literal["knn", "probabilities"] = "knn"
) -> pl.DataFrame:
    """Suggest the label that a record confidently has, and mark it where it has another.

    p_k is the probability of label k. Its threshold t_k is the mean p_k of the records labelled k;
    a record is confident in the labels with p_k >= t_k, and of these the likeliest is suggested,
    the first by name of equals. An issue is a label other than the suggested one and less likely
    than some other. `knn` takes the share of each label among a record's nearest that have a label;
    `probabilities` takes a model's, which must not have been trained on the record itself:
    in-sample probabilities agree with every wrong label.

    Reads:
        label: at most one a record; without one it is judged, but nobody is judged by it.
        neighbours: `knn`: uids of each record's nearest others, which all vote alike.
        probabilities: `probabilities`: one for each label of the pool, the labels in ascending
            order.
    Args:
        mode: what gives the probabilities.
    Reference: Northcutt, Jiang and Chuang 2021, Confident Learning, arXiv:1911.00068, section 3.
        cleanlab's code suggests the likeliest of all labels where a record is confident in several,
        which may be one below its threshold (its issue 1248); by default it takes as many as its
        joint of labels says, the likeliest first. Neighbours as in Bahri, Jiang and Gupta 2020,
        Deep k-NN for Noisy Labels, arXiv:2004.12289.
    Writes:
        suggested: null where the record is confident in none, or has no probabilities or no
            neighbour with a label, as the others then are.
        self_confidence: p of its own label, in [0, 1]; null without a label, as the next two.
        margin: (p of its own label - the largest other p + 1) / 2, in [0, 1]; below 0.5 another
            label is likelier.
        issue: whether the label is likely wrong.
    Cost: linear; 4 bytes a record for each label; `knn`: some 60 bytes a neighbour.
    Raises:
        DataError: a record's probabilities are not as many as there are labels.
    """
    # In the order of the values, as the probabilities are, not of their names.
    labels = rows["label"].drop_nulls().unique().sort()
    numbers = pl.int_range(len(labels), eager=True)
    places = rows["label"].replace_strict(labels, numbers, default=-1, return_dtype=pl.Int64)
    number: Int64s = places.to_numpy()
    if mode == "knn":
        known, p = _votes(rows, number, len(labels))
    else:
        known, p = _given(rows["probabilities"], len(labels))
    return in_order(rows["uid"], _judged(rows["uid"].filter(known), number[known], p, labels))


def _judged(uids: pl.Series, number: Int64s, p: Floats, labels: pl.Series) -> pl.DataFrame:
    """Return the columns of records with probabilities.

    Args:
        uids: of the records.
        number: of each one's label, -1 without one.
        p: (records, labels).
        labels: ascending.
    """
    if not p.size:
        return pl.DataFrame(schema={"uid": pl.UInt64, **label_issues.writes})
    of_label = [p[number == k, k] for k in range(len(labels))]
    # Of a label that no record with probabilities has nobody is confident.
    thresholds = [of.mean(dtype=np.float64) if len(of) else np.inf for of in of_label]
    confident = np.where(p >= np.array(thresholds) - NEAR, p, -1)
    best = np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), -1)
    here = np.arange(len(p))
    own = p[here, number]
    others = p.copy()
    others[here, number] = 0
    has_label = pl.Series(number >= 0)
    columns = pl.DataFrame(
        {
            "self_confidence": own,
            "margin": (own - others.max(axis=1) + 1) / 2,
            "issue": (best >= 0) & (best != number) & (p.argmax(axis=1) != number),
        }
    ).select(pl.when(has_label).then(pl.all()).name.keep())
    suggested = labels.cast(pl.String).gather(pl.Series(best).replace(-1, None))
    return pl.DataFrame([uids, suggested.alias("suggested"), *columns])


def _votes(rows: pl.DataFrame, number: Int64s, count: int) -> tuple[Mask, Floats]:
    """Return which records have a neighbour with a label, and the share of each label there."""
    voters = rows.select(neighbours="uid", label=number).filter(number >= 0)
    pairs = rows.select("uid", "neighbours", row=np.arange(rows.height)).explode("neighbours")
    votes = pairs.filter(pl.col("neighbours") != pl.col("uid")).join(voters, on="neighbours")
    p = np.zeros((rows.height, count), dtype=np.float32)
    np.add.at(p, (votes["row"].to_numpy(), votes["label"].to_numpy()), 1)
    cast = p.sum(axis=1, keepdims=True)
    p /= np.maximum(cast, 1)
    known = cast[:, 0] > 0
    return known, p[known]


def _given(probabilities: pl.Series, count: int) -> tuple[Mask, Floats]:
    """Return which records have probabilities without NaN and null, and those."""
    lists = probabilities.cast(pl.List(pl.Float32))
    unknown = pl.element().fill_null(float("nan")).is_nan().any()
    known = lists.is_not_null() & ~lists.list.eval(unknown).list.first()
    known = known.fill_null(False)
    wrong = lists.filter(known & (lists.list.len() != count))
    if len(wrong):
        raise DataError(
            f"label_issues: a record has {len(wrong[0])} probabilities, but the pool {count} "
            "labels: give one for each label, in ascending order of the labels."
        )
    values = lists.filter(known).explode().to_numpy().reshape(int(known.sum()), count)
    return known.to_numpy(), values
