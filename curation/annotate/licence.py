"""The licence a record states, as an SPDX expression, if it is allowed, and the credit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from contracts.errors import ConfigError, nearest
from curation.step import Parameters, Role, rowwise

LONGEST = 500
"""Characters of a statement that is read; a longer one is a licence's text, not its name."""
DEEPEST = 20
"""Brackets in an expression that is read."""
_LIST = Path(__file__).parent.parent / "spdx.tsv"
_EXCEPTIONS = Path(__file__).parent.parent / "spdx_exceptions.txt"
_PIECE = re.compile(r"[^\W\d_]+|[0-9]+(?:\.[0-9]+)*")
_NAME = re.compile(r"[\w\s.,:;/+&()\"'‘’“”-]+")
"""What a name is written with; a sign such as ? or ! says something else."""
_TOKEN = re.compile(r"[()]|[^\s()]+")
_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/([a-z+-]+)/([0-9.]+)(?:/(?!rdf\b)([a-z]{2,3}))?"
    r"|(publicdomain)/(zero|mark)/([0-9.]+))"
    r"(?:/(?:deed|legalcode|rdf)(?:\.[a-z_-]+)?)?(?:/?[?#]\S*)?"
)
_BY_ID = re.compile(r"(?:spdx|opensource)\.org/licenses?/([^/]+?)(?:\.html)?")
_HOST = re.compile(r"[^/\s]+\.[a-z]{2,}/")
_FILLERS = frozenset(
    ("the", "a", "licence", "license", "licensed", "under", "version", "v", "international",
     "unported", "generic")
)  # fmt: skip


def _writes(parameters: Parameters) -> dict[str, Any]:
    known = _licences().by_id
    for name in parameters["allow"]:
        if name.casefold() not in known:
            raise ConfigError(
                f"licence.allow: {name!r} is no SPDX identifier.{nearest(name, known.values())}"
            )
    return {"spdx": pl.String, "allowed": pl.Boolean, "attribution": pl.String}


@rowwise(
    version=1,
    reads={
        "licence": Role(pl.String, default="meta.license"),
        "creator": Role(pl.String, optional=True),
        "title": Role(pl.String, optional=True),
        "url": Role(pl.String, optional=True),
    },
    writes=_writes,
)
def licence(rows: pl.DataFrame, *, allow: Sequence[str] = ()) -> pl.DataFrame:
    """Name a stated licence by SPDX's identifiers, and say whether it is one of those allowed.

    Read are SPDX expressions in any case (`mit`, `MIT OR Apache-2.0`, `(MIT/Apache-2.0)`,
    `GPL-2.0+`), the names of licences with or without "the", "License" and "Version", addresses of
    Creative Commons and those that SPDX lists. A name without a version counts where there is one
    version only: `odc-by` is ODC-By-1.0, `CC BY` could be seven and is none. What is not surely
    one licence is null, never the likeliest.

    An expression is allowed if one side of each OR and both of each AND are. An exception (WITH)
    that SPDX lists only adds permissions, so its licence decides; another, such as the Commons
    Clause, may take some away, and the expression is not recognised.

    Reads:
        licence: the statement: a name, an expression or an address.
        creator: whom to credit.
        title: of the work.
        url: where it is.
    Args:
        allow: SPDX identifiers in any case, old ones too. None are allowed by themselves, nor does
            one stand for another: "CC-BY-4.0" is not "CC-BY-3.0".
    Reference: SPDX specification 2.3, annex D; its list of licences.
    Writes:
        spdx: the expression; null where the statement is null or not recognised.
        allowed: null where `spdx` is.
        attribution: title, creator, url and licence in one line, as far as they are there; null
            without a creator or a recognised licence, so that a rule can ask for it.
    Cost: O(different statements).
    Raises:
        ConfigError: an identifier of `allow` is not in SPDX's list.
    """
    stated = rows["licence"].unique().drop_nulls()
    read = [(text, _expression(text)) for text in stated]
    by_id = _licences().by_id
    allowed = frozenset(_current(by_id[name.casefold()], by_id) for name in allow)
    table = pl.DataFrame(
        [(text, str(tree), _allowed(tree, allowed)) for text, tree in read if tree],
        schema={"licence": pl.String, "spdx": pl.String, "allowed": pl.Boolean},
        orient="row",
    )
    found = rows.join(table, on="licence", how="left", maintain_order="left")
    return found.select("spdx", "allowed", attribution=_attribution(found.columns))


def _attribution(columns: Sequence[str]) -> pl.Expr:
    credit = pl.lit("")
    if "creator" not in columns:
        return pl.lit(None, pl.String)
    if "title" in columns:
        credit += pl.format('"{}" ', pl.col("title")).fill_null("")
    credit += pl.format("by {}", pl.col("creator"))
    if "url" in columns:
        credit += pl.format(" ({})", pl.col("url")).fill_null("")
    return credit + pl.format(", {}", pl.col("spdx"))


class Tree(NamedTuple):
    """An expression: an identifier without parts, or parts joined by AND, OR or WITH."""

    name: str
    parts: tuple[Tree, ...] = ()

    def __str__(self) -> str:
        if not self.parts:
            return self.name
        inner = (f"({p})" if self.name == "AND" and p.name == "OR" else str(p) for p in self.parts)
        return f" {self.name} ".join(inner)


def _allowed(tree: Tree, allow: frozenset[str]) -> bool:
    if not tree.parts:
        return tree.name in allow
    if tree.name == "WITH":
        return _allowed(tree.parts[0], allow)
    combine: Callable[[Iterator[bool]], bool] = all if tree.name == "AND" else any
    return combine(_allowed(part, allow) for part in tree.parts)


class _Licences(NamedTuple):
    """SPDX's list.

    Attributes:
        by_id: the identifiers by themselves without case.
        by_key: those that one name without fillers can mean.
        by_url: those that an address means, without scheme, `www.` and slash at the end.
        exceptions: the identifiers of exceptions by themselves without case.
    """

    by_id: dict[str, str]
    by_key: dict[str, str]
    by_url: dict[str, str]
    exceptions: dict[str, str]


@cache
def _licences() -> _Licences:
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    by_id = {name.casefold(): name for name, _, _ in rows}
    meant: dict[str, set[str]] = {}
    unversioned: dict[str, set[str]] = {}
    for name, title, _ in rows:
        current = _current(name, by_id)
        for text in (name, title, title.replace("Creative Commons", "CC")):
            meant.setdefault(_key(text), set()).add(current)
            unversioned.setdefault(_key(text, versioned=False), set()).add(current)
    keys = {key: names for key, names in unversioned.items() if key not in meant} | meant
    urls = Counter(_address(url) for _, _, url in rows)
    by_url = {_address(u): _current(n, by_id) for n, _, u in rows if urls[_address(u)] == 1 and u}
    by_key = {key: min(names) for key, names in keys.items() if len(names) == 1 and key}
    exceptions = {name.casefold(): name for name in _EXCEPTIONS.read_text("utf-8").split()}
    return _Licences(by_id, by_key, by_url, exceptions)


def _current(name: str, by_id: dict[str, str]) -> str:
    """Return the identifier that has taken the place of an old one, such as GPL-2.0."""
    if name.endswith("+"):
        return by_id.get(f"{name[:-1]}-or-later".casefold(), name)
    return by_id.get(f"{name}-only".casefold(), name)


def _key(text: str, *, versioned: bool = True) -> str:
    """Return the words of a name without fillers, and without the version at the end."""
    pieces = [piece for piece in _PIECE.findall(text.casefold()) if piece not in _FILLERS]
    if not versioned and len(pieces) > 1 and pieces[-1][0].isdigit():
        pieces.pop()
    return "".join(re.sub(r"(\.0)+$", "", piece) for piece in pieces)


def _address(url: str) -> str:
    return re.sub(r"^(?:https?:)?//(?:www\.)?", "", url.strip().casefold()).rstrip("/")


def _expression(text: str) -> Tree | None:
    """Return what a statement means, None where that is not sure."""
    text = text.strip()
    if not text or len(text) > LONGEST or text.count("(") > DEEPEST:
        return None
    address = _address(text)
    if _HOST.match(address):
        return _of_address(address)
    tokens = _TOKEN.findall(re.sub(r"(?<=\S)/(?=\S)", " OR ", text))
    tree, rest = _any(tokens)
    if tree is not None and not rest:
        return tree
    return _leaf(_licences().by_key.get(_key(text)) if _NAME.fullmatch(text) else None)


def _of_address(address: str) -> Tree | None:
    listed = _licences()
    found = _CREATIVE_COMMONS.fullmatch(address)
    if found:
        terms, version, port, _, domain, of_domain = found.groups()
        names = {"zero": f"cc0-{of_domain}", "mark": f"cc-pdm-{of_domain}"}
        name = names[domain] if domain else f"cc-{terms}-{version}"
        return _leaf(listed.by_id.get(f"{name}-{port}" if port else name))
    if found := _BY_ID.fullmatch(address):
        return _leaf(listed.by_id.get(found[1]), listed.by_id)
    return _leaf(listed.by_url.get(address))


def _leaf(name: str | None, by_id: dict[str, str] | None = None) -> Tree | None:
    if name is None:
        return None
    return Tree(_current(name, by_id) if by_id else name)


def _any(tokens: list[str]) -> tuple[Tree | None, list[str]]:
    return _joined(tokens, "OR", lambda rest: _joined(rest, "AND", _single))


def _joined(
    tokens: list[str], word: str, read: Callable[[list[str]], tuple[Tree | None, list[str]]]
) -> tuple[Tree | None, list[str]]:
    """Read parts that a word joins; return the tree and what stands behind it."""
    parts = []
    while True:
        tree, tokens = read(tokens)
        if tree is None:
            return None, tokens
        parts.append(tree)
        if not tokens or tokens[0].upper() != word:
            return (parts[0] if len(parts) == 1 else Tree(word, tuple(parts))), tokens
        tokens = tokens[1:]


def _single(tokens: list[str]) -> tuple[Tree | None, list[str]]:
    """Read an identifier, with an exception or without, or what stands in brackets."""
    if not tokens:
        return None, tokens
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        tree, rest = _any(rest)
        return (tree, rest[1:]) if rest and rest[0] == ")" else (None, rest)
    by_id, exceptions = _licences().by_id, _licences().exceptions
    name = by_id.get(first.casefold()) or by_id.get(f"{first[:-1]}-or-later".casefold())
    if name is None or (not first.endswith("+") and first.casefold() not in by_id):
        return None, tokens
    tree = Tree(_current(name, by_id))
    if len(rest) > 1 and rest[0].upper() == "WITH" and rest[1].casefold() in exceptions:
        return Tree("WITH", (tree, Tree(exceptions[rest[1].casefold()]))), rest[2:]
    return tree, rest
