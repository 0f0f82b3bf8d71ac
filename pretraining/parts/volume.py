"""A volume as a grid of one size for every volume, in the proportions that its body has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts import volume
from contracts.payload import Undecodable


@dataclass(frozen=True)
class VolumeCodec:
    """Encode a volume as values in [0, 1] on a grid, (channels, slices, rows, columns).

    Distances are those of the body where the header says how far apart the voxels are, else a
    voxel is 1 mm in every direction. The middle of the volume lies in the middle of the grid; what
    the volume does not reach has its least value.

    Attributes:
        channels: the first so many of a volume.
        slices: of the grid, from below.
        rows: from the front.
        columns: from the patient's right.
        spacing_mm: from voxel to voxel of the grid, in every direction; None makes it as small as
            shows the whole volume.
        low: the value that becomes 0, as smaller ones do; None is the volume's least.
        high: the value that becomes 1, as larger ones do; None is the volume's greatest.
    """

    channels: int
    slices: int
    rows: int
    columns: int
    spacing_mm: float | None
    low: float | None
    high: float | None
    reads: ClassVar[str] = "volume"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one volume."""
        return self.channels, self.slices, self.rows, self.columns

    def encode(self, raw: bytes) -> NDArray[np.float32]:
        """Return the grid of a NIfTI file.

        Raises:
            Undecodable: as `volume.voxels`, or BAD_DIMENSIONS, it has fewer channels.
        """
        values_CZYX, spacing = volume.voxels(raw)
        if len(values_CZYX) < self.channels:
            detail = f"{len(values_CZYX)} channels, {self.channels} are asked for"
            raise Undecodable("BAD_DIMENSIONS", detail)
        values_CZYX = values_CZYX[: self.channels]
        low = float(values_CZYX.min()) if self.low is None else self.low
        high = float(values_CZYX.max()) if self.high is None else self.high
        unit_CZYX = ((values_CZYX - low) / ((high - low) or 1.0)).clip(0, 1)
        apart = np.array(spacing or (1.0, 1.0, 1.0))
        extent, grid = apart * unit_CZYX.shape[1:], np.array(self.shape[1:])
        wanted = float((extent / grid).max()) if self.spacing_mm is None else self.spacing_mm
        # Along one axis after the other, the first first: each then is the second.
        for axis, (size, step) in enumerate(zip(grid, wanted / apart, strict=True), 1):
            weights_OI = resampling(unit_CZYX.shape[axis], int(size), float(step))
            moved = np.tensordot(weights_OI, unit_CZYX, (1, axis))
            unit_CZYX = np.moveaxis(moved, 0, axis)
        return np.asarray(unit_CZYX, dtype=np.float32)


def resampling(given: int, wanted: int, step: float) -> NDArray[np.float32]:
    """Return the weights (wanted, given) by which numbers along an axis are resampled.

    Between two numbers it is linear; where several fall on one, their mean with the weights of a
    triangle twice as wide as a step. The middles agree. A row beyond the ends is zero.

    Args:
        given: how many there are.
        wanted: how many there will be.
        step: from one to the next of the wanted, in steps of the given.
    """
    at_O = (np.arange(wanted) - (wanted - 1) / 2) * step + (given - 1) / 2
    weights_OI = np.maximum(0, 1 - np.abs(np.arange(given) - at_O[:, None]) / max(step, 1.0))
    inside_O = (at_O > -0.5 - 1e-6) & (at_O < given - 0.5 + 1e-6)
    total_O1 = weights_OI.sum(axis=1, keepdims=True)
    found = np.where(inside_O[:, None], weights_OI / np.where(total_O1 > 0, total_O1, 1), 0)
    return np.asarray(found, dtype=np.float32)
