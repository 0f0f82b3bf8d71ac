"""Texts that one brings by file, as the captions of records: in rules, in shards, in trainings."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows.answer import arms
from flows.reporter import Reporter

RECIPE = """
[[source]]
path = "rows"
name = "rows"
id = "id"

[annotate.recap]
file = "recap.jsonl"
key = "source_id"

[annotate.told]
step = "caption_stats"
text = "coalesce(recap.text, text)"

[[select]]
where = "told.words >= 2"

[export]
format = ["jsonl", "webdataset"]
text = "coalesce(recap.text, text)"
"""


def run(project: Any, recap: dict[str, str], recipe: str = RECIPE) -> dict[str, str]:
    """Return the exported texts by id."""
    texts = {"a": "dog", "b": "a cat", "c": "sky", "d": "a red car"}
    project.lines("rows/0.jsonl", [{"id": name, "text": text} for name, text in texts.items()])
    rows = [{"source_id": name, "text": text} for name, text in recap.items()]
    project.lines("recap.jsonl", rows)
    project.counts = {}
    project.run(recipe, reporter=Reporter(table=project.counts.__setitem__))
    folder = Path(project.last("web").result["export"])
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {row["source_id"]: row["text"] for row in map(json.loads, lines)}


def test_texts_of_a_file_are_measured_and_leave_and_what_does_not_match_is_counted(project: Any):
    found = run(project, {"a": "a brown dog", "b": "a grey cat", "z": "nothing"})
    assert found == {"a": "a brown dog", "b": "a grey cat", "d": "a red car"}
    count = project.counts["annotate.recap"]
    assert (count.without, count.unused) == (2, 1)


def test_records_that_leave_without_a_text_are_counted(project: Any):
    said: list[str] = []
    project.lines("rows/0.jsonl", [{"id": name, "text": "a b"} for name in "abc"])
    project.lines("recap.jsonl", [{"source_id": "a", "text": "a brown dog"}])
    recipe = RECIPE.replace('"]\ntext = "coalesce(recap.text, text)"', '"]\ntext = "recap.text"')
    with pytest.raises(DataError, match="neither payload nor text"):
        project.run(recipe, reporter=Reporter(line=said.append))
    assert any("2 of 3 records leave without a text: export.text, recap.text" in s for s in said)


def test_a_shard_that_held_another_caption_does_not_stay(project: Any):
    run(project, {"a": "a brown dog"})
    assert run(project, {"a": "a black dog"})["a"] == "a black dog"


def test_a_training_reads_the_text_that_leaves(project: Any):
    recipe = RECIPE.replace('"jsonl", "webdataset"', '"jsonl"')
    contents = []
    for caption in ("a brown dog", "a black dog"):
        run(project, {"a": caption}, recipe)
        last = project.last("web")
        kept = last.kept().collect().select("uid", repeats=pl.lit(1, dtype=pl.UInt16))
        section = last.runtime.plan.recipe.export
        [arm] = arms.make(last.runtime, {"recipe": [kept]}, section, kept["uid"])["recipe"]
        contents.append(arm.content)
        assert [read(folder, "txt") for folder in arm.folders][-1] >= {caption.encode()}
    assert contents[0] != contents[1]


def test_what_is_no_text_is_refused(project: Any):
    recipe = RECIPE.replace('"]\ntext = "coalesce(recap.text, text)"', '"]\ntext = "length(text)"')
    with pytest.raises(ConfigError, match=r"export\.text: 'length\(text\)' gives"):
        run(project, {"a": "a"}, recipe)


def read(folder: Path, suffix: str) -> set[bytes]:
    """Return the members with a suffix of the tars of a folder."""
    found = set()
    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(suffix)]
            found |= {tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    return found
