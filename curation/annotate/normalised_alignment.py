"""Cosine of an image and its text, less what each earns with everything: s-CLIPLoss."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Positive
from curation import _neighbours
from curation.step import Role, Table, in_order, rowwise

VECTOR = Role((pl.Array, pl.List))
ROWS, COLUMNS = 256, 4096
Floats = NDArray[np.float64]


@rowwise(
    version=1,
    reads={"image_vector": VECTOR, "text_vector": VECTOR},
    writes={"cosine": pl.Float32, "hubness": pl.Float32, "score": pl.Float32},
    tables={"reference": Table(("uid", "image", "text"), default="fit.reference_pairs")},
)
def normalised_alignment(
    rows: pl.DataFrame, reference: pl.DataFrame, *, temperature: Positive = 0.01
) -> pl.DataFrame:
    """Subtract from a pair's cosine what its image and its text have with those of other pairs.

    score = cosine - hubness, hubness = temperature / 2 * (log sum_j exp(c_ij / temperature) + log
    sum_j exp(c_ji / temperature)), where c_ij is the cosine of image i and text j, over the pairs j
    of the reference and the pair itself, once. A caption that fits every picture, or a picture that
    every caption fits, has a large hubness. Over a whole batch as reference the mean of the score
    is -temperature times CLIP's loss of the batch.

    Reads:
        image_vector: of the image tower.
        text_vector: of the text tower of the same encoder.
        reference: pairs of the same encoder, with their uids.
    Args:
        temperature: that of the encoder's training, 0.01 for OpenAI's CLIP, 0.07 for DFN's public
            one.
    Reference: Wang et al. 2024, CLIPLoss and Norm-Based Data Selection Methods, arXiv:2405.19547.
    There it is the mean over many random batches; here one sample serves all records, so that what
    a record scores depends on no batch, and a pool that grows measures only what is new.
    Writes:
        cosine: of the pair, in [-1, 1]; null where either vector is null or zero, as the others.
        hubness: in cosines; the more pairs the reference has, the larger.
        score: at most 0 but for the rounding of the reference's vectors; those by two references
            compare only where these have as many pairs.
    Cost: 2 m D multiplications a pair for a reference of m, 50 million at 32,768 pairs of 768;
        memory for the reference and 256 x 4096 cosines.
    Raises:
        DataError: vectors of different lengths; NaN or infinity.
    """
    known, image = _neighbours.in_place(rows["image_vector"], zeros=False)
    there, text = _neighbours.in_place(rows["text_vector"], zeros=False)
    both = known & there
    pairs = rows.select("uid").filter(both)
    images, texts = image[np.flatnonzero(both[known])], text[np.flatnonzero(both[there])]
    others = [_neighbours.directions(reference[name])[1] for name in ("image", "text")]
    lengths = {x.shape[1] for x in (images, texts, *others) if len(x)}
    if len(lengths) > 1:
        raise DataError(
            f"normalised_alignment: vectors of {sorted(lengths)} numbers; bind the two columns of "
            "one two-tower encoder, and a reference that was made of the same."
        )
    own = _neighbours.cosine(images, texts)
    # A pair of the reference is there already.
    more = np.where(pairs["uid"].is_in(reference["uid"].implode()), -np.inf, own)
    hubness = np.empty(len(own))
    for a, b in _neighbours.blocks(len(own), ROWS):
        logs = [
            _log_sum(block[a:b], of, more[a:b], temperature)
            for block, of in ((images, others[1]), (texts, others[0]))
        ]
        hubness[a:b] = temperature / 2 * (logs[0] + logs[1])
    found = pairs.with_columns(cosine=own, hubness=hubness, score=own - hubness)
    return in_order(rows["uid"], found.cast({pl.Float64: pl.Float32}))


def _log_sum(
    block: NDArray[np.floating], others: _neighbours.Vectors, more: Floats, temperature: float
) -> Floats:
    """Return log sum exp(cosine / temperature) of each row over the others and one cosine more."""
    directions = _neighbours.unit(block)
    largest, total = more.copy(), np.where(more > -np.inf, 1.0, 0.0)
    for a, b in _neighbours.blocks(len(others), COLUMNS):
        cosines = directions @ others[a:b].T
        now = np.maximum(largest, cosines.max(axis=1))
        total *= np.exp((largest - now) / temperature)
        terms = np.exp((cosines - now[:, None].astype(np.float32)) / np.float32(temperature))
        total += terms.sum(axis=1, dtype=np.float64)
        largest = now
    return largest / temperature + np.log(total)
