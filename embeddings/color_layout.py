"""Weight-free image vectors: where which colours are, and which way the edges run."""

from __future__ import annotations

import hashlib
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import decode
from embeddings.encoder import prepared, unit_column

_SIDE_PX = 64
_GRID, _CELLS, _ANGLES = 8, 4, 8
_KEPT = (21, 10, 10)  # cosine coefficients of L, a and b
_EDGE_WEIGHT = 2.0
_DIMENSION = 1 + sum(_KEPT) + _CELLS * _CELLS * _ANGLES


class ColorLayout:
    """Colour layout and gradient histogram of the whole picture, squeezed to a square.

    The picture is averaged to 64x64, then to 8x8, in CIE Lab (L - 50, a, b, over 100). The first
    21, 10 and 10 coefficients of the channels' 8x8 cosine transforms, in zigzag order, say which
    colours lie where. The gradients of L / 100 at 64x64 fall into 4x4 cells and 8 undirected
    angles; the square root of each mean magnitude, times 2, says where edges run. A constant
    0.1 keeps an even grey picture off the origin.

    Reads:
        image: what is encoded.
    Reference: Kasutani and Yamada 2001, The MPEG-7 color layout descriptor, ICIP (zigzag
        coefficients of an 8x8 grid); Dalal and Triggs 2005, Histograms of oriented gradients,
        CVPR, section 6.
    Writes:
        vector: unit norm; null where the image is null or not decodable.
    Cost: about 0.3 ms an image beside decoding it at a reduced size; no weights.
    """

    version = 1
    reads = MappingProxyType({"image": "image"})
    writes = MappingProxyType({"vector": _DIMENSION})

    def __init__(self, device: str | None = None) -> None:
        del device  # It runs on the CPU wherever the others run.
        name = f"color_layout version {self.version}"
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.numerics = "cpu/float32"

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `vector` for the column `image` of encoded bytes."""
        images = rows["image"]
        parts = (([row], found[None]) for row, found in prepared(images, _prepare))
        return unit_column(len(images), _DIMENSION, parts).to_frame("vector")


def _prepare(data: bytes) -> NDArray[np.float32]:
    return describe(decode.reduced(data, _SIDE_PX))


def describe(picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the 170 numbers of a picture, not yet of unit norm."""
    import cv2

    small = cv2.resize(picture_HWC, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    lab = (lab - np.array([50, 0, 0], dtype=np.float32)) / np.float32(100)
    grid = cv2.resize(lab, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    coefficients = [
        cv2.dct(np.ascontiguousarray(grid[:, :, channel]))[_ZIGZAG][:kept]
        for channel, kept in enumerate(_KEPT)
    ]
    return np.concatenate([[0.1], *coefficients, _EDGE_WEIGHT * _edges(lab[:, :, 0])]).astype(
        np.float32
    )


def _edges(light_HW: NDArray[np.float32]) -> NDArray[np.float64]:
    down, right = np.gradient(light_HW)
    angle = np.arctan2(down, right) / np.pi % 1
    bins = np.minimum((angle * _ANGLES).astype(np.int64), _ANGLES - 1)
    cell = np.arange(_SIDE_PX) * _CELLS // _SIDE_PX
    index = (cell[:, None] * _CELLS + cell) * _ANGLES + bins
    size = _CELLS * _CELLS * _ANGLES
    total = np.bincount(index.ravel(), np.hypot(down, right).ravel(), size)
    return np.sqrt(total / (_SIDE_PX // _CELLS) ** 2)


def _zigzag(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of a square in the order of rising frequency."""
    cells = [(row, column) for row in range(side) for column in range(side)]
    # Along each diagonal the direction alternates, as in JPEG.
    cells.sort(key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    rows, columns = np.array(cells).T
    return rows, columns


_ZIGZAG = _zigzag(_GRID)
