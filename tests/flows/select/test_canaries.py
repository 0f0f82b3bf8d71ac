from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ConfigError, DataError
from flows import run as runs
from flows.reporter import Reporter
from flows.select.canaries import lines

TEXTS = """
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.minhash_signature]
ngram = 2
[annotate.near]
step = "minhash_clusters"
threshold = {threshold}
[[select]]
name = "long enough"
where = "caption_stats.words >= {words}"
[[select]]
name = "one"
by = "one_per_cluster"
cluster = "near.cluster"
[[select]]
name = "some"
by = "random_sample"
budget = 30
[canaries]
count = 10
"""
PICTURES = """
[[source]]
path = "pictures"
[annotate.perceptual_hash]
[annotate.near]
step = "hamming_clusters"
max_distance = {distance}
[[select]]
name = "one"
by = "one_per_cluster"
cluster = "near.cluster"
[canaries]
count = 4
"""


def _texts(project: Any, count: int = 80) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"r{i}", "text": " ".join(f"w{w}" for w in rng.integers(0, 5000, 60)), "n": i}
        for i in range(count)
    ]
    project.lines("texts.jsonl", rows)


def _pictures(project: Any, count: int = 40) -> None:
    rng = np.random.default_rng(0)
    files = {}
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((96, 72), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        files[f"{i:02d}.jpg"] = file.getvalue()
    project.pictures(files)


def test_copies_and_edits_of_texts_are_caught_and_near_misses_stay_apart(project: Any):
    _texts(project)
    found = project.run(TEXTS.format(threshold=0.6, words=3))["canaries"]
    assert found == {
        "copy": {"planted": 10, "untested": 0, "caught": 10, "recall": 1.0},
        "edit": {"planted": 10, "untested": 0, "caught": found["edit"]["caught"],
                 "recall": found["edit"]["caught"] / 10},
        "near_miss": {"planted": 10, "untested": 0, "merged": 0, "false_merge_ratio": 0.0},
    }  # fmt: skip
    # Three words of sixty break up to six of 59 bigrams: a Jaccard similarity of 53 / 65 = 0.82.
    assert found["edit"]["caught"] >= 9
    said = lines(found)
    assert said[0] == "  canaries, copy: 10 planted, 100.0% caught"
    assert said[2] == "  canaries, near_miss: 10 planted, 100.0% kept apart"


def test_a_rule_that_drops_by_another_reason_leaves_a_pair_untested(project: Any):
    _texts(project)
    found = project.run(TEXTS.format(threshold=0.6, words=3).replace(
        "caption_stats.words >= 3", "meta.n % 2 = 0"))["canaries"]  # fmt: skip
    tested = [of["planted"] - of["untested"] for of in found.values()]
    assert 0 < sum(tested) < 30
    assert found["copy"]["recall"] == 1.0


def test_pictures_are_reencoded_scaled_cropped_turned_grey_spliced_and_cut(project: Any):
    _pictures(project)
    found = project.run(PICTURES.format(distance=6))["canaries"]
    assert list(found) == ["copy", "reencode", "scale", "crop", "grey", "near_miss", "corrupt"]
    for kind in ("copy", "reencode", "scale", "grey"):
        assert found[kind]["recall"] == 1.0, kind
    assert found["crop"]["recall"] < 1.0
    assert found["near_miss"]["false_merge_ratio"] == 0.0
    assert found["corrupt"]["recall"] == 1.0
    assert sum(found["corrupt"]["quarantined"].values()) == 4


def test_a_record_that_repeats_another_of_the_pool_is_no_merge_with_its_near_miss(project: Any):
    _texts(project, 40)
    path = project.recipe_dir / "texts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    # Every record stands in the pool twice.
    project.lines("texts.jsonl", [*rows, *({**row, "id": f"{row['id']}b"} for row in rows)])
    recipe = TEXTS.format(threshold=0.6, words=3).replace("count = 10", "count = 25")
    found = project.run(recipe)["canaries"]
    assert found["near_miss"]["planted"] == 25
    assert found["near_miss"]["merged"] == 0
    assert found["copy"]["recall"] == 1.0


def test_a_rule_that_does_nothing_falls_below_its_floor_and_makes_no_version(project: Any):
    _pictures(project)
    project.run(PICTURES.format(distance=6) + "floor = {reencode = 0.9, near_miss = 0.9}\n")
    # Distance 0 finds bit-equal hashes alone.
    with pytest.raises(DataError, match=r"below their floor: crop 0\.\d+ \(floor 0\.95\)"):
        project.run(PICTURES.format(distance=0) + "floor = {crop = 0.95}\n")
    assert project.store.versions("run", "web") == [1]


def test_everything_merged_is_found_by_the_near_misses(project: Any):
    _pictures(project)
    with pytest.raises(DataError, match=r"near_miss 0\.000 \(floor 0\.9\)"):
        project.run(PICTURES.format(distance=40) + "floor = 0.9\n")


def test_the_pool_its_tables_and_its_counts_never_see_canaries(project: Any):
    _texts(project)
    recipe = TEXTS.format(threshold=0.6, words=3)
    with_canaries = project.run(recipe)
    project.recipe_dir /= "again"
    _texts(project)
    without = project.run(recipe[: recipe.index("[canaries]")])
    assert {k: v for k, v in with_canaries.items() if k != "canaries"} == without
    assert with_canaries["records"] == 80


def test_a_second_run_finds_the_canaries_and_a_threshold_measures_none_again(
    project: Any, watch: Any
):
    _texts(project)
    project.run(TEXTS.format(threshold=0.6, words=3))
    assert project.run(TEXTS.format(threshold=0.6, words=3))["changed"] is False
    before = project.store.ref("pool", "web.canaries")
    watch.reset()
    project.run(TEXTS.format(threshold=0.6, words=4))
    assert project.store.ref("pool", "web.canaries") == before
    assert watch.computed == set()
    signatures = (project.store.root / "objects/web.canaries/annotate.minhash_signature").iterdir()
    assert len(list(signatures)) == 1


def test_another_threshold_reads_no_picture_of_the_pool_or_of_its_canaries(
    project: Any, watch: Any
):
    _pictures(project)
    project.run(PICTURES.format(distance=6), until="select")
    watch.reset()
    wider = '[[select]]\nwhere = "width > 40"\n[canaries]'
    project.run(PICTURES.format(distance=6).replace("[canaries]", wider), until="select")
    assert not [path for path in watch.opened if "/payload/" in path]


def test_a_wrong_section_is_refused_before_anything_is_read(project: Any):
    recipe = TEXTS.format(threshold=0.6, words=3)
    wrong = recipe + 'kinds = ["reencodes"]\n'
    with pytest.raises(ConfigError, match=r"canaries: 'reencodes' is no kind .* Nearest: reencode"):
        project.run(wrong)
    alone = recipe.replace('by = "one_per_cluster"', 'by = "random_sample"').replace(
        'cluster = "near.cluster"', "budget = 5"
    )
    with pytest.raises(ConfigError, match="needs a rule that relates records"):
        project.run(alone)
    with pytest.raises(ConfigError, match=r"canaries\.floor"):
        project.run(recipe + "floor = 2.0\n")
    assert not project.store.root.exists()


def test_an_empty_pool_of_nothing_to_copy_is_said(project: Any):
    project.lines("texts.jsonl", [{"id": "r0", "text": "one"}, {"id": "r1", "text": "two"}])
    with pytest.raises(DataError, match="no record of the pool can be copied"):
        project.run(TEXTS.format(threshold=0.6, words=1))


def test_the_command_says_what_became_of_them(project: Any):
    _texts(project)
    said: list[str] = []
    recipe = runs.read_recipe(project.recipe(TEXTS.format(threshold=0.6, words=3)))
    reporter = Reporter(line=said.append)
    runs.run(recipe, project.store, runs.Options(until="select", reporter=reporter))
    assert any("canaries, copy: 10 planted, 100.0% caught" in line for line in said)
