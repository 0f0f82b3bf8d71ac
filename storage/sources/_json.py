"""Strict JSON: one object in UTF-8, no repeated keys, no NaN, bounded depth and numbers."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import orjson

from storage.source import Refused

DEPTH = 64
# What a fast parser's answer is trusted in: lists and objects no deeper, floats below what an
# integer of 64 bits may be. Beyond it, the count of strings is one that no text has.
_SHALLOW = 16
_LARGE = 2.0**63
_DOUBT = -(1 << 60)
_NO_STRINGS = {int, bool, NoneType}
# Where the parser stops in an object that was cut: at the end, or at the start of half a token.
_CUT = re.compile(
    r"(?:t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?|-|\.|[eE][-+]?|\\?u?[0-9a-fA-F]{0,4})?\s*\Z"
)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Described:
    """What a JSON file says of the picture beside it, as much of it as can be taken.

    Attributes:
        notes: JSON_VALUE_DROPPED or JSON_DROPPED, where something cannot.
        fault: why.
    """

    row: dict[str, Any]
    notes: tuple[str, ...] = ()
    fault: Refused | None = None


def parse_beside(data: bytes) -> Described:
    """Return the object that the bytes are.

    NaN, Infinity and a number that is out of range are null. What is no sound object says nothing:
    the picture is worth more.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return Described(parse_object(data))
    except Refused as fault:
        try:
            return Described(_parse(data, _mending, whole=True), ("JSON_VALUE_DROPPED",), fault)
        except Refused:
            return Described({}, ("JSON_DROPPED",), fault)


def parse_object(data: bytes, *, whole: bool = True) -> dict[str, Any]:
    """Return the object that the bytes are.

    Args:
        whole: False where the bytes may have been cut.

    Raises:
        Refused: CAPTION_NOT_UTF8 (lone surrogates too), JSON_DEPTH, JSON_DUP_KEY, VALUE_RANGE
            (an integer beyond 64 bits, a number beyond a double), JSON_INVALID, or
            JSON_TRUNCATED for the beginning of an object that is not whole.
    """
    return _parse(data, _strict, whole=whole)


class Parsed(NamedTuple):
    """What texts are, as far as it is sure.

    Attributes:
        rows: of each text what `parse_object` returns; None where only that can tell.
        columns: the rows' values, by key; None unless all rows are sure and have the same keys in
            the same order.
    """

    rows: list[dict[str, Any] | None]
    columns: dict[str, Sequence[Any]] | None = None


def parse_objects(texts: Sequence[bytes]) -> Parsed:
    """Return what texts are, in a fraction of the time of `parse_object`.

    orjson reads them. It takes the last of repeated keys, makes floats of integers beyond 64 bits
    and goes deeper than DEPTH, and refuses some of what is sound: its answer stands only where the
    text has no more strings than the answer, and where no number and no depth is in doubt.
    """
    rows: list[Any] = []
    values = map(orjson.loads, texts)
    while len(rows) < len(texts):
        try:
            rows.extend(values)
        except orjson.JSONDecodeError:
            rows.append(None)
    if set(map(type, rows)) == {dict}:
        columns = None
        if len(set(map(tuple, rows))) == 1:
            columns = columns_of(rows)
            count = len(rows) * len(columns) + sum(map(_strings_of, columns.values()))
        else:
            count = sum(map(_strings_of, rows))
        if _strings_in(b"\n".join(texts)) == count:
            return Parsed(rows, columns)
    sure = [
        type(row) is dict and _strings_in(text) == _strings_of(row)
        for text, row in zip(texts, rows, strict=True)
    ]
    return Parsed([row if known else None for row, known in zip(rows, sure, strict=True)])


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    """Return rows that have the same keys in the same order by columns."""
    return dict(zip(rows[0], zip(*map(dict.values, rows), strict=True), strict=True))


def _strings_in(text: bytes) -> int:
    """Return how many strings JSON has: half of the quotes that no odd run of backslashes ends."""
    if b"\\" not in text:
        return text.count(b'"') // 2
    data = np.frombuffer(text + b"\n", dtype=np.uint8)
    backslashes = np.flatnonzero(data == ord("\\"))
    last = np.flatnonzero(np.diff(backslashes, append=-1) != 1)
    odd = np.diff(last, prepend=-1) % 2 == 1
    escaped = np.count_nonzero(data[backslashes[last[odd]] + 1] == ord('"'))
    return (text.count(b'"') - int(escaped)) // 2


def _strings_of(value: Any, depth: int = 0) -> int:
    """Return how many strings an object or a list has, keys too; _DOUBT where another doubt is."""
    count, values = (len(value), value.values()) if type(value) is dict else (0, value)
    kinds = set(map(type, values))
    if kinds == {str}:
        return count + len(values)
    if kinds <= _NO_STRINGS:
        return count
    if kinds == {float}:
        return count if min(values) > -_LARGE and max(values) < _LARGE else _DOUBT
    for item in values:
        kind = type(item)
        if kind is str:
            count += 1
        elif kind is float:
            if not -_LARGE < item < _LARGE:
                return _DOUBT
        elif kind is dict or kind is list:
            if depth == _SHALLOW:
                return _DOUBT
            count += _strings_of(item, depth + 1)
    return count


def _parse(data: bytes, decoder: json.JSONDecoder, *, whole: bool) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if not whole and error.reason == "unexpected end of data":
            raise Refused("JSON_TRUNCATED", "ends inside a character") from None
        detail = f"byte {data[error.start]:#04x} at {error.start}"
        raise Refused("CAPTION_NOT_UTF8", detail) from None
    try:
        value = decoder.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        cut = error.msg.startswith("Unterminated") or _CUT.match(text, error.pos)
        code = "JSON_TRUNCATED" if cut and not whole else "JSON_INVALID"
        raise Refused(code, f"{error.msg} at {error.pos}") from None
    if not isinstance(value, dict):
        raise Refused("JSON_INVALID", f"{type(value).__name__} in the place of an object")
    if text.count("{") + text.count("[") > DEPTH and _is_deep(value):
        raise _too_deep()
    if _HALF_PAIR.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused("CAPTION_NOT_UTF8", "a lone surrogate") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise Refused("JSON_DUP_KEY", f"{twice!r} occurs twice in one object")
    return found


def _integer(digits: str) -> int:
    # 20 characters hold every integer of 64 bits; int() of very many digits is slow.
    value = int(digits) if len(digits) <= 20 else None
    if value is None or not -(2**63) <= value < 2**64:
        raise Refused("VALUE_RANGE", f"{digits[:40]} is no integer of 64 bits")
    return value


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Refused("VALUE_RANGE", f"{digits[:40]} is beyond a double")
    return value


def _constant(name: str) -> float:
    raise Refused("JSON_INVALID", f"{name} is not JSON")


def _too_deep() -> Refused:
    return Refused("JSON_DEPTH", f"nested more than {DEPTH} deep")


def _is_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH):
        inner = [v for c in level for v in (c.values() if isinstance(c, dict) else c)]
        level = [v for v in inner if isinstance(v, dict | list)]
    return bool(level)


def _or_null(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_null(text: str) -> Any:
        try:
            return parse(text)
        except Refused:
            return None

    return parse_or_null


_strict = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)
_mending = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_or_null(_integer),
    parse_float=_or_null(_number),
    parse_constant=_or_null(_constant),
)
