"""What is marked in a text leaves as its kind in brackets, counted, in every format and arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from contracts.errors import ConfigError
from curation.annotate import pii, secrets
from flows.recipe.sections import MARKED_BY
from flows.reporter import Reporter

ROWS = '[[source]]\npath = "rows"\nname = "rows"\nid = "id"\n'
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
TEXTS = {
    "both": f"é write to a@b.co, c@d.org or +49 30 1234567; {KEY}.",
    "one": "from 10.0.0.1",
    "none": "nothing of the kind",
}


def export(project: Any, section: str, recipe: str = ROWS) -> dict[str, str]:
    """Return the exported texts by id, after checking that two formats agree."""
    project.lines("rows/0.jsonl", [{"id": name, "text": text} for name, text in TEXTS.items()])
    project.said = []
    formats = '\n[export]\nformat = ["jsonl", "parquet"]\n'
    project.run(recipe + formats + section, reporter=Reporter(line=project.said.append))
    folder = Path(project.last("web").result["export"])
    texts = [path.read_text() for path in folder.glob("*.jsonl")]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    found = {row["source_id"]: row["text"] for row in rows}
    table = pl.concat([pl.from_arrow(pq.read_table(p)) for p in folder.glob("data/*.parquet")])
    assert sorted(found.values()) == sorted(table["text"])
    return found


def test_the_kinds_are_those_that_the_methods_mark():
    kinds = {"pii": pii.KINDS, "secrets": secrets.KINDS}
    assert {name: tuple(of.values()) for name, of in kinds.items()} == dict(MARKED_BY)


def test_only_the_kinds_that_are_named_are_replaced_and_counted(project: Any):
    found = export(project, 'redact = ["email", "key", "card"]\n')
    both = "é write to [email], [email] or +49 30 1234567; [key]."
    assert found == TEXTS | {"both": both}
    card = (Path(project.last("web").result["export"]) / "datacard.md").read_text()
    for row in ("| [email] | 2 | 1 |", "| [key] | 1 | 1 |", "| [card] | 0 | 0 |"):
        assert row in card
    assert "# Redacted: 2 times [email] in 1 records." in project.said


def test_without_it_a_text_leaves_as_it_came(project: Any):
    assert export(project, "") == TEXTS
    assert (
        "Redacted" not in (Path(project.last("web").result["export"]) / "datacard.md").read_text()
    )


def test_a_shard_that_held_what_is_now_redacted_does_not_stay(project: Any):
    export(project, "")
    found = export(project, 'redact = ["ip"]\n')
    assert found["one"] == "from [ip]"


def test_spans_of_another_text_and_a_gate_are_refused(project: Any):
    for section, reason in (
        ('text = "upper(text)"\n', "reads upper"),
        ('only = "length(text) > 3"\n', "has a gate"),
        ('step = "secrets"\n', "is not the method pii"),
    ):
        with pytest.raises(ConfigError, match=reason):
            export(project, 'redact = ["email"]\n', f"{ROWS}[annotate.pii]\n{section}")
