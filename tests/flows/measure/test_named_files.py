"""Every file that a section names is in its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import ConfigError, DataError

RECIPE = """
[[source]]
path = "t.jsonl"
id = "id"
[embed.clip]
file = "values.npz"
ids = "ids.txt"
key = "source_id"
[[select]]
name = "near"
where = "clip.place < 2"
"""


@pytest.fixture
def brought(project: Any) -> Any:
    """Eight texts, and a place for each by a file of ids beside the values."""
    project.lines("t.jsonl", [{"id": f"r{i}", "text": f"number {i}"} for i in range(8)])
    np.savez(project.recipe_dir / "values.npz", place=np.arange(8))
    _ids(project, *(f"r{i}" for i in range(8)))
    return project


def _ids(project: Any, *ids: str) -> None:
    (project.recipe_dir / "ids.txt").write_text("\n".join(ids))


def _kept(project: Any) -> set[str]:
    return set(project.last().kept().select("source_id").collect()["source_id"])


def test_an_edited_file_of_ids_is_noticed(brought: Any, watch: Any):
    brought.run(RECIPE, until="select")
    assert _kept(brought) == {"r0", "r1"}
    watch.reset()
    brought.run(RECIPE, until="select")
    assert watch.computed == set()
    _ids(brought, *(f"r{i}" for i in reversed(range(8))))
    assert brought.run(RECIPE, until="select")["changed"]
    assert watch.computed == {"embed.clip"}
    assert _kept(brought) == {"r6", "r7"}
    _ids(brought, *(f"x{i}" for i in range(8)))
    with pytest.raises(DataError, match="none of its 8 source_id"):
        brought.run(RECIPE, until="select")


def test_a_missing_file_of_ids_is_an_error_of_the_recipe(brought: Any):
    path: Path = brought.recipe_dir / "ids.txt"
    path.unlink()
    with pytest.raises(ConfigError, match=rf"ids: there is no {path}"):
        brought.run(RECIPE, until="select")
