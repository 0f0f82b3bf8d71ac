"""The values of a JSON file as pieces of its text, one at a time, however they are laid out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from storage.source import Refused
from storage.sources._json import parse_object
from storage.sources._stream import CHUNK_BYTES, LINE_BYTES, Stream, line_blocks, utf8

LINES, CR_LINES = "lines", "lines that end with a lone carriage return"
MEMBERS, OBJECTS = "members of an array", "objects over several lines"
_BRACKETS, _BRACKETS_AND_COMMAS = re.compile(rb'["\[\]{}]'), re.compile(rb'["\[\]{},]')

# The first line, its end, and the first character of the next line that is not blank.
_START = re.compile(rb"\s*([^\r\n]+)(\r\n?|\n)?\s*(.?)", re.DOTALL)
_HEAD_BYTES = 1 << 20


class Piece(NamedTuple):
    """One value of a file, unparsed.

    Attributes:
        data: its text in UTF-8; None where it is longer than LINE_BYTES.
        whole: False where the file may have been cut in it.
    """

    data: bytes | None
    whole: bool


class Pieces(NamedTuple):
    """Values of a file that follow each other, unparsed.

    Attributes:
        data: the text of each in UTF-8; None where it is longer than LINE_BYTES.
        whole: False where the file may have been cut in the last of them.
    """

    data: list[bytes | None]
    whole: bool


def layout_of(stream: Stream) -> str:
    """Return how a file is laid out: MEMBERS, OBJECTS, LINES or CR_LINES.

    What begins with a bracket is an array, unless its first line is a value and another line
    follows, as in JSON lines. Objects stand over several lines where the first line is an
    object's beginning, and the second is none or the object is sound. All else are lines.
    """
    head = _START.match(_head(stream))
    if head is None:
        return LINES
    first, line_end, second = head.groups()
    if first.startswith(b"["):
        return LINES if second and _is_whole(first) else MEMBERS
    if first.startswith(b"{") and line_end and not _is_whole(first):
        stream.rewind()
        if second != b"{" or _is_sound(_first(utf8(stream))):
            return OBJECTS
    return CR_LINES if line_end == b"\r" else LINES


def pieces(stream: Stream, layout: str) -> Iterator[Pieces]:
    """Yield the values of a file, blank lines too, from the stream's start on.

    What is wrong with an array's end becomes the stream's fault: JSON_TRUNCATED where there is
    none, JSON_INVALID where other bytes follow.

    Cost: memory for CHUNK_BYTES of values and for the longest, at most LINE_BYTES.
    """
    stream.rewind()
    if layout in (LINES, CR_LINES):
        for block in line_blocks(stream, cr=layout == CR_LINES):
            yield Pieces(block, block[-1] is None or block[-1].endswith((b"\n", b"\r")))
        return
    waiting: list[bytes | None] = []
    size = 0
    try:
        for piece in _split(utf8(stream), array=layout == MEMBERS):
            if not piece.whole and stream.fault is not None:
                break
            waiting.append(piece.data)
            size += len(piece.data or b"")
            if size >= CHUNK_BYTES or not piece.whole:
                yield Pieces(waiting, piece.whole)
                waiting, size = [], 0
    except Refused as fault:
        stream.fault = stream.fault or fault
    if waiting:
        yield Pieces(waiting, True)


def _head(stream: Stream) -> bytes:
    stream.rewind()
    head = b""
    for chunk in utf8(stream):
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    return head


def _first(chunks: Iterator[bytes]) -> Piece:
    return next(_split(chunks, array=False), Piece(b"", whole=False))


def _is_whole(line: bytes) -> bool:
    return _first(iter((line,))).whole


def _is_sound(piece: Piece) -> bool:
    if piece.data is None or not piece.whole:
        return False
    try:
        parse_object(piece.data)
    except Refused as fault:
        return fault.code not in ("JSON_INVALID", "JSON_TRUNCATED")
    return True


def _split(chunks: Iterator[bytes], *, array: bool) -> Iterator[Piece]:
    """Yield each member of an array, or each of the values that stand one after another.

    Only brackets, quotes and the commas between members are looked at: whether a piece is JSON
    its parser says.

    Raises:
        Refused: JSON_TRUNCATED or JSON_INVALID, as `pieces` says.
    """
    buffer = bytearray()
    at, depth = 0, 0
    quoted = long = several = False
    for chunk in chunks:
        buffer += chunk
        while True:
            if quoted:
                at = buffer.find(b'"', at) + 1
                if not at:
                    break
                quoted = _is_escaped(buffer, at - 1)
                continue
            match = (_BRACKETS_AND_COMMAS if array and depth == 1 else _BRACKETS).search(buffer, at)
            if match is None:
                break
            mark, at = match[0], match.end()
            del match  # as long as it lives, the buffer cannot shrink
            if mark == b'"':
                quoted = True
            elif mark in b"[{":
                depth += 1
                if array and depth == 1:
                    del buffer[:at]
                    at = 0
            else:
                several = several or mark == b","
                depth -= mark != b","
                if depth > 0 and mark != b",":
                    continue
                piece = bytes(buffer[: at - array]).strip()
                if piece or several or long or not array:
                    yield Piece(None if long or len(piece) > LINE_BYTES else piece, whole=True)
                del buffer[:at]
                at, long, depth = 0, False, max(depth, 0)
                if array and depth == 0:
                    if buffer.strip() or any(chunk.strip() for chunk in chunks):
                        raise Refused("JSON_INVALID", "other bytes after the end of the array")
                    return
        at = len(buffer)
        if at > LINE_BYTES:
            long = True
            # An escape may reach into what follows.
            buffer[:] = b"\\" * (quoted and _is_escaped(buffer, at))
            at = len(buffer)
    # Of an array that does not end the last member is given where it does.
    if (long or buffer.strip()) and (not array or (depth == 1 and not quoted)):
        yield Piece(None if long else bytes(buffer).strip(), whole=False)
    if array:
        raise Refused("JSON_TRUNCATED", "the array does not end")


def _is_escaped(text: bytearray, at: int) -> bool:
    """Whether an odd number of backslashes stands before a place in a text."""
    run = 0
    while True:
        before = text[max(0, at - run - 256) : at - run]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        run += backslashes
        if backslashes < 256:
            return run % 2 == 1
