"""Opting out: what each form of it says, for everyone and for one robot."""

from __future__ import annotations

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.opt_out import opt_out


def table(*robots: str | None) -> pl.DataFrame:
    uids = pl.int_range(len(robots), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "robots": pl.Series(robots, dtype=pl.String)})


@pytest.mark.parametrize(
    ("robots", "directives"),
    [
        ("noai", ["noai"]),
        ("all, NoImageAI ,noai", ["noai", "noimageai"]),
        ("nofollow\r\nnoindex", ["noindex"]),
        ("unavailable_after: 25 Jun 2026 15:00:00 PST, noimageindex", ["noimageindex"]),
        ("max-image-preview: none, noai", ["noai"]),
        ("otherbot: noai, noindex\nnoimageindex", ["noimageindex"]),
        ("OurBot: noai", []),
        ("nofollow, noarchive", []),
        ("None", ["noindex"]),
        ("max-image-preview: none", []),
        ("noaim", []),
        ("do not say noai", []),
        ("", []),
        ("لا\u200b", []),
        ("noai" * 2_500_000, []),
        (None, None),
    ],
)
def test_only_the_four_directives_for_everyone_count(robots: str | None, directives: list[str]):
    found = opt_out(table(robots)).row(0, named=True)
    assert found["directives"] == directives
    assert found["opted_out"] is (None if directives is None else bool(directives))


def test_what_one_robot_is_told_counts_where_it_is_the_agent():
    told = table("ourbot: noai", "otherbot: noai", "noindex")
    assert opt_out(told, agent="OurBot")["opted_out"].to_list() == [True, False, True]


def test_reserved_rights_count_beside_directives_and_nothing_said_is_null():
    rows = table(None, None, None, "noai", "all")
    for values in (
        [1, 0, None, 0, 1],
        ["1", " 0", None, "0", "1"],
        ["True", "False", None, "0", "1"],
        [True, False, None, False, True],
    ):
        found = opt_out(rows.with_columns(reservation=pl.Series(values)))
        assert found["opted_out"].to_list() == [True, False, None, True, True]
    with pytest.raises(ConfigError, match="bind robots or reservation"):
        opt_out(rows.select("uid"))
