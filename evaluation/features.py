"""Vectors with their labels: what the protocols compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError


@dataclass(frozen=True, eq=False)
class Features:
    """One vector and one label an item.

    Attributes:
        x_ND: finite, float32.
        y_N: labels, numbers or strings. Kept as given: a protocol reads the labels of a test set
            once, for its final score.
    """

    x_ND: NDArray[np.float32]
    y_N: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "x_ND", finite(self.x_ND, "features"))
        if len(self.y_N) != len(self.x_ND):
            raise DataError(f"{len(self.x_ND)} vectors, but {len(self.y_N)} labels.")

    def __len__(self) -> int:
        return len(self.x_ND)


@dataclass(frozen=True, eq=False)
class Items:
    """Records as an encoder reads them, with their labels.

    Attributes:
        x_N: a row of the encoder's codec an item, (N, ...).
        y_N: labels, as of `Features`.
    """

    x_N: NDArray[Any]
    y_N: Any

    def __post_init__(self) -> None:
        if len(self.y_N) != len(self.x_N):
            raise DataError(f"{len(self.x_N)} items, but {len(self.y_N)} labels.")

    def __len__(self) -> int:
        return len(self.x_N)


NO_CLASS = 255
"""What a label image has where a pixel is of no class."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A grid of vectors and a label image an item.

    Attributes:
        x_NHWD: of the places of a grid, finite, float32.
        y_NHW: uint8, of the pixels that the grid lies over; `NO_CLASS` is none.
    """

    x_NHWD: NDArray[np.float32]
    y_NHW: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len(self.y_NHW) != len(self.x_NHWD):
            raise DataError(f"{len(self.x_NHWD)} grids, but {len(self.y_NHW)} label images.")
        finite(self.x_NHWD.reshape(len(self.x_NHWD), -1), "dense features")

    def __len__(self) -> int:
        return len(self.x_NHWD)


def finite(x: ArrayLike, what: str) -> NDArray[np.float32]:
    """Return the vectors as float32 (N, D).

    Raises:
        DataError: when they are no matrix, empty, or hold a value that is not finite.
    """
    x_ND = np.asarray(x, dtype=np.float32)
    if x_ND.ndim != 2 or not x_ND.size:
        raise DataError(f"{what}: the shape is {x_ND.shape}; one row an item is needed.")
    bad = np.flatnonzero(~np.isfinite(x_ND).all(axis=1))
    if len(bad):
        raise DataError(
            f"{what}: {len(bad)} of {len(x_ND)} rows are not finite, the first is row {bad[0]}. "
            "Leave out the records whose vector is null."
        )
    return x_ND


def unit(x_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x / |x| row by row; a zero row stays zero."""
    unit_ND = np.empty(x_ND.shape, dtype=np.float32)
    # In blocks that a cache holds: what lies between is twice as wide.
    for start in range(0, len(x_ND), 1024):
        x_BD = x_ND[start : start + 1024]
        norm_B1 = np.linalg.norm(x_BD.astype(np.float64), axis=1, keepdims=True)
        unit_ND[start : start + 1024] = x_BD / np.where(norm_B1 > 0, norm_B1, 1)
    return unit_ND


def ordered(x_ND: NDArray[Any], class_N: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Return an order by class, then by a random direction: a function of the set of rows."""
    direction = np.random.default_rng(seed).standard_normal(x_ND.shape[1])
    return np.lexsort((x_ND @ direction, class_N))


def put_aside(class_N: NDArray[np.intp], what: str) -> NDArray[np.bool_]:
    """Return every fifth row of each class, to choose a setting on; the rows are sorted by class.

    Args:
        class_N: of each row.
        what: "<protocol>: <setting>", for the error.

    Raises:
        DataError: no class has five rows.
    """
    place_N = np.arange(len(class_N)) - np.searchsorted(class_N, class_N)
    aside: NDArray[np.bool_] = place_N % 5 == 4
    if not aside.any():
        name, _, setting = what.partition(": ")
        raise DataError(
            f"{name}: no class has five training items, too few to choose {setting} on. "
            f"Set {setting}."
        )
    return aside
