from __future__ import annotations

from typing import Any

import pytest

import winnow
from contracts.errors import ConfigError, DataError
from contracts.uid import uid_of
from storage import tables

WORDS = [f"word{i % 7} and number {i}" for i in range(20)]
RECIPE = """
[[source]]
path = "texts.jsonl"
id = "id"
[embed.bag]
encoder = "hashed_ngrams"
[[select]]
name = "core"
by = "simcore"
target = "{}"
budget = {}
"""


@pytest.fixture
def texts(project: Any) -> Any:
    """Twenty texts, and a folder of two files that hold the texts 3 and 5."""
    project.texts(*WORDS)
    for n in (3, 5):
        path = project.recipe_dir / "wanted" / f"{n}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(WORDS[n])
    return project


def _uids(*numbers: int) -> set[int]:
    return {uid_of("texts", f"r{n}") for n in numbers}


@pytest.mark.parametrize("absolute", [False, True])
def test_a_folder_as_a_target_is_ingested_as_a_pool_before_anything_is_measured(
    texts: Any, absolute: bool, watch: Any
):
    target = f"pool:{texts.recipe_dir}/wanted" if absolute else "pool:./wanted"
    texts.run(RECIPE.format(target, 2))
    assert texts.kept() == _uids(3, 5)
    assert texts.pool("wanted").records == 2
    assert texts.last().recipe["select"][0]["target"] == "pool:wanted"
    watch.reset()
    assert texts.run(RECIPE.format(target, 2))["changed"] is False
    assert watch.computed == set()


def test_a_target_that_grew_is_read_again(texts: Any):
    texts.run(RECIPE.format("pool:./wanted", 2))
    (texts.recipe_dir / "wanted/9.txt").write_text(WORDS[9])
    texts.run(RECIPE.format("pool:./wanted", 3))
    assert texts.kept() == _uids(3, 5, 9)


def test_a_name_without_a_slash_is_a_pool_even_where_a_folder_has_it(texts: Any):
    with pytest.raises(ConfigError, match=r"Ingest it, or name its folder: pool:\./wanted"):
        texts.run(RECIPE.format("pool:wanted", 2))


def test_a_folder_is_not_mixed_into_a_pool_of_something_else(texts: Any):
    winnow.ingest(texts.recipe_dir / "texts.jsonl", pool="wanted", id="id", store=texts.store.root)
    with pytest.raises(ConfigError, match="there is a pool wanted of something else") as refused:
        texts.run(RECIPE.format("pool:./wanted", 2))
    assert [problem.key for problem in refused.value.problems] == ["select[0].target"]
    assert tables.load_pool(texts.store, "wanted").version == 1
    with pytest.raises(ConfigError, match="another pool of this recipe is called wanted"):
        texts.run(RECIPE.format("pool:./wanted", 2), "wanted")


def test_a_target_that_is_not_there_is_named_before_anything_is_written(texts: Any):
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        texts.run(RECIPE.format("pool:./nowhere", 2))
    assert not texts.store.root.exists()
