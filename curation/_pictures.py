"""How alike two pictures of one series are: structural similarity and mutual information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contracts import decode

Comparison = Literal["ssim", "mutual_information"]
Grey = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float32]

# Remembered pictures of one series; further ones are decoded again at each comparison.
CACHE_BYTES = 256 << 20
WINDOW_PX, SIGMA = 11, 1.5
LEVELS = 255
_C1, _C2 = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2
SIDE_PX = 256
BINS = 64


def is_deep(data: bytes) -> bool:
    """Whether the bytes begin as a PNG of 16-bit grey does."""
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data[24:26] == b"\x10\0"


def grey(data: bytes) -> Grey | None:
    """Return a picture in grey, 16 bits where it is stored so, else 8; None where undecodable."""
    try:
        return np.asarray(decode.picture(data)) if is_deep(data) else decode.image(data, "L")
    except decode.Undecodable:
        return None


@dataclass(frozen=True)
class Prepared:
    """What is computed of a picture once, for all its comparisons."""

    pixels: NDArray[Any]
    mean: Floats | None = None
    variance: Floats | None = None
    entropy: float = 0.0


class Pictures:
    """The pictures of one series, compared in pairs.

    Pictures of 16 bits come to 0 to 255, unrounded, by the least and the greatest value that those
    of the series have: one window for all. Then, as the authors of SSIM advise, areas of F x F
    pixels are averaged, F = max(1, round(shorter side / 256)). Pictures of different sizes are
    not alike: -1.

    ssim: mean over the picture of
    (2 mu_x mu_y + C1)(2 sigma_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(sigma_x^2 + sigma_y^2 + C2)),
    moments under a Gaussian window of 11 x 11, sigma 1.5, wherever it lies within the picture;
    C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2. A side below 11 pixels has no such place.
    mutual_information: 2 I(x; y) / (H(x) + H(y)) of the joint histogram of 64 x 64 equal bins:
    0 where one says nothing of the other, 1 where each follows from the other, which two flat
    pictures do. (Of Studholme's Y = (H(x) + H(y)) / H(x, y) it is 2 - 2 / Y.)

    Reference: Wang, Bovik, Sheikh and Simoncelli 2004, Image quality assessment, IEEE TIP 13(4);
    Studholme, Hill and Hawkes 1999, Pattern Recognition 32(1) (normalised mutual information).
    Cost: two decodes a picture, more above CACHE_BYTES; at 256 x 256 some 1 ms a comparison.

    Attributes:
        known: which of the images can be compared.
    """

    def __init__(self, images: Sequence[bytes | None], comparison: Comparison) -> None:
        self._images, self._ssim = images, comparison == "ssim"
        shapes: list[tuple[int, ...]] = []
        lowest, highest = 1 << 16, 0
        for data in images:
            pixels = None if data is None else grey(data)
            if pixels is None or (self._ssim and min(_shrunk(pixels.shape)) < WINDOW_PX):
                shapes.append(())
                continue
            shapes.append(pixels.shape)
            if pixels.dtype == np.uint16:
                lowest, highest = min(lowest, int(pixels.min())), max(highest, int(pixels.max()))
        self._shapes = shapes
        self._window = lowest, max(1, highest - lowest)
        self.known = np.array([bool(shape) for shape in shapes], dtype=bool)
        pixels_each = max((int(np.prod(_shrunk(shape))) for shape in shapes if shape), default=1)
        kept = CACHE_BYTES // (pixels_each * (12 if self._ssim else 1))
        self._prepared: Callable[[int], Prepared] = lru_cache(max(2, kept))(self._prepare)

    def similarity(self, one: int, others: NDArray[np.int64]) -> Floats:
        """Return how alike one picture and each of some others are; all of them are known."""
        found = np.full(len(others), -1, dtype=np.float32)
        compare = _ssim if self._ssim else _mutual_information
        for at, other in enumerate(others.tolist()):
            if self._shapes[other] == self._shapes[one]:
                found[at] = compare(self._prepared(one), self._prepared(other))
        return found

    def _prepare(self, index: int) -> Prepared:
        data = self._images[index]
        stored = None if data is None else grey(data)
        assert stored is not None, "only known pictures are compared"
        pixels = stored.astype(np.float32)
        if stored.dtype == np.uint16:
            low, span = self._window
            pixels = (pixels - low) * np.float32(LEVELS / span)
        pixels = _averaged(pixels)
        if self._ssim:
            # About its middle, so that the variance keeps its digits.
            pixels -= np.float32(LEVELS / 2)
            mean = _blurred(pixels)
            variance = _blurred(pixels * pixels) - mean * mean
            return Prepared(pixels, mean, variance)
        bins = np.minimum(pixels * np.float32(BINS / (LEVELS + 1)), BINS - 1).astype(np.uint8)
        return Prepared(bins, entropy=_entropy(bins, BINS))


def _ssim(x: Prepared, y: Prepared) -> float:
    assert x.mean is not None
    assert y.mean is not None
    assert x.variance is not None
    assert y.variance is not None
    covariance = _blurred(x.pixels * y.pixels) - x.mean * y.mean
    a, b = x.mean + np.float32(LEVELS / 2), y.mean + np.float32(LEVELS / 2)
    luminance = (2 * a * b + _C1) / (a * a + b * b + _C1)
    structure = (2 * covariance + _C2) / (x.variance + y.variance + _C2)
    return float(np.mean(luminance * structure, dtype=np.float64))


def _mutual_information(x: Prepared, y: Prepared) -> float:
    total = x.entropy + y.entropy
    if total == 0:
        return 1.0
    joint = x.pixels.astype(np.uint16) * np.uint16(BINS) + y.pixels
    return 2 * max(0.0, total - _entropy(joint, BINS * BINS)) / total


def _entropy(values: NDArray[np.generic], count: int) -> float:
    """Return the entropy of values below `count`, in nats."""
    counts = np.bincount(values.ravel(), minlength=count)
    share = counts[counts > 0] / values.size
    return float(-(share * np.log(share)).sum())


def _factor(shape: tuple[int, ...]) -> int:
    return max(1, round(min(shape) / SIDE_PX))


def _shrunk(shape: tuple[int, ...]) -> tuple[int, ...]:
    factor = _factor(shape)
    return tuple(side // factor for side in shape)


def _averaged(pixels: Floats) -> Floats:
    factor = _factor(pixels.shape)
    height, width = _shrunk(pixels.shape)
    tiles = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor)
    averaged: Floats = tiles.mean(axis=(1, 3), dtype=np.float32)
    return averaged


def _blurred(pixels: Floats) -> Floats:
    """Return the Gaussian means of all windows that lie within the picture."""
    import cv2

    edge = WINDOW_PX // 2
    whole = cv2.sepFilter2D(pixels, cv2.CV_32F, _gaussian(), _gaussian())
    within: Floats = np.asarray(whole, dtype=np.float32)[edge:-edge, edge:-edge]
    return within


@cache
def _gaussian() -> Floats:
    steps = np.arange(WINDOW_PX) - WINDOW_PX // 2
    weights = np.exp(-(steps**2) / (2 * SIGMA**2))
    normalised: Floats = (weights / weights.sum()).astype(np.float32)
    return normalised
