"""Recipes of semantic deduplication: all pairs, several probes, D4, FairDeDup."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.uid import uniform
from flows.measure import buckets
from storage import parts

POOL = """
[[source]]
path = "texts.jsonl"
id = "id"
[embed.grams]
encoder = "hashed_ngrams"
dimension = 64
"""


@pytest.fixture
def texts(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """120 texts, each like its neighbours, in parts of 16 rows and buckets of some 20."""
    monkeypatch.setattr(parts, "PART_ROWS", 16)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 3000)
    words = [f"word{(i * 7 + j) % 90}" for i in range(120) for j in range(8)]
    project.texts(*[" ".join(words[8 * i // 2 : 8 * i // 2 + 8]) for i in range(120)])
    return project


def _columns(project: Any, *names: str) -> pl.DataFrame:
    found: pl.DataFrame = project.last().runtime.frame(list(names)).sort("uid")
    return found


def _to_earlier(vectors: pl.Series, key: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The largest cosine of each vector to one of smaller key, over all pairs."""
    x = vectors.to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    largest: np.ndarray[Any, Any] = np.where(key < key[:, None], x @ x.T, 0).max(axis=1)
    return np.maximum(largest, 0)


def test_a_group_that_is_a_constant_compares_all_with_all(texts: Any):
    texts.run(
        POOL
        + """
[annotate.semantic]
step = "semantic_duplicates"
group = "0"
order = "random"
[[select]]
where = "semantic.max_cosine <= 1"
"""
    )
    found = _columns(texts, "semantic.max_cosine", "grams.vector")
    draws = uniform(found["uid"].to_numpy(), 0, "semantic_duplicates")
    expected = _to_earlier(found["grams.vector"], draws)
    np.testing.assert_allclose(found["semantic.max_cosine"], expected, atol=2e-7)


def test_probes_bring_clusters_together_and_as_many_as_there_are_compare_all(texts: Any):
    recipe = (
        POOL
        + """
[fit.kmeans]
num_clusters = 12
[annotate.nearest_centroid]
probes = PROBES
[annotate.semantic]
step = "semantic_duplicates"
group = "nearest_centroid.probes"
order = "score"
score = "-nearest_centroid.cosine"
[[select]]
where = "semantic.max_cosine <= 1"
"""
    )
    found = []
    for probes in ("2", "12"):
        texts.run(recipe.replace("PROBES", probes))
        found.append(_columns(texts, "semantic.max_cosine"))
    two, every = (rows["semantic.max_cosine"] for rows in found)
    assert (two <= every).all()
    assert 0 < (two < every).sum() < 60
    rows = _columns(texts, "grams.vector", "nearest_centroid.cosine")
    place = np.argsort(np.lexsort((rows["uid"], rows["nearest_centroid.cosine"])))
    np.testing.assert_allclose(every, _to_earlier(rows["grams.vector"], place), atol=2e-7)


def test_d4_takes_its_measure_by_default(texts: Any):
    texts.run(POOL + '[[select]]\nname = "diverse"\nby = "d4"\nbudget = 30\nnum_clusters = 5\n')
    assert len(texts.kept()) == 30
    assert texts.last().kept().collect_schema().names()[0] == "uid"


def test_fair_dedup_keeps_as_many_as_the_papers_rule(texts: Any):
    np.save(texts.recipe_dir / "concepts.npy", np.random.default_rng(0).standard_normal((3, 64)))
    fair = texts.run(
        POOL
        + """
[annotate.semantic_clusters]
threshold = 0.4
[[select]]
name = "fair"
by = "fair_dedup"
concepts = "file:concepts.npy"
"""
    )
    kept = texts.kept()
    papers = texts.run(
        POOL
        + """
[[select]]
name = "semdedup"
by = "one_per_neighbourhood"
threshold = 0.4
mode = "semdedup"
"""
    )
    assert fair["kept"] == papers["kept"] == len(kept) < 110
    assert kept != texts.kept()
