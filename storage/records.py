"""What two readings of one record agree in: its record hash, and its share of a pool's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from contracts.uid import UIDs
from storage.store import canonical, quick_canonical

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
    """Return the hash of one record, as `record_hashes`."""
    given = {name: [columns.get(name)] for name in HASHED}
    [hashed] = record_hashes([digest], [text_digest], given, {k: [v] for k, v in meta.items()})
    return hashed


def record_hashes(
    digests: Sequence[bytes],
    text_digests: Sequence[bytes | None],
    columns: Mapping[str, Sequence[Any]],
    meta: Mapping[str, Sequence[Any]],
) -> list[bytes]:
    """Return the 16-byte blake2b digest of each record, wherever its payload lies.

    It is taken over, in this order: the 16 bytes of the payload's digest; the 16 bytes of the
    text's digest, zeros where there is no text (in a record of text alone both are the text's);
    the canonical JSON of the columns HASHED and of `meta`, each without its nulls. A value of
    meta enters as the text that a column would hold: a boolean as `true` or `false`, a whole
    number without a point (1.0 as `1`), another float as its shortest repr, a date in ISO 8601, a
    list or an object as canonical JSON. So it is the same from a source and from the pool, where
    `1` may lie in a column of floats or of texts.

    Args:
        digests: of the payloads, of the text where there is none.
        text_digests: None where there is no text.
        columns: those of HASHED that a record has.
        meta: the source's other columns.
    """
    given = {name: columns[name] for name in HASHED if name in columns}
    if "texts" in given:
        given["texts"] = [t and [_known(text) for text in t] for t in given["texts"]]
    texts = {name: _as_texts(values) for name, values in meta.items()}
    given["meta"] = _rows(texts, len(digests))
    # A float is a text here.
    return [
        hashlib.blake2b(
            digest + (text_digest or NO_TEXT) + quick_canonical(content), digest_size=16
        ).digest()
        for digest, text_digest, content in zip(
            digests, text_digests, _rows(given, len(digests)), strict=True
        )
    ]


def members(uids: UIDs, records: Iterable[bytes]) -> int:
    """Return what records add to their pool's digest, which is a sum modulo 2**128.

    It is the sum of the 16-byte blake2b digest of each uid's 8 bytes and record hash.
    """
    names = uids.astype(">u8").tobytes()
    digests = b"".join(
        hashlib.blake2b(names[8 * row : 8 * row + 8] + record, digest_size=16).digest()
        for row, record in enumerate(records)
    )
    # Four columns of 32 bits, each summed in 64: no carry is lost below 2**32 records.
    words = np.frombuffer(digests, dtype=">u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64)
    total = 0
    for word in words:
        total = (total << 32) + int(word)
    return total % 2**128


def _rows(columns: Mapping[str, Sequence[Any]], height: int) -> list[dict[str, Any]]:
    """Return each row without its nulls."""
    if not columns:
        return [{}] * height
    names = tuple(columns)
    rows = zip(*columns.values(), strict=True)
    if any(None in values for values in columns.values()):
        return [_known(dict(zip(names, row, strict=True))) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _as_texts(values: Sequence[Any]) -> Sequence[str | None]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if kinds == {int}:
        return list(map(str, values))
    if kinds == {float}:
        return list(map(_of_float, values))
    return [None if value is None else _as_text(value) for value in values]


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _of_float(value)
    return value.isoformat() if isinstance(value, date) else canonical(value).decode()


def _of_float(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
