"""The one image decoder: bytes in, pixels or a reason code out; it trusts nothing it is given.

Three stages, each of which may refuse. The container is walked without decoding (every chunk,
marker and block to the end of the file, frames counted); size and compression are judged by what
the walk found; then frame 0 alone is decoded by Pillow's plug-in of exactly that format, out of a
stream that holds nothing but its pixels. So no EXIF, ICC, XMP, comment, thumbnail or further frame
ever reaches a parser of ours or of Pillow, and Ghostscript is never started.

OpenCV gives the same pixels somewhat faster, but returns a half-decoded picture where Pillow
raises, and writes libjpeg's complaints to the terminal. The one short cut, for a JPEG in grey at
an eighth of its size (`_jpeg_dc`), gives Pillow's pixels or leaves the picture to Pillow.

A hang, a crash of the C code and the death of a process cannot be seen from inside it: whoever
runs the worker calls `limit_process` in it and names them DECODE_TIMEOUT and DECODE_CRASH.
"""

from __future__ import annotations

import io
import struct
import sys
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from contracts._containers import Frame, Limits, Undecodable, walk

__all__ = [
    "Inspected",
    "Limits",
    "Stored",
    "Undecodable",
    "described",
    "forget",
    "image",
    "inspect",
    "labels",
    "limit_process",
    "picture",
    "reduced",
]

Mode = Literal["RGB", "L"]
Pixels = NDArray[np.uint8]
_LIMITS = Limits()


@dataclass(frozen=True)
class Inspected:
    """A picture proven decodable.

    Attributes:
        width: in pixels, after the rotation that EXIF asks for.
        height: likewise.
        format: JPEG, PNG, WEBP, GIF or BMP, by its bytes.
        notes: what was normalised or is worth knowing, of TRAILING_BYTES, ALPHA, DEPTH16,
            ANIMATED, CMYK, EXIF_ROTATED, EXIF_INVALID, CONSTANT_IMAGE, in this order.
    """

    width: int
    height: int
    format: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """What a file says of its picture.

    Attributes:
        depth: bits of a channel, of a palette's index; 5 for BMP of 16 bits, 8 for GIF.
        frames: of an animation, else 1.
        transparent: an alpha channel or a transparent colour is stored, whether it is used or not.
    """

    depth: int
    frames: int
    transparent: bool


def inspect(data: bytes, limits: Limits = _LIMITS) -> Inspected:
    """Decode a picture once and say what it is.

    Cost: one decode; memory at most 12 bytes a pixel, of WebP 17.
    Raises:
        Undecodable: with the reason why it is refused.
    """
    with _refusals():
        frame = walk(data, limits)
        image, transparent = _decode(frame, "RGB")
        constant = image.getcolors(1) is not None
    found = {
        "TRAILING_BYTES": frame.trailing,
        "ALPHA": transparent,
        "DEPTH16": frame.depth == 16,
        "ANIMATED": frame.frames > 1,
        "CMYK": frame.components == 4 and frame.format == "JPEG",
        "EXIF_ROTATED": frame.orientation > 1,
        "EXIF_INVALID": frame.orientation == 0,
        "CONSTANT_IMAGE": constant,
    }
    return Inspected(
        *image.size, frame.format, tuple(note for note, holds in found.items() if holds)
    )


def image(data: bytes, mode: Mode = "RGB") -> Pixels:
    """Return the pixels of frame 0, (H, W, 3) or (H, W), read-only.

    EXIF rotation is applied and alpha composited on white. 16 bits become 8 by v / 257, those of
    colours by their high byte. CMYK, inverted where Adobe's marker says so, becomes RGB without a
    colour profile; profiles are ignored throughout. L is 0.299 R + 0.587 G + 0.114 B, of a JPEG
    the stored luma. The pictures of the current batch are remembered, so that several steps
    decode each once.

    Raises:
        Undecodable: with the reason, under the default limits.
    """
    return _remembered(data, mode, None)[0]


def described(data: bytes, mode: Mode = "RGB") -> tuple[Pixels, Stored]:
    """Return `image`, and what the file says of it, by the same decode.

    Raises:
        Undecodable: as `image`.
    """
    return _remembered(data, mode, None)


def reduced(data: bytes, side_px: int, mode: Mode = "RGB") -> Pixels:
    """Return `image`, but of a JPEG the smallest that leaves its shorter side `side_px` or more.

    The decoder offers 1/1, 1/2, 1/4 and 1/8 of the size. Of other formats it is `image`.

    Raises:
        Undecodable: as `image`.
    """
    # Of other formats the decode is that of `image`, and is done once for both.
    return _remembered(data, mode, side_px if data.startswith(b"\xff\xd8\xff") else None)[0]


def square(pixels_HWC: Pixels, side_px: int) -> Pixels:
    """Return the centre square of the shorter side, scaled to (side_px, side_px, 3).

    Shrinking averages areas, enlarging is bilinear. A batch of pretraining and an encoder see a
    picture alike because both call this.
    """
    import cv2

    height, width = pixels_HWC.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = pixels_HWC[top : top + side, left : left + side]
    if side == side_px:
        return crop
    method = cv2.INTER_AREA if side > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=method), dtype=np.uint8)


def square_labels(labels_HW: Pixels, side_px: int) -> Pixels:
    """Return the labels of `square`, scaled as by `scaled_labels`."""
    height, width = labels_HW.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return scaled_labels(labels_HW[top : top + side, left : left + side], (side_px, side_px))


def scaled_labels(labels_HW: Pixels, size: tuple[int, int]) -> Pixels:
    """Return labels of another height and width: of each pixel that at its centre.

    None is interpolated, so that no class appears that is not there.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, labels_HW.shape, strict=True)
    )
    return labels_HW[np.ix_(rows, columns)]


def labels(data: bytes) -> Pixels:
    """Return a label image as classes, uint8 (H, W): grey values, or the places in a palette.

    It is not rotated. 255 is no class.

    Raises:
        Undecodable: as `image`; LABEL_LOSSY: a JPEG, whose values are not those that were written;
            LABEL_CHANNELS: more than one channel; LABEL_VALUES: a value above 255.
    """
    with _refusals():
        frame = walk(data, _LIMITS)
        stored = _load(frame)
        if frame.format == "JPEG":
            raise Undecodable("LABEL_LOSSY", "a JPEG")
        if stored.mode not in ("1", "L", "P", "I;16"):
            raise Undecodable("LABEL_CHANNELS", f"pixels of {stored.mode}, not of one channel")
        values = np.asarray(stored)
        if stored.mode == "L" and frame.depth < 8:
            # Pillow spreads grey of 2 and 4 bits over 8.
            values = values // (255 // (2**frame.depth - 1))
        if values.max(initial=0) > 255:
            raise Undecodable("LABEL_VALUES", f"the value {values.max()}, the limit is 255")
        return values.astype(np.uint8)


def picture(data: bytes) -> Image.Image:
    """Return frame 0 as it is stored, in Pillow's mode: not rotated, alpha and 16 bits kept.

    For a method that must repeat, pixel for pixel, what another program makes of Pillow's image.

    Raises:
        Undecodable: as `image`.
    """
    with _refusals():
        return _load(walk(data, _LIMITS))


def forget() -> None:
    """Drop the remembered batch."""
    with _lock:
        _batch.decoded.clear()
        _batch.held_bytes = 0


def limit_process(memory_bytes: int, cpu_s: int) -> None:
    """Bound this worker: memory, core files, open files, and processor time from now on.

    Memory beyond the limit is a MemoryError, which becomes DECODE_OOM; time beyond it is the
    signal SIGXCPU, which ends the process. Call it again before the next unit to grant it
    another `cpu_s`. Systems other than Linux lack some of these limits, or refuse to set them:
    there the process goes without.
    """
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime) + 1
    for name, value in (
        ("RLIMIT_DATA", memory_bytes),
        ("RLIMIT_CPU", used_s + cpu_s),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 1024),
    ):
        try:
            limit = getattr(resource, name)
            _, hard = resource.getrlimit(limit)
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (soft, hard))
        except (AttributeError, ValueError, OSError):
            if sys.platform == "linux":
                raise


# ------------------------------------------------------------------ the batch in memory

_BATCH_RECORDS = 64
_BATCH_BYTES = 512 << 20
_Key = tuple[bytes, Mode, int | None]
_Decoded = tuple[Pixels, Stored]


class _Batch:
    """The pictures decoded last, by their bytes; the oldest leave where it is full."""

    def __init__(self) -> None:
        self.decoded: OrderedDict[_Key, _Decoded] = OrderedDict()
        self.held_bytes = 0

    def add(self, key: _Key, decoded: _Decoded) -> None:
        if key not in self.decoded:
            self.decoded[key] = decoded
            self.held_bytes += len(key[0]) + decoded[0].nbytes
        while len(self.decoded) > _BATCH_RECORDS or self.held_bytes > _BATCH_BYTES:
            (data, _, _), (gone, _) = self.decoded.popitem(last=False)
            self.held_bytes -= len(data) + gone.nbytes


_batch = _Batch()
_lock = threading.Lock()


def _remembered(data: bytes, mode: Mode, side_px: int | None) -> _Decoded:
    """Return what was decoded before from equal bytes."""
    key = (data, mode, side_px)
    with _lock:
        if key in _batch.decoded:
            return _batch.decoded[key]
    with _refusals():
        frame = walk(data, _LIMITS)
        pixels, transparent = _eighth(frame, mode, side_px), False
        if pixels is None:
            image, transparent = _decode(frame, mode, side_px)
            pixels = np.asarray(image)
    pixels.flags.writeable = False
    decoded = pixels, Stored(frame.depth, frame.frames, transparent)
    with _lock:
        _batch.add(key, decoded)
    return decoded


# ------------------------------------------------------------------ from a frame to pixels

_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's plug-ins raise on bytes that they cannot read; anything else is a bug of ours.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    struct.error,
    zlib.error,
)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise Undecodable("DECODE_OOM", "the memory limit of the process was reached") from error
    except _DECODER_ERRORS as error:
        code = "TRUNCATED" if "truncated" in str(error) else "CORRUPT_DATA"
        raise Undecodable(code, f"{type(error).__name__}: {error}") from error


def _load(frame: Frame, mode: Mode | None = None, side_px: int | None = None) -> Image.Image:
    """Decode frame 0 with the plug-in of its format, a JPEG no larger than is asked for."""
    image = _PLUGINS[frame.format](io.BytesIO(frame.stream))
    if image.size != (frame.width, frame.height):
        raise Undecodable(
            "CORRUPT_DATA", f"sizes disagree: {frame.width}x{frame.height} and {image.size}"
        )
    if mode is not None:
        # Only a JPEG can: its luma alone for L, and fewer coefficients for a smaller picture.
        image.draft(mode, None if side_px is None else (side_px, side_px))
    image.load()
    return image


def _eighth(frame: Frame, mode: Mode, side_px: int | None) -> Pixels | None:
    """Return what `_decode` makes of a JPEG at an eighth of its size, where that is all we need."""
    if side_px is None or mode != "L" or frame.format != "JPEG":
        return None
    if min(frame.width, frame.height) < 8 * side_px:
        return None
    from contracts._jpeg_dc import eighth_luma

    luma = eighth_luma(frame.stream)
    if luma is not None and frame.orientation > 1:
        luma = np.asarray(Image.fromarray(luma).transpose(_TURNS[frame.orientation]))
    return luma


def _decode(frame: Frame, mode: Mode, side_px: int | None = None) -> tuple[Image.Image, bool]:
    """Return frame 0 in RGB or L, upright, on white; and whether it had transparency.

    One name holds each stage, so that the stage before it is freed: at the pixel limit a copy
    is 160 MB.
    """
    image = _load(frame, mode, side_px)
    transparent = image.has_transparency_data
    if image.mode == "I;16":
        image = _eight_bits(image)
    elif image.mode in ("L", "RGB") and transparent:
        # The transparent colour is given at the stored depth, Pillow's pixels are bytes.
        key = image.info["transparency"]
        of = partial(_byte, depth=frame.depth)
        image.info["transparency"] = tuple(map(of, key)) if isinstance(key, tuple) else of(key)
    elif image.mode == "CMYK" and not frame.inverted:
        image = ImageChops.invert(image)
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        cover = ImageChops.invert(image.getchannel("A"))
        image = image.convert("RGB")
        image.paste("white", mask=cover)
    if image.mode != mode:
        image = image.convert(mode)
    if frame.orientation > 1:
        image = image.transpose(_TURNS[frame.orientation])
    return image, transparent


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey by 1 / 257; its transparent value becomes white."""
    values = np.asarray(image)
    grey = _bytes_of_words()[values]
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


@cache
def _bytes_of_words() -> Pixels:
    return ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


def _byte(value: int, depth: int) -> int:
    return value >> 8 if depth == 16 else value * 255 // (2**depth - 1)
