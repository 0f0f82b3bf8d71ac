"""Perceptual hashes: bits that stay alike when a picture is scaled or recompressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

from contracts import decode
from curation.step import Role, rowwise

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]
Pixels = NDArray[Any]
Kind = Literal["phash", "dhash", "pdq"]
Hashing = Literal["fast", "imagehash"]

# A JPEG is decoded no larger than leaves this many pixels to its shorter side: for the small
# hashes half as many again as they resize to, for PDQ what it shrinks larger pictures to.
# Measured, median and largest difference to the full decode on photographs: phash 0 and 4 bits
# of 64, dhash 1 and 4, pdq 1 and 4 of 256.
_SIDE_PX = {"phash": 48, "dhash": 48, "pdq": 512}
# What the small hashes resize to, width and height.
_SIZE = {"phash": (32, 32), "dhash": (9, 8)}
BLOCK_ROWS = 128
STACK_PIXELS = 1 << 20


def _writes(parameters: dict[str, Any]) -> dict[str, Any]:
    bits = pl.Binary if parameters["kind"] == "pdq" else pl.UInt64
    return {"bits": bits, "quality": pl.Float32}


@rowwise(version=2, reads={"image": Role(pl.Binary)}, writes=_writes)
def perceptual_hash(
    rows: pl.DataFrame, *, kind: Kind = "phash", mode: Hashing = "fast"
) -> pl.DataFrame:
    """Hash what a picture looks like; Hamming distance between hashes is distance between looks.

    dhash: grey, 9 x 8; a bit is set where a pixel is brighter than its left neighbour.
    phash: grey, 32 x 32, DCT-II; the 8 x 8 lowest coefficients, mean included; a bit is set
    where one exceeds their median. pdq: two box blurs, 64 x 64, DCT without the mean, 16 x 16
    coefficients against their lower median. Alike is some 6 of 64 bits, 31 of 256.

    `fast` decodes a JPEG reduced, turns it upright and lays transparency on white; coefficients
    are rounded, so that a flat or symmetrical picture gets no bits of rounding noise.
    `imagehash` gives bit for bit what the library of that name makes of frame 0: full decode,
    no rotation, transparency dropped.

    Reads:
        image: what is hashed.
    Args:
        kind: which hash: 64 bits ("phash", "dhash") or 256 ("pdq").
        mode: "fast", or bit for bit what the library imagehash makes.
    Reference: Zauner 2010 (phash); Krawetz 2013, hackerfactor.com (dhash); Facebook 2019, The
    TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm (pdq, quality).
    Writes:
        bits: UInt64, row by row, the first bit the most significant; for pdq the 32 bytes of
            its hexadecimal form. Null where the picture is null or not decodable.
        quality: how much structure there is, in [0, 1]: PDQ's sum of the gradients of a 64 x 64
            picture over 9,000, capped at 1. Flat pictures, whose bits collide, are near 0.
    Cost: the decode, and 0.1 ms or less.
    """
    side_px = _SIDE_PX[kind] if mode == "fast" else None
    found = [
        _hashes(rows["image"][start : start + BLOCK_ROWS], kind, mode, side_px)
        for start in range(0, max(1, rows.height), BLOCK_ROWS)
    ]
    return pl.concat(found)


def _hashes(images: pl.Series, kind: Kind, mode: Hashing, side_px: int | None) -> pl.DataFrame:
    """Return bits and quality of a block, whose reduced pictures are transformed together."""
    fast = kind == "phash" and mode == "fast"
    place: list[int | None] = []
    pictures: list[Pixels] = []
    small: list[Pixels] = []
    for data in images:
        pixels = None if data is None else _grey(data, side_px)
        place.append(None if pixels is None else len(pictures))
        if pixels is None:
            continue
        if kind != "pdq" and not fast:
            small.append(_resized(pixels, kind))
        if kind != "pdq" and min(pixels.shape) >= 128:
            pixels = np.asarray(Image.fromarray(pixels).reduce(min(pixels.shape) // 64))
        if fast:
            small.append(pixels)
        if max(pixels.shape) > 512:
            shrunk = Image.fromarray(pixels).resize((512, 512), Image.Resampling.BILINEAR)
            pixels = np.asarray(shrunk)
        pictures.append(pixels)
    # PDQ's 64 x 64 picture, of whose gradients the quality is made.
    thumbnails_NHW = _thumbnails(pictures)
    if kind == "pdq":
        packed = np.packbits(_pdq(thumbnails_NHW), axis=1)
        bits = pl.Series([line.tobytes() for line in packed], dtype=pl.Binary)
    else:
        if kind == "dhash":
            made = _dhash(np.array(small).reshape(-1, 8, 9))
        elif fast:
            made = _above_median(_products(small, _resized_waves, 8).round(3))
        else:
            made = _phash_exact(np.array(small).reshape(-1, 32, 32))
        packed = np.packbits(made, axis=1)
        bits = pl.Series(packed.view(">u8")[:, 0].astype(np.uint64))
    found = pl.DataFrame({"bits": bits, "quality": _quality(thumbnails_NHW)})
    return found.cast({"quality": pl.Float32})[pl.Series(place, dtype=pl.UInt32)]


def _thumbnails(pictures: Sequence[Pixels]) -> Floats:
    """Return (n, 64, 64): PDQ's two box blurs, then the centres of 64 x 64 tiles."""
    found = np.empty((len(pictures), 64, 64))
    blurred = []
    for number, picture in enumerate(pictures):
        # Up to 128 pixels its window is one.
        if max(picture.shape) > 128:
            blurred.append(number)
        else:
            height, width = picture.shape
            found[number] = picture[_centres(height)][:, _centres(width)]
    found[blurred] = _products([pictures[number] for number in blurred], _blurred_centres, 64)
    return found


def _products(pictures: Sequence[Pixels], matrix_of: Callable[[int], Floats], side: int) -> Floats:
    """Return (n, side, side): M(height) @ picture @ M(width).T of each.

    What is linear in rows and in columns is one matrix on each side; pictures of one shape are
    multiplied together, in half the time.
    """
    found = np.empty((len(pictures), side, side))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        by_shape.setdefault(picture.shape, []).append(number)
    for (height, width), numbers in by_shape.items():
        rows, columns = matrix_of(height), matrix_of(width).T
        several = max(1, STACK_PIXELS // (height * width))
        for start in range(0, len(numbers), several):
            chosen = numbers[start : start + several]
            stack = np.array([pictures[number] for number in chosen], dtype=np.float64)
            found[chosen] = rows @ stack @ columns
    return found


def _grey(data: bytes, side_px: int | None) -> Pixels | None:
    """Return the grey picture, reduced where a side is given, else as Pillow alone makes it."""
    try:
        if side_px is not None:
            return decode.reduced(data, side_px, "L")
        stored = decode.picture(data)
    except decode.Undecodable:
        return None
    stored.info.pop("transparency", None)
    return np.asarray(stored.convert("L"))


def dhash_bits(grey: Pixels) -> Bits:
    """Return the 64 bits of one grey picture, of 8 or 16 bits a pixel."""
    bits: Bits = _dhash(_resized(grey, "dhash")[None])[0]
    return bits


def _resized(grey: Pixels, kind: Kind) -> Pixels:
    image = Image.fromarray(grey)
    return np.asarray(image.resize(_SIZE[kind], Image.Resampling.LANCZOS))


def _dhash(pixels_NHW: Pixels) -> Bits:
    bits: Bits = pixels_NHW[:, :, 1:] > pixels_NHW[:, :, :-1]
    return bits.reshape(-1, 64)


@lru_cache(maxsize=512)
def _resized_waves(length: int, side: int = 32) -> Floats:
    """Return (8, length): the DCT of what a Lanczos window of three lobes resizes to `side`."""
    scale = length / side
    lobe = max(1.0, scale)
    centre = (np.arange(side)[:, None] + 0.5) * scale
    away = (np.arange(length) + 0.5 - centre) / lobe
    window = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0.0)
    waves: Floats = _cosines(side, 8) @ (window / window.sum(axis=1, keepdims=True))
    return waves


def _phash_exact(pixels_NHW: Pixels) -> Bits:
    pixels = pixels_NHW.astype(np.float64)
    return _above_median(scipy.fft.dct(scipy.fft.dct(pixels, axis=1), axis=2)[:, :8, :8])


def _above_median(coefficients: Floats) -> Bits:
    flat = coefficients.reshape(-1, 64)
    bits: Bits = flat > np.median(flat, axis=1, keepdims=True)
    return bits


@lru_cache(maxsize=2)
def _cosines(length: int, count: int, first: int = 0) -> Floats:
    """Return the rows of the DCT-II: 2 cos(pi k (2 n + 1) / (2 length)), k from `first`."""
    k, n = np.arange(first, first + count)[:, None], np.arange(length)
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * length))


def _pdq(thumbnails: Floats) -> Bits:
    waves = _cosines(64, 16, 1)
    steady = (waves @ thumbnails @ waves.T).round(3).reshape(-1, 256)
    bits: Bits = steady > np.sort(steady, axis=1)[:, 127:128]
    # The hexadecimal form begins with the last bit.
    return bits[:, ::-1]


def _quality(thumbnails_NHW: Floats) -> Floats:
    quality: Floats = np.minimum(100, _compiled()(thumbnails_NHW) // 90) / 100
    return quality


@cache
def _compiled() -> Callable[[Floats], NDArray[np.int64]]:
    from numba import njit

    compiled: Callable[[Floats], NDArray[np.int64]] = njit(cache=True)(_gradients)
    return compiled


def _gradients(thumbnails: Floats) -> NDArray[np.int64]:
    """Return each picture's sum of steps between neighbours, in whole hundredths. Compiled."""
    totals = np.zeros(len(thumbnails), dtype=np.int64)
    for number, pixels in enumerate(thumbnails):
        for row in range(pixels.shape[0]):
            for column in range(pixels.shape[1]):
                here = pixels[row, column]
                if column:
                    totals[number] += int(abs(here - pixels[row, column - 1]) * 100 / 255)
                if row:
                    totals[number] += int(abs(here - pixels[row - 1, column]) * 100 / 255)
    return totals


@lru_cache(maxsize=128)
def _blurred_centres(length: int) -> Floats:
    """Return the (64, length) matrix of PDQ: a box blur twice, then the centres of 64 tiles.

    The window is ceil(length / 128), cut off at the edges.
    """
    window = -(-length // 128)
    ahead = (window + 2) // 2 - 1
    distance = np.arange(length) - np.arange(length)[:, None]
    box = ((distance <= ahead) & (distance > ahead - window)).astype(np.float64)
    box /= box.sum(axis=1, keepdims=True)
    rows: Floats = box[_centres(length)] @ box
    return rows


@lru_cache(maxsize=512)
def _centres(length: int) -> NDArray[np.int64]:
    return ((np.arange(64) + 0.5) * length / 64).astype(np.int64)
