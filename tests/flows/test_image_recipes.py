"""Packaged recipes of image-text pairs, each on a small pool, with both sides of its thresholds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from flows.recipe.init import init

CAPTION = "a small brown dog runs on the beach"


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 200).save(buffer, "PNG")
    return buffer.getvalue()


def run(project: Any, like: str, pairs: dict[str, tuple[bytes, str]]) -> None:
    """Run a packaged recipe, as `winnow init --like` copies it, on pictures and their captions."""
    for name, (image, caption) in pairs.items():
        project.pictures({f"{name}.png": image, f"{name}.txt": caption.encode()})
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "pictures")], target, like=like)
    project.run(target.read_text(encoding="utf-8"), until="select", set=["name=web"])


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
