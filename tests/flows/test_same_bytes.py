"""The same shards whatever the workers, the order of files, where the payload lies, or growth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows import run as runs
from flows.ingest.ingest import SourceSpec, ingest
from flows.look.views import Winnow
from storage import source, walk
from storage.store import Store

RECIPE = """
name = "web"
pool = "pictures"
[annotate.pixels]
step = "content_hash"
payload = "image"
mode = "pixels"
[annotate.same]
step = "exact_clusters"
digest = "pixels.digest"
[annotate.look]
step = "perceptual_hash"
[annotate.alike]
step = "hamming_clusters"
bits = "look.bits"
max_distance = 4
[embed.colour]
encoder = "color_layout"
[[select]]
name = "words"
where = "caption_stats.words >= 1"
[[select]]
by = "one_per_cluster"
cluster = "same.cluster"
[[select]]
by = "one_per_cluster"
cluster = "alike.cluster"
score = "width * height"
[[select]]
by = "k_center"
vector = "colour.vector"
budget = 18
[export]
layout = "packed"
shard_records = 7
columns = ["alike.size"]
"""


def shards(store: Path) -> dict[str, str]:
    ref = Store(store).ref("run", "web")
    assert ref is not None
    return {Path(s["path"]).name: s["sha256"] for s in ref["result"]["shards"]}


def read(store: Path, folder: Path, *, payload: str = "copy", workers: int = 1) -> None:
    spec = SourceSpec(source.find(folder), "pictures", payload=payload)
    opened = Store(store)
    with opened.lease():
        ingest(opened, "pictures", spec, workers=workers)


def made(project, store: str, **options: object) -> dict[str, str]:
    recipe = runs.read_recipe(project.recipe(RECIPE))
    runs.run(recipe, Store(project.recipe_dir / store), runs.Options(**options))
    return shards(project.recipe_dir / store)


@pytest.fixture
def want(project, captioned) -> dict[str, str]:
    project.pictures(captioned)
    read(project.recipe_dir / "one", project.recipe_dir / "pictures")
    found = made(project, "one")
    assert len(found) == 3
    return found


@pytest.mark.parametrize("workers", [2, 4] if os.environ.get("WINNOW_SOAK") else [2])
def test_any_number_of_workers(project, want, workers: int):
    read(project.recipe_dir / "many", project.recipe_dir / "pictures", workers=workers)
    assert made(project, "many", workers=workers) == want


def test_a_folder_that_is_read_from_its_last_file_to_its_first(project, want, monkeypatch):
    backwards = project.recipe_dir / "backwards"
    monkeypatch.setattr(walk, "sorted", lambda n: sorted(n, reverse=True), raising=False)
    read(backwards, project.recipe_dir / "pictures")
    monkeypatch.undo()
    ids = [Winnow(Store(project.recipe_dir / s)).pool("pictures").frame("source_id").collect()
           for s in ("one", "backwards")]  # fmt: skip
    assert ids[0]["source_id"].to_list() == ids[1]["source_id"].to_list()[::-1]
    assert made(project, "backwards") == want


def test_payload_by_reference(project, want):
    read(project.recipe_dir / "referred", project.recipe_dir / "pictures", payload="reference")
    assert made(project, "referred") == want


def test_a_pool_that_grew_in_three_runs_with_files_given_twice(project, captioned, want):
    names = sorted(captioned)
    stems = sorted({name.rpartition(".")[0] for name in names})
    for part in (stems[:30], stems[20:80], stems):
        project.pictures(
            {n: captioned[n] for n in names if n.rpartition(".")[0] in part}, folder="growing"
        )
        read(project.recipe_dir / "grown", project.recipe_dir / "growing")
        found = made(project, "grown")
    assert found == want
