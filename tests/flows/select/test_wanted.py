"""A target that holds what is evaluated on is refused before anything is measured."""

from __future__ import annotations

from typing import Any

import pytest

import winnow
from contracts.errors import ConfigError

WORDS = [f"word{i % 7} and number {i}" for i in range(20)]
SOURCE = """
[[source]]
path = "texts.jsonl"
id = "id"
[embed.bag]
encoder = "hashed_ngrams"
"""
PICKED = """
[[select]]
name = "core"
by = "retrieve"
target = "pool:./wanted"
budget = 2
"""
COUNTED = """
[fit.ngram_counts]
target = "pool:./wanted"
[[select]]
name = "like it"
where = "importance.log_ratio > -1e9"
"""
LOOKED_AT = """
[annotate.nearest_target]
vector = "bag.vector"
target = "pool:./wanted"
[[select]]
name = "not in the test"
where = "nearest_target.cosine < 0.9"
"""


@pytest.fixture
def texts(project: Any) -> Any:
    """Twenty texts, and a folder with the texts 3 and 5."""
    project.texts(*WORDS)
    (project.recipe_dir / "wanted").mkdir()
    for n in (3, 5):
        (project.recipe_dir / "wanted" / f"{n}.txt").write_text(WORDS[n])
    return project


@pytest.mark.parametrize(("rules", "key"), [(PICKED, "select[0].target"),
                                            (COUNTED, "fit.ngram_counts.target")])  # fmt: skip
def test_a_target_may_hold_nothing_that_is_held_out(texts: Any, rules: str, key: str, watch: Any):
    held_out = f"[holdout]\nwhere = \"text = '{WORDS[5]}'\"\n"
    with pytest.raises(ConfigError, match="1 of the 2 records of pool:wanted are in the hold-out"):
        texts.run(SOURCE + held_out + rules)
    assert watch.computed == set()
    with pytest.raises(ConfigError) as refused:
        texts.run(SOURCE + held_out + rules)
    assert refused.value.exit_code == 78
    assert [problem.key for problem in refused.value.problems] == [key]
    texts.run(SOURCE + held_out.replace(WORDS[5], WORDS[6]) + rules)


def test_nor_what_another_pool_of_an_evaluation_has(texts: Any):
    texts.texts("something else", WORDS[3], path="exam.jsonl")
    winnow.ingest(texts.recipe_dir / "exam.jsonl", pool="exam", id="id", store=texts.store.root)
    with pytest.raises(ConfigError, match=r"1 of the 2 .* are in the evaluation's pool exam too"):
        texts.run(SOURCE + '[holdout]\npool = "exam"\n' + PICKED)


def test_a_method_that_looks_for_the_evaluation_may_be_given_it(texts: Any):
    texts.run(SOURCE + f"[holdout]\nwhere = \"text = '{WORDS[5]}'\"\n" + LOOKED_AT)
    assert len(texts.kept()) == 18
