"""Rows of a text file as records; an image that a row names is read from below its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.rows import record_of, roles_of
from storage.source import IMAGE_SUFFIXES, Columns, Location, Record, Refused, Rejected
from storage.walk import Tree

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

    The image column holds base64, or a path below the folder: under a known alias only what
    ends like the name of an image is a path.

    Returns:
        Rejected as `record_of` says, or PATH_TRAVERSAL, SYMLINK, SPECIAL_FILE, SOURCE_GONE,
        UNREADABLE or TOO_LARGE for an image that a row names.
    """
    image = roles_of(columns, tuple(row)).image
    path = None if image is None else _path_in(row[image], named=columns.image is not None)
    location = None
    if image is not None and path is not None:
        try:
            data = tree.read(_below(folder, path))
        except Refused as fault:
            known = source_id if columns.id is None else None
            return Rejected(where, fault.code, fault.detail, known)
        row = {**row, image: {"bytes": data, "path": path}}
        location = Location(str((folder / path).absolute()), 0, len(data))
    return record_of(columns, row, source_id=source_id, where=where, location=location, notes=notes)


def _below(folder: Path, path: str) -> Path:
    parts = re.split(r"[/\\\\]", path)
    if "\0" in path or not parts[0] or ".." in parts or re.match("[A-Za-z]:", path):
        raise Refused("PATH_TRAVERSAL", f"{path!r} is not below the folder of its table")
    return folder / path


def _path_in(value: Any, *, named: bool) -> str | None:
    """Return the path that an image column holds; None where it holds something else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and not value.get("bytes"):
        value = value.get("path")
    if not isinstance(value, str) or not value or _BASE64.match(value) or _URL.match(value):
        return None
    return value if named or Path(value).suffix.lower() in IMAGE_SUFFIXES else None
