from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from embeddings.color_layout import _ZIGZAG, ColorLayout, describe


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((50, 70, 3), (red, green, blue), dtype=np.uint8)


def test_a_white_picture_has_full_lightness_and_nothing_else() -> None:
    found = describe(plain(255, 255, 255))
    # L = 100 stands as 0.5 in each of 8 x 8 cells; the first orthonormal coefficient is 8 times it.
    expected = np.zeros(170)
    expected[0], expected[1] = 0.1, 4.0
    assert np.abs(found - expected).max() < 1e-3


def test_an_even_grey_picture_still_has_a_direction() -> None:
    found = ColorLayout()(pl.DataFrame({"image": [_png(plain(119, 119, 119))]}))["vector"]
    assert found.null_count() == 0


def test_the_second_coefficient_tells_left_from_right_and_the_third_top_from_bottom() -> None:
    left = plain(0, 0, 0)
    left[:, :35] = 255
    top = plain(0, 0, 0)
    top[:25] = 255
    a, b, c = describe(left), describe(left[:, ::-1]), describe(top)
    assert a[2] == pytest.approx(-b[2], abs=1e-5)
    assert a[2] > 1
    assert abs(a[3]) < 1e-5
    assert c[3] == pytest.approx(a[2], abs=0.05)


def test_upright_edges_fall_into_the_first_angle_and_level_ones_into_the_middle() -> None:
    stripes = plain(0, 0, 0)
    stripes[:, ::14] = 255
    edges = describe(stripes)[42:].reshape(16, 8)
    assert edges.argmax(axis=1).tolist() == [0] * 16
    edges = describe(np.ascontiguousarray(stripes.transpose(1, 0, 2)))[42:].reshape(16, 8)
    assert edges.argmax(axis=1).tolist() == [4] * 16


def test_the_zigzag_is_that_of_jpeg() -> None:
    begin = list(zip(*(axis[:10].tolist() for axis in _ZIGZAG), strict=True))
    assert begin == [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (1, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (2, 1),
        (3, 0),
    ]


def test_another_size_and_quality_stay_near_while_other_pictures_are_far(
    draw: Callable[..., np.ndarray],
) -> None:
    originals = [draw(seed, 120, 160) for seed in range(20)]
    small = [np.asarray(Image.fromarray(p).resize((97, 71))) for p in originals]
    files = [_png(p) for p in originals] + [_jpeg(p) for p in small]
    x_ND = ColorLayout()(pl.DataFrame({"image": files}))["vector"].to_numpy().astype(np.float32)
    cosine = x_ND[:20] @ x_ND[20:].T
    assert cosine.diagonal().min() > 0.98
    assert np.where(np.eye(20), -1, cosine).max() < 0.9


@pytest.mark.data
def test_drawings_of_one_concept_by_two_vendors_find_each_other(data: Path) -> None:
    frame = (
        pl.read_parquet(data / "emoji" / "emoji.parquet", columns=["image", "codepoint", "vendor"])
        .filter(pl.col("vendor").is_in(["twemoji", "noto"]))
        .unique(["vendor", "codepoint"], maintain_order=True)
        .filter(pl.len().over("codepoint") == 2)
        .sort("codepoint", "vendor")[:600]
    )
    images = frame.select(pl.col("image").struct.field("bytes").alias("image"))
    x_ND = ColorLayout()(images)["vector"].to_numpy().astype(np.float32)
    nearest = (x_ND[0::2] @ x_ND[1::2].T).argmax(axis=1)
    # 300 concepts: chance is 0.003.
    assert (nearest == np.arange(300)).mean() > 0.35


def _png(pixels: np.ndarray) -> bytes:
    return _file(pixels, "PNG")


def _jpeg(pixels: np.ndarray) -> bytes:
    return _file(pixels, "JPEG", quality=70)


def _file(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
