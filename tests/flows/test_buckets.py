from __future__ import annotations

import collections
from typing import Any

import polars as pl
import pytest

from flows import buckets
from flows import ingest as ingesting

RECIPE = """
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.digest_of_text]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "digest_of_text.digest"
[annotate.near]
step = "minhash_clusters"
threshold = 0.6
"""
COLUMNS = ["same.cluster", "same.size", "near.cluster", "near.size", "near.nearest",
           "near.similarity"]  # fmt: skip
TEXTS = [
    " ".join(f"word{(i % 12) * 7 + j}" for j in range(12)) + (" more" if i % 5 == 0 else "")
    for i in range(60)
] + [None, ""]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cut the work into many buckets of parts of 16 rows; return how many were filled."""
    monkeypatch.setattr(ingesting, "PART_ROWS", 16)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 200)
    filled: list[int] = []
    gather = buckets.Gather

    def counting(*arguments: Any) -> Any:
        filled.append(1)
        return gather(*arguments)

    monkeypatch.setattr(buckets, "Gather", counting)
    return filled


def _notes(project: Any) -> pl.DataFrame:
    return project.last().runtime.frame(COLUMNS).sort("uid")


@pytest.fixture
def whole(project: Any) -> pl.DataFrame:
    """The notes of one bucket of one part."""
    project.texts(*TEXTS)
    project.run(RECIPE)
    return _notes(project)


@pytest.mark.parametrize("workers", [1, 2])
def test_many_buckets_of_many_parts_give_the_notes_of_one(
    project: Any, whole: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, cut: list[int], workers: int
):
    project.beside /= "again"
    project.texts(*TEXTS)
    project.run(RECIPE, workers=workers)
    assert len(project.last().runtime.pool.parts) > 3
    assert len(cut) > 10
    assert _notes(project).equals(whole)
    assert not list((project.store.root / "tmp").glob("buckets-*"))


def test_the_clusters_are_those_of_equal_texts(whole: pl.DataFrame, project: Any):
    frame = project.last().runtime.frame(["text", "same.cluster", "same.size"])
    expected = collections.Counter(frame["text"])
    for text, group in frame.drop_nulls("text").group_by("text"):
        assert group["same.cluster"].unique().to_list() == [group["uid"].min()]
        assert group["same.size"].to_list() == [expected[text[0]]] * group.height


def test_records_without_a_key_are_clusters_of_one(whole: pl.DataFrame, project: Any):
    frame = project.last().runtime.frame(["text", "near.cluster", "near.size", "near.nearest"])
    alone = frame.filter(pl.col("text").is_null())
    assert alone["near.cluster"].equals(alone["uid"], check_names=False)
    assert set(alone["near.size"]) <= {1}


def test_a_groupwise_step_of_which_nothing_is_left_gives_nulls(project: Any):
    project.texts("a", "b")
    project.run(
        RECIPE.replace('digest = "digest_of_text.digest"', 'digest = "digest_of_text.digest"\n'
                       'only = "caption_stats.words > 100"')
    )  # fmt: skip
    assert project.last().runtime.frame(["same.cluster"])["same.cluster"].null_count() == 2
