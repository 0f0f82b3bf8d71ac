"""What two readings of one record agree in: its record hash, and its share of a pool's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Any

from storage.store import canonical

# The ingested columns that a record hash takes as JSON.
HASHED = (
    "source",
    "source_id",
    "texts",
    "series",
    "position",
    "width",
    "height",
    "licence",
    "normalised",
)
NO_TEXT = bytes(16)


def record_hash(
    digest: bytes, text_digest: bytes | None, columns: Mapping[str, Any], meta: Mapping[str, Any]
) -> bytes:
    """Return the 16-byte blake2b digest of a record, wherever its payload lies.

    It is taken over, in this order: the 16 bytes of the payload's digest; the 16 bytes of the
    text's digest, zeros where there is no text (in a record of text alone both are the text's);
    the canonical JSON of the columns HASHED and of `meta`, each without its nulls. A value of
    meta enters as the text that a column would hold: a boolean as `true` or `false`, a whole
    number without a point (1.0 as `1`), another float as its shortest repr, a date in ISO 8601, a
    list or an object as canonical JSON. So it is the same from a source and from the pool, where
    `1` may lie in a column of floats or of texts.

    Args:
        digest: of the payload, of the text where there is none.
        text_digest: None where there is no text.
        columns: the record's columns; those that are not HASHED are ignored.
        meta: the source's other columns.
    """
    content = {
        **_known({c: columns.get(c) for c in HASHED}),
        "meta": {k: _as_text(v) for k, v in _known(meta).items()},
    }
    if "texts" in content:
        content["texts"] = [_known(text) for text in content["texts"]]
    data = digest + (text_digest or NO_TEXT) + canonical(content)
    return hashlib.blake2b(data, digest_size=16).digest()


def member(uid: int, record: bytes) -> int:
    """Return what a record adds to its pool's digest, which is a sum modulo 2**128."""
    digest = hashlib.blake2b(uid.to_bytes(8, "big") + record, digest_size=16)
    return int.from_bytes(digest.digest(), "big")


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
    return value.isoformat() if isinstance(value, date) else canonical(value).decode()
