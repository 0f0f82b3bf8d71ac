"""The pools of the bench that asks whether curation helps have the dirt that it states."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from benchmarks import does_it_help as bench
from flows import run as runs


@pytest.mark.data
def test_two_fifths_of_the_descriptions_are_clean_and_the_others_are_what_they_are_called(
    data: Path, tmp_path: Path
):
    pack = data / "descriptions"
    recipe = bench.clm(tmp_path, pack, descriptions=100, held=30)
    assert runs.read_recipe(recipe).problems == ()
    rows = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text().splitlines()]
    counts = Counter(row["kind"] for row in rows)
    assert counts == {"test": 30, "clean": 100, "boilerplate": 50, "foreign": 50, "copy": 50}
    texts = pl.read_parquet(pack / "descriptions.parquet")
    english = texts.filter(pl.col("lang") == "en")

    def sources(kind: str, of: pl.DataFrame = english) -> set[str]:
        found = pl.Series([row["text"] for row in rows if row["kind"] == kind])
        return set(of.filter(pl.col("text").is_in(found.implode()))["source"])

    assert sources("copy") & sources("clean")
    assert not sources("foreign")
    assert sources("foreign", texts)
    lines = [
        line for row in rows if row["kind"] == "boilerplate" for line in row["text"].split("\n")
    ]
    assert len(set(lines)) < len(lines) / 2
