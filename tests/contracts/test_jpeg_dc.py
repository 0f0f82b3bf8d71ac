"""The short cut to an eighth of a JPEG gives libjpeg's pixels, or leaves the stream to it."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from contracts import decode
from contracts._containers import Limits, walk
from contracts._jpeg_dc import eighth_luma
from contracts.decode import Undecodable
from tests.contracts.bad_images import cmyk


def picture(rng: np.random.Generator, content: str, height: int, width: int) -> Image.Image:
    shape = (height, width, 3)
    if content == "noise":  # the longest codes
        pixels = rng.integers(0, 256, shape)
    elif content == "flat":  # the shortest blocks
        pixels = np.broadcast_to(rng.integers(0, 256, 3), shape)
    elif content == "black and white":  # as far apart as DC coefficients are
        pixels = 255 * (rng.random((-(-height // 8), -(-width // 8), 1)) < 0.5)
        pixels = np.repeat(np.kron(pixels, np.ones((8, 8, 1))), 3, axis=2)[:height, :width]
    else:
        pixels = np.clip(np.cumsum(rng.normal(0, 4, shape), axis=1) + 128, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


CONTENTS = ("noise", "flat", "black and white", "smooth")


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def stream(data: bytes) -> bytes:
    return walk(data, Limits()).stream


def by_libjpeg(data: bytes) -> np.ndarray:
    """Decode as Pillow's draft does, which would not reduce a side below 8 px so far."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    eighth = -(-image.width // 8), -(-image.height // 8)
    image.draft("L", None)
    image.decoderconfig, image._size = (8, 0), eighth
    image.tile = [tile._replace(extents=(0, 0, *eighth)) for tile in image.tile]
    return np.asarray(image)


OPTIONS = (
    {"quality": 75},
    {"quality": 100, "subsampling": 0},
    {"quality": 1, "subsampling": 1},
    {"quality": 90, "optimize": True},
    {"quality": 60, "optimize": True, "subsampling": 0},
    {"quality": 75, "restart_marker_blocks": 1},
    {"quality": 95, "restart_marker_blocks": 7, "subsampling": 1},
    {"quality": 75, "restart_marker_rows": 1},
    {"qtables": [[255] * 64, [1] * 64]},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("content", CONTENTS)
def test_it_gives_libjpegs_pixels(content: str, options: dict[str, Any]):
    rng = np.random.default_rng(0)
    for height, width in ((8, 8), (16, 9), (37, 203), (200, 121), (129, 64)):
        image = picture(rng, content, height, width)
        for mode in ("RGB", "L"):
            data = stream(jpeg(image.convert(mode), **options))
            bare = data[:2] + data[20:]
            assert b"JFIF" not in bare
            for file in (data, bare):
                assert np.array_equal(eighth_luma(file), by_libjpeg(file)), (mode, height, width)


def test_other_codings_are_left_to_libjpeg():
    image = picture(np.random.default_rng(0), "smooth", 64, 64)
    assert eighth_luma(stream(jpeg(image))) is not None
    for data in (
        jpeg(image, progressive=True),
        jpeg(image, keep_rgb=True),
        cmyk(True),
        jpeg(image)[:-40] + b"\xff\xd9",  # the end in the middle of a scan
        jpeg(image)[:-2] + bytes(8) + b"\xff\xd9",  # more bits than the blocks need
    ):
        assert eighth_luma(stream(data)) is None


def test_a_damaged_stream_is_read_as_libjpeg_reads_it_or_not_at_all():
    rng = np.random.default_rng(0)
    taken = left = 0
    for number in range(20_000 if os.environ.get("WINNOW_SOAK") else 160):
        height, width = (int(side) for side in rng.integers(8, 120, 2))
        image = picture(rng, CONTENTS[number % 4], height, width)
        data = jpeg(image, **OPTIONS[number % len(OPTIONS)])
        for _ in range(12):
            damaged = bytearray(data)
            # Half of them anywhere, half in the scan.
            first = rng.choice((2, data.rindex(b"\xff\xda")))
            for at in rng.integers(first, len(damaged), int(rng.integers(1, 4))):
                damaged[at] = (damaged[at] ^ 1 << rng.integers(8), 255)[int(rng.integers(4)) // 3]
            try:
                found = eighth_luma(streamed := stream(bytes(damaged)))
            except Undecodable:
                continue
            if found is None:
                left += 1
                continue
            taken += 1
            with warnings.catch_warnings(action="ignore"):
                assert np.array_equal(found, by_libjpeg(streamed))
    assert taken > 200 < left


def test_it_is_what_a_small_side_is_reduced_by():
    image = picture(np.random.default_rng(0), "smooth", 400, 520)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = jpeg(image, exif=exif)
        # OpenCV turns it upright too.
        upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        assert np.array_equal(decode.reduced(data, 50, "L"), upright)
        assert min(upright.shape) == 50
