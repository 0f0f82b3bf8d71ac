"""Audio from a folder to an answer: ingested, deduplicated, exported, trained on, compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.errors import ConfigError
from tests.contracts.bad_audio import encoded, tone

RECIPE = """
[[source]]
path = "clips"
[holdout]
ratio = 0.4
by_group = "meta.take"
[annotate.bytes]
step = "content_hash"
[annotate.same]
step = "exact_clusters"
digest = "bytes.digest"
[[select]]
name = "one of each clip"
by = "one_per_cluster"
cluster = "same.cluster"
[export]
[pretrain]
objective = "ssast"
encoder = {{ {encoder}width = 8, depth = 1, heads = 2, mels = 16, frames = 16 }}
steps = 2
batch = 8
[[evaluate]]
protocol = "knn"
label = "meta.pitch"
k = 1
[[evaluate]]
protocol = "finetune"
label = "meta.pitch"
lr = 0.01
steps = 2
[compare]
arms = ["recipe", "random"]
seeds = 1
random_sets = 2
"""


@pytest.fixture(scope="module")
def clips(projects: Any) -> Any:
    """Takes of two pitches, each take twice; the higher of a take lasts longer."""
    project = projects()
    rows = []
    for take in range(10):
        for pitch in (1, 2):
            data = encoded(tone(seconds=0.1 + 0.01 * take + 0.1 * pitch) / pitch)
            for copy in "ab":
                name = f"{take}-{pitch}{copy}.wav"
                project.pictures({name: data}, "clips")
                rows.append({"file_name": name, "take": take, "pitch": f"p{pitch}"})
    table = "".join(json.dumps(row) + "\n" for row in rows)
    project.pictures({"metadata.jsonl": table.encode()}, "clips")
    return project


def test_a_pool_of_audio_is_trained_on_and_its_answer_compared(clips: Any):
    result = clips.run(RECIPE.format(encoder=""), until="evaluate")
    held_out = result["dropped"]["holdout"]
    assert result["dropped"]["one of each clip"] == (40 - held_out) // 2
    evaluation = result["evaluation"]
    assert evaluation["answer"]["metric"] == "knn.accuracy"
    scored = evaluation["metrics"]["knn.accuracy"]["within"]
    assert set(scored) == {"recipe", "random"}
    # Half of the held-out clips, in whole takes, is classified by the other half.
    assert all(0 < of["n"] < held_out for of in scored.values())
    assert "finetune.accuracy" in evaluation["metrics"]
    assert evaluation["unencoded"] == evaluation["passed_over"] == {}
    assert clips.run(RECIPE.format(encoder=""), until="evaluate")["changed"] is False


def test_a_trained_encoder_embeds_audio_again(clips: Any):
    clips.run(RECIPE.format(encoder=""), until="evaluate")
    (clips.recipe_dir / "boot.toml").write_text((clips.recipe_dir / "web.toml").read_text())
    clips.run(RECIPE.format(encoder=""), "boot", until="evaluate")
    more = '[[source]]\npath = "clips"\n[embed.own]\nencoder = "checkpoint"\nrecipe = "boot.toml"\n'
    clips.run(more + '[[select]]\nwhere = "own.vector IS NOT NULL"\n', "again", until="select")
    vectors = clips.last("again").runtime.frame(["own.vector"])["own.vector"]
    assert vectors.null_count() == 0
    assert vectors.dtype.size == 8


def test_an_encoder_of_pictures_is_refused_before_it_is_trained(clips: Any):
    recipe = RECIPE.format(encoder="").replace('"ssast"', '"simclr"')
    recipe = recipe.replace("width = 8, depth = 1, heads = 2, mels = 16, frames = 16", "width = 4")
    with pytest.raises(
        ConfigError, match=r"pretrain\.encoder: reads image, and the pool has audio"
    ):
        clips.run(recipe, "pictures", until="evaluate")
    assert "pictures" not in clips.store.names("run")
