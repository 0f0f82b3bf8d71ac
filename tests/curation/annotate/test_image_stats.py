"""Numbers of a picture: by hand, by OpenCV, and in every way that a picture can be stored."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from curation.annotate.image_stats import image_stats

NOISE = np.random.default_rng(0).integers(0, 256, (37, 50), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


def table(*images: bytes | None) -> pl.DataFrame:
    uids = pl.int_range(len(images), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "image": pl.Series(images, dtype=pl.Binary)})


def measured(data: bytes) -> dict[str, Any]:
    return image_stats(table(data)).drop("uid").row(0, named=True)


def test_a_picture_whose_numbers_one_sees():
    # Two columns of black, one of white, in two rows: the Laplacian is 0, 255 and -510.
    halves = np.array([[0, 0, 255], [0, 0, 255]], np.uint8)
    third = 1 / 3
    assert measured(encoded(halves)) == pytest.approx(
        {
            "width_px": 3,
            "height_px": 2,
            "aspect": 1.5,
            "brightness": third,
            "entropy": -(third * np.log2(third) + 2 * third * np.log2(2 * third)),
            "flat_ratio": 2 * third,
            "laplacian_variance": (255**2 + 510**2) / 3 - 85**2,
            "depth": 8,
            "frames": 1,
            "transparent": False,
        }
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (2, 2), (37, 50)])
def test_light_detail_and_sharpness_are_as_opencv_and_numpy_have_them(shape: tuple[int, int]):
    grey = NOISE[: shape[0], : shape[1]]
    found = measured(encoded(grey))
    shares = np.unique(grey, return_counts=True)[1] / grey.size
    assert found["laplacian_variance"] == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var())
    assert found["brightness"] == pytest.approx(grey.mean() / 255)
    assert found["entropy"] == pytest.approx(-(shares * np.log2(shares)).sum())
    assert found["flat_ratio"] == pytest.approx(shares.max())
    assert (found["width_px"], found["height_px"]) == shape[::-1]


def test_one_colour_has_no_detail_and_a_blurred_picture_less_than_a_sharp_one():
    flat = measured(encoded(np.full((5, 9), 51, np.uint8)))
    assert str(flat["entropy"]) == "0.0"
    assert (flat["flat_ratio"], flat["laplacian_variance"]) == (1, 0)
    assert flat["brightness"] == pytest.approx(0.2)
    sharp, blurred = (measured(encoded(g)) for g in (NOISE, cv2.GaussianBlur(NOISE, (5, 5), 2)))
    assert blurred["laplacian_variance"] < sharp["laplacian_variance"] / 10


def rgba(alpha: int) -> Image.Image:
    return Image.new("RGBA", (4, 4), (0, 0, 0, alpha))


def palette(**options: Any) -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9, 8, 8, 8])
    return encoded(image, **options)


FRAMES = {"save_all": True, "append_images": [rgba(0), Image.new("RGBA", (4, 4), "red")]}
ROTATED = Image.Exif()
ROTATED[0x0112] = 6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(rgba(255)), {"depth": 8, "transparent": True, "brightness": 0}),
        (encoded(rgba(0)), {"transparent": True, "brightness": 1}),
        (encoded(np.full((4, 4), 257 * 51, np.uint16)), {"depth": 16, "brightness": 0.2}),
        (encoded(Image.new("1", (4, 4), 1)), {"depth": 1, "brightness": 1}),
        (palette(bits=2), {"depth": 2, "transparent": False, "brightness": 0}),
        (palette(bits=2, transparency=1), {"depth": 2, "transparent": True, "brightness": 1}),
        (encoded(Image.new("CMYK", (4, 4)), "JPEG"), {"depth": 8, "brightness": 1}),
        (encoded(rgba(255), "PNG", **FRAMES), {"frames": 3, "brightness": 0}),
        (encoded(rgba(255), "WEBP", lossless=True, **FRAMES), {"frames": 3, "brightness": 0}),
        (encoded(Image.new("L", (4, 4)), "GIF", **FRAMES), {"frames": 3, "brightness": 0}),
        (encoded(Image.new("RGB", (4, 4)), "BMP"), {"depth": 8, "frames": 1}),
        (
            encoded(Image.new("L", (8, 4)), "JPEG", exif=ROTATED),
            {"width_px": 4, "height_px": 8, "aspect": 2},
        ),
    ],
)
def test_every_way_to_store_a_picture_has_a_defined_result(data: bytes, expected: dict[str, Any]):
    found = measured(data)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_what_is_absent_or_broken_is_null_in_every_column():
    found = image_stats(table(None, b"", encoded(NOISE)[:-40], encoded(NOISE))).drop("uid")
    assert all(column.is_null().to_list() == [True] * 3 + [False] for column in found)
