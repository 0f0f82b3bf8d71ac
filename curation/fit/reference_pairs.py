"""A sample of pairs of vectors: what the alignment of any pair is measured against."""

from __future__ import annotations

import polars as pl

from contracts.params import Count, Seed
from curation import _neighbours
from curation.step import Parameters, Role, fit

VECTOR = Role((pl.Array, pl.List))


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many pairs to draw."""
    return parameters["num_pairs"], parameters


@fit(
    version=1,
    reads={"image_vector": VECTOR, "text_vector": VECTOR},
    writes={"uid": pl.UInt64, "image": pl.Array, "text": pl.Array},
    plan=plan,
)
def reference_pairs(
    rows: pl.DataFrame, *, num_pairs: Count = 32_768, seed: Seed = 0
) -> pl.DataFrame:
    """Draw the records with the smallest uniform(uid, seed, stream), and keep both vectors.

    Reads:
        image_vector: of the image tower.
        text_vector: of the text tower of the same encoder.
    Args:
        num_pairs: how many are drawn; the paper's batch by itself.
        seed: another number makes other draws.
    Reference: Wang et al. 2024, CLIPLoss and Norm-Based Data Selection Methods, arXiv:2405.19547,
    whose random batches one sample replaces.
    Writes:
        uid: of each pair, ascending.
        image: Array(Float16, D), at length 1.
        text: likewise. Fewer than drawn where one of the two is null or zero.
    Cost: 4 D bytes a pair, 100 MB for 32,768 of 768 numbers.
    Raises:
        DataError: vectors of different lengths, NaN or infinity.
    """
    del num_pairs, seed  # `plan` and the draw before this call have used them.
    known, image = _neighbours.directions(rows["image_vector"])
    there, text = _neighbours.directions(rows["text_vector"])
    both = known & there
    return pl.DataFrame(
        {
            "uid": rows["uid"].filter(both),
            "image": _column(image[both[known]]),
            "text": _column(text[both[there]]),
        }
    )


def _column(vectors: _neighbours.Vectors) -> pl.Series:
    return pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])).cast(
        pl.Array(pl.Float16, vectors.shape[1])
    )
