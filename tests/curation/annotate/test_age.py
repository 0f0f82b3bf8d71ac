"""Dates of records by metadata, URL and text: each form, and what just is none."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.age import age


def table(**columns: object) -> pl.DataFrame:
    frame = pl.DataFrame(columns)
    return frame.with_columns(uid=pl.int_range(frame.height, dtype=pl.UInt64))


def dates(role: str, values: list[object]) -> list[str | None]:
    found = age(table(**{role: values}))["date"]
    return found.cast(pl.String).to_list()


READ = {
    "date": {
        "2019-05-12": "2019-05-12", "2019-05-12T08:00:00Z": "2019-05-12", "2019-05": "2019-05-01",
        "2019": "2019-01-01", " 20190512": "2019-05-12", "20190512083000": "2019-05-12",
        "Sun, 12 May 2019 08:00:00 GMT": "2019-05-12", "12 Sept 2019": "2019-09-12",
        "1557619200": "2019-05-12", "1557619200123": "2019-05-12",
        "2019-02-30": None, "05/12/2019": None, "2019-13": None, "12345": None, "": None,
        "1989-12-31": None, "1990-01-01": "1990-01-01", "155761920": None,
    },
    "url": {
        "https://a.org/2019/05/12/x": "2019-05-12", "http://a.org/news/2019-05-12-x": "2019-05-12",
        "a.org/2019/5": "2019-05-01", "a.org/20190512/x": "2019-05-12", "a.org/2019": "2019-01-01",
        "a.org/2019/13/x": "2019-01-01", "a.org/2019.html": "2019-01-01",
        "a.org/2019?p=1": "2019-01-01", "a.org/x2019/": None, "a.org/20190": None,
        "2019.org": None, "a.org/1989/": None,
    },
    "text": {
        "on 2019-05-12 it": "2019-05-12", "at 2019-05-12T08:00:00Z": "2019-05-12",
        "12 May 2019": "2019-05-12",
        "12TH of may, 2019": "2019-05-12",
        "May 12, 2019": "2019-05-12", "in sept. 2019.": "2019-09-01", "© 2011-2019 A": "2019-01-01",
        "Copyright (c) 2019": "2019-01-01",
        "May 1999, then 3 June 2004, and 2001-01-01": "2004-06-03",
        "5 May 2019\u200b": "2019-05-05",
        "\u05d0\u200f 12 May 2019 \U0001f468\u200d\U0001f469": "2019-05-12",
        "in 2019": None, "05/12/2019": None, "2019-05-123": None, "dismay 2019": None, "": None,
        "31 June 2019": None, "may 20190": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("role", READ)
def test_each_form_is_read_and_what_just_lacks_it_is_not(role: str):
    assert dict(zip(READ[role], dates(role, list(READ[role])), strict=True)) == READ[role]


def test_metadata_are_believed_first_then_the_url_then_the_text():
    rows = table(
        date=["2015-03-01", "2150-01-01", None, None, None],
        url=["a.org/2016/", "a.org/2016/", "a.org/2222/", None, "a.org/x"],
        text=["May 2017", "May 2017", "May 2017", "May 2017", None],
    )
    found = age(rows)
    assert found["origin"].to_list() == ["metadata", "url", "text", "text", None]
    assert found["year"].to_list() == [2015, 2016, 2017, 2017, None]
    late = age(rows, first_year=2016, last_year=2016)
    assert late["origin"].to_list() == ["url", "url", None, None, None]


def test_columns_of_dates_and_of_seconds_are_read_as_they_are():
    assert age(table(date=[date(2019, 5, 12), None]))["date"].to_list() == [date(2019, 5, 12), None]
    assert dates("date", [datetime(2019, 5, 12, 23, 59), None]) == ["2019-05-12", None]
    assert dates("date", [1557619200, 2019, -5, None]) == ["2019-05-12", "2019-01-01", None, None]
    floats = [1557619200.5, float("nan"), 1e300]
    assert dates("date", floats) == ["2019-05-12", None, None]


def test_a_line_of_ten_million_characters_is_read_to_its_end():
    assert dates("text", ["May 12 " * 1_400_000 + "2019"]) == ["2019-05-12"]


def test_it_needs_something_to_go_by_and_years_in_order():
    with pytest.raises(ConfigError, match="bind date or url or text"):
        age(table(other=[1]))
    with pytest.raises(ConfigError, match="after last_year"):
        age(table(text=["x"]), first_year=2001, last_year=2000)
