"""Volumes from a folder to an answer: ingested, deduplicated, exported, trained on, compared."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest

import winnow
from contracts.errors import ConfigError
from tests.contracts.bad_volumes import volume

RECIPE = """
[[source]]
path = "scans"
[holdout]
ratio = 0.4
near = "same"
[annotate.voxels]
step = "content_hash"
mode = "pixels"
[annotate.same]
step = "exact_clusters"
digest = "voxels.digest"
[[select]]
name = "one of each volume"
by = "one_per_cluster"
cluster = "same.cluster"
[export]
[pretrain]
objective = "voco"
hidden = 8
encoder = { width = 12, depth = 1, heads = 2, slices = 8, rows = 12, columns = 12, patch = 4 }
steps = 2
batch = 4
[[evaluate]]
protocol = "knn"
label = "source_id LIKE '%bright%'"
k = 1
[compare]
arms = ["recipe", "random"]
seeds = 1
random_sets = 2
"""


@pytest.fixture(scope="module")
def scans(projects: Any) -> Any:
    """A dozen bodies, half of them bright on the left, each in two files of other bytes."""
    project = projects()
    rng = np.random.default_rng(0)
    for number in range(12):
        values = rng.integers(0, 100, (14, 12, 9)).astype(np.int16)
        name = "bright" if number % 2 else "dark"
        values[7:] += 300 * (number % 2)
        data = volume(values, np.diag([-1.0, -1.0, 2.0, 1.0]))
        packed = gzip.compress(data, mtime=0)
        project.pictures({f"{number}-{name}.nii": data, f"{number}-{name}.nii.gz": packed}, "scans")
    return project


@pytest.fixture(scope="module")
def answered(scans: Any) -> Any:
    """What the run of the recipe returned."""
    return scans.run(RECIPE, until="evaluate")


def test_a_pool_of_volumes_is_trained_on_and_its_answer_compared(scans: Any, answered: Any):
    held_out = answered["dropped"]["holdout"]
    assert held_out % 2 == 0
    assert answered["dropped"]["one of each volume"] == (24 - held_out) // 2
    evaluation = answered["evaluation"]
    assert evaluation["answer"]["metric"] == "knn.accuracy"
    scored = evaluation["metrics"]["knn.accuracy"]["within"]
    assert set(scored) == {"recipe", "random"}
    assert all(0 < of["n"] < held_out for of in scored.values())
    assert evaluation["unencoded"] == evaluation["passed_over"] == {}
    assert scans.run(RECIPE, until="evaluate")["changed"] is False


def test_a_trained_encoder_embeds_volumes_again(scans: Any, answered: Any):
    (scans.recipe_dir / "boot.toml").write_text((scans.recipe_dir / "web.toml").read_text())
    scans.run(RECIPE, "boot", until="evaluate")
    more = RECIPE[RECIPE.index("[annotate.voxels]") : RECIPE.index("[[select]]")]
    more += (
        '[[source]]\npath = "scans"\n[embed.own]\nencoder = "checkpoint"\nrecipe = "boot.toml"\n'
    )
    scans.run(more + '[[select]]\nwhere = "own.vector IS NOT NULL"\n', "again", until="select")
    run = scans.last("again")
    vectors = run.runtime.frame(["own.vector"])["own.vector"]
    assert vectors.null_count() == 0
    assert vectors.dtype.size == 12
    # Equal voxels, in other bytes, have one vector.
    assert len(np.unique(vectors.to_numpy(), axis=0)) == 12
    module = winnow.load_encoder(scans.last("boot").result["checkpoint"])
    assert module.codec.reads == "volume"


def test_an_encoder_of_pictures_is_refused_before_it_is_trained(scans: Any):
    recipe = RECIPE.replace('"voco"', '"simclr"').replace("hidden = 8\n", "")
    start = recipe.index("encoder = {")
    recipe = recipe[:start] + "encoder = { width = 4 }" + recipe[recipe.index("}", start) + 1 :]
    with pytest.raises(
        ConfigError, match=r"pretrain\.encoder: reads image, and the pool has volume"
    ):
        scans.run(recipe, "pictures", until="evaluate")


@pytest.mark.data
def test_real_volumes_go_the_same_way(projects: Any, data: Any):
    project = projects()
    files = sorted((data / "hippocampus/images").glob("*.nii.gz"))[:12]
    project.pictures({file.name: file.read_bytes() for file in files}, "scans")
    copy = gzip.compress(gzip.decompress(files[0].read_bytes()), 1, mtime=0)
    project.pictures({"copy.nii.gz": copy}, "scans")
    recipe = RECIPE.replace("'%bright%'", "'%1%'").replace("ratio = 0.4", "ratio = 0.5")
    result = project.run(recipe, until="evaluate")
    assert result["records"] == 13
    assert project.view.pool("web").quarantine().is_empty()
    assert "knn.accuracy" in result["evaluation"]["metrics"]
    frame = project.view.pool("web").frame("depth", "spacing_z_mm").collect()
    assert frame.null_count().sum_horizontal().item() == 0
