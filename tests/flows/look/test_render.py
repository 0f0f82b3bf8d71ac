from __future__ import annotations

import os
from typing import Any

import polars as pl

from flows.look.render import listing, marked, table_text


def test_a_store_lists_pools_and_runs_and_their_files(rows: Any):
    items = {(item["kind"], item["name"]): item for item in listing(rows.store)}
    assert items["pool", "web"]["records"] == 20
    assert items["run", "web"]["version"] == 1
    files = listing(rows.store, files=True)
    assert {"records", "annotate.caption_stats"} <= {item["table"] for item in files}
    for item in files:
        assert pl.read_parquet(item["path"]).height >= 0
        assert os.path.getsize(item["path"]) == item["bytes"]  # noqa: PTH202


def test_differences_of_two_texts_are_marked_with_the_words_around_them():
    text = "a b c d e f g h i j k l"
    assert marked(text, text.replace("f", "x")) == "c d e [-f-] {+x+} g h i"
    assert marked(text, text.replace("c ", "")) == "a b [-c-] d e f"
    assert marked("b c", "a b c") == "{+a+} b c"
    both = text.replace("b", "B").replace("k", "K")
    assert marked(text, both) == "a [-b-] {+B+} c d e … h i j [-k-] {+K+} l"
    assert marked("a  b", "a b") == "white space, or words after the first 1,000"


def test_a_table_has_its_columns_names_and_numbers_to_the_right():
    rows = [{"kind": "pool", "records": 1200, "there": True}, {"kind": "run", "records": 5}]
    assert table_text(rows).splitlines() == [
        "kind  records  there", "pool    1,200  yes", "run         5",
    ]  # fmt: skip
