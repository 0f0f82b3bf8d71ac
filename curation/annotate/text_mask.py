"""A picture without the text that it shows: each line filled with the colour around it."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
from PIL import Image

from contracts import decode
from contracts.decode import Pixels
from curation.annotate.text_in_image import REGION
from curation.step import Role, rowwise

# The ring around a line that its filling is the mean of, in shares of the line's height.
RING_RATIO = 0.25


@rowwise(
    version=1,
    reads={"image": Role(pl.Binary), "regions": Role(pl.List(REGION), "text_in_image.regions")},
    writes={"image": pl.Binary},
)
def text_mask(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill each rectangle of text with the mean colour of a ring around it that shows no text.

    The ring is a quarter of the rectangle's height wide, and one pixel at least. Where text covers
    all of it the filling is the mean of what no rectangle covers in the picture; where they cover
    the whole picture, its own mean. So an encoder sees a caption's picture, not its words.

    Reads:
        image: what is masked.
        regions: rectangles of text, as `text_in_image` finds them.
    Reference: Maini et al. 2023, T-MARS, arXiv:2307.03132, section 4 (masked, then scored again).
    Writes:
        image: a PNG, upright and on white; without text the picture's own bytes, so that its
            vector stays the same. Null where the picture is null or not decodable, or was not
            looked at for text. As large as the pool's pictures, or larger.
    Cost: a decode and an encode of each picture with text.
    """
    masked = [
        None if data is None or regions is None else _masked(data, regions)
        for data, regions in zip(rows["image"], rows["regions"].to_list(), strict=True)
    ]
    return pl.DataFrame({"image": pl.Series(masked, dtype=pl.Binary)})


def _masked(data: bytes, regions: list[dict[str, int]]) -> bytes | None:
    try:
        pixels = decode.image(data)
    except decode.Undecodable:
        return None
    if not regions:
        return data
    buffer = io.BytesIO()
    Image.fromarray(filled(pixels, regions)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def filled(pixels_HWC: Pixels, regions: list[dict[str, int]]) -> Pixels:
    """Return a copy of the picture with each rectangle filled."""
    is_free = np.ones(pixels_HWC.shape[:2], dtype=bool)
    boxes = [[region[side] for side in ("left", "top", "right", "bottom")] for region in regions]
    for left, top, right, bottom in boxes:
        is_free[top:bottom, left:right] = False
    found = pixels_HWC.copy()
    for left, top, right, bottom in boxes:
        ring = max(1, round(RING_RATIO * (bottom - top)))
        near = np.s_[max(0, top - ring) : bottom + ring, max(0, left - ring) : right + ring]
        around = pixels_HWC[near][is_free[near]]
        if not len(around):
            around = pixels_HWC[is_free] if is_free.any() else pixels_HWC.reshape(-1, 3)
        found[top:bottom, left:right] = around.mean(axis=0).round().astype(np.uint8)
    return found
