"""Files read once from start to end, plain, gzip or zstd, under limits; and their lines."""

from __future__ import annotations

import codecs
import os
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from storage.source import Refused, Stretch

CHUNK_BYTES = 2 << 20
LINE_BYTES = 64 << 20
# What a compressed file may unfold to. A gzip bomb has 1028 to 1, a zstd bomb 32,000 to 1;
# repetitive real text seldom passes 50 to 1.
FREE_BYTES = 64 << 20
RATIO = 200
# The largest window that the zstd command itself takes without --long or --memory.
WINDOW_BYTES = 128 << 20
# Four bytes of zstd can unfold to 128 KiB: so small a slice cannot fill the memory.
_SLICE_BYTES = 512

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# The frames of zstd that a decoder passes over: pzstd writes one before each of its own.
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")


class Stream:
    """The bytes of an open file, decompressed by what its first bytes say.

    Args:
        file: open for reading.
        name: where it ends in `.gz` or `.zst`, the first bytes must say the same.
        stretch: what is given of a plain file; None is all.

    Attributes:
        begins: whether it is given from its first byte on.
        position: bytes given so far.
        compressed: whether a position says nothing about a place in the file.
        fault: why the bytes end before their time; None otherwise. What was sound before the
            fault has been given.

    Raises:
        Refused: SOURCE_UNREADABLE, by the name.
    """

    def __init__(self, file: BinaryIO, name: str = "", stretch: Stretch | None = None) -> None:
        self._file, self._stretch = file, stretch
        self.begins = stretch is None or stretch.start == 0
        now = os.fstat(file.fileno())
        self._before = stretch.state if stretch is not None else (now.st_size, now.st_mtime_ns)
        self.rewind()
        suffix = name.lower().rpartition(".")[2]
        if suffix in ("gz", "zst") and suffix != self._packing:
            detail = f"its first bytes {self._magic!r} are not those of .{suffix}; rename it"
            raise Refused("SOURCE_UNREADABLE", detail)

    def rewind(self) -> None:
        """Begin again at the start."""
        self._file.seek(0)
        self._magic = self._file.read(4)
        self._file.seek(self._stretch.start if self._stretch is not None else 0)
        self.position = 0
        self.fault: Refused | None = None
        self._pieces: Iterator[bytes] | None = None
        self._piece, self._at = b"", 0
        self._packing = ""
        if self._magic.startswith(_GZIP):
            self._packing, self._pieces = "gz", self._gunzip()
        elif self._magic == _ZSTD or _SKIPPABLE.match(self._magic):
            self._packing, self._pieces = "zst", self._unzstd()
        self.compressed = self._pieces is not None

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        packed = self._pieces is not None
        data = b"".join(self._taken(size)) if packed else self._plain(size)
        self.position += len(data)
        if len(data) < size:
            self._check_unchanged()
        return data

    def skip(self, size: int) -> int:
        """Pass over `size` bytes and return how many there were."""
        if self._pieces is None:
            skipped = max(0, min(size, self._before[0] - self.position))
            self._file.seek(skipped, os.SEEK_CUR)
        else:
            skipped = sum(map(len, self._taken(size)))
        self.position += skipped
        return skipped

    def _plain(self, size: int) -> bytes:
        if self._stretch is not None:
            size = min(size, self._stretch.end - self._stretch.start - self.position)
        try:
            return self._raw(size)
        except Refused as fault:
            self.fault = fault
            return b""

    def _taken(self, size: int) -> Iterator[bytes]:
        assert self._pieces is not None
        while size:
            part = self._piece[self._at : self._at + size]
            if part:
                self._at += len(part)
                size -= len(part)
                yield part
                continue
            self._at = 0
            try:
                self._piece = next(self._pieces, b"")
            except Refused as fault:
                self.fault = fault
                self._piece = b""
            if not self._piece:
                return

    def _check_unchanged(self) -> None:
        now = os.fstat(self._file.fileno())
        size, _ = before = self._before
        if (now.st_size, now.st_mtime_ns) != before:
            detail = f"{size:,} bytes at first, {now.st_size:,} at the end"
            self.fault = self.fault or Refused("CHANGED_WHILE_READING", detail)

    # -------------------------------------------------------------- decompression

    def _raw(self, size: int = CHUNK_BYTES) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise Refused("UNREADABLE", error.strerror or "") from None

    def _gunzip(self) -> Iterator[bytes]:
        """Yield the pieces of every gzip member; zero bytes after the last are padding."""
        data, given = self._raw(), 0
        while data:
            inflater = zlib.decompressobj(wbits=31)
            while not inflater.eof:
                data = data or self._raw()
                if not data:
                    raise Refused("SOURCE_TRUNCATED", "ends inside a gzip stream")
                try:
                    piece = inflater.decompress(data, CHUNK_BYTES)
                except zlib.error as error:
                    raise Refused("SOURCE_TRUNCATED", f"damaged gzip stream: {error}") from None
                data = inflater.unconsumed_tail
                given += len(piece)
                self._check_ratio(given)
                if piece:
                    yield piece
            data = inflater.unused_data or self._raw()
            if not data.startswith(_GZIP[: len(data)]):
                if not data.strip(b"\0") and not self._rest_holds_bytes():
                    return
                raise Refused("SOURCE_TRUNCATED", "other bytes after the end of a gzip stream")

    def _rest_holds_bytes(self) -> bool:
        return any(part.strip(b"\0") for part in iter(self._raw, b""))

    def _unzstd(self) -> Iterator[bytes]:
        """Yield the pieces of every zstd frame."""
        data, given = b"", 0
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        while True:
            # The longest frame header is 18 bytes.
            data += self._raw(18 - len(data)) if len(data) < 18 else b""
            if not data:
                return
            if _SKIPPABLE.match(data) and len(data) >= 8:
                data = self._after(8 + int.from_bytes(data[4:8], "little"), data)
                continue
            try:
                window = zstandard.get_frame_parameters(data).window_size
            except zstandard.ZstdError as error:
                raise Refused("SOURCE_TRUNCATED", f"no zstd frame follows: {error}") from None
            if window > WINDOW_BYTES:
                detail = f"a zstd window of {window:,} bytes, the limit is {WINDOW_BYTES:,}"
                raise Refused("BOMB_WINDOW", detail)
            frame = decompressor.decompressobj()
            while not frame.eof:
                data = data or self._raw()
                if not data:
                    raise Refused("SOURCE_TRUNCATED", "ends inside a zstd frame")
                head, data = data[:_SLICE_BYTES], data[_SLICE_BYTES:]
                try:
                    piece = frame.decompress(head)
                except zstandard.ZstdError as error:
                    raise Refused("SOURCE_TRUNCATED", f"damaged zstd frame: {error}") from None
                given += len(piece)
                self._check_ratio(given)
                if piece:
                    yield piece
            data = frame.unused_data + data

    def _after(self, size: int, data: bytes) -> bytes:
        """Pass over `size` bytes that begin with `data`; return what of `data` is beyond them."""
        while size > len(data):
            size -= len(data)
            data = self._raw()
            if not data:
                raise Refused("SOURCE_TRUNCATED", "ends inside a skippable frame of zstd")
        return data[size:]

    def _check_ratio(self, given: int) -> None:
        taken = self._file.tell()
        if given > FREE_BYTES and given > RATIO * taken:
            detail = f"{taken:,} bytes unfold to more than {given:,}, the limit is {RATIO} to 1"
            raise Refused("BOMB_RATIO", detail)


# ------------------------------------------------------------------ lines

# UTF-32 stands before UTF-16, whose little-endian mark begins it.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def lines(stream: Stream, *, cr: bool = False) -> Iterator[bytes | None]:
    """Yield each line as `line_blocks` gives them."""
    for block in line_blocks(stream, cr=cr):
        yield from block


def line_blocks(stream: Stream, *, cr: bool = False) -> Iterator[list[bytes | None]]:
    r"""Yield the lines that end in each chunk, in UTF-8, with their ends, which the last may lack.

    A line that is too long is None. A mark at the start says UTF-16 or UTF-32; the mark itself
    goes, and a lone surrogate stays what it is, which is not UTF-8. After a fault of the stream its
    unfinished line is not given.

    Args:
        stream: at its start.
        cr: whether `\r` ends a line too, and `\r\n` one alone, or only `\n`.

    Cost: memory for a chunk and for the longest line, at most LINE_BYTES.
    """
    begun: list[bytes] = []
    size = 0
    for chunk in _unsplit(utf8(stream)) if cr else utf8(stream):
        *found, rest = _split(chunk, cr=cr)
        if found:
            size += len(found[0])
            first = b"".join((*begun, found[0])) if size <= LINE_BYTES else None
            yield [first, *found[1:]]
            begun, size = [], 0
        size += len(rest)
        begun = [*begun, rest] if size <= LINE_BYTES else []
    if size and stream.fault is None:
        yield [b"".join(begun) if size <= LINE_BYTES else None]


def _split(chunk: bytes, *, cr: bool) -> list[bytes]:
    """Return the lines that end in a chunk, and last what follows them."""
    if not cr and b"\r" in chunk:
        *whole, rest = chunk.split(b"\n")
        return [*(line + b"\n" for line in whole), rest]
    found = chunk.splitlines(keepends=True)
    ended = not found or found[-1].endswith((b"\r", b"\n"))
    return [*found, b""] if ended else found


def _unsplit(chunks: Iterator[bytes]) -> Iterator[bytes]:
    r"""Yield chunks of which none ends between `\r` and `\n`."""
    held = b""
    for chunk in chunks:
        whole = held + chunk
        held = whole[-1:] if whole.endswith(b"\r") else b""
        yield whole[: len(whole) - len(held)]
    yield held


def marked(start: bytes) -> tuple[bytes, str]:
    """Return the mark of UTF-16 or UTF-32 that a file begins with, and its codec; "" for none."""
    return next((mark for mark in _MARKS if start.startswith(mark[0])), (b"", ""))


def utf8(stream: Stream) -> Iterator[bytes]:
    """Yield the bytes of a text in UTF-8, whichever encoding a mark at its start says."""
    chunk = stream.read(CHUNK_BYTES)
    mark, encoding = b"", ""
    if stream.begins:
        chunk = chunk.removeprefix(codecs.BOM_UTF8)
        mark, encoding = marked(chunk)
    if not encoding:
        while chunk:
            yield chunk
            chunk = stream.read(CHUNK_BYTES)
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    chunk = chunk[len(mark) :]
    try:
        while chunk:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
            chunk = stream.read(CHUNK_BYTES)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        fault = Refused("SOURCE_TRUNCATED", f"not {encoding} at its end: {error.reason}")
        stream.fault = stream.fault or fault
