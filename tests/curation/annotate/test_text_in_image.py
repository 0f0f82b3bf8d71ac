"""Text in pictures: drawn here, so that what is to be read is known; thresholds by a stand-in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.annotate import text_in_image as module
from curation.annotate.text_in_image import text_in_image

LINES = {"Fresh bread": (30, 30), "daily": (60, 120)}


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shop() -> Image.Image:
    image = Image.new("RGB", (400, 200), "white")
    draw = ImageDraw.Draw(image)
    for text, at in LINES.items():
        draw.text(at, text, fill="navy", font=ImageFont.load_default(40))
    return image


def measured(*pairs: tuple[bytes | None, str | None]) -> pl.DataFrame:
    images, texts = zip(*pairs, strict=True)
    uids = pl.int_range(len(pairs), dtype=pl.UInt64, eager=True)
    columns = {"image": pl.Series(images, dtype=pl.Binary), "text": pl.Series(texts, dtype=str)}
    return text_in_image(pl.DataFrame({"uid": uids, **columns}))


def test_lines_are_found_where_they_are_drawn_and_read_as_they_are_written():
    found = measured((encoded(shop()), None)).row(0, named=True)
    assert found["text"] == "Fresh bread\ndaily"
    draw = ImageDraw.Draw(shop())
    for region, (text, at) in zip(found["regions"], LINES.items(), strict=True):
        drawn = draw.textbbox(at, text, font=ImageFont.load_default(40))
        sides = [region[side] for side in ("left", "top", "right", "bottom")]
        assert region["text"] == text
        assert sides == pytest.approx(drawn, abs=16)
    sizes = [(r["right"] - r["left"]) * (r["bottom"] - r["top"]) for r in found["regions"]]
    assert found["area_ratio"] == pytest.approx(sum(sizes) / (400 * 200))


@pytest.mark.parametrize("degrees", [12, -90])
def test_a_slanting_line_and_one_that_runs_downwards_are_read(degrees: float):
    turned = shop().rotate(degrees, expand=True, fillcolor="white")
    assert set(measured((encoded(turned), None))["text"][0].split("\n")) == {"Fresh bread", "daily"}


def test_the_overlap_is_the_share_of_the_captions_words_that_are_shown():
    image = encoded(shop())
    captions = ("DAILY fresh-bread", "bread, bread and butter", "breads", "!?", None)
    found = measured(*[(image, caption) for caption in captions])["caption_overlap_ratio"]
    assert found.to_list() == pytest.approx([1, 1 / 3, 0, None, None])


def test_a_picture_without_text_has_none_and_a_broken_one_is_null():
    plain = encoded(Image.new("L", (1, 1)))
    found = measured((plain, "a caption"), (None, "a caption"), (b"GIF89a", "a caption"))
    assert found.drop("uid").rows() == [([], 0, "", 0), *[(None, None, None, None)] * 2]


def seen(
    probability: float, sure: float = 1.0, box: tuple[int, int, int, int] = (32, 32, 64, 40)
) -> list[dict[str, Any]]:
    """Return the regions where one of 32 x 8 pixels is that likely, and A is read that surely."""
    left, top, right, bottom = box

    def detect(values: Any) -> Any:
        likely = np.zeros((1, 1, *values.shape[2:]), dtype=np.float32)
        likely[..., top:bottom, left:right] = probability
        return likely

    def read(_: Any) -> Any:
        return np.array([[[0, sure]]], dtype=np.float32)

    reader = module._Reader(detect, read, ["", "A"])
    found = module._seen(encoded(Image.new("L", (128, 64))), 128, reader)
    assert found is not None
    return found[0]


def test_each_threshold_has_its_two_sides():
    assert seen(0.599) == []
    (region,) = seen(0.601)
    assert region["confidence"] == pytest.approx(0.601)
    assert seen(0.9, box=(32, 32, 64, 35)) == []
    assert len(seen(0.9, box=(32, 32, 64, 36))) == 1
    assert [seen(0.9, sure)[0]["text"] for sure in (0.499, 0.501)] == [None, "A"]


def test_a_region_grows_by_its_area_times_three_halves_over_its_perimeter():
    # Between the centres of its pixels it is 31 x 7, and grows by 31 * 7 * 1.5 / 76 = 4.28.
    (region,) = seen(0.9)
    sides = [region[side] for side in ("left", "top", "right", "bottom")]
    assert sides == [27, 27, 68, 44]
