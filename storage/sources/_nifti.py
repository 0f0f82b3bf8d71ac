"""NIfTI files, plain or gzip, read volume by volume; proved whole before a voxel is kept."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.payload import Undecodable
from contracts.volume import Header, check_room, read_header, unfolded
from storage.source import Refused
from storage.sources._slices import Voxels
from storage.walk import check_unchanged

VOLUME_BYTES = 1 << 30
FILE_BYTES = 16 << 30
SLICES = 1_000_000
_CHUNK_BYTES = 1 << 20
_LONGEST = 32_767
_NO_EXTENSION = bytes(4)
# What a file that is a source is called by, where the decoder speaks of a payload.
_OF_SOURCE = {"NOT_A_VOLUME": "SOURCE_UNREADABLE", "TRUNCATED": "SOURCE_TRUNCATED"}


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
        stream = unfolded(file)
        header = read_header(stream)
        _check_size(header, before.st_size, packed=stream is not file)
        _read_through(unfolded(file), header)
        stream = unfolded(file)
        _skip(stream, header.offset)
        for _ in range(header.volumes or 1):
            data = _exactly(stream, header.volume_bytes)
            voxels = np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F")
            yield header, header.upright(voxels)
        check_unchanged(file, before)
    except Undecodable as bad:
        raise Refused(_OF_SOURCE.get(bad.code, bad.code), bad.detail) from None
    except EOFError:
        raise Refused("SOURCE_TRUNCATED", "ends inside a gzip stream") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Refused("SOURCE_TRUNCATED", f"damaged gzip stream: {error}") from None
    except OSError as error:
        raise Refused("UNREADABLE", error.strerror or "") from None


def written(
    values_CZYX: Voxels,
    affine: NDArray[np.float64],
    slope: float,
    intercept: float,
    spacing: Sequence[float],
    *,
    in_millimetres: bool,
) -> bytes:
    """Return voxels as a packed NIfTI file, the same bytes whenever they are written.

    Args:
        values_CZYX: as stored, less slope and intercept.
        affine: from the axes X, Y, Z to the patient's right, front and top.
        slope: value = voxel * slope + intercept.
        intercept: likewise.
        spacing: along X, Y, Z.
        in_millimetres: whether that is in millimetres, or nobody knows.

    Raises:
        Refused: TOO_LARGE, a side is beyond 32,767.
        ConfigError: nibabel is not installed.
    """
    try:
        from nibabel.nifti1 import Nifti1Header
    except ImportError as error:
        raise ConfigError("NIfTI needs nibabel: pip install 'winnow[volumes]'.") from error
    stored = np.ascontiguousarray(values_CZYX)
    if max(stored.shape) > _LONGEST:
        raise Refused("TOO_LARGE", f"a volume of {stored.shape}, a side has at most {_LONGEST:,}")
    header = Nifti1Header()
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[:0:-1] + (stored.shape[:1] if len(stored) > 1 else ()))
    header.set_sform(affine, code=1)
    header["pixdim"][1:4] = spacing
    header.set_xyzt_units("mm" if in_millimetres else "unknown")
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["vox_offset"] = len(header.binaryblock) + len(_NO_EXTENSION)
    return gzip.compress(header.binaryblock + _NO_EXTENSION + stored.tobytes(), mtime=0)


def _check_size(header: Header, size: int, *, packed: bool) -> None:
    """Refuse what is too large, or cannot be whole, before any of it is read."""
    if header.volume_bytes > VOLUME_BYTES:
        detail = f"a volume of {header.volume_bytes:,} bytes, the limit is {VOLUME_BYTES:,}"
        raise Refused("TOO_LARGE", detail)
    up, _ = header.axes[2]
    slices = header.shape[up] * (header.volumes or 1)
    if header.end > FILE_BYTES or slices > SLICES:
        raise Refused("TOO_LARGE", f"{header.end:,} bytes, {slices:,} slices")
    check_room(header, size, packed=packed)


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
