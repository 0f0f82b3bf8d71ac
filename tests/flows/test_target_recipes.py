"""Packaged recipes that pick towards a target, or inside a series, each on a small pool."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contracts.uid import uid_of
from flows.recipe.init import init
from tests.flows.test_image_recipes import clip, with_clip  # noqa: F401  a fixture
from tests.flows.test_scored_recipes import CODE, SEA


def run(
    project: Any, like: str, source: str, edited: Callable[[str], str] = str, *overrides: str
) -> None:
    """Run a packaged recipe, as `winnow init --like` copies it, up to what it selects."""
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / source)], target, like=like)
    text = edited(target.read_text(encoding="utf-8"))
    project.run(text, until="select", set=["name=web", *overrides])


def picture(*color: int) -> bytes:
    pixels = np.tile(np.array(color, dtype=np.uint8), (40, 40, 1))
    pixels[::8, :, :] //= 2
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_simcore_takes_pictures_like_those_of_the_target(project: Any):
    reds = {f"red{n}.png": picture(250 - n, 10 + n, 20) for n in range(4)}
    blues = {f"blue{n}.png": picture(10 + n, 20, 250 - n) for n in range(6)}
    project.pictures(reds | blues)
    project.pictures({"one.png": picture(240, 8, 24)}, folder="target")
    run(
        project,
        "simcore",
        "pictures",
        lambda text: text.replace("efficientnet_lite", "color_layout"),
    )
    assert project.kept() == {uid_of("pictures", name) for name in reds}


def test_datacomp_image_keeps_fitting_english_pairs_in_the_clusters_of_a_target(
    project: Any,
    clip: str,  # noqa: F811
):
    colors = {"red": (250, 10, 20), "blue": (10, 20, 250)}
    captions = {"english": "a small brown dog runs", "german": "ein kleiner Hund am Strand"}
    files = {}
    for color, rgb in colors.items():
        for language, caption in captions.items():
            files[f"{color} {language}.png"] = picture(*rgb)
            files[f"{color} {language}.txt"] = caption.encode()
    project.pictures(files)
    project.pictures({"one.png": picture(249, 11, 20)}, folder="target")

    def edited(text: str) -> str:
        small = with_clip(text.replace('model = "ViT-L-14"', 'model = "ViT-B-32"'), clip)
        return small.replace("100000", "2")

    run(project, "datacomp_image", "pictures", edited, "select.0.budget_ratio=1")
    assert project.kept() == {uid_of("pictures", "red english.png")}
    dropped = {rule: set(project.last().dropped(rule).collect()["uid"])
               for rule in ("english caption", "near a wanted picture")}  # fmt: skip
    assert dropped == {
        "english caption": {uid_of("pictures", f"{color} german.png") for color in colors},
        "near a wanted picture": {uid_of("pictures", "blue english.png")},
    }


def test_less_is_more_keeps_slices_unlike_earlier_ones_of_their_volume(project: Any):
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    (project.recipe_dir / "volumes").mkdir()
    for name in "ab":
        one, other = rng.integers(0, 200, (2, 4, 4)).repeat(8, 1).repeat(8, 2)
        slices = [one, one + 1, one + 2, other, other + 1, other + 2]
        voxels = np.stack(slices, axis=2).astype(np.int16)
        path = project.recipe_dir / "volumes" / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    run(project, "less_is_more", "volumes")
    kept = project.last().runtime.frame(["series", "position"]).filter(
        pl.col("uid").is_in(list(project.kept()))
    )  # fmt: skip
    places = kept.group_by("series").agg(pl.col("position").sort())["position"].to_list()
    assert places == [[0, 3], [0, 3]]


def test_betr_carries_nearness_to_benchmarks_from_a_sample_to_the_pool(project: Any):
    sea = SEA.split()
    code = CODE.split()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(of)[:10]) for of in [code] * 54 + [sea] * 6]
    uids = project.texts(*texts)
    (project.recipe_dir / "benchmarks").mkdir()
    (project.recipe_dir / "benchmarks" / "sea.txt").write_text(" ".join(sea))

    def edited(text: str) -> str:
        small = text.replace('"minilm"', '"hashed_ngrams"').replace("uid % 100", "uid % 2")
        return small.replace("[[source]]", '[[source]]\nid = "id"')

    run(project, "betr", "texts.jsonl", edited)
    assert project.kept() == set(uids[54:])
    near = project.last().runtime.frame(["near.quantile"])["near.quantile"]
    assert 10 < near.null_count() < 50  # what the sample leaves out
