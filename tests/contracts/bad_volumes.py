"""Recipes of bad and odd volumes, each with the one outcome that it must have."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np


@dataclass(frozen=True)
class Row:
    """A recipe: refused with `code`, or accepted with exactly these notes."""

    make: Callable[[], bytes]
    code: str | None = None
    notes: tuple[str, ...] = ()
    detail: str = ""


def volume(values: np.ndarray, affine: Any = None, *, order: str = "<", kind: Any = None) -> bytes:
    """Write values (X, Y, Z) or (X, Y, Z, C), by default to the left, to the back and upwards."""
    kind = kind or nibabel.Nifti1Image
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine
    header = kind.header_class(endianness=order)
    header.set_data_dtype(values.dtype)
    header.set_xyzt_units("mm")
    return kind(values, affine, header).to_bytes()


def cube(dtype: Any = np.int16, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    """Numbers from 0 to 255, always the same."""
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def put(data: bytes, at: int, dtype: str, *numbers: float) -> bytes:
    """Replace bytes by numbers."""
    new = np.array(numbers, dtype=dtype).tobytes()
    return data[:at] + new + data[at + len(new) :]


def damaged(whole: bytes) -> dict[str, bytes]:
    """Return a NIfTI file of 5 x 4 x 3 voxels of 16 bits, damaged in every way, by its name."""
    packed = gzip.compress(whole, mtime=0)
    return {
        "empty": b"",
        "text": b"NIfTI " * 200,
        "truncated": whole[:-1],
        "no voxels": whole[:352],
        "half a header": whole[:200],
        "longer": whole + b"\0",
        "packed, truncated": packed[:-20],
        "packed, damaged": packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:],
        "packed, longer": gzip.compress(whole + b"\0"),
        "packed, more after it": packed + b"more",
        "no dimension": put(whole, 40, "<i2", 0),
        "eight dimensions": put(whole, 40, "<i2", 8),
        "a side of none": put(whole, 40, "<i2", 3, 5, 0, 3),
        "a negative side": put(whole, 40, "<i2", 3, 5, -4, 3),
        "five axes": put(whole, 40, "<i2", 5, 1, 1, 1, 2, 30),
        "larger sides": put(whole, 40, "<i2", 3, 5, 4, 30),
        "smaller sides": put(whole, 40, "<i2", 3, 5, 4, 2),
        "an enormous volume": put(whole, 40, "<i2", 3, 32_767, 32_767, 32_767),
        "endless volumes": put(whole, 40, "<i2", 4, 1, 1, 32_767, 32_767),
        "unknown type": put(whole, 70, "<i2", 77),
        "complex": put(whole, 70, "<i2", 32),
        "colour": put(whole, 70, "<i2", 128),
        "voxels within the header": put(whole, 108, "<f4", 100),
        "voxels at nowhere": put(whole, 108, "<f4", np.nan),
        "voxels far away": put(whole, 108, "<f4", 1e9),
        "a slope without intercept": put(whole, 112, "<f4", 2, np.inf),
        "no orientation": put(whole, 280, "<f4", *[np.nan] * 12),
        "a flat orientation": put(whole, 280, "<f4", *[0] * 12),
        "a quaternion beyond length 1": put(whole, 252, "<i2", 1, 0)[:256]
        + np.full(3, 0.9, dtype="<f4").tobytes()
        + whole[268:],
        "voxels elsewhere": whole[:344] + b"ni1\0" + whole[348:],
        "another magic": whole[:344] + b"nope" + whole[348:],
    }  # fmt: skip


def with_value(value: float, dtype: Any = np.float32) -> bytes:
    """A volume of fractions, one voxel of which has a value."""
    values = cube(dtype) + dtype(0.5)
    values[1, 1, 1] = value
    return volume(values)


CODES = {
    "empty": "NOT_A_VOLUME",
    "text": "NOT_A_VOLUME",
    "truncated": "TRUNCATED",
    "no voxels": "TRUNCATED",
    "half a header": "TRUNCATED",
    "longer": "VOLUME_HEADER",
    "packed, truncated": "TRUNCATED",
    "packed, damaged": "CORRUPT_DATA",
    "packed, longer": "VOLUME_HEADER",
    "packed, more after it": "CORRUPT_DATA",
    "no dimension": "VOLUME_HEADER",
    "eight dimensions": "VOLUME_HEADER",
    "a side of none": "VOLUME_HEADER",
    "a negative side": "VOLUME_HEADER",
    "five axes": "UNSUPPORTED_CODING",
    "larger sides": "TRUNCATED",
    "smaller sides": "VOLUME_HEADER",
    "an enormous volume": "BOMB_VOXELS",
    "endless volumes": "BOMB_VOXELS",
    "unknown type": "UNSUPPORTED_CODING",
    "complex": "UNSUPPORTED_CODING",
    "colour": "UNSUPPORTED_CODING",
    "voxels within the header": "VOLUME_HEADER",
    "voxels at nowhere": "VOLUME_HEADER",
    "voxels far away": "VOLUME_HEADER",
    "a slope without intercept": "VOLUME_HEADER",
    "no orientation": "VOLUME_HEADER",
    "a flat orientation": "VOLUME_HEADER",
    "a quaternion beyond length 1": "VOLUME_HEADER",
    "voxels elsewhere": "UNSUPPORTED_CODING",
    "another magic": "NOT_A_VOLUME",
}
WHOLE = volume(cube())
ROWS: dict[str, Row] = {
    **{name: Row(lambda name=name: damaged(WHOLE)[name], code) for name, code in CODES.items()},
    "HTML": Row(lambda: b"<!DOCTYPE html><h1>404</h1>", "NOT_A_VOLUME"),
    "DICOM": Row(lambda: bytes(128) + b"DICM" + bytes(400), "NOT_A_VOLUME"),
    "a picture in gzip": Row(lambda: gzip.compress(b"\x89PNG" + bytes(400)), "NOT_A_VOLUME"),
    "a gzip bomb behind a small header": Row(
        lambda: gzip.compress(WHOLE + bytes(8 << 20)), "VOLUME_HEADER", detail="goes on after"
    ),
    "a header that deflate cannot fill": Row(
        lambda: gzip.compress(put(WHOLE, 40, "<i2", 3, 512, 512, 512)),
        "TRUNCATED",
        detail="cannot hold",
    ),
    "no voxel is a number": Row(
        lambda: volume(np.full((3, 3, 3), np.nan, np.float32)), "CORRUPT_DATA", detail="finite"
    ),
    "beyond float32": Row(lambda: with_value(1e300, np.float64), "VALUE_RANGE"),
    "one voxel is no number": Row(lambda: with_value(np.nan), notes=("NON_FINITE",)),
    "one voxel is infinite": Row(lambda: with_value(np.inf), notes=("NON_FINITE",)),
    "one value": Row(lambda: volume(np.ones((3, 3, 3), np.uint8)), notes=("CONSTANT_VOLUME",)),
    "a slope of 0": Row(lambda: put(WHOLE, 112, "<f4", 0, 7)),
    "a slope that is no number": Row(lambda: put(WHOLE, 112, "<f4", np.nan, np.nan)),
    "big-endian": Row(lambda: volume(cube(), order=">")),
    "NIfTI-2": Row(lambda: volume(cube(), kind=nibabel.Nifti2Image)),
    "packed": Row(lambda: gzip.compress(WHOLE)),
    "of four channels": Row(lambda: volume(cube(shape=(5, 4, 3, 4)))),
    "of a slice": Row(lambda: volume(cube(shape=(5, 4)))),
    "a label map": Row(lambda: volume(cube(np.uint8))),
    "64 bits": Row(lambda: volume(cube(np.float64))),
}
