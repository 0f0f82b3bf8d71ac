"""What two readings of one record agree in: its record hash, and its share of a pool's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import orjson

from contracts.uid import UIDs
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
# The sizes of floats that `quick_canonical` writes as `canonical` does, the second excluded.
PLAIN = (1e-4, 1e16)


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
        given["texts"] = [t and list(map(_known, t)) for t in given["texts"]]
    height = len(digests)
    own = _objects({name: _json(_as_texts(values)) for name, values in meta.items()}, height)
    contents = _objects({**{name: _json(given[name]) for name in given}, "meta": own}, height)
    return [
        hashlib.blake2b(digest + (text_digest or NO_TEXT) + content, digest_size=16).digest()
        for digest, text_digest, content in zip(digests, text_digests, contents, strict=True)
    ]


def quick_canonical(value: Any) -> bytes:
    """Return what `canonical` returns, in a tenth of its time, where floats are PLAIN or zero.

    Others would be written otherwise, such as 1e-05 as 0.00001.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate of a file's name, an integer beyond 64 bits
        return canonical(value)


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


def _objects(columns: Mapping[str, Sequence[bytes | None]], height: int) -> Sequence[bytes]:
    """Return the canonical JSON of each row, without its nulls, of its values in JSON."""
    names = sorted(columns)
    keys = [quick_canonical(name) + b":" for name in names]
    if not any(None in columns[name] for name in names):
        row = b",".join(key.replace(b"%", b"%%") + b"%b" for key in keys)
        values = zip(*(columns[name] for name in names), strict=True)
        return list(map((b"{%b}" % row).__mod__, values)) if names else [b"{}"] * height
    pieces = [
        [None if value is None else key + value for value in columns[name]]
        for key, name in zip(keys, names, strict=True)
    ]
    return [b"{%b}" % b",".join(filter(None, row)) for row in zip(*pieces, strict=True)]


def _known(text: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if value is not None}


def _json(values: Sequence[Any]) -> Sequence[bytes | None]:
    """Return each value's canonical JSON, None where it is null; a float is a text here."""
    if set(map(type, values)) == {str}:
        try:
            every = orjson.dumps(values, option=orjson.OPT_INDENT_2)
        except TypeError:  # a lone surrogate of a file's name
            return list(map(quick_canonical, values))
        # A line a value: no text in JSON holds the end of one.
        return every[4:-2].split(b",\n  ")
    return [None if value is None else quick_canonical(value) for value in values]


def _as_texts(values: Sequence[Any]) -> Sequence[str | None]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if kinds == {int}:
        return list(map(str, values))
    if kinds == {float}:
        numbers = np.array(values)
        whole = (numbers == np.trunc(numbers)).any()
        return list(map(_of_float if whole else repr, values))
    return [None if value is None else _as_text(value) for value in values]


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _of_float(value)
    return value.isoformat() if isinstance(value, date) else canonical(value).decode()


def _of_float(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
