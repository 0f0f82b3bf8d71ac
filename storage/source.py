"""What a source gives to ingest: units that are skipped while unchanged, and their records."""

from __future__ import annotations

import codecs
import itertools
import os
import re
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from contracts import methods
from contracts.errors import ConfigError, DataError, StorageError
from contracts.payload import KINDS, Undecodable

# Names of the formats that contracts/decode.py reads.
DECODED_SUFFIXES = KINDS["image"].suffixes
IMAGE_SUFFIXES = DECODED_SUFFIXES | {".tif", ".tiff"}
# Taken as images too, so that what we cannot decode is quarantined with a reason, not overlooked.
IMAGE_LIKE_SUFFIXES = IMAGE_SUFFIXES | {
    ".arw", ".avif", ".avifs", ".cr2", ".cr3", ".cur", ".dds", ".dng", ".eps", ".exr", ".heic",
    ".heics", ".heif", ".hif", ".ico", ".j2k", ".jp2", ".jpf", ".jpm", ".jpx", ".jxl", ".jxr",
    ".nef", ".orf", ".pbm", ".pdf", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".raf", ".rw2",
    ".svg", ".svgz", ".tga", ".wdp", ".xcf",
}  # fmt: skip
AUDIO_SUFFIXES = KINDS["audio"].suffixes
VOLUME_SUFFIXES = KINDS["volume"].suffixes
AUDIO_LIKE_SUFFIXES = AUDIO_SUFFIXES | {
    ".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".m4a", ".mka", ".mp3",
    ".oga", ".ogg", ".opus", ".wma", ".wv",
}  # fmt: skip
# What may be otherwise on the next run: a file gone for a moment, a disk or network that does not
# answer, a permission, a writer at work, a machine under load. No word on the content.
PASSING = frozenset({"CHANGED_WHILE_READING", "DECODE_TIMEOUT", "SOURCE_GONE", "UNREADABLE"})

# How many names a brace range may mean.
MEMBERS = 1_000_000
CAPTION_BYTES = 64 << 10
TEXT_BYTES = 16 << 20
_EXAMPLES = 2
# Names such as `part.000017` have a suffix each.
_MOST_KEYS = 100


@dataclass(frozen=True)
class Columns:
    """Which columns of a source are what; None takes the first known alias that is present.

    Attributes:
        slices: of volumes: each axial slice is a record, not the volume.
        label_image: the column of a picture's labels, a class for each pixel; of an image folder
            where they lie, such as `masks/{stem}.png`.

    Raises:
        ConfigError: several of `image`, `audio` and `volume` are named.
    """

    id: str | None = None
    text: str | None = None
    image: str | None = None
    series: str | None = None
    position: str | None = None
    slices: bool = False
    audio: str | None = None
    volume: str | None = None
    label_image: str | None = None

    def __post_init__(self) -> None:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) > 1:
            raise ConfigError(
                f"source.{named[1]}: a record has one payload: name {' or '.join(named)}."
            )

    @property
    def payload(self) -> tuple[str, str] | None:
        """Kind and column of the payload, where one is named."""
        named = ((kind, getattr(self, kind)) for kind in KINDS)
        return next((pair for pair in named if pair[1] is not None), None)

    def naming(self, kind: str, column: str) -> Columns:
        """Return these with a column as the payload, of a kind.

        Raises:
            ConfigError: one of another kind is named already.
        """
        named: dict[str, Any] = {kind: column}
        return replace(self, **named)


@dataclass(frozen=True)
class Stretch:
    """Bytes of a unit of lines, from the start of one line to the end of another.

    Attributes:
        index: how many stretches of the unit lie before it.
        start: its first byte.
        end: the byte behind its last.
        number: of its first line in the unit.
        last: whether the unit ends with it.
        state: size and modification time (nanoseconds) of the file when it was cut.
    """

    index: int
    start: int
    end: int
    number: int
    last: bool
    state: tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """A piece of a source, a file as a rule: skipped unread while its fingerprint stays.

    Attributes:
        name: its path below the source's root, with forward slashes.
        path: the file.
        size_bytes: for progress.
        fingerprint: sizes and modification times of the files that make it.
        stretch: what is read of it; None is all.
    """

    name: str
    path: Path
    size_bytes: int
    fingerprint: str
    stretch: Stretch | None = field(default=None, kw_only=True)


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
        label_image: a class for each pixel of `image`, encoded.
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
    audio: bytes | None = None
    volume: bytes | None = None
    label_image: bytes | None = None

    @cached_property
    def payload(self) -> tuple[str, bytes] | None:
        """Kind and encoded bytes of its payload, None where it is a text alone."""
        held = ((kind, getattr(self, kind)) for kind in KINDS)
        return next((pair for pair in held if pair[1] is not None), None)


@dataclass(frozen=True)
class Rejected:
    """Something in the source that is no record: quarantined with a reason code.

    Attributes:
        where: its place in the source.
        code: a reason code of docs/reasons.md, such as JSON_INVALID.
        detail: what was found; cut at 500 characters, control characters escaped.
        source_id: null where not even that is known.
        digest: of the raw bytes, where there are any.
    """

    where: str
    code: str
    detail: str = ""
    source_id: str | None = None
    digest: bytes | None = None

    def __post_init__(self) -> None:
        escaped = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
            for c in self.detail[:500]
        )
        object.__setattr__(self, "detail", escaped[:500])

    @property
    def passing(self) -> bool:
        """Whether the next run may find it otherwise though the source's names stay as they are."""
        return self.code in PASSING


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


@dataclass
class Tally:
    """Counts by suffix and reason, with the first two examples of each."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, example: str, reason: str) -> None:
        """Count a file or a part of one by its name."""
        suffix = os.path.splitext(example)[1].lower()  # noqa: PTH122
        key = (suffix or "no suffix", reason)
        if key not in self.counts and len(self.counts) >= _MOST_KEYS:
            key = ("other suffixes", reason)
        self.counts[key] += 1
        if self.counts[key] <= _EXAMPLES:
            self.examples.setdefault(key, []).append(example)

    def update(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        for key, count in other.counts.items():
            if key not in self.counts and len(self.counts) >= _MOST_KEYS:
                key = ("other suffixes", key[1])
            self.counts[key] += count
            known = self.examples.setdefault(key, [])
            known += other.examples.get(key, [])[: _EXAMPLES - len(known)]


@dataclass
class PassedOver:
    """What of a source goes into no record.

    Attributes:
        names: what the last walk over the names left aside; it grows as the walk goes on.
        contents: what was left aside inside the files that have been read.
    """

    names: Tally = field(default_factory=Tally)
    contents: Tally = field(default_factory=Tally)

    def rows(self) -> list[tuple[str, str, int, list[str]]]:
        """Return suffix, reason, count and examples of each, the most frequent first."""
        rows = [
            (*key, count, tally.examples[key])
            for tally in (self.names, self.contents)
            for key, count in tally.counts.items()
        ]
        return sorted(rows, key=lambda row: (-row[2], row[:2]))


class Source(Protocol):
    """One file of storage/sources: a class made of `(root, paths, columns, follow_links)`.

    Attributes:
        passed_over: what goes into no record, counted while `units` and `records` are iterated.

    A class says `apart = True` where a pickled copy of it reads any unit by itself, so that units
    can be read by several processes.

    `root` is the folder below which names are formed; `paths` the files or folders to read,
    in sorted order; symbolic links are followed to what lies below `follow_links`, where it is
    given.
    """

    passed_over: PassedOver

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None: ...

    def units(self) -> Iterator[Unit]:
        """Yield the units in sorted order, without reading their contents."""
        ...

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a unit's records in source order, one at a time."""
        ...


# ------------------------------------------------------------------ texts

# UTF-32 stands before UTF-16, whose little-endian mark begins it.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What Unicode lets end a line or a paragraph: vertical tab, form feed, the separators of files,
# groups and records, next line, line and paragraph separator.
_ENDS = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f]")


def clean_text(value: bytes | str | None, *, limit: int) -> tuple[str | None, tuple[str, ...]]:
    """Return a text as it is stored, and notes on what was mended.

    Bytes are UTF-8, or what a byte order mark at their start says; the mark goes. Whatever ends a
    line becomes LF, the separator of units (U+001F) a space; other control characters but the tab
    are removed. CONTROL_CHARS notes all of it but CR LF and CR. A text without a visible character
    becomes None (note CAPTION_EMPTY). No Unicode normalisation.

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
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", _ENDS.sub("\n", plain).replace("\x1f", " "))
    notes = () if text == plain else ("CONTROL_CHARS",)
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


# ------------------------------------------------------------------ where it lies


@dataclass(frozen=True)
class Found:
    """What a path of a recipe means.

    Attributes:
        root: the folder below which names are formed.
        paths: the files or folders to read.
        name: the default name of the source.
        follow_links: symbolic links to what lies below this folder are followed.
        missing: members of a brace range or list that nothing matches, as they were written.
    """

    root: Path
    paths: list[Path]
    name: str
    follow_links: Path | None = None
    missing: tuple[str, ...] = ()


def find(
    path: str | Path, follow_links: str | Path | None = None, *, allow_missing: bool = False
) -> Found:
    """Resolve a folder, a file, a glob or a brace range such as `{00000..00009}.tar`.

    Args:
        path: what a recipe or a command names.
        follow_links: a folder; symbolic links to what lies below it are followed.
        allow_missing: whether members of a brace range or list may be missing.

    Raises:
        ConfigError: `follow_links` is no folder (78).
        DataError: nothing is there, nothing matches, a member is missing, or what is there is a
            pipe, a socket or a device (65).
        StorageError: it cannot be read (74).
    """
    text = str(path)
    plain, follow = Path(text), None if follow_links is None else Path(follow_links)
    if follow is not None and not follow.is_dir():
        raise ConfigError(f"follow_links: {follow} is no folder.")
    try:
        if plain.is_dir():
            os.scandir(plain).close()
            return Found(plain, [plain], plain.resolve().name, follow)
        if plain.is_file():
            plain.open("rb").close()
            return Found(plain.parent, [plain], _stem(plain.name), follow)
        if plain.exists():
            raise DataError(
                f"{text}: is {special_kind(plain.stat().st_mode)}, which is never read: its bytes "
                "come once, or never end. Write them to a file first."
            )
        members = {member: _glob(member) for member in _members(text)}
    except OSError as error:
        raise StorageError(f"{text}: cannot be read: {error.strerror}") from error
    wild = re.search(r"[*?\[{]", text)
    if not wild:
        link = (
            "is a link that leads nowhere"
            if plain.is_symlink()
            else "there is no such file or folder"
        )
        raise DataError(f"{text}: {link}.")
    paths = sorted({path for found in members.values() for path in found})
    if not paths:
        raise DataError(f"{text}: no file matches.")
    missing = tuple(member for member, found in members.items() if not found)
    if missing and not allow_missing:
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise DataError(
            f"{text}: {len(missing):,} of {len(members):,} are missing: {', '.join(missing[:5])}"
            f"{more}. Fetch them, or go on without them: --allow-missing."
        )
    folder, slash, _ = text[: wild.start()].rpartition("/")
    root = Path(folder or slash or ".")
    return Found(root, paths, root.resolve().name, follow, missing)


def special_kind(mode: int) -> str:
    """Return what a file is that is neither a regular file nor a folder."""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _members(text: str) -> list[str]:
    found = list(itertools.islice(_braces(text), MEMBERS + 1))
    if len(found) > MEMBERS:
        raise DataError(f"{text}: means more than {MEMBERS:,} names; use * or a folder.")
    return found


def _stem(name: str) -> str:
    """Return a file's name without its suffix, nor the one before `.gz` or `.zst`."""
    return Path(re.sub(r"\.(gz|zst)$", "", name)).stem


def _glob(pattern: str) -> list[Path]:
    anchor = Path(pattern).anchor
    if not re.search(r"[*?\[]", pattern):
        return [Path(pattern)] if os.path.lexists(pattern) else []
    return list(Path(anchor or ".").glob(pattern[len(anchor) :]))


def _braces(text: str) -> Iterator[str]:
    """Expand the first brace of a pattern: `{00..11}` keeps its zeros, `{a,b}` lists."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        yield text
        return
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    middle: Iterable[str] = match[1].split(",")
    if span:
        width, ends = len(span[1]), sorted((int(span[1]), int(span[2])))
        middle = (f"{n:0{width}d}" for n in range(ends[0], ends[1] + 1))
    for item in middle:
        yield from _braces(text[: match.start()] + item + text[match.end() :])


# ------------------------------------------------------------------ what kind of source it is

_SIGNATURES = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<gif>GIF8[79]a)|(?P<webp>RIFF.{4}WEBP)"
    rb"|(?P<bmp>BM.{4}\0{4})|(?P<tiff>II\*\0|MM\0\*)|(?P<ico>\0\0\1\0)|(?P<psd>8BPS\0\1)"
    rb"|(?P<heif>.{4}ftyp(?:hei|hev|mif|avi))",
    re.DOTALL,
)


def image_kind(head: bytes) -> str | None:
    """Return what a file's first 16 bytes say that it is, such as `jpeg`; None for no image."""
    match = _SIGNATURES.match(head)
    return match.lastgroup if match else None


def audio_kind(head: bytes) -> str | None:
    """Return what a file's first 16 bytes say that it is, `wav` or `flac`; None for neither."""
    try:
        return KINDS["audio"].suffix(head)
    except Undecodable:
        return None


SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "webdataset": (".tar", ".tar.gz", ".tar.zst", ".tgz"),
    "image_folder": tuple(sorted(IMAGE_SUFFIXES)),
    "audio_folder": tuple(sorted(AUDIO_SUFFIXES)),
    "parquet": (".parquet",),
    "json_lines": (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst"),
    "csv_text": (".csv", ".tsv", ".csv.gz", ".csv.zst", ".tsv.gz", ".tsv.zst"),
    "volumes": (*sorted(VOLUME_SUFFIXES), ".dcm"),
}
# What also lies beside sources of other kinds: it decides where nothing else is seen.
WEAK_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "image_folder": tuple(sorted(IMAGE_LIKE_SUFFIXES - IMAGE_SUFFIXES)),
    "audio_folder": tuple(sorted(AUDIO_LIKE_SUFFIXES - AUDIO_SUFFIXES)),
    "json_lines": (".json", ".json.gz", ".json.zst"),
    "text_folder": (".txt", ".md"),
}
_LOOKED_AT, _LOOKED_AT_EACH = 20, 1000
FOLLOW_ADVICE = " --follow-links ROOT follows links to what lies below the folder ROOT."


def detect(found: Found) -> str:
    """Return the kind of a source, a file of storage/sources, from its names.

    Tars win over Parquet files beside them; between images, audio, Parquet, JSON lines, CSV and
    volumes the most files win, images on a tie; texts and single JSON files decide only where there
    is none of these. Where no name tells, the first bytes of the first file do. At most 1,000
    entries of each of 20 folders are looked at.

    Raises:
        DataError: nothing of it is known; says what was seen.
    """
    seen, links = _some_files(found)
    media = IMAGE_LIKE_SUFFIXES | AUDIO_LIKE_SUFFIXES
    described = {path.with_suffix("") for path in seen if path.suffix.lower() in media}
    # What lies beside a picture or a clip belongs to it.
    alone = [path for path in seen if path.with_suffix("") not in described]
    for table in (SUFFIXES, WEAK_SUFFIXES):
        count = {
            kind: sum(
                path.name.lower().endswith(suffixes)
                for path in (alone if kind in ("json_lines", "text_folder") else seen)
            )
            for kind, suffixes in table.items()
        }
        if count.get("webdataset", 0) > count.get("image_folder", 0):
            return "webdataset"
        kind = max(count, key=lambda k: count[k])
        if count[kind]:
            return kind
    if seen:
        by_content = _by_content(seen[0])
        if by_content is not None:
            return by_content
    suffixes = Counter(path.suffix or path.name for path in seen)
    what = [f"{n} {suffix}" for suffix, n in suffixes.most_common(5)]
    if links:
        what.append(f"{links} link{'s'[: links != 1]}, none followed")
    raise DataError(
        f"{found.paths[0]}: no kind of source is recognised; seen: {', '.join(what) or 'no file'}. "
        "A source is images, audio, tars, volumes (NIfTI, DICOM), or Parquet, JSON lines, CSV or "
        f"text files.{FOLLOW_ADVICE if links else ''}"
    )


def _some_files(found: Found) -> tuple[list[Path], int]:
    """Return files of the first folders of a tree, nearest first, and how many links are not."""
    followed = found.follow_links is not None
    files = list(itertools.islice((p for p in found.paths if p.is_file()), _LOOKED_AT_EACH))
    links = 0
    waiting = deque(path for path in found.paths if path.is_dir())
    for _ in range(_LOOKED_AT):
        if not waiting:
            break
        with suppress(OSError), os.scandir(waiting.popleft()) as entries:
            for entry in itertools.islice(entries, _LOOKED_AT_EACH):
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and not followed:
                    links += 1
                elif entry.is_dir(follow_symlinks=followed):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=followed):
                    files.append(Path(entry.path))
    return files, links


def _by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        return "webdataset"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[128:132] == b"DICM":
        return "volumes"
    if image_kind(head) is not None:
        return "image_folder"
    if audio_kind(head) is not None:
        return "audio_folder"
    return "json_lines" if re.match(rb"\s*(\[\s*)?\{", head) else None


def open_source(found: Found, columns: Columns, kind: str | None = None) -> Source:
    """Return a source ready to be read, of the kind that its names show unless one is given."""
    made: Source = methods.load("storage.sources", kind or detect(found))(
        found.root, found.paths, columns, found.follow_links
    )
    return made


def probe(
    found: Found, columns: Columns, limit: int = 200
) -> tuple[list[Record | Rejected], PassedOver]:
    """Return the first records of a source, for `winnow init`, and what was passed over."""
    kind = detect(found)
    source = open_source(found, replace(columns, slices=kind == "volumes"), kind)
    items = (item for unit in source.units() for item in source.records(unit))
    return list(itertools.islice(items, limit)), source.passed_over
