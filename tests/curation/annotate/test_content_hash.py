"""Digests that meet where contents are equal, each mode in its sense."""

from __future__ import annotations

import gzip
import hashlib
import io

import numpy as np
import polars as pl
from PIL import Image

from curation.annotate.content_hash import content_hash
from tests.contracts.bad_audio import encoded
from tests.contracts.bad_volumes import cube, volume


def digests(*payloads: bytes | str | None, mode: str = "bytes") -> list[bytes | None]:
    dtype = pl.String if any(isinstance(p, str) for p in payloads) else pl.Binary
    uids = pl.int_range(len(payloads), dtype=pl.UInt64, eager=True)
    frame = pl.DataFrame({"uid": uids, "payload": pl.Series(payloads, dtype=dtype)})
    return content_hash(frame, mode=mode)["digest"].to_list()


def picture(format_: str, colour: int = 0, **options: object) -> bytes:
    image = Image.new("RGB", (5, 4), (200, colour, 30))
    image.putpixel((1, 2), (0, 0, 255))
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def test_bytes_are_hashed_whole():
    assert digests(b"abc", None) == [hashlib.blake2b(b"abc", digest_size=16).digest(), None]


def test_lossless_copies_meet_by_their_pixels_and_differ_by_their_bytes():
    files = [picture("PNG"), picture("PNG", compress_level=0), picture("BMP"), picture("PNG", 1)]
    assert len(set(digests(*files))) == 4
    first, second, third, other = digests(*files, mode="pixels")
    assert first == second == third
    assert other != first


def test_what_is_no_payload_has_no_pixels():
    assert digests(b"not a picture", mode="pixels") == [None]
    assert digests("a text", mode="pixels") == [None]


def test_clips_meet_by_the_samples_of_every_channel():
    tone = np.round(np.stack([np.arange(800), -np.arange(800)], axis=1)).astype(np.int16)
    files = [encoded(tone), encoded(tone, format="FLAC"), encoded(tone[:, ::-1])]
    first, second, swapped = digests(*files, mode="pixels")
    assert first == second != swapped
    assert len(set(digests(*files))) == 3


def test_volumes_meet_by_their_voxels():
    files = [volume(cube()), gzip.compress(volume(cube(np.float32))), volume(cube() + 1)]
    first, second, other = digests(*files, mode="pixels")
    assert first == second != other
    assert len(set(digests(*files))) == 3


def test_texts_meet_but_for_case_width_and_white_space():
    same = digests("A  red\n dog", "a red dog", "Ａ red dog ", mode="text")
    assert len(set(same)) == 1
    assert digests("a red dogs", mode="text") != same[:1]


def test_pictures_of_equal_pixels_and_another_shape_differ():
    wide, tall = (_encoded(Image.new("RGB", size, (9, 9, 9))) for size in ((6, 4), (4, 6)))
    assert len(set(digests(wide, tall, mode="pixels"))) == 2


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
