"""Cosine of an image's vector and its text's: how well a caption fits its picture."""

from __future__ import annotations

import polars as pl

from contracts.errors import DataError
from curation import _neighbours
from curation.step import Role, in_order, rowwise

VECTOR = Role((pl.Array, pl.List))


@rowwise(
    version=1,
    reads={"image_vector": VECTOR, "text_vector": VECTOR},
    writes={"cosine": pl.Float32},
)
def alignment(rows: pl.DataFrame) -> pl.DataFrame:
    """Compare the two vectors of a two-tower encoder.

    Reads:
        image_vector: of the image tower.
        text_vector: of the text tower of the same encoder.
    Reference: Radford et al. 2021, CLIP, arXiv:2103.00020; as a filter Schuhmann et al. 2021,
    LAION-400M, arXiv:2111.02114.
    Writes:
        cosine: in [-1, 1]; null where either vector is null or zero.
    Cost: D multiplications a record.
    Raises:
        DataError: the two of different lengths; NaN or infinity.
    """
    both = rows.filter(pl.all_horizontal(pl.col("image_vector", "text_vector").is_not_null()))
    _, image = _neighbours.matrix(both["image_vector"])
    _, text = _neighbours.matrix(both["text_vector"])
    if len(image) and image.shape[1] != text.shape[1]:
        raise DataError(
            f"alignment: image vectors of {image.shape[1]} dimensions, text vectors of "
            f"{text.shape[1]}; bind the two columns of one two-tower encoder."
        )
    value = pl.Series(_neighbours.cosine(image, text), dtype=pl.Float32)
    directed = pl.Series(image.any(axis=1) & text.any(axis=1))
    found = both.select("uid", cosine=pl.when(directed).then(value))
    return in_order(rows["uid"], found)
