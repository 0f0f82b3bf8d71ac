"""Recipes of bad and odd images, each with the one outcome that it must have."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Row:
    """A recipe: refused with `code`, or accepted with exactly these notes."""

    make: Callable[[], bytes]
    code: str | None = None
    notes: tuple[str, ...] = ()
    detail: str = ""
    size: tuple[int, int] | None = None


def refused(make: Callable[[], bytes], code: str, detail: str = "") -> Row:
    return Row(make, code=code, detail=detail)


def accepted(
    make: Callable[[], bytes], *notes: str, size: tuple[int, int] | None = (64, 48)
) -> Row:
    return Row(make, notes=notes, size=size)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", width: int = 64, height: int = 48) -> Image.Image:
    across = np.linspace(0, 255, width).astype(np.uint8)
    down = np.linspace(0, 255, height).astype(np.uint8)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = across, down[:, None]
    return Image.fromarray(pixels).convert(mode)


def jpeg(**options: Any) -> bytes:
    return encoded(gradient(), "JPEG", quality=90, **options)


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Insert a segment right after the start of a JPEG."""
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


def oriented(orientation: int, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image or gradient(), "JPEG", quality=90, exif=exif)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    rows: bytes | None = None,
    stream: bytes | None = None,
    extra: bytes = b"",
    end: bool = True,
) -> bytes:
    """A PNG of zeros, of `rows` (each with its filter byte), or of a ready deflate stream."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row_bytes = 1 + (width * channels * depth + 7) // 8
    if stream is None:
        stream = zlib.compress(bytes(row_bytes * height) if rows is None else rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    tail = chunk(b"IEND", b"") if end else b""
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + extra + chunk(b"IDAT", stream) + tail


def deflated_zeros(count: int) -> bytes:
    """A deflate stream of zeros, its checksum aside: one megabyte is deflated, and repeated."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % (1 << 20))) + packer.flush()
    return start + block * (count >> 20) + rest


def animated(format: str, frames: int) -> bytes:
    shades = [Image.new("L", (16, 16), 7 * i % 256) for i in range(frames)]
    return encoded(shades[0], format, save_all=True, append_images=shades[1:])


def gif_of_one_pixel_frames(count: int) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return header + count * (b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2D\1\0") + b";"


def resized_header(width: int, height: int) -> bytes:
    data = jpeg()
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(gradient(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def cmyk(adobe: bool) -> bytes:
    """Pure red; with Adobe's marker the samples are stored inverted, without it plain."""
    ink = (0, 255, 255, 0)
    if not adobe:
        ink = tuple(255 - value for value in ink)
    data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
    at = data.index(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    return data if adobe else data[:at] + data[at + 2 + length :]


def noise(count: int) -> bytes:
    """Rows of a PNG without filters: every 193rd byte is 0."""
    values = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
    values[::193] = 0
    return values.tobytes()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a.txt", "hello")
    return buffer.getvalue()


def bmp(width: int, height: int, data: bytes = b"", compression: int = 0) -> bytes:
    header = struct.pack("<IHHI", 54 + len(data), 0, 0, 54)
    shape = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)
    return b"BM" + header + shape + data


def icon(picture: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


def mpo() -> bytes:
    second = gradient().rotate(180)
    return encoded(gradient(), "MPO", save_all=True, append_images=[second])


def webp() -> bytes:
    return encoded(gradient(), "WEBP")


def bad_checksum() -> bytes:
    data = png(8, 8)
    return data[:29] + bytes(4) + data[33:]


TIFF_LOOP = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 3, 1, 8, 8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n%%EOF\n"
GARBAGE_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(24)
FLAT = "CONSTANT_IMAGE"

# Named by the row of the table of bad inputs, then by more of the same kind.
ROWS: dict[str, Row] = {
    "I01 zero bytes": refused(lambda: b"", "EMPTY_FILE"),
    "I02 one byte": refused(lambda: b"\xff", "NOT_AN_IMAGE"),
    "I03 error page": refused(
        lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "NOT_AN_IMAGE", "HTML"
    ),
    "I04 random bytes": refused(lambda: hashlib.shake_256(b"x").digest(4096), "NOT_AN_IMAGE"),
    "I05 half a JPEG": refused(lambda: jpeg()[: len(jpeg()) // 2], "TRUNCATED"),
    "I06 JPEG without its end": refused(lambda: jpeg()[:-2], "TRUNCATED"),
    "I07 JPEG header alone": refused(lambda: jpeg()[:20], "TRUNCATED"),
    "I08 JPEG and more": accepted(lambda: jpeg() + b"A" * 1000, "TRAILING_BYTES"),
    "I09 arithmetic coding": refused(
        lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc9", 1), "UNSUPPORTED_CODING", "SOF9"
    ),
    "I10 JPEG of 65500 squared": refused(lambda: resized_header(65500, 65500), "BOMB_PIXELS"),
    "I11 PNG cut in its pixels": refused(lambda: png(64, 64)[:-30], "TRUNCATED"),
    "I12 PNG with a wrong checksum": refused(bad_checksum, "CORRUPT_DATA", "IHDR"),
    "I13 PNG without IEND": refused(lambda: png(8, 8, end=False), "TRUNCATED"),
    "I14 PNG without width": refused(lambda: png(0, 8, rows=b""), "BAD_DIMENSIONS"),
    "I15 PNG of 50000 squared": refused(
        lambda: png(50000, 50000, depth=1, colour=0, stream=deflated_zeros(50000 * 6251)),
        "BOMB_PIXELS",
    ),
    "I16 PNG below Pillow's limit": refused(
        lambda: png(9400, 9400, colour=0, stream=deflated_zeros(9400 * 9401)), "BOMB_PIXELS"
    ),
    "I17 compressed text": refused(
        lambda: png(8, 8, extra=chunk(b"zTXt", b"k\0\0" + deflated_zeros(64 << 20))),
        "BOMB_METADATA",
    ),
    "I18 compressed profile": refused(
        lambda: png(8, 8, extra=chunk(b"iCCP", b"k\0\0" + deflated_zeros(64 << 20))),
        "BOMB_METADATA",
    ),
    "I19 one pixel": accepted(lambda: png(1, 1), FLAT, size=(1, 1)),
    "I20 one pixel wide": refused(lambda: png(1, 10000), "ASPECT_RATIO"),
    "I21 16-bit grey": accepted(
        lambda: encoded(
            Image.fromarray((np.arange(48 * 64).reshape(48, 64) * 20).astype(np.uint16)), "PNG"
        ),
        "DEPTH16",
    ),
    "I22 transparent red": accepted(
        lambda: encoded(Image.new("RGBA", (64, 48), (255, 0, 0, 0)), "PNG"), "ALPHA", FLAT
    ),
    "I23 grey and alpha": accepted(
        lambda: encoded(Image.new("LA", (64, 48), (200, 128)), "PNG"), "ALPHA", FLAT
    ),
    "I24 palette with a transparent entry": accepted(
        lambda: encoded(gradient("P"), "PNG", transparency=0), "ALPHA"
    ),
    "I25 one bit": accepted(lambda: encoded(gradient("1"), "PNG")),
    "I26 animated PNG": accepted(lambda: animated("PNG", 3), "ANIMATED", FLAT, size=(16, 16)),
    "I27 animated GIF": accepted(lambda: animated("GIF", 3), "ANIMATED", FLAT, size=(16, 16)),
    "I28 GIF of 2000 frames": refused(lambda: gif_of_one_pixel_frames(2000), "TOO_MANY_FRAMES"),
    "I29 GIF of no frame": refused(
        lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";", "CORRUPT_DATA"
    ),
    "I30 WebP cut": refused(lambda: webp()[:200], "TRUNCATED"),
    "I31 animated WebP": accepted(lambda: animated("WEBP", 3), "ANIMATED", FLAT, size=(16, 16)),
    "I32 CMYK": accepted(lambda: encoded(gradient("CMYK"), "JPEG"), "CMYK"),
    "I33 CMYK, Adobe inverted": accepted(lambda: cmyk(adobe=True), "CMYK", FLAT, size=(16, 16)),
    "I34 grey JPEG": accepted(lambda: encoded(gradient("L"), "JPEG")),
    "I35 turned": accepted(lambda: oriented(6), "EXIF_ROTATED", size=(48, 64)),
    "I36 turned by 9": accepted(lambda: oriented(9), "EXIF_INVALID"),
    "I37 garbage EXIF": accepted(lambda: with_segment(jpeg(), 0xE1, GARBAGE_EXIF), "EXIF_INVALID"),
    "I41 TIFF of NaN": refused(
        lambda: encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
        "UNSUPPORTED_FORMAT",
        "TIFF",
    ),
    "I42 TIFF of two pages": refused(
        lambda: encoded(gradient(), "TIFF", save_all=True, append_images=[gradient()]),
        "UNSUPPORTED_FORMAT",
        "TIFF",
    ),
    "I43 TIFF that loops": refused(lambda: TIFF_LOOP, "CORRUPT_DATA"),
    "I44 BMP of 2^31 squared": refused(lambda: bmp(2**31 - 1, 2**31 - 1), "BOMB_PIXELS"),
    "I45 icon of 20000 squared": refused(
        lambda: icon(png(20000, 20000, depth=1, colour=0, stream=deflated_zeros(20000 * 2501))),
        "BOMB_PIXELS",
    ),
    "I46 SVG": refused(
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "UNSUPPORTED_FORMAT",
        "SVG",
    ),
    "I47 SVG with entities": refused(
        lambda: b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aa">]><svg>&a;</svg>',
        "UNSUPPORTED_FORMAT",
        "SVG",
    ),
    "I48 EPS": refused(lambda: EPS, "UNSUPPORTED_FORMAT", "EPS"),
    "I49 PDF": refused(lambda: b"%PDF-1.4\n%%EOF\n", "UNSUPPORTED_FORMAT", "PDF"),
    "I50 JPEG that is a ZIP": accepted(lambda: jpeg() + archive(), "TRAILING_BYTES"),
    "I51 GIF that is a script": refused(
        lambda: b"GIF89a/*" + bytes(20) + b"*/=1;alert(1);//", "CORRUPT_DATA"
    ),
    "I52 PSD": refused(lambda: b"8BPS\0\1" + bytes(40), "UNSUPPORTED_FORMAT", "PSD"),
    "I53 HEIC": refused(
        lambda: struct.pack(">I", 24) + b"ftypheic" + bytes(12), "UNSUPPORTED_FORMAT", "HEIC"
    ),
    "I53 AVIF": refused(
        lambda: struct.pack(">I", 24) + b"ftypavif" + bytes(12), "UNSUPPORTED_FORMAT", "AVIF"
    ),
    "I54 comment with a script": accepted(
        lambda: with_segment(jpeg(), 0xFE, b"<script>alert(1)</script>")
    ),
    "I55 MPO cut": accepted(lambda: mpo()[:-400], "TRAILING_BYTES"),
    "I56 one colour": accepted(lambda: png(64, 48), FLAT),
    "I59 too many bytes": refused(lambda: b"\xff\xd8\xff" + bytes(64 << 20), "TOO_LARGE"),
    "BMP": accepted(lambda: encoded(gradient(), "BMP")),
    "BMP from the top": accepted(lambda: bmp(64, -48, bytes(range(64)) * 3 * 48)),
    "BMP without its last row": refused(lambda: encoded(gradient(), "BMP")[:-1], "TRUNCATED"),
    "BMP holding a JPEG": refused(lambda: bmp(64, 48, jpeg(), 4), "UNSUPPORTED_CODING"),
    "CMYK without Adobe's marker": accepted(lambda: cmyk(adobe=False), "CMYK", FLAT, size=(16, 16)),
    "GIF cut": refused(lambda: animated("GIF", 3)[:-1], "TRUNCATED"),
    "GIF and more": accepted(lambda: encoded(gradient("P"), "GIF") + b"!", "TRAILING_BYTES"),
    "JPEG of a hundred scans": refused(lambda: many_scans(100), "BOMB_SCANS"),
    "JPEG of no height": refused(lambda: resized_header(64, 0), "BAD_DIMENSIONS"),
    "JPEG of much metadata": refused(
        lambda: reduce(lambda data, _: with_segment(data, 0xE2, bytes(65000)), range(260), jpeg()),
        "BOMB_METADATA",
    ),
    "JPEG that ends before it begins": refused(lambda: b"\xff\xd8\xff\xd9", "CORRUPT_DATA"),
    "PNG of a million chunks": refused(
        lambda: png(8, 8, extra=chunk(b"teSt", b"") * 1_000_001), "BOMB_METADATA", "parts"
    ),
    "PNG and more": accepted(lambda: png(64, 48) + b"!", "TRAILING_BYTES", FLAT),
    "PNG with a second header": refused(
        lambda: png(8, 8, extra=png(9, 9)[8:33]), "CORRUPT_DATA", "twice"
    ),
    "PNG with its deflate stream cut": refused(
        lambda: png(64, 64, stream=zlib.compress(noise(193 * 64))[:-400]), "TRUNCATED"
    ),
    "PNG with its deflate stream damaged": refused(
        lambda: png(64, 64, stream=zlib.compress(noise(193 * 64))[:-4] + b"abcd"), "CORRUPT_DATA"
    ),
    "PNG of one colour above a megapixel": refused(
        lambda: png(2000, 2000), "BOMB_PIXELS", "inflate"
    ),
    "PNG of Apple's kind": refused(
        lambda: png(8, 8)[:8] + chunk(b"CgBI", bytes(4)) + png(8, 8)[8:], "UNSUPPORTED_CODING"
    ),
    "PNG with international text": refused(
        lambda: png(8, 8, extra=chunk(b"iTXt", b"k\0\1\0\0\0" + deflated_zeros(20 << 20))),
        "BOMB_METADATA",
    ),
    "WebP with alpha": accepted(lambda: encoded(gradient("RGBA"), "WEBP", exact=True, lossless=1)),
    "WebP with a transparent half": accepted(
        lambda: encoded(half_transparent(), "WEBP", exact=True, lossless=True), "ALPHA"
    ),
    "WebP without a picture": refused(
        lambda: b"RIFF\x0c\0\0\0WEBPXMP \0\0\0\0", "CORRUPT_DATA", "no picture"
    ),
    "WebP and more": accepted(lambda: webp() + b"!", "TRAILING_BYTES"),
    "icon": refused(lambda: icon(png(16, 16)), "UNSUPPORTED_FORMAT", "ICO"),
}


def half_transparent() -> Image.Image:
    image = gradient("RGBA")
    pixels = np.array(image)
    pixels[:24, :, 3] = 0
    return Image.fromarray(pixels)
