"""Packaged recipes of image-text pairs, each on a small pool, with both sides of its thresholds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from flows.recipe.init import init

CAPTION = "a small brown dog runs on the beach"


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 200).save(buffer, "PNG")
    return buffer.getvalue()


def run(
    project: Any,
    like: str,
    pairs: dict[str, tuple[bytes, str]],
    edited: Callable[[str], str] = str,
    until: str = "select",
) -> None:
    """Run a packaged recipe, as `winnow init --like` copies it, on pictures and their captions."""
    for name, (image, caption) in pairs.items():
        project.pictures({f"{name}.png": image, f"{name}.txt": caption.encode()})
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "pictures")], target, like=like)
    project.run(edited(target.read_text(encoding="utf-8")), until=until, set=["name=web"])


def dropped(project: Any, *rules: str) -> dict[str, set[str]]:
    """Return the names of the pictures that each rule dropped."""
    found = {}
    for rule in rules:
        table = project.last().dropped(rule).collect()
        found[rule] = {Path(source_id).stem for source_id in table["source_id"]}
    return found


def test_datacomp_basic_drops_just_what_is_beyond_a_threshold(project: Any):
    square = picture(200, 200)
    pairs = {
        "small": (picture(199, 200), CAPTION),
        "low": (picture(200, 199), CAPTION),
        "square": (square, CAPTION),
        "wide": (picture(600, 200), CAPTION),
        "wider": (picture(601, 200), CAPTION),
        "high": (picture(200, 600), CAPTION),
        "higher": (picture(200, 601), CAPTION),
        "three words": (square, "a brown dog"),
        "two words": (square, "brown dog"),
        "six characters": (square, "i am a"),
        "five characters": (square, "i o u"),
        "german": (square, "ein kleiner brauner Hund läuft am Strand"),
        "no letter": (square, "1234 5678 90"),
    }
    run(project, "datacomp_basic", pairs)
    assert dropped(project, "caption length", "image size", "english") == {
        "caption length": {"two words", "five characters"},
        "image size": {"small", "low", "wider", "higher"},
        "english": {"german", "no letter"},
    }


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A folder with a small CLIP of random weights, as open_clip writes it."""
    from contracts import _torchvision  # noqa: F401  # isort: skip
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    sizes = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    folder.mkdir()
    save_file(CLIP(**sizes).state_dict(), folder / "open_clip_model.safetensors")
    config = json.dumps({"model_cfg": sizes, "preprocess_cfg": {}})
    (folder / "open_clip_config.json").write_text(config)
    return str(folder)


def with_clip(text: str, folder: str) -> str:
    named = 'model = "ViT-B-32"\npretrained = "openai"'
    assert named in text
    return text.replace(named, f'model = "{folder}"')


def lettered(*lines: str) -> bytes:
    image = Image.new("RGB", (320, 160), "white")
    for number, line in enumerate(lines):
        at, font = (20, 20 + 60 * number), ImageFont.load_default(36)
        ImageDraw.Draw(image).text(at, line, fill="black", font=font)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_tmars_keeps_the_half_that_fits_without_its_text(project: Any, clip: str):
    pairs = {
        "sign": (lettered("Open daily"), "open daily"),
        "blank": (lettered(), "open daily"),
        "other": (picture(40, 30), CAPTION),
        "dark": (picture(30, 40), "a dog"),
    }
    run(project, "tmars", pairs, lambda text: with_clip(text, clip))
    left = pl.concat([project.last().kept(), project.last().dropped()]).collect()
    cosines = dict(zip(left["source_id"], left["alignment.cosine"], strict=True))
    assert len(project.kept()) == 2
    # Its words gone, a sign is the empty board that another record shows.
    assert cosines["sign.png"] == pytest.approx(cosines["blank.png"], abs=1e-3)


BRIGHT = """
import numpy as np
from contracts import decode


class Bright:
    \"\"\"Takes the mean of a picture for how sure it is of a face.\"\"\"

    version, fingerprint = 1, "bright"

    def __init__(self, device=None):
        pass

    def __call__(self, values):
        means = [decode.image(value).mean() / 250 for value in values]
        return np.array([[mean, 1, 2, 3, 4, mean] for mean in means], dtype=np.float32)
"""


def test_pass_drops_faces_and_lists_them_with_boxes_to_be_looked_at(project: Any):
    (project.recipe_dir / "bright.py").write_text(BRIGHT)
    pictures = {"flat": [0, 0], "dark": [45, 53], "face": [46, 56]}
    pairs = {name: (grey(*levels), CAPTION) for name, levels in pictures.items()}
    run(project, "pass", pairs, lambda text: text.replace("center_face", "./bright.py:Bright"))
    assert dropped(project, "more than one colour", "no face") == {
        "more than one colour": {"flat"},
        "no face": {"face"},
    }
    queue = project.last().dropped("no face").collect()
    queue.write_parquet(project.recipe_dir / "queue.parquet")
    (row,) = pl.read_parquet(project.recipe_dir / "queue.parquet").iter_rows(named=True)
    assert row["people.boxes"][0]["confidence"] == row["people.score"] == pytest.approx(0.204)
    assert row["uid"] not in project.kept()
    assert len(project.kept()) == 1


def grey(left: int, right: int) -> bytes:
    image = Image.new("L", (40, 40), left)
    image.paste(right, (20, 0, 40, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


DESCRIBED = {
    "one": (picture(30, 40), CAPTION),
    "two": (picture(40, 30), "a red car in front of the old house"),
    "three": (lettered("Open"), "the sign of a shop that is open"),
    "four": (picture(60, 20), "ein kleiner brauner Hund läuft am Strand"),
}


def test_clip_score_keeps_the_share_that_fits_best(project: Any, clip: str):
    def edited(text: str) -> str:
        small = text.replace('model = "ViT-L-14"', 'model = "ViT-B-32"')
        return with_clip(small, clip).replace("budget_ratio = 0.3", "budget_ratio = 0.5")

    run(project, "clip_score", DESCRIBED, edited)
    left = pl.concat([project.last().kept(), project.last().dropped()], how="diagonal").collect()
    best = left.sort("alignment.cosine", descending=True)["uid"][:2]
    assert project.kept() == set(best)


def test_laion_drops_what_is_not_english_and_what_fits_too_little(project: Any, clip: str):
    run(project, "laion", DESCRIBED, lambda text: with_clip(text, clip))
    found = dropped(project, "english", "caption fits picture")
    assert found["english"] == {"four"}
    cosines = project.last().dropped("caption fits picture").collect()["alignment.cosine"]
    assert len(cosines) + len(project.kept()) == 3
    assert (cosines < 0.28).all()
    kept = project.last().kept().collect()["alignment.cosine"]
    assert (kept >= 0.28).all()


def test_quality_captions_takes_the_caption_that_fits_better(project: Any, clip: str):
    new = {"one.png": "a dog on the beach", "two.png": "IMG_2034.jpg", "nine.png": "nothing"}
    recaptions = pl.DataFrame({"source_id": list(new), "text": list(new.values())})
    recaptions.write_parquet(project.recipe_dir / "recaptions.parquet")

    def edited(text: str) -> str:
        small = with_clip(text, clip).replace("budget_ratio = 0.5", "budget_ratio = 1")
        return small.replace('[export]\nformat = ["webdataset"]', '[export]\nformat = ["jsonl"]')

    run(project, "quality_captions", DESCRIBED, edited, until="export")
    folder = Path(project.last().result["export"])
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    found = {row["source_id"]: row for row in map(json.loads, lines)}
    for name, (_, own) in DESCRIBED.items():
        row = found.get(f"{name}.png")
        if row is not None:
            other = row["best_caption.is_other"]
            assert row["text"] == (new[f"{name}.png"] if other else own)
    assert {"three.png", "four.png"} <= set(found)
    # Of the second record the better caption is dropped where it is the name of a file.
    assert ("two.png" in found) == (found.get("two.png", {}).get("best_caption.is_other") is False)


def test_hierarchical_keeps_as_many_of_a_rare_kind_as_of_a_common_one(project: Any):
    def edited(text: str) -> str:
        for old, new in {
            "efficientnet_lite": "color_layout",
            "[1000, 300, 30]": "[2, 1]",
            "threshold = 0.95": "threshold = 1",
            "budget_ratio = 0.15": "budget = 4",
        }.items():
            assert old in text
            text = text.replace(old, new)
        return text

    pairs = {f"common {n}": (grey(0, 200 + n), CAPTION) for n in range(8)}
    pairs |= {f"rare {n}": (grey(200 + n, 0), CAPTION) for n in range(2)}
    run(project, "hierarchical", pairs, edited)
    kept = project.last().kept().collect()
    assert sorted(name[:4] for name in kept["source_id"]) == ["comm", "comm", "rare", "rare"]
    paths = kept.group_by("cluster_path.path").len()
    assert paths["len"].to_list() == [2, 2]
