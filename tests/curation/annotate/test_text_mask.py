"""Pictures without their text: what is filled, with which colour, and what stays as it is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from contracts import decode
from curation.annotate.text_in_image import REGION
from curation.annotate.text_mask import filled, text_mask


def region(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    return {**sides, "confidence": 1.0, "text": None}


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_line_becomes_the_colour_around_it_and_nothing_else_changes():
    pixels = np.full((40, 60, 3), 10, np.uint8)
    pixels[:, 30:] = 200
    pixels[10:18, 4:20] = pixels[10:18, 40:56] = 255
    found = filled(pixels, [region(4, 10, 20, 18), region(40, 10, 56, 18)])
    expected = np.full((40, 60, 3), 10, np.uint8)
    expected[:, 30:] = 200
    assert np.array_equal(found, expected)


def test_text_from_edge_to_edge_takes_the_rest_of_the_picture_and_else_its_own_mean():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    pixels[6:] = 100
    above, below = region(0, 0, 8, 3), region(0, 3, 8, 6)
    # The rest is the two last rows; the ring of the upper line lies in the lower one.
    assert (filled(pixels, [above, below])[:6] == 100).all()
    mean = round((4 * 255 + 2 * 100) / 8)
    assert (filled(pixels, [region(0, 0, 8, 8)]) == mean).all()


def test_a_picture_without_text_keeps_its_bytes_and_an_unknown_one_is_null():
    data = encoded(np.full((8, 8), 7, np.uint8))
    lists: list[Any] = [[], [region(0, 0, 4, 4)], None, [], []]
    rows = pl.DataFrame(
        {
            "uid": pl.int_range(5, dtype=pl.UInt64, eager=True),
            "image": [data, data, data, None, b"GIF89a"],
            "regions": pl.Series(lists, dtype=pl.List(REGION)),
        }
    )
    kept, masked, *unknown = text_mask(rows)["image"]
    assert kept == data
    assert np.array_equal(decode.image(masked), np.full((8, 8, 3), 7))
    assert unknown == [None] * 3
