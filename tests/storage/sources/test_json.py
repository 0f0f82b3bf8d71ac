"""The fast parser's answer stands only where the strict parser gives the same."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from contextlib import suppress
from typing import Any

import orjson
import pytest

from storage.source import Refused
from storage.sources._json import parse_object, parse_objects

LINES = 100_000 if os.environ.get("WINNOW_SOAK") else 10_000
_STRINGS = (
    "", "a", "text", 'a "quoted" word', "back\\slash", 'both \\" of them', "\\", '\\\\"', "a:b",
    "{", "}]", "\u00e9", "\u2028", "\U0001f600", "\x00", "\x1f", "\x7f", "line\nend", "\ufeff", '"',
)  # fmt: skip
_NUMBERS = (
    "0", "-0", "1", "-1", "1.0", "-0.0", "0.1", "1e5", "1E-7", "1e400", "-1e400", "1e-400",
    "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "1e18", "1e19",
    "123456789012345678901234567890", "9.5e18", "01", "1.", ".5", "+1", "NaN", "Infinity", "1e",
    "2.2250738585072011e-308", "0.30000000000000004",
)  # fmt: skip
_SPACES = ("", "", "", "", " ", "\t", "\r", "  ", "\n ")


def _string(rng: random.Random) -> str:
    text = "".join(rng.choices(_STRINGS, k=rng.choice((1, 1, 1, 2, 3))))
    escaped = json.dumps(text, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1:
        escaped = escaped.replace("a", rng.choice(("\\u0061", "\\u003a", "\\u003A", "\\u0022")))
    if rng.random() < 0.01:
        escaped = rng.choice(('"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\x"', '"\t"'))
    return escaped


def _value(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth < 4 and kind < 0.12:
        return _object(rng, depth + 1)
    if depth < 4 and kind < 0.2:
        inner = (_value(rng, depth + 1) for _ in range(rng.randrange(4)))
        return f"[{','.join(inner)}]"
    if kind < 0.6:
        return _string(rng)
    if kind < 0.9:
        return rng.choice(_NUMBERS if rng.random() < 0.2 else _NUMBERS[:9])
    return rng.choice(("true", "false", "null"))


def _object(rng: random.Random, depth: int = 0) -> str:
    names = [json.dumps(name) for name in rng.sample(("id", "text", "n", 'k"', "\u00e9"), 3)]
    if rng.random() < 0.05:
        names.append(rng.choice((*names, '"\\u0069d"', '"te\\u0078t"')))
    space = rng.choice(_SPACES)
    pairs = (f"{space}{name}{space}:{space}{_value(rng, depth)}{space}" for name in names)
    return f"{{{','.join(pairs)}}}"


def _line(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.002:
        depth = rng.randrange(14, 80)
        return b'{"a":' * depth + b"1" + b"}" * depth
    line = _object(rng).encode("utf-8", "surrogatepass")
    if kind < 0.05:
        at = rng.randrange(len(line) + 1)
        broken = (line[:at], line[:at] + bytes([rng.randrange(256)]) + line[at + 1 :], line[at:])
        return rng.choice(broken)
    return line


def _strictly(line: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(line)
    except Refused:
        return None


def _alike(lines: list[bytes]) -> list[list[bytes]]:
    """Return lines as those together that a fast parser gives the same keys, one by one."""
    groups: defaultdict[tuple[str, ...], list[bytes]] = defaultdict(list)
    for line in lines:
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(line)
            if isinstance(value, dict):
                groups[tuple(value)].append(line)
    return list(groups.values())


def test_both_parsers_agree_on_generated_lines():
    rng = random.Random(0)
    decided = refused = by_columns = 0
    for _ in range(LINES // 100):
        lines = [_line(rng) for _ in range(100)]
        for together in (lines, *_alike(lines)):
            rows, columns = parse_objects(together)
            for line, fast in zip(together, rows, strict=True):
                strict = _strictly(line)
                refused += strict is None
                if fast is not None:
                    decided += 1
                    # The text of a value tells -0.0 from 0.0, 1 from 1.0 and from True, and the
                    # order.
                    assert repr(fast) == repr(strict), line
            if columns is not None:
                by_columns += len(rows)
                values = zip(*columns.values(), strict=True)
                assert [dict(zip(columns, row, strict=True)) for row in values] == rows
    print(
        f"{LINES:,} lines, twice: {decided:,} decided by the fast parser, {by_columns:,} by "
        f"columns, {refused:,} are no objects"
    )
    assert decided > LINES
    assert by_columns > LINES / 4
    assert refused > LINES / 50


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1,"a":2,"b":3}',
        b'{"a":"\\":","a":2}',
        b'{"a":"\\u003a","b":{"c":1,"c":2}}',
        b'{"a":[{"b":"x","b":"y"}]}',
        b'{"a":18446744073709551616}',
        b'{"a":[-9223372036854775809]}',
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":"\\ud800"}',
        b'{"a":NaN}',
        b"[1]",
        b"",
    ],
)
def test_what_the_strict_parser_refuses_is_left_to_it(line: bytes):
    rows, columns = parse_objects([b'{"id":"r0"}', line, b'{"id":"r1"}'])
    assert rows == [{"id": "r0"}, None, {"id": "r1"}]
    assert columns is None
    with pytest.raises(Refused):
        parse_object(line)


@pytest.mark.parametrize("line", [b'{"a":"C:\\\\","b":"\\\\\\""}', b'{"a":"\\\\\\\\\\"x"}'])
def test_quotes_after_backslashes_are_told(line: bytes):
    assert parse_objects([line]).rows == [parse_object(line)]
