"""A recipe drops what an evaluation has too, and `why` shows both passages."""

from __future__ import annotations

from flows.look.why import why, why_text
from tests.flows.conftest import Project

LEAKED = "a small ivory statuette of a guardian angel lies inside of a clear stone"
RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.contamination]
texts = "evaluation.jsonl"
[[select]]
name = "not evaluated on"
where = "contamination.items = 0"
"""


def test_a_rule_drops_what_is_evaluated_on_and_why_shows_both_passages(project: Project):
    project.texts(f"He saw: {LEAKED.upper()}.", LEAKED.replace("clear", "blue"), None)
    project.lines("evaluation.jsonl", [{"id": "lambada:0", "text": f"In my palm, {LEAKED}"}])
    project.run(RECIPE, until="select")
    [kept] = project.kept()
    assert why(project.last(), "r1")[0]["uid"] == f"{kept:016x}"
    (answer,) = why(project.last(), "r0")
    [hit] = answer["hits"]
    assert hit["item"] == "lambada:0"
    assert f"passage {hit['passage']!r}, item_passage {LEAKED!r}" in why_text(answer)
    assert why(project.last(), "r1")[0]["hits"] == []
