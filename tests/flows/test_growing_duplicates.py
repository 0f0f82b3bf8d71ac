"""Clusters of a pool that grew are those from scratch, and what was measured stays measured."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contracts.errors import DataError

METHODS = """
[annotate.content]
step = "content_hash"
mode = "text"
payload = "text"
[annotate.exact]
step = "exact_clusters"
digest = "content.digest"
[annotate.signature]
step = "minhash_signature"
num_perm = 64
ngram = 2
[annotate.near]
step = "minhash_clusters"
signature = "signature.values"
threshold = 0.6
[annotate.paragraphs]
step = "repeated_paragraphs"
min_words = 3
[annotate.spans]
step = "repeated_spans"
length = 8
[embed.grams]
encoder = "hashed_ngrams"
dimension = 32
[annotate.semantic]
step = "semantic_duplicates"
group = "0"
order = "random"
[annotate.meaning]
step = "semantic_clusters"
nearest = "semantic.nearest"
max_cosine = "semantic.max_cosine"
threshold = 0.9
[annotate.often]
step = "cluster_repeats"
size = "exact.size"
curve = "fineweb2"
[[select]]
name = "exact"
by = "one_per_cluster"
cluster = "exact.cluster"
[[select]]
name = "near"
by = "one_per_cluster"
cluster = "near.cluster"
"""
TEXTS = '[[source]]\npath = "texts"\nname = "texts"\nid = "id"\n' + METHODS
PICTURES = """
[[source]]
path = "pictures"
[annotate.hash]
step = "perceptual_hash"
[annotate.look]
step = "hamming_clusters"
bits = "hash.bits"
max_distance = 4
[annotate.chosen]
step = "hamming_clusters"
bits = "hash.bits"
max_distance = 4
rule = "exemplar"
[[select]]
name = "look"
by = "one_per_cluster"
cluster = "look.cluster"
"""
ROWWISE = ("annotate.content", "annotate.signature", "embed.grams")


def _texts(count: int = 100) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        words = [f"w{n}" for n in rng.integers(0, 400, 40)]
        if rows and i % 4 < 2:
            words = (rows[int(rng.integers(len(rows)))]["text"] or "one two").split()
        if i % 4 == 1:
            words[int(rng.integers(len(words)))] = "another"
        if i % 7 == 0:
            words[:10] = [f"boilerplate{n}" for n in range(10)]
        text = " ".join(words[:20]) + "\n" + " ".join(words[20:])
        rows.append({"id": f"r{i}", "text": text if i % 17 else "-"})
    return rows


def _columns(project: Any) -> pl.DataFrame:
    run = project.last()
    paths = [
        path
        for node in run.plan.nodes.values()
        for path in (f"{node.alias}.{column}" for column in node.writes)
    ]
    kept = run.verdict.select("uid", "dropped_by")
    return run.runtime.frame(paths).join(kept, on="uid").sort("uid")


def test_texts_that_came_in_five_parts_have_the_clusters_of_one(project: Any, watch: Any):
    rows = _texts()
    for part in range(5):
        project.lines(f"texts/{part}.jsonl", rows[part * 20 : part * 20 + 20])
        watch.reset()
        project.run(TEXTS, until="select")
        assert {table: watch.counts[table] for table in ROWWISE} == dict.fromkeys(
            ROWWISE, (part * 20, 20)
        )
    grown = _columns(project)
    assert len(project.last().runtime.pool.parts) == 5
    project.recipe_dir /= "scratch"
    for part in range(5):
        project.lines(f"texts/{part}.jsonl", rows[part * 20 : part * 20 + 20])
    project.run(TEXTS, until="select")
    assert _columns(project).equals(grown)
    # There was something to find.
    assert grown.filter(pl.col("exact.size") > 1).height > 10
    assert grown.filter(pl.col("near.size") > pl.col("exact.size")).height > 5
    assert grown.filter(pl.col("paragraphs.repeated_ratio") > 0).height > 5
    assert grown.filter(pl.col("spans.repeated_ratio") > 0).height > 10
    assert grown.filter(pl.col("meaning.size") > 1).height > 10
    assert set(grown["dropped_by"].drop_nulls()) == {"exact", "near"}


def test_pictures_that_came_in_five_parts_have_the_clusters_of_one(project: Any, watch: Any):
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for i in range(40):
        if i % 4 == 3:
            picture = Image.open(io.BytesIO(files[f"{int(rng.integers(i)):02d}.jpg"])).resize(
                (80, 60)
            )
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            picture = coarse.resize((96, 72), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        files[f"{i:02d}.jpg"] = file.getvalue()
    names = sorted(files)
    for part in range(5):
        project.pictures({n: files[n] for n in names[part * 8 : part * 8 + 8]})
        watch.reset()
        project.run(PICTURES, until="select")
        assert watch.counts["annotate.hash"] == (part * 8, 8)
    grown = _columns(project)
    project.recipe_dir /= "scratch"
    project.pictures(files)
    project.run(PICTURES, until="select")
    assert _columns(project).equals(grown)
    assert grown.filter(pl.col("look.size") > 1).height > 8


@pytest.mark.parametrize(
    ("texts", "kept", "spans"),
    [
        (["the very same words again and again, to the last one of them"] * 30, 1, 29),
        ([f"text {i}: " + " ".join(f"v{i}x{j}" for j in range(20)) for i in range(30)], 30, 0),
        (["the only text there is, with ten words or more"], 1, 0),
    ],
    ids=["all the same", "none the same", "one record"],
)
def test_pools_at_the_extremes_end_right(project: Any, texts: list[str], kept: int, spans: int):
    project.lines("texts/0.jsonl", [{"id": f"r{i}", "text": t} for i, t in enumerate(texts)])
    found = project.run(TEXTS, until="select")
    assert found["kept"] == kept
    assert found["kept"] + sum(found["dropped"].values()) == found["records"] == len(texts)
    frame = _columns(project)
    assert frame.filter(pl.col("spans.repeated_ratio") > 0).height == spans
    assert frame["near.cluster"].null_count() == 0


def test_pictures_without_a_caption_are_no_duplicates_of_each_other(project: Any):
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG")
    project.pictures({f"{i}.png": file.getvalue() for i in range(10)})
    found = project.run('[[source]]\npath = "pictures"\n' + METHODS, until="select")
    assert found["kept"] == 10
    frame = _columns(project)
    assert frame["near.size"].to_list() == frame["exact.size"].to_list() == [1] * 10
    for column in ("signature.values", "spans.repeated_ratio", "paragraphs.repeated_ratio"):
        assert frame[column].null_count() == 10


def test_texts_that_are_all_empty_are_quarantined_and_leave_nothing_to_keep(project: Any):
    project.lines("texts/0.jsonl", [{"id": f"r{i}", "text": ""} for i in range(10)])
    with pytest.raises(DataError, match=r"nothing of it can be used.*10 CAPTION_EMPTY"):
        project.run(TEXTS, until="select")
