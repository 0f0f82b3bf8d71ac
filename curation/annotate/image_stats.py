"""Numbers that describe a picture: size, light, detail, sharpness, and how it is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import decode
from curation.step import Role, rowwise

LEVELS = 256

Pixels = NDArray[np.uint8]
_WRITES = {
    "width_px": pl.UInt32,
    "height_px": pl.UInt32,
    "aspect": pl.Float32,
    "brightness": pl.Float32,
    "entropy": pl.Float32,
    "flat_ratio": pl.Float32,
    "laplacian_variance": pl.Float32,
    "depth": pl.UInt8,
    "frames": pl.UInt32,
    "transparent": pl.Boolean,
}


@rowwise(version=1, reads={"image": Role(pl.Binary)}, writes=_WRITES)
def image_stats(rows: pl.DataFrame) -> pl.DataFrame:
    """Measure frame 0 of a picture in grey, upright and on white, at its full size.

    Grey is 0.299 R + 0.587 G + 0.114 B in 256 levels, of a JPEG its luma; 16 bits come to 8. With
    p_v the share of pixels of level v, entropy is -sum p_v log2 p_v. The Laplacian of a pixel is
    the sum of its four neighbours less four times itself, the picture mirrored at its edges; its
    variance is small where nothing is sharp, and depends on the size of the picture.

    Reads:
        image: what is measured.
    Reference: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy, ICPR
        (variance of the Laplacian); Shannon 1948.
    Writes:
        width_px: pixels, after the rotation that EXIF asks for; null where the picture is null or
            not decodable, as all columns.
        height_px: likewise.
        aspect: the longer side over the shorter, 1 or more.
        brightness: mean level over 255, in [0, 1].
        entropy: bits a pixel, 0 (one level) to 8.
        flat_ratio: share of the pixels that have the commonest level, in (0, 1]; 1 is one colour.
        laplacian_variance: squared levels, 0 where every pixel is the mean of its neighbours.
        depth: bits of a channel as stored, of a palette's index; 5 for BMP of 16 bits, 8 for GIF.
        frames: of an animation, else 1.
        transparent: an alpha channel or a transparent colour is stored.
    Cost: a decode in grey, which it shares with the steps beside it, and a sixth of that.
    """
    found = [None if data is None else _measured(data) for data in rows["image"]]
    return pl.DataFrame(
        [row or [None] * len(_WRITES) for row in found], schema=_WRITES, orient="row"
    )


def _measured(data: bytes) -> list[float] | None:
    """Return the row of a picture, None where it cannot be decoded."""
    try:
        grey, stored = decode.described(data, "L")
    except decode.Undecodable:
        return None
    height, width = grey.shape
    counts, total, squares = _compiled()(grey)
    share = counts / grey.size
    used = share[share > 0]
    return [
        width,
        height,
        max(width, height) / min(width, height),
        float(share @ np.arange(LEVELS)) / (LEVELS - 1),
        # Of one level it would be -0.
        abs(float(used @ np.log2(used))),
        float(share.max()),
        # In whole numbers, so that nothing is rounded before the division.
        (squares * grey.size - total**2) / grey.size**2,
        stored.depth,
        stored.frames,
        stored.transparent,
    ]


@cache
def _compiled() -> Callable[[Pixels], tuple[NDArray[np.int64], int, int]]:
    from numba import njit

    compiled: Callable[[Pixels], tuple[NDArray[np.int64], int, int]] = njit(cache=True)(_scan)
    return compiled


def _scan(grey_HW: Pixels) -> tuple[NDArray[np.int64], int, int]:
    """Return how many pixels have each level, and the Laplacian's sum and sum of squares."""
    height, width = grey_HW.shape
    # Four tables, as a processor waits where it adds to one place again and again.
    counts = np.zeros((4, LEVELS), dtype=np.int64)
    total = squares = 0
    for row in range(height):
        # The picture mirrored at its edges, which are not doubled.
        above = grey_HW[min(abs(row - 1), height - 1)]
        below = grey_HW[max(0, height - 1 - abs(height - 2 - row))]
        here = grey_HW[row]
        # A row's sum stays within 32 bits, which a processor adds several of at once.
        row_total, row_squares = np.int32(0), np.int64(0)
        for column in range(1, width - 1):
            beside = np.int32(here[column - 1]) + np.int32(here[column + 1])
            across = np.int32(above[column]) + np.int32(below[column])
            value = across + beside - np.int32(4) * np.int32(here[column])
            row_total += value
            row_squares += value * value
        for column in range(0, width, max(1, width - 1)):
            across = np.int32(above[column]) + np.int32(below[column])
            beside = 2 * np.int32(here[min(abs(column - 1), width - 1)])
            value = across + beside - 4 * np.int32(here[column])
            row_total += value
            row_squares += value * value
        total += int(row_total)
        squares += int(row_squares)
        whole = width // 4 * 4
        for column in range(0, whole, 4):
            counts[0, here[column]] += 1
            counts[1, here[column + 1]] += 1
            counts[2, here[column + 2]] += 1
            counts[3, here[column + 3]] += 1
        for column in range(whole, width):
            counts[0, here[column]] += 1
    return counts.sum(axis=0), total, squares
