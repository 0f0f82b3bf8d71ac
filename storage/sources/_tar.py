"""A strict tar reader in one pass: ustar, GNU and PAX names; it says where and why it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.source import Refused
from storage.sources._stream import Stream

BLOCK = 512
MEMBERS = 800_000
HEADER_BYTES = 1 << 20
_ZEROS = bytes(BLOCK)

_FILES = (b"0", b"\0", b"7")
_DIRECTORY, _SPARSE = b"5", b"S"
# These have no data, whatever their size field says.
_WITHOUT_DATA = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a fifo",
}
_EXTENSIONS = {
    b"L": "GNU long name",
    b"K": "GNU long link",
    b"x": "PAX header",
    b"X": "PAX header",
    b"g": "global PAX header",
}


@dataclass(frozen=True)
class Member:
    """One file of the archive; its data are the stream's next `size` bytes.

    Attributes:
        name: as stored; bytes that are not UTF-8 are surrogate escapes.
        archive: 0, and one more after each tar when others follow it in the file.
        offset: of its first header.
        start: of its data.
        fault: why it is not taken: TAR_MEMBER_TYPE or TAR_HEADER_TOO_LARGE.
    """

    name: str
    archive: int
    offset: int
    start: int
    size: int
    fault: Refused | None = None


@dataclass
class _Extension:
    """What the headers before a member's own say of it."""

    offset: int | None = None
    name: str = ""
    values: dict[str, str] = field(default_factory=dict)
    fault: Refused | None = None


class Tar:
    """A walk over the members of a tar, up to `until` where that is given.

    Attributes:
        ended: two zero blocks came last, as a tar ends.
        trailing: something that is no tar follows them.
        fault: why the walk stopped early: TAR_TRUNCATED, TAR_TOO_MANY or one of the stream's.
        stopped: after a fault, the offset of the first member that is not whole.
        torn: the name of that member, as much of it as is known.
    """

    def __init__(self, stream: Stream, until: int | None = None) -> None:
        self._stream = stream
        self._until = until
        self.ended = self.trailing = False
        self.fault: Refused | None = None
        self.stopped = 0
        self.torn = ""

    def members(self) -> Iterator[Member]:
        """Yield each member; the caller may read its data before it asks for the next.

        A member is known to be whole when the walk goes on, or ends with another one torn.

        Raises:
            Refused: SOURCE_UNREADABLE: this is no tar.
        """
        stream = self._stream
        archive = zeros = count = 0
        shared: dict[str, str] = {}
        ahead = _Extension()
        while self._until is None or stream.position < self._until:
            at = stream.position
            offset = at if ahead.offset is None else ahead.offset
            block = stream.read(BLOCK)
            if block == _ZEROS and ahead.offset is None:
                zeros += 1
                continue
            header = _Header.parse(block)
            if header is None:
                self._end(block, offset, zeros, ahead)
                return
            if zeros:
                archive, zeros, shared = archive + 1, 0, {}
            if header.kind in _EXTENSIONS:
                try:
                    self._extend(header, offset, ahead, shared)
                except ValueError:
                    self._stop(offset, ahead.name, f"a damaged {_EXTENSIONS[header.kind]}")
                    return
                continue
            values = shared | ahead.values
            name = values.get("path") or ahead.name or header.name
            size = int(values.get("size", header.size))
            if header.kind in _WITHOUT_DATA:
                size = 0
            count += 1
            if count > MEMBERS:
                self.fault = Refused("TAR_TOO_MANY", f"more than {MEMBERS:,} members")
                self.stopped, self.torn = offset, name
                return
            while header.more_sparse:
                block = stream.read(BLOCK)
                header.more_sparse = block[504:505] > b"\0"
            start = stream.position
            fault = ahead.fault or _type_fault(header.kind, values)
            if header.kind != _DIRECTORY and not (header.kind == b"\0" and name.endswith("/")):
                yield Member(name, archive, offset, start, size, fault)
            # The last member may lack its padding and yet be whole.
            stream.skip(start + size + -size % BLOCK - stream.position)
            if stream.position < start + size:
                self._stop(offset, name, f"{name} has {size:,} bytes")
                return
            ahead = _Extension()

    def _extend(
        self, header: _Header, offset: int, ahead: _Extension, shared: dict[str, str]
    ) -> None:
        """Read an extension header's data into what it speaks of; ValueError where it cannot."""
        stream, what = self._stream, _EXTENSIONS[header.kind]
        end = stream.position + header.size + -header.size % BLOCK
        if header.kind != b"g":
            ahead.offset = offset
        if header.size > HEADER_BYTES:
            detail = f"a {what} of {header.size:,} bytes, the limit is {HEADER_BYTES:,}"
            ahead.offset, ahead.fault = offset, Refused("TAR_HEADER_TOO_LARGE", detail)
        else:
            data = stream.read(header.size)
            if len(data) < header.size:
                raise ValueError
            if header.kind == b"L":
                ahead.name = _text(data)
            elif header.kind == b"g":
                shared.update(_pax(data))
            elif header.kind != b"K":
                ahead.values.update(_pax(data))
        stream.skip(end - stream.position)

    def _end(self, block: bytes, offset: int, zeros: int, ahead: _Extension) -> None:
        """Judge what is found where a header should be."""
        rest_is_zero = not block.strip(b"\0")
        if offset == 0 and block[257:262] != b"ustar" and self._stream.fault is None:
            found = "is empty" if not block else "does not begin with a tar header"
            raise Refused("SOURCE_UNREADABLE", found)
        if len(block) < BLOCK and rest_is_zero and ahead.offset is None:
            self.ended = zeros > 1
            if self._stream.fault is not None:
                self._stop(offset, "", "")
        elif len(block) == BLOCK and zeros > 1:
            self.ended = self.trailing = True
        else:
            name = ahead.values.get("path") or ahead.name
            if not name and ahead.offset is None:
                name = _text(block[:100])
            what = "a damaged header" if len(block) == BLOCK else "ends in a header"
            self._stop(offset, name, what)

    def _stop(self, offset: int, name: str, detail: str) -> None:
        self.stopped, self.torn = offset, name
        fault = self._stream.fault
        if fault is None or fault.code == "SOURCE_TRUNCATED":
            detail = fault.detail if fault is not None else f"{detail} at {offset:,}"
            fault = Refused("TAR_TRUNCATED", detail)
        self.fault = fault


@dataclass
class _Header:
    name: str
    size: int
    kind: bytes
    more_sparse: bool

    @classmethod
    def parse(cls, block: bytes) -> _Header | None:
        """Return the fields of a header block; None where its checksum or a number is wrong."""
        if len(block) < BLOCK:
            return None
        checksum, size = _number(block[148:156]), _number(block[124:136])
        if checksum is None or size is None:
            return None
        # The checksum is taken with its own field blank; old tars summed signed bytes.
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if checksum != total and checksum != total - 256 * sum(byte > 127 for byte in block):
            return None
        name, kind = _text(block[:100]), block[156:157]
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        return cls(name, size, kind, kind == _SPARSE and block[482] > 0)


def _number(data: bytes) -> int | None:
    """Return an octal number, or GNU's binary one where the first bit is set."""
    if data[0] == 0x80:
        return int.from_bytes(data[1:], "big")
    digits = data.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """Return those of the records `LENGTH KEY=VALUE` that speak of name, size or sparseness."""
    values: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.index(b" ", at, at + 8)
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space or not equals or data[end - 1 : end] != b"\n":
            raise ValueError
        if key == b"size":
            value = str(_size(value)).encode()
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse."):
            values[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return values


def _size(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError
    return int(value)


def _type_fault(kind: bytes, values: dict[str, str]) -> Refused | None:
    if kind == _SPARSE or any(key.startswith("GNU.sparse.") for key in values):
        return Refused("TAR_MEMBER_TYPE", "a sparse file")
    if kind in _FILES:
        return None
    what = _WITHOUT_DATA.get(kind, f"type {kind!r}")
    return Refused("TAR_MEMBER_TYPE", f"{what} in the place of a file")
