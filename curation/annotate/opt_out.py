"""Whether who publishes a record says that it is not for training, as pools write it down."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from curation.step import Role, one_of, rowwise

WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives before a colon, which are no robots."""
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex")
Agent = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_-]+$")]


@rowwise(
    version=1,
    reads={
        "robots": Role(pl.String, default="meta.x_robots_tag", optional=True),
        "reservation": Role((pl.Int64, pl.String, pl.Boolean), optional=True),
    },
    writes={"opted_out": pl.Boolean, "directives": pl.List(pl.String)},
    check=one_of("robots", "reservation"),
)
def opt_out(rows: pl.DataFrame, *, agent: Agent = None) -> pl.DataFrame:
    """Read what a pool keeps of X-Robots-Tag, `meta` robots and the reservation of text mining.

    A record is opted out by `noai`, `noimageai`, `noindex` or `noimageindex`, by `none`, which
    stands for `noindex` and another, or by a reservation of 1. Directives are separated by commas,
    several headers by line breaks. One that begins with the name of a robot, as in `otherbot:
    noai`, is for that robot alone, as are those behind it in the header: they count where the name
    is that of `agent`.

    Reads:
        robots: values of the header X-Robots-Tag, or of the element `meta name="robots"`.
        reservation: of TDM-Reservation or `tdm-reservation`: 1, "1" or true where the rights
            are reserved.
    Args:
        agent: the name by which a robot is addressed; by itself only what all are told counts.
    Reference: Beaumont et al., img2dataset, `disallowed_header_directives`, whose four these are;
    W3C Community Group 2024, TDM Reservation Protocol.
    Writes:
        opted_out: null where no role that is bound says anything.
        directives: those of the four that count, sorted; null where `robots` is null or unbound.
    Cost: O(characters).
    Raises:
        ConfigError: neither role is bound.
    """
    nothing = pl.lit(None, dtype=pl.List(pl.String))
    told = _directives(agent) if "robots" in rows.columns else nothing
    reserved = pl.lit(None, dtype=pl.Boolean)
    if "reservation" in rows.columns:
        value = pl.col("reservation").cast(pl.String).str.strip_chars().str.to_lowercase()
        reserved = value.is_in(["1", "true"])
    found = rows.select(directives=told, reserved=reserved)
    by_robots = pl.col("directives").list.len() > 0
    return found.select(
        opted_out=pl.when(by_robots.is_not_null() | pl.col("reserved").is_not_null()).then(
            by_robots.fill_null(False) | pl.col("reserved").fill_null(False)
        ),
        directives="directives",
    )


def _directives(agent: str | None) -> pl.Expr:
    """Return which of the directives are for everyone, or for the agent."""
    header = pl.element().str.strip_chars()
    named = header.str.extract(r"^([a-z0-9_-]+)\s*:", 1)
    is_other = named.is_not_null() & ~named.is_in(WITH_VALUE)
    if agent is not None:
        is_other &= named != agent.casefold()
    is_value = named.is_in(WITH_VALUE).fill_null(False)
    without_name = header.str.replace(r"^[a-z0-9_-]+\s*:", "")
    counted = pl.when(~is_other).then(pl.when(is_value).then(header).otherwise(without_name))
    lines = pl.col("robots").str.to_lowercase().str.split("\n").list.eval(counted.drop_nulls())
    words = lines.list.join(",").str.split(",").list.eval(pl.element().str.strip_chars())
    words = words.list.eval(pl.element().replace("none", "noindex"))
    return words.list.set_intersection(list(DIRECTIVES)).list.sort()
