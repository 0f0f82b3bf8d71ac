from __future__ import annotations

import collections
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import StorageError
from flows.measure import buckets
from storage import parts

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
[annotate.keyed]
step = "exact_clusters"
digest = "meta.key"
[annotate.minhash_signature]
num_perm = 16
[annotate.near]
step = "minhash_clusters"
threshold = 0.6
"""
COLUMNS = [
    "same.cluster", "same.size", "keyed.cluster", "keyed.size", "near.cluster", "near.size",
    "near.nearest", "near.similarity",
]  # fmt: skip
TEXTS = [
    " ".join(f"word{(i % 12) * 7 + j}" for j in range(12)) + (" more" if i % 5 == 0 else "")
    for i in range(60)
]


def _write(project: Any) -> None:
    rows = [
        {"id": f"r{i}", "text": text, "key": None if i % 3 else f"key {i % 2}"}
        for i, text in enumerate(TEXTS)
    ]
    project.lines("texts.jsonl", rows)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cut the work into several buckets of parts of 16 rows; return how many each step filled."""
    monkeypatch.setattr(parts, "PART_ROWS", 16)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 600)
    filled: list[int] = []
    remove = shutil.rmtree

    def counting(folder: str | Path, **options: Any) -> None:
        folder = Path(folder)
        if folder.name.startswith("buckets-") and folder.is_dir():
            filled.append(len(list(folder.iterdir())))
        remove(folder, **options)

    monkeypatch.setattr(buckets.shutil, "rmtree", counting)
    return filled


def _notes(project: Any) -> pl.DataFrame:
    return project.last().runtime.frame(COLUMNS).sort("uid")


@pytest.fixture
def whole(project: Any) -> pl.DataFrame:
    """The notes of one bucket of one part."""
    _write(project)
    project.run(RECIPE, until="select")
    return _notes(project)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_many_buckets_of_many_parts_give_the_notes_of_one(
    project: Any, whole: pl.DataFrame, cut: list[int], workers: int
):
    project.recipe_dir /= "again"
    _write(project)
    project.run(RECIPE, workers=workers, until="select")
    assert len(project.last().runtime.pool.parts) > 3
    assert len(cut) == 3
    assert min(cut) > 1
    assert _notes(project).equals(whole)
    assert not list((project.store.root / "tmp").glob("buckets-*"))


def test_the_clusters_are_those_of_equal_texts(whole: pl.DataFrame, project: Any):
    frame = project.last().runtime.frame(["text", "same.cluster", "same.size"])
    expected = collections.Counter(frame["text"])
    for text, group in frame.drop_nulls("text").group_by("text"):
        assert group["same.cluster"].unique().to_list() == [group["uid"].min()]
        assert group["same.size"].to_list() == [expected[text[0]]] * group.height


def test_records_without_a_key_are_clusters_of_one(whole: pl.DataFrame, project: Any):
    frame = project.last().runtime.frame(["meta.key", "keyed.cluster", "keyed.size"])
    alone = frame.filter(pl.col("meta.key").is_null())
    assert alone.height == 40
    assert alone["keyed.cluster"].to_list() == alone["uid"].to_list()
    assert set(alone["keyed.size"]) == {1}
    assert set(frame.drop_nulls("meta.key")["keyed.size"]) == {10}


def test_a_groupwise_step_of_which_nothing_is_left_gives_nulls(project: Any):
    _write(project)
    project.run(
        RECIPE.replace('digest = "digest_of_text.digest"', 'digest = "digest_of_text.digest"\n'
                       'only = "caption_stats.words > 100"')
    )  # fmt: skip
    assert project.last().runtime.frame(["same.cluster"])["same.cluster"].null_count() == 60


def test_a_record_that_shares_no_band_does_not_move(
    project: Any, cut: list[int], monkeypatch: pytest.MonkeyPatch
):
    moved: list[int] = []
    write = buckets._write

    def counting(frame: pl.DataFrame, path: Path) -> None:
        if path.suffix == ".rows":
            moved.extend(frame["uid"])
        write(frame, path)

    monkeypatch.setattr(buckets, "_write", counting)
    texts = [" ".join(f"only{i}word{j}" for j in range(12)) for i in range(40)]
    texts[31] = texts[7]
    project.lines("texts.jsonl", [{"id": f"r{i}", "text": t} for i, t in enumerate(texts)])
    near = RECIPE[RECIPE.index("[annotate.minhash_signature]") :]
    project.run('[[source]]\npath = "texts.jsonl"\nid = "id"\n' + near, until="select")
    frame = project.last().runtime.frame(["source_id", "near.size"])
    pair = frame.filter(pl.col("near.size") == 2)
    assert pair["source_id"].to_list() == ["r7", "r31"]
    assert set(moved) == set(pair["uid"])


def test_series_that_lie_in_one_part_each_are_measured_part_by_part(
    project: Any, monkeypatch: pytest.MonkeyPatch
):
    rows = [{"id": f"r{i}", "text": f"text {i % 3}", "series": f"s{i // 5}"} for i in range(40)]
    project.lines("texts.jsonl", rows)
    recipe = """
[[source]]
path = "texts.jsonl"
id = "id"
series = "series"
[annotate.same]
step = "./first.py:first"
"""
    (project.recipe_dir / "first.py").write_text(FIRST)
    monkeypatch.setattr(parts, "PART_ROWS", 12)
    scattered: list[object] = []
    scatter = buckets._scatter
    monkeypatch.setattr(buckets, "_scatter", lambda s: (scattered.append(s), scatter(s)))
    project.run(recipe, until="select")
    runtime = project.last().runtime
    assert len(runtime.pool.parts) > 2
    frame = runtime.frame(["series", "same.first"])
    firsts = frame.group_by("series").agg(pl.col("uid").min(), pl.col("same.first").unique())
    assert firsts["same.first"].to_list() == [[uid] for uid in firsts["uid"]]
    assert not scattered


FIRST = """
import polars as pl
from winnow import groupwise


@groupwise(version=1, reads={"series": pl.String}, writes={"first": pl.UInt64}, by="series")
def first(groups):
    return groups.select(first=pl.col("uid").min().over("group"))
"""


def test_a_disk_that_is_full_inside_a_groupwise_step_is_named_with_what_is_needed(tmp_path: Path):
    frame = pl.DataFrame({"key": range(10_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"0\.rows: File too large: 80,000 bytes needed"):
            buckets._write(frame, tmp_path / "0.rows")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
