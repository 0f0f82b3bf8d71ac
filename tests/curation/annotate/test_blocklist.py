"""Addresses, domains and hashes on lists: each form of a list, and what is just not on one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation.annotate.blocklist import blocklist

MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture
def lists(tmp_path: Path) -> str:
    for name, text in {
        "ut1/adult/domains": "Bad.example\n",
        "ut1/adult/urls": "shared.example/~bad/\nshared.example/page?id=7\n",
        "hosts": "# made by hand\n127.0.0.1 localhost\n0.0.0.0 ads.example # x\n::1 six.example\n",
        "plain.txt": "! a comment\n\nhttps://müller.example:8080/x/#top\nxn--bcher-kva.example.\n",
        "hashes.txt": f"{MD5.upper()}\r\n",
        ".git": "not | a | list",
    }.items():
        path = tmp_path / "lists" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(tmp_path / "lists")


def table(*urls: str | None, **columns: pl.Series) -> pl.DataFrame:
    uids = pl.int_range(len(urls), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "url": pl.Series(urls, dtype=pl.String), **columns})


LISTED = {
    "https://bad.example/any?x#y": ("domain", "ut1/adult/domains", "bad.example"),
    "HTTP://user:pw@WWW.Bad.Example.:8080": ("domain", "ut1/adult/domains", "bad.example"),
    "//cdn.a.bad.example": ("domain", "ut1/adult/domains", "bad.example"),
    "bad.example": ("domain", "ut1/adult/domains", "bad.example"),
    "http:\\\\bad.example\\x": ("domain", "ut1/adult/domains", "bad.example"),
    "http:/bad.example": ("domain", "ut1/adult/domains", "bad.example"),
    "https:///bad.example": ("domain", "ut1/adult/domains", "bad.example"),
    "\x01http://b\tad.exa\nmple/": ("domain", "ut1/adult/domains", "bad.example"),
    "http://b%61d.example/": ("domain", "ut1/adult/domains", "bad.example"),
    "http://shared.example/~bad": ("url", "ut1/adult/urls", "shared.example/~bad"),
    "http://shared.example/~bad/?q=1#z": ("url", "ut1/adult/urls", "shared.example/~bad"),
    "https://shared.example/page?id=7": ("url", "ut1/adult/urls", "shared.example/page?id=7"),
    "https://x.ads.example/": ("domain", "hosts", "ads.example"),
    "https://six.example": ("domain", "hosts", "six.example"),
    "https://MÜLLER.example/x": ("url", "plain.txt", "xn--mller-kva.example/x"),
    "https://www.bücher.example": ("domain", "plain.txt", "xn--bcher-kva.example"),
}
NOT_LISTED = [
    "https://notbad.example",
    "https://bad.example.org",
    "https://example",
    "https://shared.example/~bad/below",
    "https://shared.example/~BAD",
    "https://www.shared.example/~bad",
    "https://shared.example/page?id=8",
    "https://good.example/bad.example",
    "https://good.example/?u=https://bad.example",
    "https://bad.example@good.example",
    "https://bad.example/" + "x" * 8192,
    "https://",
    "data:,x",
    "",
    "مثال",
    "a." * 5_000_000,
]


def test_an_address_is_listed_by_itself_or_its_domain_however_it_is_written(lists: str):
    found = blocklist(table(*LISTED), lists=lists)["hits"].to_list()
    for (url, expected), hits in zip(LISTED.items(), found, strict=True):
        assert [tuple(hit.values()) for hit in hits] == [expected], url


def test_what_only_looks_like_an_entry_is_not_listed_and_a_null_is_not_measured(lists: str):
    found = blocklist(table(*NOT_LISTED, None), lists=lists)
    assert found["listed"].to_list() == [False] * len(NOT_LISTED) + [None]
    assert found["hits"].to_list() == [[]] * len(NOT_LISTED) + [None]


def test_hashes_are_listed_in_digits_or_octets_and_beside_addresses(lists: str):
    digits = pl.Series("digest", [MD5, MD5[:-1] + "f", None])
    rows = table("https://bad.example", None, None).with_columns(digits)
    found = blocklist(rows, lists=lists)
    assert found["listed"].to_list() == [True, False, None]
    assert [hit["by"] for hit in found["hits"][0]] == ["domain", "hash"]
    octets = table(None).select("uid", digest=pl.lit(bytes.fromhex(MD5)))
    assert blocklist(octets, lists=f"{lists}/hashes.txt")["hits"].to_list() == [
        [{"by": "hash", "list": "hashes", "entry": MD5}]
    ]


def test_rules_of_blockers_and_other_files_are_refused_by_their_place(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("good.example\n||ads.example^\n")
    with pytest.raises(DataError, match=r"list.txt: line 2 is no domain.*'\|\|ads"):
        blocklist(table("x"), lists=str(path))
    (tmp_path / "octets").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8 at octet 0"):
        blocklist(table("x"), lists=str(tmp_path / "octets"))
    with pytest.raises(ConfigError, match="lists: is required"):
        blocklist(table("x"))
    with pytest.raises(ConfigError, match="bind url or digest"):
        blocklist(table("x").select("uid"), lists=str(path))


def test_a_list_that_was_changed_is_read_anew(lists: str):
    rows = table("https://late.example")
    assert blocklist(rows, lists=lists)["listed"].to_list() == [False]
    (Path(lists) / "hosts").write_text("0.0.0.0 late.example\n", encoding="utf-8")
    assert blocklist(rows, lists=lists)["listed"].to_list() == [True]
