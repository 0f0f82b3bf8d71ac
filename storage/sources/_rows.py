"""Rows of a text file as records; a payload that a row names is read from below its folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from storage.rows import record_of, roles_of
from storage.source import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    VOLUME_SUFFIXES,
    Columns,
    Location,
    Record,
    Refused,
    Rejected,
)
from storage.walk import Tree

_SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "volume": VOLUME_SUFFIXES}

# Base64 has no dot, and no picture fits into so few characters of it.
_BASE64 = re.compile(r"data:|[A-Za-z0-9+/=\s]{64}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def record_in(
    tree: Tree,
    folder: Path,
    columns: Columns,
    row: Mapping[str, Any],
    *,
    source_id: str,
    where: str,
    notes: tuple[str, ...] = (),
) -> Record | Rejected:
    """Make a record of a row of a file in `folder`.

    The column of the payload holds base64, or a path below the folder: under a known alias only
    what ends like the name of a payload of its kind is a path.

    Returns:
        Rejected as `record_of` says, or PATH_TRAVERSAL, SYMLINK, SPECIAL_FILE, SOURCE_GONE,
        UNREADABLE or TOO_LARGE for what a row names.
    """
    roles = roles_of(columns, tuple(row))
    kind, column = roles.payload or ("", "")
    path = None
    if column in row:
        path = _path_in(row[column], _SUFFIXES[kind] if columns.payload is None else None)
    labels = columns.label_image
    of_labels = None if labels is None else _path_in(row.get(labels), None)
    location = None
    try:
        if path is not None:
            data = tree.read(_below(folder, path))
            row = {**row, column: {"bytes": data, "path": path}}
            location = Location(str((folder / path).absolute()), 0, len(data))
        if of_labels is not None:
            read = tree.read(_below(folder, of_labels))
            row = {**row, str(labels): {"bytes": read, "path": of_labels}}
    except Refused as fault:
        known = source_id if columns.id is None else None
        return Rejected(where, fault.code, fault.detail, known)
    return record_of(columns, row, source_id=source_id, where=where, location=location, notes=notes)


def _below(folder: Path, path: str) -> Path:
    parts = re.split(r"[/\\\\]", path)
    if "\0" in path or not parts[0] or ".." in parts or re.match("[A-Za-z]:", path):
        raise Refused("PATH_TRAVERSAL", f"{path!r} is not below the folder of its table")
    return folder / path


def _path_in(value: Any, suffixes: Collection[str] | None) -> str | None:
    """Return the path that a column of payload holds; None where it holds something else.

    Args:
        value: of the column.
        suffixes: how a path ends; None where the recipe names the column.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and not value.get("bytes"):
        value = value.get("path")
    if not isinstance(value, str) or not value or _BASE64.match(value) or _URL.match(value):
        return None
    return value if suffixes is None or value.lower().endswith(tuple(suffixes)) else None
