"""Lines that many records of a domain have: menus, notices, cookie banners."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from contracts.params import Count
from contracts.uid import uids_of
from curation import _paragraphs, _spans
from curation.step import Role, groupwise

_HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?(?:[^/@?#]*@)?(?:[wW]{3}\.)?([^/:?#\s]+)"


def _keys(rows: pl.DataFrame, *, min_words: int, **_others: int) -> pl.Series:
    """Return a number for each line of the text in its domain, else the text's uid."""
    found = _paragraphs.long(_in_domains(rows), min_words)
    hosts = found["host"].unique()
    numbers = pl.DataFrame({"host": hosts, "number": uids_of("host", hosts)})
    keys = (
        found.join(numbers, on="host")
        .group_by("uid")
        .agg(key=(pl.col("key") ^ pl.col("number")).unique())
    )
    return _paragraphs.listed(rows, keys)


@groupwise(
    version=1,
    reads={"text": Role(pl.String), "domain": Role(pl.String)},
    writes={
        "repeated_ratio": pl.Float32,
        "records": pl.UInt32,
        "spans": _spans.SPANS,
        "characters": pl.UInt32,
    },
    keys=_keys,
    merge=_paragraphs.folded,
)
def boilerplate(
    groups: pl.DataFrame,
    *,
    min_records: Annotated[int, Field(ge=2)] = 3,
    min_words: Count = 1,
) -> pl.DataFrame:
    """Mark the lines that at least `min_records` records of the same domain have, in each of them.

    A line is without the white space around it, and the same where its words are, after NFKC and
    case folding and without punctuation (curation/_shingles.py says what a word is). Unlike
    `repeated_paragraphs`, no record keeps its own: what a domain repeats is none's text.

    Reads:
        text: whose lines are compared.
        domain: a host, or an address, whose host is taken, without `www.` and in lower case. A
            record without one shares its lines with none.
    Args:
        min_records: fewer records of a domain that share a line are chance.
        min_words: lines of fewer words are never marked.
    Reference: Kohlschütter, Fankhauser and Nejdl 2010, Boilerplate Detection using Shallow Text
        Features, WSDM, section 2, for templates that pages of a site share; Wenzek et al. 2019,
        CCNet, arXiv:1911.00359, section 3.1, which drops paragraphs that other pages have, in
        shards of the whole crawl.
    Writes:
        repeated_ratio: share of the characters of the text's lines in marked ones; in [0, 1].
        records: of the domain that have the line of this text which most have, itself among them;
            0 without a domain or a line that is long enough.
        spans: `start` and `end` of each marked line, ascending, in characters.
        characters: in lines, so without line breaks and the white space beside them. All null for
            a null text.
    Cost: 12 bytes a line through disk, O(bytes) for the keys, and again for each block of lines
        that has one of the text.
    """
    rows = groups.unique("uid").sort("uid")
    long = _paragraphs.long(_in_domains(rows), min_words)
    same = ("host", "key", "form")
    met = long.join(_paragraphs.forms(long), on=("key", "line"), how="left", maintain_order="left")
    met = met.with_columns(records=pl.col("uid").n_unique().over(same))
    most = met.group_by("uid").agg(pl.col("records").max())
    characters = (pl.col("end") - pl.col("start")).sum().cast(pl.UInt32)
    records = _paragraphs.of(rows).group_by("uid").agg(characters=characters)
    records = records.join(most, on="uid", how="left").with_columns(pl.col("records").fill_null(0))
    marked = met.filter(pl.col("records") >= min_records).select("uid", "start", "end")
    return _spans.spanned(records, marked).select(
        "uid", "repeated_ratio", "records", "spans", "characters"
    )


def _in_domains(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of texts that have a domain, each with its `host`."""
    host = pl.col("domain").str.extract(_HOST).str.to_lowercase()
    hosts = rows.select("uid", host=host).drop_nulls("host")
    return _paragraphs.of(rows).join(hosts, on="uid", maintain_order="left")
