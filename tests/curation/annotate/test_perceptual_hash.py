from __future__ import annotations

import io
import tarfile
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
import pytest
import sklearn
from PIL import Image

from contracts import decode
from curation.annotate.perceptual_hash import perceptual_hash

SAMPLES = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
NOISE = np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8)
RAMP = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))
FLAT = np.full((64, 64), 128, np.uint8)
CHECKS = np.kron(np.indices((8, 8)).sum(axis=0) % 2 * 255, np.ones((8, 8))).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


def hashed(images: list[bytes | None], **parameters) -> pl.DataFrame:
    decode.forget()
    uids = pl.Series(range(len(images)), dtype=pl.UInt64)
    return perceptual_hash(
        pl.DataFrame({"uid": uids, "image": pl.Series(images, dtype=pl.Binary)}), **parameters
    )


def digits(images: list[np.ndarray], **parameters) -> list[str]:
    return [f"{bits:016x}" for bits in hashed([encoded(i) for i in images], **parameters)["bits"]]


def apart(left: pl.Series, right: pl.Series) -> list[int]:
    def number(bits: int | bytes) -> int:
        return bits if isinstance(bits, int) else int.from_bytes(bits, "big")

    return [(number(a) ^ number(b)).bit_count() for a, b in zip(left, right, strict=True)]


def photographs(count: int = 24) -> list[bytes]:
    """Crops of two photographs at the sizes of a web page, as JPEG."""
    chance = np.random.default_rng(0)
    crops = []
    for index in range(count):
        with Image.open(SAMPLES[index % len(SAMPLES)]) as whole:
            width, height = chance.integers(300, 600), chance.integers(250, 420)
            left, top = chance.integers(0, 640 - width), chance.integers(0, 427 - height)
            crop = whole.crop((left, top, left + width, top + height))
        scale = chance.choice((0.5, 1, 2, 3))
        size = int(width * scale), int(height * scale)
        crops.append(encoded(crop.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=85))
    return crops


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return photographs()


@pytest.mark.parametrize("mode", ["fast", "imagehash"])
def test_the_published_vectors_come_out_in_both_modes(mode: str):
    assert digits([NOISE], kind="phash", mode=mode) == ["ca3dd3580b031f37"]
    assert digits([NOISE], kind="dhash", mode=mode) == ["70296ec9aab5cc49"]
    found = hashed([encoded(NOISE)], kind="pdq", mode=mode)
    vector = "4a763c4b785e782412e37c26fe23662fe744b376d5fc43e066e8c40d58e5085e"
    assert found["bits"][0].hex() == vector
    assert found["quality"][0] == 1


def test_a_pixel_brighter_than_its_left_neighbour_sets_a_bit_of_dhash():
    step = np.zeros((8, 9), np.uint8)
    step[0, 1:] = 50  # only the first pair of the first row rises
    step[7, 8] = 50  # and the last of the last
    assert digits([RAMP, RAMP[:, ::-1].copy(), step], kind="dhash") == [
        "ffffffffffffffff",
        "0000000000000000",
        "8000000000000001",
    ]


def test_flat_pictures_collide_and_their_quality_says_so():
    flat = [FLAT, np.zeros((64, 64), np.uint8), CHECKS]
    for mode in ("fast", "imagehash"):
        grey, black = "8000000000000000", "0000000000000000"
        assert digits(flat, mode=mode) == [grey, black, grey]
    assert digits(flat[:2], kind="dhash") == ["0000000000000000"] * 2
    for kind in ("phash", "dhash", "pdq"):
        assert hashed([encoded(i) for i in flat], kind=kind)["quality"].to_list() == [0, 0, 1]


def test_quality_is_pdqs_sum_of_gradients():
    # One edge of height 51 = 20 % across 64 rows: 64 * 20 / 90 = 14 of 100.
    edge = np.zeros((64, 64), np.uint8)
    edge[:, 32:] = 51
    assert hashed([encoded(edge)], kind="pdq")["quality"][0] == pytest.approx(0.14)


def test_pdq_is_its_definition_step_by_step():
    """The same again in plain loops: box means, tile centres, cosine sums, lower median."""
    grey = np.random.default_rng(2).integers(0, 256, (150, 300)).astype(float)

    def box(values: list[float], window: int) -> list[float]:
        after = (window + 2) // 2 - 1
        before = window - 1 - after
        ranges = [values[max(0, i - before) : i + after + 1] for i in range(len(values))]
        return [sum(part) / len(part) for part in ranges]

    blurred = grey.copy()
    for _ in range(2):
        blurred = np.array([box(list(row), 3) for row in blurred])
        blurred = np.array([box(list(column), 2) for column in blurred.T]).T
    centres = [[int((i + 0.5) * length / 64) for i in range(64)] for length in grey.shape]
    small = blurred[np.ix_(*centres)]
    wave = np.sqrt(2 / 64) * np.cos(np.pi / 128 * np.outer(np.arange(1, 17), 2 * np.arange(64) + 1))
    coefficients = wave @ small @ wave.T
    number = 0
    for index, value in enumerate(coefficients.ravel()):
        number |= int(value > sorted(coefficients.ravel())[127]) << index
    found = hashed([encoded(grey.astype(np.uint8))], kind="pdq")["bits"][0]
    assert int.from_bytes(found, "big") == number


@pytest.mark.parametrize("kind", ["phash", "dhash"])
def test_mode_imagehash_is_bit_for_bit_what_imagehash_computes(kind: str, photos: list[bytes]):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(SAMPLES[0]) as whole:
        small = whole.resize((100, 80))
    layered = small.convert("RGBA")
    layered.putalpha(Image.linear_gradient("L").resize(small.size))
    images = [
        *photos[:8],
        encoded(small, "JPEG", exif=exif),
        encoded(layered),
        encoded(layered, "WEBP", lossless=True),
        encoded(small.convert("LA")),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small.convert("P"), "GIF"),
        encoded(small.quantize(40), transparency=bytes(range(40))),
        encoded(NOISE),
        encoded(FLAT),
        encoded(CHECKS),
    ]
    expected = []
    for data in images:
        with Image.open(io.BytesIO(data)) as image:
            image.info.pop("transparency", None)  # only a warning of Pillow's depends on it
            expected.append(int(str(getattr(imagehash, kind)(image)), 16))
    assert hashed(images, kind=kind, mode="imagehash")["bits"].to_list() == expected


@pytest.mark.parametrize(
    ("kind", "median", "largest"), [("phash", 0, 6), ("dhash", 1, 6), ("pdq", 1, 10)]
)
def test_reduced_decoding_costs_few_bits(kind, median, largest, photos: list[bytes]):
    fast, full = hashed(photos, kind=kind), hashed(photos, kind=kind, mode="imagehash")
    differences = apart(fast["bits"], full["bits"])
    assert np.median(differences) <= median
    assert max(differences) <= largest
    assert fast["quality"].to_list() == pytest.approx(full["quality"].to_list(), abs=0.12)


def test_a_turned_or_transparent_picture_is_hashed_as_it_is_seen():
    with Image.open(SAMPLES[1]) as whole:
        upright = whole.resize((128, 96))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    plain, turned = hashed([encoded(upright), encoded(stored, exif=exif)])["bits"]
    assert plain == turned
    square = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    square.paste((200, 30, 30, 255), (16, 16, 40, 40))
    white = Image.alpha_composite(Image.new("RGBA", (64, 64), "white"), square).convert("RGB")
    for kind in ("phash", "dhash", "pdq"):
        seen, same = hashed([encoded(square), encoded(white)], kind=kind)["bits"]
        assert seen == same
    dropped = hashed([encoded(square)], kind="dhash", mode="imagehash")["bits"][0]
    assert dropped != hashed([encoded(square)], kind="dhash")["bits"][0]


@pytest.mark.parametrize("kind", ["phash", "dhash", "pdq"])
def test_scaling_and_recompression_stay_near_and_other_pictures_far(kind: str):
    near, far = (31, 60) if kind == "pdq" else (8, 16)
    pictures = []
    for path in SAMPLES:
        with Image.open(path) as whole:
            pictures += [
                path.read_bytes(),
                encoded(whole.resize((320, 213), Image.Resampling.LANCZOS), "JPEG", quality=40),
                encoded(whole.point(lambda value: value * 3 // 4 + 20), "WEBP", quality=60),
            ]
    bits = hashed(pictures, kind=kind)["bits"]
    for first in (0, 3):
        same = apart(bits[[first, first]], bits[first + 1 : first + 3])
        assert max(same) <= near
    assert apart(bits[:1], bits[3:4])[0] >= far


def test_only_what_cannot_be_decoded_is_null():
    whole = SAMPLES[0].read_bytes()
    images = [None, b"", b"<html>", whole[: len(whole) // 2], encoded(FLAT)]
    for kind, dtype in (("phash", pl.UInt64), ("dhash", pl.UInt64), ("pdq", pl.Binary)):
        for mode in ("fast", "imagehash"):
            found = hashed(images, kind=kind, mode=mode)
            assert found.schema == {"uid": pl.UInt64, "bits": dtype, "quality": pl.Float32}
            assert found["bits"].is_null().to_list() == [True] * 4 + [False]
            assert found["quality"].is_null().to_list() == [True] * 4 + [False]
    assert perceptual_hash.bind(kind="pdq").writes["bits"] == pl.Binary


@pytest.mark.data
def test_real_pictures_agree_with_imagehash_and_videos_frames_are_near(data: Path):
    with tarfile.open(data / "camvid" / "val-000.tar") as shard:
        frames = [shard.extractfile(m).read() for m in shard if m.name.endswith(".jpg")]
    emoji = pl.read_parquet(data / "emoji" / "emoji.parquet", n_rows=200)["image"]
    images = frames + emoji.struct.field("bytes").to_list()
    for kind in ("phash", "dhash"):
        expected = []
        for file in images:
            with Image.open(io.BytesIO(file)) as image:
                expected.append(int(str(getattr(imagehash, kind)(image)), 16))
        assert hashed(images, kind=kind, mode="imagehash")["bits"].to_list() == expected
    for kind, limit in (("phash", 2), ("dhash", 2), ("pdq", 2)):
        fast, full = hashed(frames, kind=kind), hashed(frames, kind=kind, mode="imagehash")
        assert np.median(apart(fast["bits"], full["bits"])) <= limit
        following = apart(fast["bits"][:-1], fast["bits"][1:])
        across = apart(fast["bits"][:-50], fast["bits"][50:])
        assert np.median(following) < np.median(across)
