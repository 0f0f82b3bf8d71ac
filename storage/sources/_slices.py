"""Voxels to pictures: one scale for a whole volume, so that its slices stay comparable."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.source import Refused

Voxels = NDArray[Any]
Grey = NDArray[np.generic]


@dataclass(frozen=True)
class Scale:
    """How the voxels of a volume become the grey of its pictures: (voxel - least) * factor.

    Attributes:
        least: a whole number, as the factor is, where nothing is lost.
        dtype: uint8 for voxels of one byte, else uint16.
    """

    least: float
    factor: float
    dtype: type[np.uint8] | type[np.uint16]

    def grey(self, voxels: Voxels) -> Grey:
        """Return the grey of some voxels; what is not finite becomes 0."""
        if voxels.dtype.kind in "iu" and isinstance(self.factor, int):
            # Modulo 2^64, which the result is below.
            above = voxels.astype(np.uint64) - np.uint64(int(self.least) % 2**64)
            return (above * np.uint64(self.factor)).astype(self.dtype)
        finite = np.where(np.isfinite(voxels), voxels, self.least).astype(np.float64)
        steps = np.rint((finite - self.least) * self.factor)
        return steps.clip(0, np.iinfo(self.dtype).max).astype(self.dtype)


@dataclass
class Extent:
    """The least and the greatest finite value of a volume, seen slice by slice.

    Attributes:
        whole: all values are whole numbers.
        one_byte: all slices so far are of one-byte integers.
    """

    lowest: float = math.inf
    highest: float = -math.inf
    whole: bool = True
    one_byte: bool = True

    def add(self, voxels: Voxels) -> None:
        """See a slice."""
        integers = voxels.dtype.kind in "iu"
        self.one_byte &= integers and voxels.dtype.itemsize == 1
        finite = voxels if integers else voxels[np.isfinite(voxels)]
        if not finite.size:
            return
        # As Python's numbers, which do not overflow.
        self.lowest = min(self.lowest, finite.min().item())
        self.highest = max(self.highest, finite.max().item())
        self.whole &= integers or bool((finite == np.rint(finite)).all())

    def merge(self, other: Extent) -> None:
        """See what another has seen."""
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.whole &= other.whole
        self.one_byte &= other.one_byte

    def scale(self) -> Scale:
        """Return the scale of the volume, to 8 bits for voxels of one byte, else to 16.

        Voxels of one byte are kept as they are, less the least if that is negative: so the values
        of most label maps stay themselves. Other whole numbers that span no more than 65,535 are
        multiplied by the largest whole factor that fits, without loss. All else is spread over
        16 bits, with an error of at most half a step.

        Raises:
            Refused: VALUE_RANGE, for a span beyond a double; CORRUPT_DATA, without a finite value.
        """
        if self.lowest > self.highest:
            raise Refused("CORRUPT_DATA", "no voxel is a finite number")
        if self.one_byte:
            return Scale(min(0, int(self.lowest)), 1, np.uint8)
        span, most = self.highest - self.lowest, np.iinfo(np.uint16).max
        if self.whole and span <= most:
            return Scale(int(self.lowest), most // int(span) if span else 1, np.uint16)
        if not math.isfinite(span):
            raise Refused("VALUE_RANGE", f"values from {self.lowest} to {self.highest}")
        factor = most / span if span else 1.0
        return Scale(self.lowest, factor if math.isfinite(factor) else 1.0, np.uint16)


def extent_of(slices: Iterable[Voxels]) -> Extent:
    """Return the extent of a volume."""
    extent = Extent()
    for voxels in slices:
        extent.add(voxels)
    return extent


def png(grey: Grey) -> bytes:
    """Return a picture in grey of 8 or 16 bits as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(buffer, "PNG")
    return buffer.getvalue()
