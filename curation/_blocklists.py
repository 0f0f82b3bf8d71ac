"""Lists of addresses, domains and hashes that are published as files, and addresses made alike.

A list is a text file with an entry a line: a domain, an address, a hash of 32, 40, 64 or 128
hexadecimal digits, or a line of a hosts file (`0.0.0.0 domain`). `#` and `!` begin a comment. A
folder holds lists at any depth, as that of the University of Toulouse, whose `adult/domains` and
`adult/urls` are two lists; each has the name of its path in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from contracts.errors import DataError
from curation._files import once

ENTRIES = {"by": pl.String, "list": pl.String, "entry": pl.String}
_LONGEST_HOST = 253
_WHITE = "".join(map(chr, range(0x21)))
_HASH = r"^(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$"
_LONGEST = 8192
"""Octets of an address that is read."""
_ADDRESS = (
    r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@)?"
    r"(\[[^\]/?#]*\]|[^/?#:]*)(?::[0-9]*)?(/[^#]*|\?[^#]*)?"
)


@once
def read(path: Path) -> pl.DataFrame:
    """Return the entries of a file or of all files under a folder, each once.

    Returns:
        `by` ("domain", "url" or "hash"), `list`, `entry` as `addresses` makes them.

    Raises:
        DataError: a file is no text in UTF-8, or a line is no entry (65).
    """
    found = [pl.DataFrame(schema=ENTRIES)]
    for name, file in _files(path):
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: is no list: not UTF-8 at octet {error.start}.") from error
        found.append(_entries(pl.Series("line", text.splitlines(), dtype=pl.String), name, file))
    return pl.concat(found).unique().sort("by", "entry", "list")


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield path.stem, path
        return
    for member in sorted(path.rglob("*")):
        if member.is_file() and not member.name.startswith("."):
            yield member.relative_to(path).as_posix(), member


def _entries(lines: pl.Series, name: str, file: Path) -> pl.DataFrame:
    line = pl.col("line").str.replace(r"(?:^|\s)[#!].*", "").str.strip_chars()
    hosts = r"^(?:0\.0\.0\.0|127\.0\.0\.1|::1?|fe80::1%lo0)\s+"
    said = (
        lines.to_frame().with_row_index("number", 1)
        .with_columns(line.str.replace(hosts, ""))
        .filter(pl.col("line") != "")
    )  # fmt: skip
    odd = said.filter(pl.col("line").str.contains(r"[\s|^*$,]"))
    if odd.height:
        number, text = odd.row(0)
        raise DataError(
            f"{file}: line {number} is no domain, address, hash or line of a hosts file: "
            f"{text[:80]!r}. Rules of blockers of advertisements are not read."
        )
    is_hash = said["line"].str.to_lowercase().str.contains(_HASH)
    hashes = said.filter(is_hash).select(
        by=pl.lit("hash"), list=pl.lit(name), entry=pl.col("line").str.to_lowercase()
    )
    rest = said.filter(~is_hash)["line"]
    made = addresses(rest)
    is_domain = made["rest"] == ""
    others = made.select(
        by=pl.when(is_domain).then(pl.lit("domain")).otherwise(pl.lit("url")),
        list=pl.lit(name),
        entry=pl.col("host") + pl.col("rest"),
    )
    return pl.concat([hashes, others.drop_nulls("entry")])


def addresses(urls: pl.Series) -> pl.DataFrame:
    """Return `host` and `rest` of addresses, made alike: equal ones lead to the same place.

    Scheme, user, port, fragment, a dot behind the host and a slash at the end are left out; the
    host is in small letters, without %-signs and, where it is not ASCII, in punycode. An address
    without a scheme begins with its host. Null where there is no host, or one longer than a name
    can be, and of more than 8,192 octets.
    """
    short = pl.when(pl.col("url").str.len_bytes() <= _LONGEST).then("url")
    # As browsers read them: a line break is nothing, and a host follows any number of slashes.
    schemed = short.str.replace_all(r"[\t\n\r]", "").str.strip_chars(_WHITE)
    schemed = schemed.str.replace_all("\\", "/", literal=True)
    schemed = schemed.str.replace(r"^(?i:https?):/*", "//")
    has_scheme = schemed.str.contains(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
    whole = pl.when(has_scheme).then(schemed).otherwise("//" + schemed)
    parts = (
        urls.alias("url")
        .to_frame()
        .select(
            host=whole.str.extract(_ADDRESS, 1).str.to_lowercase().str.strip_chars_end("."),
            rest=whole.str.extract(_ADDRESS, 2).fill_null("").str.strip_chars_end("/"),
        )
    )
    is_host = pl.col("host").str.len_bytes().is_between(1, _LONGEST_HOST)
    parts = parts.select(pl.when(is_host).then(pl.all()))
    is_foreign = parts["host"].str.contains(r"[^\x00-\x7f]|%").fill_null(False)
    if is_foreign.any():
        different = parts["host"].filter(is_foreign).unique()
        names = {host: _punycode(host) for host in different}
        parts = parts.with_columns(pl.col("host").replace(names))
    return parts


def _punycode(host: str) -> str:
    host = unquote(host).lower()
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
