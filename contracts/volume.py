"""The one decoder of volumes: bytes of NIfTI in, voxels or a reason code out.

The header is judged before a voxel is unfolded: what a volume would cost by what the header
declares, and what it declares by the bytes that are there, as gzip cannot unfold to more than a
thousand times itself. Then the file is read to its end, checksums and all, a piece at a time, so
that looking at a volume takes no memory for all of it. nibabel reads the header and says how the
voxels lie in the patient; nothing is interpolated here.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from contracts._containers import Undecodable
from contracts.errors import ConfigError

# Deflate cannot unfold to more, so a header that asks for more lies.
DEFLATE = 1032
_EXTENSION_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
# What is looked at of a packed file to see what it holds; its name may stand in front.
_HEAD_BYTES = 4096
_PACKED = b"\x1f\x8b"
# By the header's code for the unit of length: metre, millimetre, micrometre.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True)
class Limits:
    """What a volume may cost; beyond it is refused before a voxel is unfolded.

    Attributes:
        bytes: of the file.
        voxels: of all channels together; each becomes a float32.
    """

    bytes: int = 64 << 20
    voxels: int = 1 << 28


_LIMITS = Limits()


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

    def upright(self, voxels: NDArray[Any]) -> NDArray[Any]:
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


@dataclass(frozen=True)
class Inspected:
    """A volume proven decodable.

    Attributes:
        size: voxels to the left, to the back and upwards.
        channels: along the fourth axis.
        spacing: millimetres from voxel to voxel, as `size`; None where the unit is unknown.
        notes: what is worth knowing, of NON_FINITE, CONSTANT_VOLUME, in this order.
    """

    size: tuple[int, int, int]
    channels: int
    spacing: tuple[float, float, float] | None
    notes: tuple[str, ...]


class Voxels(NamedTuple):
    """A volume as numbers.

    Attributes:
        values: (C, Z, Y, X): channels, then upwards, to the back, to the patient's left.
        spacing: millimetres along Z, Y and X; None where the unit is unknown.
    """

    values: NDArray[np.float32]
    spacing: tuple[float, float, float] | None


def inspect(data: bytes, limits: Limits = _LIMITS) -> Inspected:
    """Unfold a volume once and say what it is.

    Cost: one unfolding; memory for 1 MiB of it.
    Raises:
        Undecodable: with the reason why it is refused.
        ConfigError: nibabel is not installed.
    """
    header = _header(data, limits)
    least, most, finite = math.inf, -math.inf, True
    for piece in _pieces(data, header):
        known = piece[np.isfinite(piece)]
        finite = finite and len(known) == len(piece)
        if len(known):
            least, most = min(least, float(known.min())), max(most, float(known.max()))
    if least > most:
        raise Undecodable("CORRUPT_DATA", "no voxel is a finite number")
    x, y, z = (header.shape[axis] for axis, _ in header.axes)
    found = {"NON_FINITE": not finite, "CONSTANT_VOLUME": least == most}
    return Inspected(
        size=(x, y, z),
        channels=header.volumes or 1,
        spacing=header.upright_spacing,
        notes=tuple(note for note, holds in found.items() if holds),
    )


def voxels(data: bytes) -> Voxels:
    """Return the values of a volume, the header's slope and intercept applied.

    What is no finite number becomes the least value of the volume. It is turned so that equal
    volumes are equal however their axes were stored.

    Cost: memory for twice the values.
    Raises:
        Undecodable: with the reason, under the default limits.
        ConfigError: nibabel is not installed.
    """
    header = _header(data, _LIMITS)
    values = np.concatenate(list(_pieces(data, header)))
    finite = np.isfinite(values)
    if not finite.all():
        if not finite.any():
            raise Undecodable("CORRUPT_DATA", "no voxel is a finite number")
        values[~finite] = values[finite].min()
    # The first axis is the fastest: read backwards, axes are those of C.
    stored = values.reshape(header.volumes or 1, *header.shape[::-1])
    upright = np.stack([header.upright(volume.T).T for volume in stored])
    spacing = header.upright_spacing
    return Voxels(upright, None if spacing is None else (spacing[2], spacing[1], spacing[0]))


def suffix(data: bytes) -> str:
    """Return nii or nii.gz: what a shard calls the volume, by its first bytes.

    Raises:
        Undecodable: it begins like neither.
    """
    if _is_header(data[:4]):
        return "nii"
    with suppress(zlib.error):
        # 31: the window of deflate, in the frame of gzip.
        if _is_header(zlib.decompressobj(31).decompress(data[:_HEAD_BYTES], 4)):
            return "nii.gz"
    raise _foreign(data)


# ------------------------------------------------------------------ what a header declares


def read_header(stream: BinaryIO) -> Header:
    """Read and check the header at the start of a stream.

    Raises:
        Undecodable: NOT_A_VOLUME, TRUNCATED, UNSUPPORTED_CODING or VOLUME_HEADER.
        ConfigError: nibabel is not installed.
    """
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
        from nibabel.spatialimages import HeaderDataError
    except ImportError as error:
        raise ConfigError("NIfTI needs nibabel: pip install 'winnow[volumes]'.") from error
    block = stream.read(4)
    if not _is_header(block):
        raise _foreign(block)
    kind: Any = Nifti1Header if 348 in _sizes(block) else Nifti2Header
    block += stream.read(kind.sizeof_hdr - 4)
    if len(block) < kind.sizeof_hdr:
        raise Undecodable("TRUNCATED", "ends inside its header")
    raw = kind(block, check=False)
    magic = raw["magic"].tobytes()
    if magic.startswith((b"ni1", b"ni2")):
        raise Undecodable("UNSUPPORTED_CODING", "voxels in a file of their own (.hdr, .img)")
    if not magic.startswith((b"n+1\0", b"n+2\0")):
        raise Undecodable("NOT_A_VOLUME", f"no NIfTI: its magic is {magic!r}")
    # A wild header makes numbers that are none; each is looked at below.
    with np.errstate(all="ignore"):
        shape, count = _shape([int(n) for n in raw["dim"]])
        try:
            dtype = np.dtype(raw.get_data_dtype())
        except (HeaderDataError, LookupError):
            detail = f"data type {int(raw['datatype'])}"
            raise Undecodable("UNSUPPORTED_CODING", detail) from None
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise Undecodable("UNSUPPORTED_CODING", f"voxels of type {dtype}, not plain numbers")
        offset = float(raw["vox_offset"])
        if not kind.sizeof_hdr <= offset <= _EXTENSION_BYTES or offset != int(offset):
            raise Undecodable("VOLUME_HEADER", f"voxels from byte {offset} on")
        slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
        if slope == 0 or not math.isfinite(slope):
            slope, intercept = 1.0, 0.0
        if not math.isfinite(intercept):
            detail = f"a slope of {slope} and an intercept of {intercept}"
            raise Undecodable("VOLUME_HEADER", detail)
        try:
            axes = _axes(raw.get_best_affine())
        except (HeaderDataError, ValueError) as error:
            detail = f"an orientation that is none: {error}"
            raise Undecodable("VOLUME_HEADER", detail) from None
        sides = tuple(abs(float(side)) for side in raw["pixdim"][1:4])
        unit = _MILLIMETRES.get(int(raw["xyzt_units"]) & 7)
    spacing = None
    if unit is not None and all(0 < side < math.inf for side in sides):
        spacing = (sides[0] * unit, sides[1] * unit, sides[2] * unit)
    return Header(
        shape, count, dtype.newbyteorder(raw.endianness), int(offset), slope, intercept,
        spacing, axes,
    )  # fmt: skip


def _header(data: bytes, limits: Limits) -> Header:
    if len(data) > limits.bytes:
        raise Undecodable("TOO_LARGE", f"{len(data)} bytes, the limit is {limits.bytes}")
    with _damage():
        header = read_header(unfolded(io.BytesIO(data)))
    count = math.prod(header.shape) * (header.volumes or 1)
    if count > limits.voxels:
        raise Undecodable("BOMB_VOXELS", f"{count:,} voxels, the limit is {limits.voxels:,}")
    check_room(header, len(data), packed=data.startswith(_PACKED))
    return header


def check_room(header: Header, size: int, *, packed: bool) -> None:
    """Refuse a file of `size` bytes that cannot hold what its header declares.

    Raises:
        Undecodable: TRUNCATED.
    """
    if header.end > size * (DEFLATE if packed else 1):
        raise Undecodable("TRUNCATED", f"{size:,} bytes cannot hold the {header.end:,} it needs")


def _sizes(block: bytes) -> set[int]:
    return {int.from_bytes(block, "little"), int.from_bytes(block, "big")}


def _is_header(block: bytes) -> bool:
    """Whether four bytes are the length of a header of NIfTI-1 or NIfTI-2, in either order."""
    return len(block) == 4 and not {348, 540}.isdisjoint(_sizes(block))


def _foreign(data: bytes) -> Undecodable:
    begins = f"it begins with {data[:8].hex(' ')}" if data else "no bytes"
    return Undecodable("NOT_A_VOLUME", f"no NIfTI: {begins}")


def _shape(dim: list[int]) -> tuple[tuple[int, int, int], int | None]:
    """Return three axes and the number of volumes, None without a fourth axis."""
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise Undecodable("VOLUME_HEADER", f"the dimensions {dim}")
    sides = dim[1 : dim[0] + 1]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 4:
        raise Undecodable("UNSUPPORTED_CODING", f"{len(sides)} axes: {sides}")
    x, y, z = (*sides[:3], 1, 1)[:3]
    return (x, y, z), sides[3] if len(sides) == 4 else None


def _axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """Return for left, posterior and superior the closest stored axis, and its direction."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    if not np.isfinite(affine).all():
        raise Undecodable("VOLUME_HEADER", "an orientation that is not finite")
    stored = io_orientation(affine)
    if np.isnan(stored).any():
        raise Undecodable("VOLUME_HEADER", "an orientation that leaves out an axis")
    turn = ornt_transform(stored, axcodes2ornt("LPS")).astype(int).tolist()
    axis_of = {to: (axis, direction) for axis, (to, direction) in enumerate(turn)}
    return axis_of[0], axis_of[1], axis_of[2]


# ------------------------------------------------------------------ from bytes to voxels


def unfolded(file: BinaryIO) -> BinaryIO:
    """Return the bytes of a file from the start, out of gzip if its first bytes say so."""
    file.seek(0)
    packed = file.read(2) == _PACKED
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file


def _pieces(data: bytes, header: Header) -> Iterator[NDArray[np.float32]]:
    """Yield the values in the order in which they are stored, some of them at a time."""
    at, size = 0, header.end - header.offset
    with _damage():
        stream = unfolded(io.BytesIO(data))
        _read(stream, header.offset)
        while at < size:
            piece = _read(stream, min(size - at, _PIECE_BYTES))
            at += len(piece)
            yield _values(np.frombuffer(piece, dtype=header.dtype), header)
        if stream.read(1):
            detail = f"the file goes on after the {header.end:,} bytes it needs"
            raise Undecodable("VOLUME_HEADER", detail)


def _values(stored: NDArray[Any], header: Header) -> NDArray[np.float32]:
    """Return stored numbers as values; float32 has 24 bits of a whole number.

    Raises:
        Undecodable: VALUE_RANGE, for a finite value that no float32 is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        exact = stored.astype(np.float64) * header.slope + header.intercept
        values = exact.astype(np.float32)
    if np.isinf(values).sum() > np.isinf(stored).sum():
        raise Undecodable("VALUE_RANGE", f"a value of {np.abs(exact).max():g}")
    return values


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Undecodable("TRUNCATED", f"{size - len(data):,} bytes and more are missing")
    return data


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise Undecodable("DECODE_OOM", "the memory limit of the process was reached") from error
    except EOFError as error:
        raise Undecodable("TRUNCATED", "ends inside a gzip stream") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Undecodable("CORRUPT_DATA", f"damaged gzip stream: {error}") from error
