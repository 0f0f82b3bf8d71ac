"""DICOM files: one slice each, put in order along their series; nothing of the patient is kept."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from contracts.decode import Limits
from contracts.errors import ConfigError
from storage.source import Refused
from storage.sources import _nifti
from storage.sources._slices import Voxels

# The only fields that are ever read: none says who the patient is.
_FIELDS = [
    "SeriesInstanceUID", "Modality", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "WindowCenter", "WindowWidth",
    "RescaleSlope", "RescaleIntercept", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelData",
]  # fmt: skip
_RAW = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_RLE = "1.2.840.10008.1.2.5"
_EXTENDED = "1.2.840.10008.1.2.4.51"
# pydicom unfolds such a file whole, without a limit.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# What pydicom raises on bytes that it cannot read.
_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError,
    EOFError, OSError, RecursionError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One file of a series, its pixels set aside.

    Attributes:
        name: of the file.
        digest: of its bytes, to know them again.
        series: its SeriesInstanceUID, empty where there is none.
        number: InstanceNumber.
        place: ImagePositionPatient, millimetres.
        directions: ImageOrientationPatient: of a row and of a column.
        size: columns and rows.
        slope: value = stored * slope + intercept.
        meta: what a record says of it: modality, spacing, window.
    """

    name: str
    digest: bytes
    series: str
    number: int | None
    place: tuple[float, ...] | None
    directions: tuple[float, ...] | None
    size: tuple[int, int]
    slope: float
    intercept: float
    meta: dict[str, Any]


def parse(data: bytes, name: str, digest: bytes) -> tuple[Slice, Voxels]:
    """Return what a file says of its slice, and the pixels as stored.

    MONOCHROME1, in which the least value is white, is turned about, and the slope with it.

    Raises:
        Refused: SOURCE_UNREADABLE, NO_CONTENT, UNSUPPORTED_CODING, BOMB_PIXELS, SOURCE_TRUNCATED
            or CORRUPT_DATA.
        ConfigError: pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise ConfigError("DICOM needs pydicom: pip install 'winnow[volumes]'.") from error
    if _DEFLATED in data:
        raise Refused("UNSUPPORTED_CODING", "deflated; write it anew: gdcmconv --raw")
    with warnings.catch_warnings():
        # Of values that break the standard; what we use is looked at.
        warnings.simplefilter("ignore")
        try:
            fields = pydicom.dcmread(io.BytesIO(data), specific_tags=_FIELDS)
            return _slice(fields, name, digest)
        except InvalidDicomError:
            raise Refused("SOURCE_UNREADABLE", "no DICOM file: it lacks the mark DICM") from None
        except Image.DecompressionBombError as error:
            raise Refused("BOMB_PIXELS", str(error)) from None
        except (BytesLengthException, *_ERRORS) as error:
            detail = f"{type(error).__name__}: {error}"
            raise Refused("CORRUPT_DATA", detail) from None


def stackable(one: Slice, other: Slice) -> bool:
    """Whether two slices of a series lie alike, so that they may be of one volume."""
    return one.size == other.size and _alike(one.directions, other.directions)


def plane(one: Slice) -> str:
    """Return what tells slices that lie so from others of their series: `LF-512x400`.

    The letters are those of DICOM's PatientOrientation: where a row and a column point.
    """
    letters = ""
    for direction in (one.directions or ())[:3], (one.directions or ())[3:]:
        if direction:
            axis = max(range(3), key=lambda n: abs(direction[n]))
            letters += ("RAF", "LPH")[direction[axis] > 0][axis]
    columns, rows = one.size
    return f"{letters or 'unknown'}-{columns}x{rows}"


def ordered(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices of one series in their natural order.

    By the place along the normal of the slices, where all have one and lie alike; else by
    InstanceNumber, where all have one; else by name, numbers in it as numbers. Ties by the next.
    """
    normal = _normal(slices)

    def key(one: Slice) -> tuple[Any, ...]:
        by_name = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in _parts(one.name))
        numbered = one.number if all(s.number is not None for s in slices) else 0
        along = _along(one, normal)
        return along, numbered, by_name

    return sorted(slices, key=key)


def distance(slices: Sequence[Slice]) -> float | None:
    """Return the median distance of neighbouring places, millimetres; None if unknown."""
    normal = _normal(slices)
    # Several slices may share a place: those of several echoes or times.
    places = sorted({_along(one, normal) for one in slices})
    return float(np.median(np.diff(places))) if len(places) > 1 else None


def volume(slices: Sequence[Slice], voxels_NYX: Voxels, slope: float, intercept: float) -> bytes:
    """Return the slices of a series, in order, as one packed NIfTI file.

    Where each place holds as many slices, those of several echoes or times, these become channels
    in their order. Slices that do not say how they lie are taken as axial.

    Raises:
        Refused: TOO_LARGE, a side is beyond NIfTI's; CORRUPT_DATA, places hold unlike numbers.
        ConfigError: nibabel is not installed.
    """
    first, normal = slices[0], _normal(slices)
    held = Counter(_along(one, normal) for one in slices)
    channels = next(iter(held.values())) if normal is not None else 1
    if normal is not None and set(held.values()) != {channels}:
        raise Refused("CORRUPT_DATA", f"places of {sorted(set(held.values()))} slices each")
    stacked_CZYX = voxels_NYX.reshape(-1, channels, *voxels_NYX.shape[1:]).swapaxes(0, 1)
    steps = [first.meta.get(f"spacing_{axis}_mm") for axis in "xyz"]
    steps[2] = distance(slices) or steps[2]
    known = None not in steps
    row, column = np.array(first.directions or (1, 0, 0, 0, 1, 0), dtype=float).reshape(2, 3)
    affine = np.eye(4)
    for axis, way in enumerate((row, column, np.cross(row, column))):
        affine[:3, axis] = way * (steps[axis] or 1.0)
    affine[:3, 3] = first.place or (0, 0, 0)
    # DICOM's axes go left and to the back, those of NIfTI right and to the front.
    affine[:2] *= -1
    return _nifti.written(
        stacked_CZYX, affine, slope, intercept, [s or 1.0 for s in steps], in_millimetres=known
    )


def uneven(slices: Sequence[Slice]) -> bool:
    """Whether neighbouring places are not equally far apart, as where a slice is missing."""
    normal = _normal(slices)
    gaps = np.diff(sorted({_along(one, normal) for one in slices}))
    return len(gaps) > 1 and float(gaps.max()) > 1.5 * float(gaps.min())


def _slice(fields: Any, name: str, digest: bytes) -> tuple[Slice, Voxels]:
    syntax = str(fields.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
    modality = str(fields.get("Modality") or "")
    if "PixelData" not in fields:
        raise Refused("NO_CONTENT", f"no pixels ({modality or 'no modality'})")
    photometric = str(fields.PhotometricInterpretation)
    if int(fields.get("SamplesPerPixel") or 1) != 1 or not photometric.startswith("MONOCHROME"):
        raise Refused("UNSUPPORTED_CODING", f"colour ({photometric})")
    frames = int(fields.get("NumberOfFrames") or 1)
    if frames != 1:
        raise Refused("UNSUPPORTED_CODING", f"{frames} frames in one file; try: dcm2niix")
    slope, intercept = _number(fields.get("RescaleSlope")), _number(fields.get("RescaleIntercept"))
    slope, intercept = slope or 1.0, intercept or 0.0
    voxels = _pixels(fields, syntax)
    if photometric == "MONOCHROME1":
        stored = 2 ** int(fields.get("BitsStored") or 16) - 1
        top = max(stored, int(voxels.max())) if voxels.dtype.kind == "u" else -1
        voxels = (top - voxels.astype(np.int64)).astype(voxels.dtype)
        slope, intercept = -slope, intercept + slope * top
    spacing = _numbers(fields.get("PixelSpacing"), 2)
    meta = {
        "modality": modality or None,
        "spacing_x_mm": spacing and spacing[1],
        "spacing_y_mm": spacing and spacing[0],
        "spacing_z_mm": _number(fields.get("SliceThickness")),
        "window_center": _number(fields.get("WindowCenter")),
        "window_width": _number(fields.get("WindowWidth")),
    }
    number = fields.get("InstanceNumber")
    return Slice(
        name,
        digest,
        str(fields.get("SeriesInstanceUID") or ""),
        None if number is None or str(number) == "" else int(number),
        _numbers(fields.get("ImagePositionPatient"), 3),
        _numbers(fields.get("ImageOrientationPatient"), 6),
        (voxels.shape[1], voxels.shape[0]),
        slope,
        intercept,
        {key: value for key, value in meta.items() if value is not None},
    ), voxels


def _pixels(fields: Any, syntax: str) -> Voxels:
    rows, columns, bits = int(fields.Rows), int(fields.Columns), int(fields.BitsAllocated)
    if bits not in (8, 16, 32):
        raise Refused("UNSUPPORTED_CODING", f"{bits} bits a pixel")
    if rows < 1 or columns < 1:
        raise Refused("BAD_DIMENSIONS", f"{columns} x {rows}")
    if rows * columns > Limits().pixels:
        raise Refused("BOMB_PIXELS", f"{columns} x {rows}, the limit is {Limits().pixels:,} pixels")
    needed, found = rows * columns * bits // 8, len(fields.PixelData)
    if syntax not in _RAW:
        _check_compressed(fields, syntax, (columns, rows), needed)
    elif found < needed:
        raise Refused("SOURCE_TRUNCATED", f"{found:,} of {needed:,} bytes of pixels")
    try:
        pixels: Voxels = fields.pixel_array
    except RuntimeError as error:  # of all decoders together
        raise Refused("CORRUPT_DATA", " ".join(str(error).split())) from None
    if pixels.shape != (rows, columns):
        raise Refused("CORRUPT_DATA", f"pixels of the shape {pixels.shape}")
    return pixels


def _check_compressed(fields: Any, syntax: str, size: tuple[int, int], needed: int) -> None:
    """Refuse pixels that nothing here decodes, or that would unfold to more than the header says.

    RLE is pydicom's own, JPEG and JPEG 2000 are Pillow's; pydicom finds other decoders that are
    installed.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoders = get_decoder(syntax).available_plugins
    except NotImplementedError:
        decoders = ()
    if syntax == _EXTENDED and int(fields.BitsStored) > 8:
        # These two decode 8 bits of it alone.
        decoders = tuple(set(decoders) - {"pillow", "gdcm"})
    if not decoders:
        name = fields.file_meta.TransferSyntaxUID.name
        advice = "pip install python-gdcm, or write it anew: gdcmconv --raw"
        raise Refused("UNSUPPORTED_CODING", f"{name}; {advice}")
    frame = get_frame(fields.PixelData, 0, number_of_frames=1)
    # What cannot be compressed becomes longer by 1 in 128.
    if syntax == _RLE and len(frame) > needed + needed // 64 + 1024:
        raise Refused("CORRUPT_DATA", f"{len(frame):,} bytes of RLE for {needed:,} of pixels")
    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as picture:
            found = picture.size
    except UnidentifiedImageError:
        return
    if found != size:
        raise Refused("CORRUPT_DATA", f"a picture of {found}, the header says {size}")


def _normal(slices: Sequence[Slice]) -> np.ndarray[Any, Any] | None:
    """Return the direction in which parallel slices are stacked."""
    first = slices[0].directions
    if first is None or any(one.place is None or one.directions is None for one in slices):
        return None
    if any(not _alike(one.directions, first) for one in slices):
        return None
    normal = np.cross(first[:3], first[3:])
    return normal if np.linalg.norm(normal) > 0.5 else None


def _alike(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) < 1e-3 for a, b in zip(one, other, strict=True))


def _along(one: Slice, normal: np.ndarray[Any, Any] | None) -> float:
    if normal is None:
        return 0.0
    # A hundredth of a millimetre: two slices of one place come by their numbers.
    return round(float(np.dot(one.place or (), normal)), 2)


def _parts(name: str) -> Iterator[str]:
    return (part for part in re.split(r"(\d+)", name) if part)


def _number(value: Any) -> float | None:
    """Return a number, the first of several; None for none, or one that is not finite."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    if value is None or str(value).strip() == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return exactly so many finite numbers, or None."""
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    numbers = tuple(float(one) for one in value)
    return numbers if all(map(math.isfinite, numbers)) else None
