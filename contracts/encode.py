"""What an export does to a picture's bytes: strip its metadata, or encode it anew."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from contracts import decode
from contracts._containers import (
    _MARKER,
    Limits,
    Undecodable,
    _after_blocks,
    _cut,
    _palette_bytes,
    walk,
)

# libjpeg writes no longer side, though a PNG within the decoder's limits may have one.
_LONGEST_JPEG_SIDE_PX = 65_500

_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
}


def suffix(data: bytes) -> str:
    """Return jpg, png, webp, gif or bmp: what a shard calls the picture, by its first bytes.

    Raises:
        Undecodable: it begins like none of them.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    raise Undecodable("NOT_AN_IMAGE", f"begins with {data[:8].hex(' ')}")


def stripped(data: bytes) -> bytes:
    """Return the picture without its metadata and with exactly the same pixels in every frame.

    The container is copied part by part, never decoded, and only parts that a renderer needs are
    copied: coded pixels, tables, transparency, animation and the description of colour (an ICC
    profile as it is, of JFIF's and Adobe's headers the fixed fields). So EXIF, XMP, IPTC,
    comments, texts, times, thumbnails, the further pictures of an MPO, parts that we do not know
    and bytes after the end all go. An EXIF orientation other than 1 stays, alone in a TIFF
    directory of 26 bytes: without it the picture would lie on its side. A BMP has no metadata
    and comes back as it is.

    Cost: two passes over the bytes.
    Raises:
        Undecodable: the container does not parse; ingest has excluded that.
    """
    frame = walk(data, Limits())
    return _COPIES[frame.format](data, _exif(frame.orientation))


def jpeg(data: bytes, *, max_side_px: int | None = None, quality: int = 95) -> bytes:
    """Return `decode.image` as a baseline JPEG that holds no metadata.

    Its longer side is at most `max_side_px` (and 65,500, the most that can be written), averaged
    over pixel areas; nothing is ever enlarged. Equal input gives equal bytes.

    Cost: a decode, a resize and an encode.
    Raises:
        Undecodable: as `decode.image`.
    """
    most = min(max_side_px or _LONGEST_JPEG_SIDE_PX, _LONGEST_JPEG_SIDE_PX)
    out = io.BytesIO()
    Image.fromarray(_within(decode.image(data), most)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def png8(data: bytes, *, max_side_px: int | None = None) -> bytes:
    """Return a picture of 16 bits a channel, or one that is too large, as PNG of 8 bits.

    Its pixels are those of `decode.image`, grey where they are grey, averaged over pixel areas
    where its longer side is above `max_side_px`. Any other picture comes back as it is. Equal
    input gives equal bytes.

    Cost: of those two a decode, a resize and an encode; of others a walk over the bytes.
    Raises:
        Undecodable: as `decode.image`.
    """
    frame = walk(data, Limits())
    if frame.depth <= 8 and max(frame.width, frame.height) <= (max_side_px or math.inf):
        return data
    pixels = decode.image(data)
    pixels = _within(pixels, max_side_px or max(pixels.shape))
    if (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def labels(data: bytes, *, max_side_px: int) -> bytes:
    """Return the label image of a picture that `jpeg` or `png8` makes smaller: in grey, as PNG.

    No class is interpolated. One that is small enough comes back as it is.

    Raises:
        Undecodable: as `decode.labels`.
    """
    stored = decode.labels(data)
    height, width = stored.shape
    size = _size_within(height, width, max_side_px)
    if size == stored.shape:
        return data
    out = io.BytesIO()
    Image.fromarray(decode.scaled_labels(stored, size)).save(out, "PNG")
    return out.getvalue()


def _within(pixels: decode.Pixels, most: int) -> decode.Pixels:
    """Return pixels whose longer side is `most` or less, averaged over pixel areas."""
    height, width, _ = pixels.shape
    size = _size_within(height, width, most)
    if size == (height, width):
        return pixels
    import cv2

    shrunk = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def _size_within(height: int, width: int, most: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer <= most:
        return height, width
    return max(1, round(height * most / longer)), max(1, round(width * most / longer))


def _exif(orientation: int) -> bytes:
    """Return a TIFF directory of this one entry, nothing where it says nothing."""
    if orientation <= 1:
        return b""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# ------------------------------------------------------------------ copies of walked containers


def _jpeg(data: bytes, exif: bytes) -> bytes:
    kept, at, in_scans = [b"\xff\xd8"], 2, False
    while True:
        found = _MARKER.search(data, at)
        assert found is not None, "a JPEG without an end passed the walk"
        if in_scans:
            kept.append(data[at : found.start()])
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        at += length
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            body = body[:12] + b"\0\0"  # without its thumbnail
        elif marker == 0xEE and body.startswith(b"Adobe"):
            body = body[:12]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and not in_scans:
            pass
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            continue
        kept.append(_segment(marker, body))
        in_scans |= marker == 0xDA
    if exif:
        jfif_first = kept[1].startswith(b"\xff\xe0")
        kept.insert(1 + jfif_first, _segment(0xE1, b"Exif\0\0" + exif))
    return b"".join(kept) + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


_PNG_RENDERING = frozenset(
    b"IHDR PLTE IDAT tRNS gAMA cHRM sRGB iCCP sBIT cICP acTL fcTL fdAT".split()
)


def _png(data: bytes, exif: bytes) -> bytes:
    kept, at, kind = [data[:8]], 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_RENDERING:
            kept.append(data[at : at + length + 12])
        at += length + 12
    if exif:
        kept.insert(2, _png_chunk(b"eXIf", exif))
    return b"".join(kept) + _png_chunk(b"IEND", b"")


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_WEBP_FRAME = frozenset((b"VP8 ", b"VP8L", b"ALPH"))
_WEBP_RENDERING = _WEBP_FRAME | {b"VP8X", b"ICCP", b"ANIM", b"ANMF"}
_WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x08, 0x04


def _webp(data: bytes, exif: bytes) -> bytes:
    kept = [b"WEBP"]
    for kind, body in _riff_chunks(data[12 : 8 + int.from_bytes(data[4:8], "little")]):
        if kind == b"VP8X":
            flags = body[0] & ~(_WEBP_HAS_EXIF | _WEBP_HAS_XMP) | _WEBP_HAS_EXIF * bool(exif)
            body = bytes((flags,)) + body[1:10]
        elif kind == b"ANMF":
            parts = [(k, b) for k, b in _riff_chunks(body[16:]) if k in _WEBP_FRAME]
            if not parts:
                continue  # a decoder passes over an unknown frame, but refuses an empty one
            body = body[:16] + b"".join(_riff_chunk(*part) for part in parts)
        if kind in _WEBP_RENDERING:
            kept.append(_riff_chunk(kind, body))
    if exif:
        kept.append(_riff_chunk(b"EXIF", exif))
    return _riff_chunk(b"RIFF", b"".join(kept))


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack("<4sI", _cut(data, at, 8, "a chunk"))
        yield kind, _cut(data, at + 8, length, f"chunk {kind.decode('latin-1')}")
        at += 8 + length + length % 2


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


# Applications that speak of rendering: repetitions of an animation, a colour profile.
_GIF_APPLICATIONS = (b"\xff\x0bNETSCAPE2.0", b"\xff\x0bANIMEXTS1.0", b"\xff\x0bICCRGBG1012")


def _gif(data: bytes, _: bytes) -> bytes:
    at = 13 + _palette_bytes(data[10])
    kept = [data[:at]]
    while (kind := data[at]) != 0x3B:
        start = at
        if kind == 0x2C:
            at = _after_blocks(data, at + 11 + _palette_bytes(data[at + 9]))
            renders = True
        else:
            at = _after_blocks(data, at + 2)
            control = data[start + 1] == 0xF9
            renders = control or data[start + 1 : start + 14] in _GIF_APPLICATIONS
        if renders:
            kept.append(data[start:at])
    return b"".join(kept) + b";"


def _bmp(data: bytes, _: bytes) -> bytes:
    return data


_COPIES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
}
