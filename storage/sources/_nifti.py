"""NIfTI files, plain or gzip, read volume by volume; proved whole before a voxel is kept."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from storage.source import Refused
from storage.sources._slices import Voxels
from storage.walk import check_unchanged

VOLUME_BYTES = 1 << 30
FILE_BYTES = 16 << 30
SLICES = 1_000_000
# Deflate cannot unfold to more, so a header that asks for more lies.
DEFLATE = 1032
_EXTENSION_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
# By the header's code for the unit of length: metre, millimetre, micrometre.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, checked.

    Attributes:
        shape: of one volume, three axes as stored, the first the fastest.
        volumes: how many there are, along the fourth axis; None where there is none.
        offset: of the first voxel.
        slope: value = voxel * slope + intercept.
        spacing: millimetres along the stored axes; None where the unit is unknown.
        axes: stored axis and direction of each of left, posterior, superior.
    """

    shape: tuple[int, int, int]
    volumes: int | None
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    spacing: tuple[float, float, float] | None
    axes: tuple[tuple[int, int], ...]

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Bytes of the file, unfolded."""
        return self.offset + self.volume_bytes * (self.volumes or 1)

    def upright(self, voxels: Voxels) -> Voxels:
        """Turn a volume so that its axes go to the left, to the back and upwards; a view."""
        turned = voxels.transpose([axis for axis, _ in self.axes])
        return turned[tuple(slice(None, None, direction) for _, direction in self.axes)]

    @property
    def upright_spacing(self) -> tuple[float, float, float] | None:
        """Millimetres along the axes of an upright volume."""
        if self.spacing is None:
            return None
        x, y, z = (self.spacing[axis] for axis, _ in self.axes)
        return x, y, z


def volumes(file: BinaryIO) -> Iterator[tuple[Header, Voxels]]:
    """Yield each volume of an open file, upright, its voxels as stored.

    Of a volume without a time axis there is one. A file is read to its end, checksums and all,
    before the first is given.

    Cost: twice the unfolding; memory for one volume, at most 1 GiB.
    Raises:
        Refused: SOURCE_UNREADABLE, VOLUME_HEADER, UNSUPPORTED_CODING, TOO_LARGE,
            SOURCE_TRUNCATED, UNREADABLE or CHANGED_WHILE_READING.
        ConfigError: nibabel is not installed.
    """
    before = os.fstat(file.fileno())
    try:
        header = read_header(_unfolded(file))
        _check_size(header, before.st_size, packed=_is_packed(file))
        _read_through(_unfolded(file), header)
        stream = _unfolded(file)
        _skip(stream, header.offset)
        for _ in range(header.volumes or 1):
            data = _exactly(stream, header.volume_bytes)
            voxels = np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F")
            yield header, header.upright(voxels)
        check_unchanged(file, before)
    except EOFError:
        raise Refused("SOURCE_TRUNCATED", "ends inside a gzip stream") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Refused("SOURCE_TRUNCATED", f"damaged gzip stream: {error}") from None
    except OSError as error:
        raise Refused("UNREADABLE", error.strerror or "") from None


def read_header(stream: BinaryIO) -> Header:
    """Read and check the header at the start of a stream.

    Raises:
        Refused: as `volumes`.
        ConfigError: nibabel is not installed.
    """
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
        from nibabel.spatialimages import HeaderDataError
    except ImportError as error:
        raise ConfigError("NIfTI needs nibabel: pip install 'winnow[volumes]'.") from error
    block = stream.read(4)
    sizes = {int.from_bytes(block, order) for order in ("little", "big")}
    kind: Any = Nifti1Header if 348 in sizes else Nifti2Header if 540 in sizes else None
    if kind is None:
        raise Refused("SOURCE_UNREADABLE", f"no NIfTI: it begins with {block.hex(' ')}")
    block += stream.read(kind.sizeof_hdr - 4)
    if len(block) < kind.sizeof_hdr:
        raise Refused("SOURCE_TRUNCATED", "ends inside its header")
    raw = kind(block, check=False)
    magic = raw["magic"].tobytes()
    if magic.startswith((b"ni1", b"ni2")):
        raise Refused("UNSUPPORTED_CODING", "voxels in a file of their own (.hdr, .img)")
    if not magic.startswith((b"n+1\0", b"n+2\0")):
        raise Refused("SOURCE_UNREADABLE", f"no NIfTI: its magic is {magic!r}")
    # A wild header makes numbers that are none; each is looked at below.
    with np.errstate(all="ignore"):
        shape, count = _shape([int(n) for n in raw["dim"]])
        try:
            dtype = np.dtype(raw.get_data_dtype())
        except (HeaderDataError, LookupError):
            raise Refused("UNSUPPORTED_CODING", f"data type {int(raw['datatype'])}") from None
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise Refused("UNSUPPORTED_CODING", f"voxels of type {dtype}, not plain numbers")
        offset = float(raw["vox_offset"])
        if not kind.sizeof_hdr <= offset <= _EXTENSION_BYTES or offset != int(offset):
            raise Refused("VOLUME_HEADER", f"voxels from byte {offset} on")
        slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
        if slope == 0 or not math.isfinite(slope):
            slope, intercept = 1.0, 0.0
        if not math.isfinite(intercept):
            raise Refused("VOLUME_HEADER", f"a slope of {slope} and an intercept of {intercept}")
        try:
            axes = _axes(raw.get_best_affine())
        except (HeaderDataError, ValueError) as error:
            raise Refused("VOLUME_HEADER", f"an orientation that is none: {error}") from None
        sides = tuple(abs(float(side)) for side in raw["pixdim"][1:4])
        unit = _MILLIMETRES.get(int(raw["xyzt_units"]) & 7)
    spacing = None
    if unit is not None and all(0 < side < math.inf for side in sides):
        spacing = (sides[0] * unit, sides[1] * unit, sides[2] * unit)
    return Header(
        shape, count, dtype.newbyteorder(raw.endianness), int(offset), slope, intercept,
        spacing, axes,
    )  # fmt: skip


def _shape(dim: list[int]) -> tuple[tuple[int, int, int], int | None]:
    """Return three axes and the number of volumes, None without a fourth axis."""
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise Refused("VOLUME_HEADER", f"the dimensions {dim}")
    sides = dim[1 : dim[0] + 1]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 4:
        raise Refused("UNSUPPORTED_CODING", f"{len(sides)} axes: {sides}")
    x, y, z = (*sides[:3], 1, 1)[:3]
    return (x, y, z), sides[3] if len(sides) == 4 else None


def _axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """Return for left, posterior and superior the closest stored axis, and its direction."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    if not np.isfinite(affine).all():
        raise Refused("VOLUME_HEADER", "an orientation that is not finite")
    stored = io_orientation(affine)
    if np.isnan(stored).any():
        raise Refused("VOLUME_HEADER", "an orientation that leaves out an axis")
    turn = ornt_transform(stored, axcodes2ornt("LPS")).astype(int).tolist()
    axis_of = {to: (axis, direction) for axis, (to, direction) in enumerate(turn)}
    return axis_of[0], axis_of[1], axis_of[2]


def _check_size(header: Header, size: int, *, packed: bool) -> None:
    """Refuse what is too large, or cannot be whole, before any of it is read."""
    if header.volume_bytes > VOLUME_BYTES:
        detail = f"a volume of {header.volume_bytes:,} bytes, the limit is {VOLUME_BYTES:,}"
        raise Refused("TOO_LARGE", detail)
    up, _ = header.axes[2]
    slices = header.shape[up] * (header.volumes or 1)
    if header.end > FILE_BYTES or slices > SLICES:
        raise Refused("TOO_LARGE", f"{header.end:,} bytes, {slices:,} slices")
    if header.end > size * (DEFLATE if packed else 1):
        raise Refused("SOURCE_TRUNCATED", f"{size:,} bytes cannot hold the {header.end:,} it needs")


def _read_through(stream: BinaryIO, header: Header) -> None:
    """Read a file to its end, which verifies a gzip stream, and compare its length."""
    _skip(stream, header.end)
    if stream.read(1):
        raise Refused("VOLUME_HEADER", f"the file goes on after the {header.end:,} bytes it needs")


def _skip(stream: BinaryIO, size: int) -> None:
    while size:
        piece = stream.read(min(size, _CHUNK_BYTES))
        if not piece:
            raise Refused("SOURCE_TRUNCATED", f"{size:,} bytes are missing")
        size -= len(piece)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Refused("CHANGED_WHILE_READING", f"{size - len(data):,} bytes went")
    return data


def _is_packed(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(2) == b"\x1f\x8b"


def _unfolded(file: BinaryIO) -> BinaryIO:
    """Return the bytes of a file from the start, out of gzip if its first bytes say so."""
    packed = _is_packed(file)
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
