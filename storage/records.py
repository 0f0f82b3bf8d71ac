"""What two readings of one record agree in: its record hash, and its share of a pool's digest."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import orjson

from contracts.uid import UIDs, digest_of
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
    "label_image",
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
    shared: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """Return the 16-byte blake2b digest of each record, wherever its payload lies.

    It is taken over, in this order: the 16 bytes of the payload's digest; the 16 bytes of the
    text's digest, zeros where there is no text (in a record of text alone both are the text's);
    the canonical JSON of the columns HASHED (of a label image its digest) and of `meta`, each
    without its nulls. A value of
    meta enters as the text that a column would hold: a boolean as `true` or `false`, a whole
    number without a point (1.0 as `1`), another float as its shortest repr, a date in ISO 8601, a
    list or an object as canonical JSON. So it is the same from a source and from the pool, where
    `1` may lie in a column of floats or of texts.

    Args:
        digests: of the payloads, of the text where there is none.
        text_digests: None where there is no text.
        columns: those of HASHED that a record has.
        meta: the source's other columns.
        shared: those of HASHED that are the same in all records, none of them null.
    """
    given = {
        name: columns[name] for name in HASHED if set(map(type, columns.get(name, ()))) - {NoneType}
    }
    if "texts" in given:
        given["texts"] = [t and list(map(_known, t)) for t in given["texts"]]
    height = len(digests)
    if "label_image" in given:
        given["label_image"] = [v and digest_of(v).hex() for v in given["label_image"]]
    own = _object({name: _text_json(values) for name, values in meta.items()}, height)
    contents = {name: _json(values) for name, values in given.items()}
    contents |= {
        name: _Json(_escaped(quick_canonical(value)), []) for name, value in (shared or {}).items()
    }
    whole = _object({**contents, "meta": own}, height)
    texts = [text or NO_TEXT for text in text_digests]
    hashed = map(
        (b"%b%b" + whole.template).__mod__, zip(digests, texts, *whole.values, strict=True)
    )
    return [hashlib.blake2b(data, digest_size=16).digest() for data in hashed]


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
    pairs = np.empty(len(uids), dtype=[("uid", ">u8"), ("record", "V16")])
    pairs["uid"], pairs["record"] = uids, np.frombuffer(b"".join(records), dtype="V16")
    digests = b"".join(
        [hashlib.blake2b(pair, digest_size=16).digest() for pair in pairs.view("V24").tolist()]
    )
    # Four columns of 32 bits, each summed in 64: no carry is lost below 2**32 records.
    words = np.frombuffer(digests, dtype=">u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64)
    total = 0
    for word in words:
        total = (total << 32) + int(word)
    return total % 2**128


class _Json(NamedTuple):
    """The canonical JSON of a column, by row.

    Attributes:
        template: of every row.
        values: what fills it; None in the only one stands for a null, whose template is `%b`.
    """

    template: bytes
    values: list[Sequence[bytes | None]]

    def has_nulls(self) -> bool:
        return self.template == b"%b" and None in self.values[0]

    def rows(self, height: int) -> Iterator[bytes | None]:
        if self.template == b"%b":
            return iter(self.values[0])
        filled = zip(*self.values, strict=True) if self.values else itertools.repeat((), height)
        return map(self.template.__mod__, filled)


def _object(columns: Mapping[str, _Json], height: int) -> _Json:
    """Return an object that has these values, but no nulls."""
    names = sorted(columns)
    keys = [quick_canonical(name) + b":" for name in names]
    if not any(column.has_nulls() for column in columns.values()):
        pairs = (
            _escaped(key) + columns[name].template for key, name in zip(keys, names, strict=True)
        )
        return _Json(
            b"{%b}" % b",".join(pairs), [v for name in names for v in columns[name].values]
        )
    pieces = [
        [None if value is None else key + value for value in columns[name].rows(height)]
        for key, name in zip(keys, names, strict=True)
    ]
    rows = [b"{%b}" % b",".join(filter(None, row)) for row in zip(*pieces, strict=True)]
    return _Json(b"%b", [rows])


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _known(text: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if value is not None}


def _json(values: Sequence[Any]) -> _Json:
    """Return the values as they are; a float is a text here."""
    if set(map(type, values)) in ({str}, {int}):
        with suppress(TypeError):  # a lone surrogate of a file's name, an integer beyond 64 bits
            return _Json(b"%b", [_listed(values)])
    return _Json(b"%b", [[None if value is None else quick_canonical(value) for value in values]])


def _text_json(values: Sequence[Any]) -> _Json:
    """Return the values as the texts that a column would hold."""
    kinds = set(map(type, values))
    if kinds == {int} or (kinds == {float} and _are_plain(values)):
        with suppress(TypeError):  # an integer beyond 64 bits
            return _Json(b'"%b"', [_listed(values)])
    if kinds != {str}:
        values = [None if value is None else _as_text(value) for value in values]
    return _json(values)


def _listed(values: Sequence[Any]) -> list[bytes]:
    # A line a value: no text in JSON holds the end of one.
    return orjson.dumps(values, option=orjson.OPT_INDENT_2)[4:-2].split(b",\n  ")


def _are_plain(values: Sequence[float]) -> bool:
    """Whether orjson writes floats as their texts are: none is whole, all are PLAIN."""
    numbers = np.array(values)
    sizes = np.abs(numbers)
    plain = (sizes >= PLAIN[0]) & (sizes < PLAIN[1]) & (numbers != np.trunc(numbers))
    return bool(plain.all())


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**63
        return str(int(value)) if whole else repr(value)
    return value.isoformat() if isinstance(value, date) else canonical(value).decode()
