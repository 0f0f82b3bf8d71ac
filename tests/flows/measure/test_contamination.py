"""A recipe drops what an evaluation has too, and `why` shows both passages."""

from __future__ import annotations

import io

from PIL import Image

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
PICTURES = """
name = "web"
[[source]]
path = "pictures"
[annotate.nearest_target]
target = "pool:./evaluated"
[[select]]
name = "not evaluated on"
where = "nearest_target.distance > 6"
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


def test_a_rule_drops_pictures_that_another_pool_has_in_another_format(project: Project):
    picture = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 40)
    for folder, name, made in (
        ("pictures", "new", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ("pictures", "seen", picture), ("evaluated", "it", picture.resize((96, 96))),
    ):  # fmt: skip
        buffer = io.BytesIO()
        made.save(buffer, "PNG" if folder == "pictures" else "JPEG")
        project.pictures({f"{name}.png": buffer.getvalue()}, folder)
    project.run(PICTURES, until="select")
    (answer,) = why(project.last(), "seen.png")
    assert answer["dropped_by"] == "not evaluated on"
    assert [hit["by"] for hit in answer["hits"]] == ["bits"]
    assert why(project.last(), "new.png")[0]["kept"]
