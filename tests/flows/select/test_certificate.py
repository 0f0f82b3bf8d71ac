"""The certificate of a run: whose records it is told from, where it stands, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import ConfigError, DataError
from flows.look import report
from tests.flows.look.page import Page

SEEN = """
[[source]]
path = "t.jsonl"
id = "id"
[holdout]
where = "meta.n >= 90"
[embed.grams]
encoder = "hashed_ngrams"
dimension = 16
[[select]]
name = "seen"
where = "meta.n >= 10"
"""
CERTIFICATE = """
[certificate]
vector = "grams.vector"
subsets = 20
"""
RECIPE = SEEN + '[[select]]\nname = "spread"\nby = "facility_location"\nbudget = 20\n' + CERTIFICATE


def test_it_is_told_from_the_records_that_no_evaluation_reads(project: Any):
    words = ["red", "green", "blue", "cat", "dog", "sea", "sky"]
    rows = [
        {"id": f"{i}", "n": i, "text": f"{words[i % 7]} {words[i % 5]} {words[i % 3]}"}
        for i in range(100)
    ]
    project.lines("t.jsonl", rows)
    found = project.run(RECIPE, until="report")["certificate"]
    assert (found["records"], found["sample"], found["without_vector"]) == (90, 90, 0)
    assert [(of["rule"], of["records"]) for of in found["rules"]] == [("seen", 80), ("spread", 20)]
    assert found["rules"][0]["distance"] <= found["rules"][1]["distance"]
    assert found["random_value"] < found["value"] <= found["bound"]
    page = Page(report.render(project.last())).part("certificate")
    assert "told from 90 of 90 records" in page.text
    assert f"{found['bound']:.4f}" in page.text
    assert project.run(RECIPE, until="report")["changed"] is False


def test_what_it_refuses(project: Any):
    rows = [{"id": "a", "n": 20, "text": "a"}, {"id": "b", "n": 1, "text": "b"}]
    project.lines("t.jsonl", rows)
    with pytest.raises(ConfigError, match=r"certificate\.vector"):
        project.run(RECIPE.replace("grams.vector", "gram.vector"), until="select")
    some = SEEN.replace("dimension = 16", "dimension = 16\nonly = 'meta.n < 10'")
    with pytest.raises(DataError, match=r"none of the kept records has a grams\.vector"):
        project.run(some + CERTIFICATE, until="select")
