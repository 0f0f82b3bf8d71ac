"""Whether a record's address, its domain or its hash is on a list, and on which."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from contracts.params import FileOrFolder
from curation import _blocklists
from curation.step import Role, one_of, rowwise

HIT = {"by": pl.String, "list": pl.String, "entry": pl.String}
HITS = pl.List(pl.Struct(HIT))


@rowwise(
    version=1,
    reads={
        "url": Role(pl.String, default="meta.url", optional=True),
        "digest": Role((pl.String, pl.Binary), optional=True),
    },
    writes={"listed": pl.Boolean, "hits": HITS},
    check=one_of("url", "digest"),
)
def blocklist(rows: pl.DataFrame, *, lists: FileOrFolder) -> pl.DataFrame:
    """Look a record up in published lists of domains, addresses and hashes.

    A domain on a list stands for all that is below it, not for `notexample.com`; an address for
    itself, with and without its query. Scheme, user, port, fragment, a dot behind the host and a
    slash at the end count for nothing, nor does the case of the host, which is compared in
    punycode where it is not ASCII.

    Reads:
        url: where the record comes from.
        digest: a hash of it, in hexadecimal digits or octets: MD5, SHA-1, SHA-256 or SHA-512. A
            list of one kind finds only hashes of that kind.
    Args:
        lists: a file, or a folder of them at any depth: a domain, address or hash a line, or hosts
            files. `#` and `!` begin a comment; rules of blockers of advertisements are refused.
    Reference: the URL filter of FineWeb, Penedo et al. 2024, arXiv:2406.17557, section 3.3, which
        uses the lists of the University of Toulouse.
    Writes:
        listed: whether there is a hit; null where every bound role is null.
        hits: `by` "url", "domain" or "hash": the `list`, by its path in the folder, and the
            `entry`; in order of the entries. Null where `listed` is.
    Cost: a search in sorted entries for each label of the host; the lists are read once a process.
    Raises:
        ConfigError: neither role is bound.
        DataError: a list has a line of another kind.
    """
    assert lists is not None, "lists has no default"
    entries = _blocklists.read(Path(lists))
    keyed = [pl.DataFrame(schema={"row": pl.UInt32, "by": pl.String, "entry": pl.String})]
    if "url" in rows.columns:
        keyed += _of_urls(rows["url"])
    if "digest" in rows.columns:
        keyed.append(_of_digests(rows["digest"]))
    hits = (
        pl.concat(keyed)
        .unique()
        .join(entries, on=["by", "entry"], how="inner")
        .sort("row", "by", "entry", "list")
        .group_by("row", maintain_order=True)
        .agg(hits=pl.struct(*HIT))
    )
    every = rows.with_row_index("row").join(hits, on="row", how="left", maintain_order="left")
    there = pl.any_horizontal(pl.col(c).is_not_null() for c in ("url", "digest") if c in every)
    none = pl.lit([], dtype=HITS)
    return every.select(
        listed=pl.when(there).then(pl.col("hits").is_not_null()),
        hits=pl.when(there).then(pl.col("hits").fill_null(none)),
    )


def _of_urls(urls: pl.Series) -> list[pl.DataFrame]:
    """Return what entries an address may have: itself, without its query, and its domains."""
    made = _blocklists.addresses(urls).with_row_index("row").drop_nulls("host")
    path = pl.col("rest").str.replace(r"\?.*", "").str.strip_chars_end("/")
    found = [
        made.filter(rest != "").select("row", by=pl.lit("url"), entry=pl.col("host") + rest)
        for rest in (pl.col("rest"), path)
    ]
    while made.height:
        found.append(made.select("row", by=pl.lit("domain"), entry="host"))
        below = made.filter(pl.col("host").str.contains(".", literal=True))
        made = below.with_columns(pl.col("host").str.replace(r"^[^.]*\.", ""))
    return found


def _of_digests(digests: pl.Series) -> pl.DataFrame:
    digit = pl.col("entry")
    digits = digit.bin.encode("hex") if digests.dtype == pl.Binary else digit.str.to_lowercase()
    table = digests.alias("entry").to_frame().with_row_index("row").drop_nulls("entry")
    return table.select("row", by=pl.lit("hash"), entry=digits)
