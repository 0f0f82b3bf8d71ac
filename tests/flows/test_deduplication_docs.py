"""Every recipe of docs/deduplication.md is run on a small pool of captioned pictures."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.test_documents import PAGES, blocks

RECIPES = blocks("toml", PAGES["deduplication.md"])
SOURCE = """
[[source]]
path = "pictures"
series = "series"
position = "position"
"""


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_of_the_docs_runs(project: Any, captioned: dict[str, bytes], recipe: str):
    pictures = {n: d for n, d in captioned.items() if not n.endswith((".txt", ".json"))}
    project.pictures(pictures)
    rows = [
        {"file_name": name, "text": f"one caption of number {i % 9} here and there", "day": i,
         "concept": i % 7, "series": f"s{i % 3}", "position": i}
        for i, name in enumerate(pictures)
    ]  # fmt: skip
    table = project.recipe_dir / "pictures" / "metadata.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # What a floor would stop is for the reader's pool, not for two dozen plain squares.
    found = project.run(SOURCE + re.sub(r"^floor = .*$", "", recipe, flags=re.MULTILINE))
    assert found["records"] == len(pictures)
    assert found["kept"] + sum(found["dropped"].values()) == found["records"]
