"""Write a recipe as TOML: scalars, lists, tables and lists of tables, in the order given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(content: Mapping[str, Any]) -> str:
    """Return the TOML text of a recipe; None has no TOML form and is left out.

    >>> print(dumps({"name": "web", "select": [{"where": "a.b > 1"}]}), end="")
    name = "web"
    <BLANKLINE>
    [[select]]
    where = "a.b > 1"
    """
    return "\n".join(_section(content, ())) + "\n"


def _section(content: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    for key, value in content.items():
        where = (*path, key)
        if isinstance(value, Mapping):
            body = _section(value, where)
            scalars = not value or any(not isinstance(v, Mapping) for v in value.values())
            inner += (["", f"[{_dotted(where)}]"] if scalars else []) + body
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                inner += ["", f"[[{_dotted(where)}]]", *_section(item, where)]
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + inner


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(_key(part) for part in path)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, str):
        # JSON escapes are TOML's, but for the surrogate pairs that ensure_ascii would make.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
