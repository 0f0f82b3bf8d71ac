"""Walks of image containers to their end: size, frames, metadata, and the pixels of frame 0.

Nothing is decoded here but the metadata's deflate streams, and those under a limit. A walk ends
in a `Frame` or in `Undecodable` with a reason code; what it does not know it refuses.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass


class Undecodable(Exception):
    """The bytes are no payload that we take.

    Attributes:
        code: a reason code of docs/reasons.md, such as TRUNCATED.
        detail: what was found, at most 500 characters, control characters escaped.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in detail
        )[:500]
        super().__init__(code, self.detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


@dataclass(frozen=True)
class Limits:
    """What a picture may cost; beyond it is refused before a pixel is decoded.

    Attributes:
        bytes: of the file.
        pixels: width times height.
        compression: bytes of the raw frame for each byte of the file, asked of pictures above
            one megapixel; deflate cannot pass 1032.
        frames: of an animation; only the first is ever decoded.
        aspect: the longer side over the shorter.
        metadata_bytes: of all metadata together, inflated.
    """

    bytes: int = 64 << 20
    pixels: int = 40_000_000
    compression: int = 1000
    frames: int = 200
    aspect: int = 200
    metadata_bytes: int = 16 << 20


@dataclass(frozen=True)
class Frame:
    """What the walk of a container found, before anything is decoded.

    Attributes:
        stream: the container cut down to the pixels of frame 0.
        trailing: the file goes on after its end.
        components: channels of a pixel as stored.
        depth: bits of a channel.
        orientation: 1 to 8; 0 where there is EXIF that cannot be read.
        inverted: the CMYK samples are stored inverted.
    """

    format: str
    width: int
    height: int
    stream: bytes
    trailing: bool
    components: int = 3
    depth: int = 8
    frames: int = 1
    orientation: int = 1
    inverted: bool = False


# Segments, chunks or blocks of one file: the cap bounds the walk's own time, at about a second.
_MOST_PARTS = 1_000_000
# A scan of a progressive JPEG costs a pass over all coefficients; encoders write about ten.
_MOST_SCANS = 100

_FOREIGN = (
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "PSD"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
)
_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
}


def walk(data: bytes, limits: Limits) -> Frame:
    """Recognise the format by its first bytes, walk to its end, and judge size and compression."""
    if not data:
        raise Undecodable("EMPTY_FILE")
    if len(data) > limits.bytes:
        raise Undecodable("TOO_LARGE", f"{len(data)} bytes, the limit is {limits.bytes}")
    if data.startswith(b"\xff\xd8\xff"):
        frame = _jpeg(data, limits)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        frame = _png(data, limits)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        frame = _webp(data, limits)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        frame = _gif(data, limits)
    elif data.startswith(b"BM"):
        frame = _bmp(data, limits)
    else:
        raise _foreign(data, limits)
    _check_size(frame.width, frame.height, limits)
    raw_bytes = frame.width * frame.height * frame.components * frame.depth // 8
    if frame.width * frame.height > 1_000_000 and raw_bytes > limits.compression * len(data):
        raise Undecodable("BOMB_PIXELS", f"{len(data)} bytes inflate to {raw_bytes}")
    return frame


def _check_size(width: int, height: int, limits: Limits) -> None:
    found = f"{width}x{height}"
    if width < 1 or height < 1:
        raise Undecodable("BAD_DIMENSIONS", found)
    if width * height > limits.pixels:
        raise Undecodable("BOMB_PIXELS", f"{found}, the limit is {limits.pixels} pixels")
    if max(width, height) > limits.aspect * min(width, height):
        raise Undecodable("ASPECT_RATIO", f"{found}, the limit is {limits.aspect} to 1")


def _check_counts(frames: int, metadata_bytes: int, limits: Limits) -> None:
    if frames > limits.frames:
        raise Undecodable("TOO_MANY_FRAMES", f"{frames} or more, the limit is {limits.frames}")
    if metadata_bytes > limits.metadata_bytes:
        raise Undecodable("BOMB_METADATA", f"more than {limits.metadata_bytes} bytes of metadata")


def _too_many_parts() -> Undecodable:
    return Undecodable("BOMB_METADATA", f"more than {_MOST_PARTS} parts")


def _cut(data: bytes, start: int, length: int, what: str) -> bytes:
    piece = data[start : start + length]
    if len(piece) < length:
        raise Undecodable("TRUNCATED", f"{what} at {start} goes beyond the end at {len(data)}")
    return piece


# A marker is an FF byte and a code; FF 00 is a data byte, FF D0 to D7 a restart, FF FF filling.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg(data: bytes, limits: Limits) -> Frame:
    """Walk markers to the end of the image; keep tables, frame, scans, JFIF and Adobe headers."""
    kept, at, scans, metadata = [b"\xff\xd8"], 2, 0, 0
    size, components, orientation, adobe = (0, 0), 0, 1, False
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise Undecodable("TRUNCATED", "no end of image")
        if scans:
            kept.append(data[at : found.start()])
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            kept.append(b"\xff\xd9")
            break
        if marker == 0x01:
            continue
        length = int.from_bytes(_cut(data, at, 2, "a segment's length"), "big")
        if length < 2:
            raise Undecodable("CORRUPT_DATA", f"a segment of {length} bytes at {at}")
        body = _cut(data, at, length, f"segment {marker:02X}")[2:]
        at += length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if components:
                raise Undecodable("CORRUPT_DATA", "a second frame header")
            depth, height, width, components = struct.unpack(">BHHB", _cut(body, 0, 6, "SOF"))
            size = (width, height)
            if marker > 0xC2 or depth != 8 or components not in (1, 3, 4):
                raise Undecodable(
                    "UNSUPPORTED_CODING",
                    f"JPEG process SOF{marker - 0xC0}, {depth} bits, {components} components",
                )
        elif marker == 0xDA:
            scans += 1
        elif marker == 0xEE and body.startswith(b"Adobe"):
            adobe = True
        elif marker == 0xE0 and body.startswith(b"JFIF\0"):
            body = body[:12] + b"\0\0"  # without its thumbnail
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            metadata += length
            if marker == 0xE1 and body.startswith(b"Exif\0\0"):
                orientation = _orientation(body)
            continue
        kept.append(bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body)
        _check_counts(1, metadata, limits)
        if scans > _MOST_SCANS:
            raise Undecodable("BOMB_SCANS", f"more than {_MOST_SCANS} scans")
    else:
        raise _too_many_parts()
    if not scans or not components:
        raise Undecodable("CORRUPT_DATA", "the image ends before it begins")
    return Frame(
        "JPEG",
        *size,
        stream=b"".join(kept),
        trailing=at < len(data),
        components=components,
        orientation=orientation,
        inverted=adobe,
    )


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _png(data: bytes, limits: Limits) -> Frame:
    """Walk chunks to IEND, each with its checksum; keep header, palette, transparency, pixels."""
    kept, at, metadata, frames, orientation = [data[:8]], 8, 0, 0, 1
    width = height = depth = colour = 0
    for part in range(_MOST_PARTS):
        length, kind = struct.unpack(">I4s", _cut(data, at, 8, "a chunk"))
        name = kind.decode("latin-1")
        if not kind.isalpha():
            raise Undecodable("CORRUPT_DATA", f"a chunk called {name} at {at}")
        chunk = _cut(data, at, length + 12, f"chunk {name}")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise Undecodable("CORRUPT_DATA", f"checksum of chunk {name} at {at}")
        at += length + 12
        body = chunk[8:-4]
        if (part == 0) != (kind == b"IHDR"):
            if kind == b"CgBI":
                raise Undecodable("UNSUPPORTED_CODING", "Apple's CgBI variant of PNG")
            raise Undecodable("CORRUPT_DATA", f"chunk {name} in the place of IHDR, or IHDR twice")
        if kind == b"IHDR":
            width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", _cut(body, 0, 13, name))
            if depth not in _PNG_DEPTHS.get(colour, ()):
                raise Undecodable("CORRUPT_DATA", f"colour type {colour} with {depth} bits")
        elif kind in (b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tEXt"):
            metadata += length + _inflated(kind, body, limits.metadata_bytes)
            if kind == b"eXIf":
                orientation = _orientation(body)
        elif kind == b"fcTL":
            frames += 1
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(chunk)
        elif kind[:1].isupper():
            raise Undecodable("UNSUPPORTED_CODING", f"the critical chunk {name}")
        _check_counts(frames, metadata, limits)
        if kind == b"IEND":
            break
    else:
        raise _too_many_parts()
    return Frame(
        "PNG",
        width,
        height,
        stream=b"".join(kept),
        trailing=at < len(data),
        components=_PNG_CHANNELS[colour],
        depth=depth,
        frames=max(frames, 1),
        orientation=orientation,
    )


def _inflated(kind: bytes, body: bytes, most: int) -> int:
    """Return the size of a chunk's compressed part, counting no further than past `most`."""
    _, _, rest = body.partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":
        rest = rest[1:].split(b"\0", 2)[-1]
    elif kind not in (b"zTXt", b"iCCP"):
        return 0
    try:
        return len(zlib.decompressobj().decompress(rest[1:], most + 1))
    except zlib.error:
        return 0  # unreadable metadata is dropped like all of it


def _webp(data: bytes, limits: Limits) -> Frame:
    """Walk the chunks of the RIFF container; its length is in its header."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise Undecodable("TRUNCATED", f"{len(data)} bytes of {end}")
    at, size, frames, metadata, orientation = 12, (0, 0), 0, 0, 1
    stream = data[:end]
    for _ in range(_MOST_PARTS):
        if at >= end:
            break
        kind, length = struct.unpack("<4sI", _cut(stream, at, 8, "a chunk"))
        body = _cut(stream, at + 8, length, f"chunk {kind.decode('latin-1')}")
        at += 8 + length + length % 2
        if kind == b"VP8X":
            canvas = _cut(body, 0, 10, "VP8X")
            size = (
                1 + int.from_bytes(canvas[4:7], "little"),
                1 + int.from_bytes(canvas[7:], "little"),
            )
        elif kind == b"VP8 ":
            frames += 1
            wide, high = struct.unpack("<HH", _cut(body, 6, 4, "VP8"))
            size = size if any(size) else (wide & 0x3FFF, high & 0x3FFF)
        elif kind == b"VP8L":
            frames += 1
            packed = int.from_bytes(_cut(body, 1, 4, "VP8L"), "little")
            size = size if any(size) else (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        elif kind == b"ANMF":
            frames += 1
        elif kind in (b"EXIF", b"XMP ", b"ICCP"):
            metadata += length
            if kind == b"EXIF":
                orientation = _orientation(body)
        _check_counts(frames, metadata, limits)
    else:
        raise _too_many_parts()
    if not frames:
        raise Undecodable("CORRUPT_DATA", "no picture in the container")
    return Frame(
        "WEBP",
        *size,
        stream=stream,
        trailing=end < len(data),
        frames=frames,
        orientation=orientation,
    )


def _gif(data: bytes, limits: Limits) -> Frame:
    """Walk blocks to the trailer, counting frames; keep what precedes the second."""
    width, height, flags = struct.unpack("<HHB", _cut(data, 6, 7, "the header")[:5])
    at, frames, metadata, first_end = 13 + _palette_bytes(flags), 0, 0, 0
    for _ in range(_MOST_PARTS):
        kind = _cut(data, at, 1, "a block")[0]
        if kind == 0x3B:
            break
        if kind == 0x21:
            start, at = at, _after_blocks(data, at + 2)
            metadata += at - start
        elif kind == 0x2C:
            left, top, wide, high, flags = struct.unpack("<4HB", _cut(data, at + 1, 9, "a frame"))
            at = _after_blocks(data, at + 11 + _palette_bytes(flags))
            frames += 1
            if frames == 1:
                width, height, first_end = max(width, left + wide), max(height, top + high), at
        else:
            raise Undecodable("CORRUPT_DATA", f"an unknown block {kind:02X} at {at}")
        _check_counts(frames, metadata, limits)
    else:
        raise _too_many_parts()
    if not frames:
        raise Undecodable("CORRUPT_DATA", "no frame")
    return Frame(
        "GIF",
        width,
        height,
        stream=data[:first_end] + b";",
        trailing=at + 1 < len(data),
        components=1,
        frames=frames,
    )


def _palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Return the position after a chain of sub-blocks, each of at most 255 bytes."""
    for _ in range(_MOST_PARTS):
        length = _cut(data, at, 1, "a sub-block")[0]
        at += 1 + length
        if not length:
            return at
    raise _too_many_parts()


def _bmp(data: bytes, limits: Limits) -> Frame:
    """Read the header and check that the rows which it promises are there."""
    offset, header_bytes = struct.unpack("<II", _cut(data, 10, 8, "the header"))
    if header_bytes == 12:
        width, height, _, bits = struct.unpack("<4H", _cut(data, 18, 8, "the header"))
        compression = 0
    elif header_bytes in (40, 52, 56, 64, 108, 124):
        header = _cut(data, 18, 16, "the header")
        width, height, _, bits, compression = struct.unpack("<iiHHI", header)
        height = abs(height)  # negative: rows from the top
    else:
        raise Undecodable("CORRUPT_DATA", f"a header of {header_bytes} bytes")
    _check_size(width, height, limits)
    if compression not in (0, 1, 2, 3):
        raise Undecodable("UNSUPPORTED_CODING", f"BMP compression {compression}")
    end = len(data)
    if compression in (0, 3):
        end = offset + (width * bits + 31) // 32 * 4 * height
        _cut(data, end - 1, 1, "the last row")
    components, depth = {16: (3, 5), 24: (3, 8), 32: (4, 8)}.get(bits, (1, bits))
    return Frame(
        "BMP",
        width,
        height,
        stream=data,
        trailing=end < len(data),
        components=components,
        depth=depth,
    )


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF states, 1 where it states none, 0 where it is unreadable."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 0
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and value in range(1, 9) else 0
    except struct.error:
        return 0
    return 1


def _foreign(data: bytes, limits: Limits) -> Undecodable:
    """Name what the bytes are instead of a picture that we take."""
    kind = next((kind for magic, kind in _FOREIGN if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        kind = _BRANDS.get(data[8:12])
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if kind is None and text.startswith((b"<!doctype html", b"<html")):
        return Undecodable("NOT_AN_IMAGE", "looks like HTML")
    if kind is None and text.startswith(b"<") and b"<svg" in text:
        kind = "SVG"
    if kind is None:
        return Undecodable("NOT_AN_IMAGE", f"begins with {data[:8].hex(' ')}")
    if kind == "TIFF" and not _tiff_ends(data):
        return Undecodable("CORRUPT_DATA", "a chain of TIFF directories without an end")
    if kind == "ICO":
        offset = int.from_bytes(data[18:22], "little")
        width, height = (int.from_bytes(data[offset + i : offset + i + 4], "big") for i in (16, 20))
        if data[offset : offset + 4] == b"\x89PNG" and width * height > limits.pixels:
            return Undecodable("BOMB_PIXELS", f"an icon of {width}x{height}")
    return Undecodable("UNSUPPORTED_FORMAT", kind)


def _tiff_ends(data: bytes) -> bool:
    """Whether a classic TIFF's chain of directories reaches its end, without a loop."""
    order = "<" if data.startswith(b"II") else ">"
    if data[2:4].strip(b"\0") != b"*":
        return True  # BigTIFF
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        while at:
            if at in seen:
                return False
            seen.add(at)
            (entries,) = struct.unpack_from(order + "H", data, at)
            (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)
    except struct.error:
        return False
    return True
