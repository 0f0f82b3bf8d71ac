"""What a source gives to ingest: units that are skipped while unchanged, and their records."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from contracts.errors import DataError, StorageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

# Names under which other tools write the columns that we know (specs: img2dataset, DataComp,
# Hugging Face, LAION); the first present wins.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "TEXT", "caption", "CAPTION", "txt", "alt"),
    "image": ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "images"),
    "licence": ("licence", "license", "LICENSE"),
}
META_ALIASES: Mapping[str, str] = {
    "URL": "url",
    "image_url": "url",
    "clip_b32_similarity_score": "similarity",
    "NSFW": "nsfw",
    "punsafe": "nsfw",
    "AESTHETIC_SCORE": "aesthetic",
}

CAPTION_BYTES = 64 << 10
TEXT_BYTES = 16 << 20

# UTF-32 stands before UTF-16, whose little-endian mark begins it.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Refused(Exception):
    """Something read is no record; whoever catches it makes a Rejected of it.

    Attributes:
        code: a reason code of docs/reasons.md, such as UNREADABLE.
        detail: what was found.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code, self.detail = code, detail
        super().__init__(code, detail)


class BadText(Refused):
    """A text that cannot be taken, not even mended."""


def clean_text(value: bytes | str | None, *, limit: int) -> tuple[str | None, tuple[str, ...]]:
    """Return a text as it is stored, and notes on what was mended.

    Bytes are UTF-8, or what a byte order mark at their start says; the mark goes. CR LF and CR
    become LF. Control characters but tab and newline are removed (note CONTROL_CHARS); a text
    without a visible character becomes None (note CAPTION_EMPTY). No Unicode normalisation.

    Args:
        limit: bytes in UTF-8: CAPTION_BYTES for captions of images, TEXT_BYTES for texts.

    Raises:
        BadText: CAPTION_NOT_UTF8, for lone surrogates too, or CAPTION_TOO_LONG.
    """
    if value is None:
        return None, ()
    text = _decoded(value) if isinstance(value, bytes) else value.removeprefix("\ufeff")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadText("CAPTION_NOT_UTF8", f"lone surrogate at {error.start}") from None
    if size > limit:
        raise BadText("CAPTION_TOO_LONG", f"{size:,} bytes, the limit is {limit:,}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text, removed = _CONTROL.subn("", text)
    notes = ("CONTROL_CHARS",) if removed else ()
    if all(c.isspace() or unicodedata.category(c) in ("Cf", "Mn") for c in text):
        return None, (*notes, "CAPTION_EMPTY")
    return text, notes


def _decoded(data: bytes) -> str:
    mark, encoding = next((m for m in _MARKS if data.startswith(m[0])), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        detail = f"{encoding}: byte {data[len(mark) + error.start]:#04x} at {error.start}"
        raise BadText("CAPTION_NOT_UTF8", detail) from None


@dataclass(frozen=True)
class Columns:
    """Which columns of a source are what; None takes the first known alias that is present."""

    id: str | None = None
    text: str | None = None
    image: str | None = None
    series: str | None = None
    position: str | None = None


@dataclass(frozen=True)
class Unit:
    """A piece of a source, a file as a rule: skipped unread while its fingerprint stays.

    Attributes:
        name: its path below the source's root, with forward slashes.
        path: the file.
        size_bytes: for progress.
        fingerprint: sizes and modification times of the files that make it.
    """

    name: str
    path: Path
    size_bytes: int
    fingerprint: str


@dataclass(frozen=True)
class Location:
    """Where a payload's bytes lie, for payload = "reference"."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True)
class Record:
    """One raw record: not decoded, not checked.

    Attributes:
        source_id: unique in the source.
        where: its place in the source, for people: `a.tar@1536`, `b.csv#12`.
        meta: every other column of the source.
        notes: what the source normalised on the way, such as TAR_NO_EOF.
    """

    source_id: str
    where: str
    image: bytes | None = None
    text: str | None = None
    texts: list[dict[str, str | None]] | None = None
    series: str | None = None
    position: int | None = None
    licence: str | None = None
    location: Location | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """Something in the source that is no record: quarantined with a reason code.

    Attributes:
        where: its place in the source.
        code: a reason code of docs/reasons.md, such as JSON_INVALID.
        detail: what was found, at most 500 characters, control characters escaped.
        source_id: null where not even that is known.
        digest: of the raw bytes, where there are any.
    """

    where: str
    code: str
    detail: str = ""
    source_id: str | None = None
    digest: bytes | None = None


class Source(Protocol):
    """One file of storage/sources: a class made of `(root, paths, columns)`.

    `root` is the folder below which names are formed; `paths` the files or folders to read,
    in sorted order.
    """

    def __init__(self, root: Path, paths: list[Path], columns: Columns) -> None: ...

    def units(self) -> Iterator[Unit]:
        """Yield the units in sorted order, without reading their contents."""
        ...

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a unit's records in source order, one at a time."""
        ...


@dataclass(frozen=True)
class Found:
    """What a path of a recipe means: the root, the files, the default source name."""

    root: Path
    paths: list[Path]
    name: str


def find(path: str | Path) -> Found:
    """Resolve a folder, a file, a glob or a brace range such as `{00000..00009}.tar`.

    Raises:
        DataError: nothing is there, or nothing matches (65).
        StorageError: it cannot be read (74).
    """
    text = str(path)
    plain = Path(text)
    try:
        if plain.is_dir():
            return Found(plain, [plain], plain.resolve().name)
        if plain.is_file():
            return Found(plain.parent, [plain], plain.name.split(".")[0])
    except OSError as error:
        raise StorageError(f"{text}: cannot be read: {error.strerror}") from error
    if not re.search(r"[*?\[{]", text):
        raise DataError(f"{text}: there is no such file or folder.")
    paths = sorted({p for pattern in _braces(text) for p in _glob(pattern)})
    if not paths:
        raise DataError(f"{text}: no file matches.")
    root = Path(text[: re.search(r"[*?\[{]", text).start()])  # type: ignore[union-attr]
    root = root if text[: len(str(root)) + 1].endswith("/") else root.parent
    return Found(root, paths, root.resolve().name)


def _glob(pattern: str) -> list[Path]:
    anchor = Path(Path(pattern).anchor or ".")
    relative = pattern[len(Path(pattern).anchor) :]
    if not re.search(r"[*?\[]", relative):
        return [p for p in [Path(pattern)] if p.exists()]
    return list(anchor.glob(relative))


def _braces(text: str) -> Iterator[str]:
    """Expand the first brace of a pattern: `{00..11}` keeps its zeros, `{a,b}` lists."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        yield text
        return
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if span:
        width = len(span[1])
        middle = [f"{n:0{width}d}" for n in range(int(span[1]), int(span[2]) + 1)]
    else:
        middle = match[1].split(",")
    for item in middle:
        yield from _braces(text[: match.start()] + item + text[match.end() :])
