"""Rows under any column names to records: what all sources that have columns share."""

from __future__ import annotations

import base64
import itertools
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from contracts.errors import ConfigError, Problem, nearest
from contracts.payload import KINDS
from contracts.uid import digest_of
from storage.source import (
    CAPTION_BYTES,
    TEXT_BYTES,
    BadText,
    Columns,
    Location,
    Record,
    Refused,
    Rejected,
    audio_kind,
    clean_text,
    image_kind,
)
from storage.store import canonical

# Names under which other tools write the columns that we know (specs: img2dataset, DataComp,
# Hugging Face, LAION); the first present wins.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "TEXT", "caption", "CAPTION", "txt", "alt"),
    "image": ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "images"),
    "audio": ("audio", "wav", "flac"),
    "volume": ("volume", "nifti", "nii", "nii.gz"),
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

# Every record of a part has all columns of its source, so their number bounds the memory.
META_COLUMNS = 1000
REST = "rest"

_SUFFIX_OF = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp"),
    "bmp": (".bmp", ".dib"),
    "png": (".png", ".apng"),
    "tiff": (".tif", ".tiff"),
    "heif": (".heic", ".heics", ".heif", ".hif", ".avif", ".avifs"),
    "wav": (".wav", ".wave"),
}


def suffix_notes(name: str, head: bytes) -> tuple[str, ...]:
    """Return EXT_MISMATCH where a name's suffix says another format than the bytes."""
    kind, suffix = image_kind(head) or audio_kind(head), os.path.splitext(name)[1].lower()  # noqa: PTH122
    if not suffix or kind is None or suffix in _SUFFIX_OF.get(kind, (f".{kind}",)):
        return ()
    return ("EXT_MISMATCH",)


@dataclass(frozen=True)
class Roles:
    """Which column of a table plays which role; `meta` maps the other columns to their names.

    Attributes:
        payload: its kind and its column, which a named one is even where the table lacks it.
        other: what this column is called in meta by a row in which it holds no payload.
    """

    text: str | None
    payload: tuple[str, str] | None
    licence: str | None
    meta: Mapping[str, str]
    other: str


def roles_of(columns: Columns, names: tuple[str, ...]) -> Roles:
    """Give each column of a table its role, by the recipe or else by its known aliases.

    A name of meta is the column's in lower snake case, or what META_ALIASES makes of it where no
    column has that name already; a repeat is numbered.

    Cost: time linear in the names. The roles of the last tables are remembered; of those with
    more than 100 columns, the last one's.
    """
    return (_roles if len(names) <= _MANY else _roles_of_many)(columns, names)


def _roles_now(columns: Columns, names: tuple[str, ...]) -> Roles:
    present = frozenset(names)

    def role(given: str | None, kind: str) -> str | None:
        known = ALIASES[kind] if given is None else (given,)
        return next((name for name in known if name in present), None)

    text = role(columns.text, "text")
    found = ((kind, role(None, kind)) for kind in KINDS)
    payload = columns.payload or next(((k, name) for k, name in found if name is not None), None)
    licence = role(None, "licence")
    taken = {text, payload and payload[1], licence, columns.id, columns.series, columns.position}
    taken.add(columns.label_image)
    meta: dict[str, str] = {}
    used: set[str] = set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
    # Columns that bear a name before those that are given it.
    for name in sorted((n for n in names if n not in taken), key=lambda n: n in META_ALIASES):
        own = _snake(name)
        wanted = META_ALIASES.get(name, own)
        numbered = (f"{own}_{n}" for n in numbers[own])
        meta[name] = next(n for n in itertools.chain((wanted, own), numbered) if n not in used)
        used.add(meta[name])
    own = _snake(payload[1] if payload else "")
    numbered = (f"{own}_{n}" for n in itertools.count(2))
    other = next(n for n in itertools.chain((own,), numbered) if n not in used)
    in_order = {name: meta[name] for name in names if name in meta}
    return Roles(text, payload, licence, in_order, other)


_MANY = 100
_roles, _roles_of_many = lru_cache(maxsize=1024)(_roles_now), lru_cache(maxsize=1)(_roles_now)


def overfull(names: Collection[str]) -> bool:
    """Whether these are more columns than a source keeps."""
    return len(names) > META_COLUMNS


def folded(meta: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return a record's meta with what a source's columns have no room for under REST.

    A source keeps META_COLUMNS columns, the first that its records have; the others of a record
    become one JSON text, and a column of its own that is called REST with them.

    Args:
        meta: of a record.
        known: the columns that the source's records had before it, in this ingest and earlier.
    """
    room = META_COLUMNS - len(known) + (REST in known)
    if len(meta) <= room:
        return meta
    kept: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in meta.items():
        if name not in known:
            room -= 1
        (kept if name in known or room >= 0 else rest)[name] = value
    if not rest:
        return meta
    if REST in kept:
        rest[REST] = kept.pop(REST)
    kept[REST] = canonical({name: _as_json(value) for name, value in rest.items()}).decode()
    return kept


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value.isoformat() if isinstance(value, date) else value


def check_columns(columns: Columns, names: Iterable[str], where: str) -> None:
    """Check that a table has every column that the recipe names.

    Raises:
        ConfigError: for each that it lacks, with the nearest that it has.
    """
    names = list(names)
    given = {key: name for key, name in vars(columns).items() if isinstance(name, str)}
    problems = [
        Problem(f"source.{key}", f"{where} has no column {name!r}.{nearest(name, names)}")
        for key, name in given.items()
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)


def record_of(
    columns: Columns,
    row: Mapping[str, Any],
    *,
    source_id: str,
    where: str,
    location: Location | None = None,
    notes: tuple[str, ...] = (),
) -> Record | Rejected:
    """Make a record of a row under any column names; every row-like source ends here.

    An image is bytes, `{"bytes", "path"}` as Hugging Face writes it, a list of one of these, or
    base64, bare or as a data URI; audio likewise, but no list, where there is no column of an
    image, and a volume where there is none of either. A path or a URL is never opened: it stays in
    meta. Several texts in a list go to `texts`, and the first is the text. Values of meta become
    null, boolean, int, float, str, date, naive datetime in UTC, or lists and dicts of what JSON
    holds: a decimal becomes a float, without digits after the point an int; a duration seconds;
    bytes the text that they are, or they are dropped with the note BINARY_DROPPED. An id or a
    series that is a float is the whole number that it stands for; other floats are no ids.

    Returns:
        Rejected NO_ID, NO_IMAGE, MANY_IMAGES, NOT_AN_IMAGE, NO_AUDIO, NOT_AUDIO, NO_VOLUME,
        NOT_A_VOLUME, NO_LABEL_IMAGE, CAPTION_EMPTY (a row of text alone), CAPTION_TOO_LONG,
        CAPTION_NOT_UTF8, SCHEMA_MISMATCH, or VALUE_RANGE (a decimal of more digits than a double
        holds).
    """
    roles = roles_of(columns, tuple(row))
    known: str | None = source_id
    kind, column = roles.payload or ("", "")
    payload: bytes | None = None
    try:
        if columns.id is not None:
            known = None
            known = source_id = _id_of(row.get(columns.id))
        meta_of = dict(roles.meta)
        if kind:
            payload, path = _payload_of(kind, column, row, named=columns.payload is not None)
            if payload is None:
                meta_of[column] = roles.other
            else:
                notes += suffix_notes(path, payload[:16])
        label_image = None
        if columns.label_image is not None:
            label_image = _label_image_of(row.get(columns.label_image), columns.label_image)
            if kind != "image" or payload is None:
                raise Refused("NO_IMAGE", "a label image without its picture")
        raw_text = None if roles.text is None else row[roles.text]
        limit = TEXT_BYTES if payload is None else CAPTION_BYTES
        text, texts, mended = _texts_of(raw_text, limit)
        if payload is None and "CAPTION_EMPTY" in mended:
            raise Refused("CAPTION_EMPTY", "the text has no visible character")
        dropped: list[str] = []
        meta = {
            name: value
            for column, name in meta_of.items()
            if (value := plain_value(row[column], dropped)) is not None
        }
        series = None if columns.series is None else row.get(columns.series)
        licence = None if roles.licence is None else plain_value(row[roles.licence], dropped)
        return Record(
            source_id,
            where,
            text=text,
            texts=texts,
            series=None if series is None else str(_label(plain_value(series, dropped))),
            position=_position_of(None if columns.position is None else row.get(columns.position)),
            licence=None if licence is None else str(licence),
            location=location,
            meta=meta,
            notes=(*notes, *mended, *dropped[:1]),
            label_image=label_image,
            **({} if payload is None else {kind: payload}),
        )
    except Refused as bad:
        digest = None if payload is None else digest_of(payload)
        return Rejected(where, bad.code, bad.detail, known, digest)


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unicodedata.normalize("NFC", name))
    return re.sub(r"\W+", "_", words).strip("_").lower() or "column"


def _id_of(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    label = _label(value)
    if isinstance(label, float):
        raise Refused("NO_ID", f"the id {label} is a number that is not whole, or not below 2^53")
    text = "" if label is None else str(label)
    if not text.strip():
        raise Refused("NO_ID", "the id is empty")
    if not is_unicode(text):
        raise Refused("NO_ID", "the id is not valid UTF-8")
    return text


def _label(value: Any) -> Any:
    """Return a whole number for a float that is one, as a table of whole numbers and nulls has."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _position_of(value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    changed = isinstance(value, float) and number != value
    if number is None or changed or abs(number) >= 2**63:
        raise Refused("SCHEMA_MISMATCH", f"the position {value!r} is no whole number")
    return number


def _payload_of(
    kind: str, column: str, row: Mapping[str, Any], *, named: bool
) -> tuple[bytes | None, str]:
    """Return a row's payload and the path beside it; None for what is something else.

    Args:
        kind: of the payload.
        column: that it is in.
        row: the row.
        named: whether the user named the column.
    """
    missing, other, of = _PAYLOADS[kind]
    if column not in row:
        raise Refused(missing, f"there is no {column!r}")
    data, path = of(row[column])
    if data is None and named:
        code = missing if row[column] is None else other
        raise Refused(code, f"{column} is {type(row[column]).__name__}, no encoded {kind}")
    return data, path


def _image_of(value: Any) -> tuple[bytes | None, str]:
    """Return the image in a value and the path beside it; None for what is something else."""
    if isinstance(value, list | tuple) and value:
        if len(value) > 1:
            raise Refused("MANY_IMAGES", f"{len(value)} images in one record")
        value = value[0]
    path = ""
    if isinstance(value, dict) and "bytes" in value:
        path, value = value.get("path") or "", value["bytes"]
    if value is None:
        raise Refused("NO_IMAGE", f"a path alone: {path}" if path else "the image is null")
    if isinstance(value, str):
        value = _from_base64(value)
    return (value if isinstance(value, bytes) else None), path


def _label_image_of(value: Any, name: str) -> bytes:
    """Return the label image in a value, which lies in it as a picture does."""
    if value is None:
        raise Refused("NO_LABEL_IMAGE", f"there is no {name}")
    data = None
    with suppress(Refused):
        data, _ = _image_of(value)
    if data is None:
        raise Refused("NO_LABEL_IMAGE", f"{name} is {type(value).__name__}, no encoded picture")
    return data


def _bytes_of(value: Any, kind: str) -> tuple[bytes | None, str]:
    """Return the audio or volume in a value, and the path beside it; None for something else."""
    path = ""
    if isinstance(value, dict) and "bytes" in value:
        path, value = value.get("path") or "", value["bytes"]
        if value is None:
            found = f"a path alone: {path}" if path else f"the {kind} is null"
            raise Refused(f"NO_{kind.upper()}", found)
    if isinstance(value, str):
        value = _from_base64(value)
    return (value if isinstance(value, bytes) else None), path


_PAYLOADS: Mapping[str, tuple[str, str, Callable[[Any], tuple[bytes | None, str]]]] = {
    "image": ("NO_IMAGE", "NOT_AN_IMAGE", _image_of),
    "audio": ("NO_AUDIO", "NOT_AUDIO", partial(_bytes_of, kind="audio")),
    "volume": ("NO_VOLUME", "NOT_A_VOLUME", partial(_bytes_of, kind="volume")),
}


def _from_base64(text: str) -> bytes | None:
    """Return what base64 or a data URI holds; no payload is below 48 bytes, some words are."""
    body = text.partition(",")[2] if text.startswith("data:") else text
    if len(body) < 64 and body is text:
        return None
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return None


def _texts_of(
    value: Any, limit: int
) -> tuple[str | None, list[dict[str, str | None]] | None, tuple[str, ...]]:
    if value is None or isinstance(value, str | bytes):
        text, notes = clean_text(value, limit=limit)
        return text, None, notes
    if isinstance(value, list) and all(v is None or isinstance(v, str | bytes) for v in value):
        cleaned = [clean_text(v, limit=limit) for v in value]
        texts = [t for t, _ in cleaned if t is not None]
        every: list[dict[str, str | None]] = [
            {"text": t, "lang": None, "origin": None} for t in texts
        ]
        notes = tuple(dict.fromkeys(n for _, notes in cleaned for n in notes))
        if texts:
            return texts[0], every, tuple(n for n in notes if n != "CAPTION_EMPTY")
        return None, None, notes
    raise Refused("SCHEMA_MISMATCH", f"the text is {type(value).__name__}: {value!r:.100}")


def plain_value(value: Any, dropped: list[str], *, nested: bool = False) -> Any:
    """Return a value of meta as JSON, or a column, can hold it."""
    if isinstance(value, str):
        if not is_unicode(value):
            raise BadText("CAPTION_NOT_UTF8", f"lone surrogate in a value: {value!r:.100}")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if nested and not math.isfinite(value) else value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            dropped.append("BINARY_DROPPED")
            return None
    if isinstance(value, Mapping):
        return {str(k): plain_value(v, dropped, nested=True) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(v, dropped, nested=True) for v in value]
    if isinstance(value, Decimal):
        whole = value.is_finite() and value.as_tuple().exponent == 0
        if whole or not value.is_finite():
            return int(value) if whole else plain_value(float(value), dropped, nested=nested)
        number = float(value)
        if Decimal(repr(number)) != value:
            raise Refused("VALUE_RANGE", f"{value} has more digits than a double holds")
        return number
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat() if nested else value
    if isinstance(value, date):
        return value.isoformat() if nested else value
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, time) else str(value)


def is_unicode(text: str) -> bool:
    """Whether a text is without lone surrogates, which no column can hold."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
