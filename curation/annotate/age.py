"""The date that a record's metadata, its URL or its text gives, in that order."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import polars as pl
from pydantic import Field

from curation import _lines
from curation.step import Parameters, Role, one_of, rowwise

Year = Annotated[int, Field(ge=1, le=9999)]

_YEAR = r"(?P<year>1[89][0-9]{2}|20[0-9]{2})"
_MONTH = r"(?P<month>0?[1-9]|1[0-2])"
_BEHIND = r"(?:[/_.?#-]|$)"
_DAY = r"(?P<day>0?[1-9]|[12][0-9]|3[01])"
_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBERS = {name: f"{number + 1:02}" for number, name in enumerate(_NAMES)}
_NAMED = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
# Of Rust's regular expressions, which never go back; those ahead in a list are asked first.
PATTERNS = {
    "metadata": (
        rf"^\s*{_YEAR}(?:-{_MONTH}(?:-{_DAY})?)?(?:$|[T ])",
        rf"^\s*{_YEAR}(?P<month>[01][0-9])(?P<day>[0-3][0-9])(?:[0-9]{{6}})?$",
        rf"(?i)^\s*(?:[a-z]{{3}},? )?{_DAY} {_NAMED} {_YEAR}",
    ),
    "url": (
        rf"/{_YEAR}(?P<month>[01][0-9])(?P<day>[0-3][0-9]){_BEHIND}",
        rf"/{_YEAR}(?:[/_-]{_MONTH}(?:[/_-]{_DAY})?)?{_BEHIND}",
    ),
    "text": (
        rf"\b{_YEAR}-{_MONTH}-{_DAY}(?:T[0-9]|\b)",
        rf"(?i)\b(?:{_DAY}(?:st|nd|rd|th)?(?: of)? )?{_NAMED},? {_YEAR}\b",
        rf"(?i)\b{_NAMED} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}\b",
        rf"(?i)(?:©|copyright(?: \(c\)| ©)?) ?(?:[0-9]{{4}} ?[-–] ?)?{_YEAR}\b",
    ),
}
_SECONDS = r"^\s*([0-9]{9,10})(?:[0-9]{3})?\s*$"


def _check(parameters: Parameters, bound: Collection[str]) -> str | None:
    first, last = parameters["first_year"], parameters["last_year"]
    if first > last:
        return f"first_year is {first}, after last_year {last}."
    return one_of("date", "url", "text")(parameters, bound)


@rowwise(
    version=1,
    reads={
        "date": Role((pl.String, pl.Date, pl.Datetime, pl.Int64, pl.Float64), optional=True),
        "url": Role(pl.String, optional=True),
        "text": Role(pl.String, optional=True),
    },
    writes={"date": pl.Date, "year": pl.Int32, "origin": pl.String},
    check=_check,
)
def age(rows: pl.DataFrame, *, first_year: Year = 1990, last_year: Year = 2100) -> pl.DataFrame:
    """Date a record by what is bound: its metadata, else the path of its URL, else its text.

    Metadata are ISO 8601, whole or begun, the date of an HTTP or mail header, or seconds or
    milliseconds since 1970. In a URL the year begins a part of the path, as in `/2019/05/12/`. Of a
    text it is the latest of the dates that it names in ISO 8601 or English (`12 May 2019`, `May
    12th, 2019`, `May 2019`) and of its copyright, since it tells of nothing later: true of most
    pages, wrong of those that announce. What has no month or day is of the first. Dates such as
    05/12/2019, which countries read differently, are not read. A window of ages is a rule, such as
    `age.year BETWEEN 2015 AND 2019`.

    Reads:
        date: of the metadata.
        url: where the record was found.
        text: what is searched last.
    Args:
        first_year: an earlier date is not believed, and the next origin is asked.
        last_year: so a later one; the year of the crawl serves.
    Reference: Longpre et al. 2023, A Pretrainer's Guide, arXiv:2305.13169, for age as a property of
        pretraining data; ISO 8601; RFC 9110 section 5.6.7.
    Writes:
        date: null where no origin gives one.
        year: of the date.
        origin: `metadata`, `url` or `text`.
    Cost: linear in the text, where that is read.
    Raises:
        ConfigError: no role is bound, or the first year is after the last.
    """
    origins = {"metadata": "date", "url": "url", "text": "text"}
    bound = {origin: rows[role] for origin, role in origins.items() if role in rows.columns}
    found = pl.DataFrame(
        {origin: _dates(origin, values, first_year, last_year) for origin, values in bound.items()}
    )
    said = [pl.when(pl.col(origin).is_not_null()).then(pl.lit(origin)) for origin in bound]
    date = pl.coalesce(*bound)
    return found.select(date=date, year=date.dt.year(), origin=pl.coalesce(*said))


def _dates(origin: str, values: pl.Series, first_year: int, last_year: int) -> pl.Series:
    """Return the date that each value gives, of a text the latest; null without one."""
    if values.dtype.is_float():
        values = values.cast(pl.Int64, strict=False)
    texts = values.cast(pl.String)
    read = [_read(texts, pattern) for pattern in PATTERNS[origin]]
    if origin == "metadata":
        seconds = texts.str.extract(_SECONDS).cast(pl.Int64)
        at = pl.from_epoch(seconds, time_unit="s").dt.date()
        row = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
        read.append(pl.DataFrame({"row": row, "date": at}))
    believed = pl.concat(read).filter(pl.col("date").dt.year().is_between(first_year, last_year))
    by_row = believed.group_by("row", maintain_order=True)
    date = pl.col("date").max() if origin == "text" else pl.col("date").first()
    return _lines.of_texts(by_row.agg(date), len(texts))["date"]


def _read(texts: pl.Series, pattern: str) -> pl.DataFrame:
    """Return `row` and `date` of what a pattern finds; null where the calendar has no such day."""
    pieces = _lines.pieces(texts, pattern)
    parts = pieces["line"].str.extract_groups(pattern).struct
    month = parts.field("month") if "<month>" in pattern else pl.Series(["01"])
    day = parts.field("day") if "<day>" in pattern else pl.Series(["01"])
    named = month.str.to_lowercase().str.slice(0, 3).replace(_NUMBERS)
    written = pl.select(
        pl.format(
            "{}-{}-{}",
            parts.field("year"),
            named.fill_null("01").str.zfill(2),
            day.fill_null("01").str.zfill(2),
        )
    ).to_series()
    date = written.str.to_date("%Y-%m-%d", strict=False)
    return pl.DataFrame({"row": pieces["row"], "date": date})
