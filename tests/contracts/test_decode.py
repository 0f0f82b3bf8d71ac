from __future__ import annotations

import io
import pickle
import random
import re
import signal
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from contracts import decode
from contracts.decode import Limits, Undecodable
from tests.contracts.bad_images import (
    ROWS,
    animated,
    bmp,
    chunk,
    cmyk,
    encoded,
    gradient,
    half_transparent,
    jpeg,
    mpo,
    oriented,
    png,
    webp,
    with_segment,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    decode.forget()


def photograph(width: int = 300, height: int = 200) -> Image.Image:
    """Smooth noise: all frequencies, as a photograph has."""
    rough = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------ outcomes


@pytest.mark.parametrize("name", ROWS)
def test_every_bad_image_has_its_one_outcome(name: str):
    row = ROWS[name]
    data = row.make()
    if row.code is None:
        found = decode.inspect(data)
        assert found.notes == row.notes
        assert (found.width, found.height) == row.size
        assert decode.image(data).shape == (found.height, found.width, 3)
    else:
        with pytest.raises(Undecodable) as refusal:
            decode.inspect(data)
        assert refusal.value.code == row.code
        assert row.detail in refusal.value.detail


def test_the_true_format_is_told_whatever_the_name():
    formats = {
        decode.inspect(encoded(gradient(), f)).format for f in ("JPEG", "PNG", "WEBP", "BMP")
    }
    assert formats == {"JPEG", "PNG", "WEBP", "BMP"}
    assert decode.inspect(encoded(gradient("P"), "GIF")).format == "GIF"


IN_A_CHILD = """
import resource, sys, time
sys.path.insert(0, {root!r})
from contracts import decode
from tests.contracts.bad_images import ROWS
made = [(name, row.make()) for name, row in ROWS.items()]
decode.inspect(dict(made)["BMP"])
seen = []
sys.addaudithook(lambda event, _: seen.append(event))

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) >> 10

before, slowest = peak(), 0.0
for name, data in made:
    seen.clear()
    start = time.process_time()
    try:
        decode.inspect(data)
    except decode.Undecodable:
        pass
    slowest = max(slowest, time.process_time() - start)
    touched = [e for e in seen if e.split(".")[0] in ("open", "subprocess", "socket", "os")]
    assert not touched, (name, touched)
print(peak() - before, slowest)
"""


def test_no_bad_image_costs_much_opens_a_file_or_starts_a_program():
    run = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD.format(root=str(ROOT))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rise_mb, slowest_s = map(float, run.stdout.split())
    assert rise_mb < 512
    assert slowest_s < 5


def test_damaged_files_are_pictures_or_refusals_and_nothing_else():
    good = [row.make() for name, row in ROWS.items() if row.code is None]
    good += [encoded(half_transparent(), "PNG"), encoded(gradient("P"), "GIF", transparency=3)]
    chance = random.Random(0)
    outcomes: dict[str, int] = {}
    for _ in range(4000):
        data = bytearray(chance.choice(good))
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] = chance.choice((0, 255, chance.randrange(256)))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            found = decode.inspect(bytes(data))
            assert decode.image(bytes(data)).shape == (found.height, found.width, 3)
            outcome = "decoded"
        except Undecodable as refusal:
            outcome = refusal.code
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert {"decoded", "TRUNCATED", "CORRUPT_DATA", "NOT_AN_IMAGE"} <= set(outcomes)


def test_a_refusal_survives_the_way_between_processes_and_hides_no_control_characters():
    refusal = pickle.loads(pickle.dumps(Undecodable("TRUNCATED", "a\x1b[31m\n\u202eb" + "x" * 600)))
    assert refusal.code == "TRUNCATED"
    assert refusal.detail.startswith("a\\x1b[31m\\n\\u202ebx")
    assert len(refusal.detail) == 500
    assert str(Undecodable("EMPTY_FILE")) == "EMPTY_FILE"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(bytes=100), "TOO_LARGE"),
        (Limits(pixels=64 * 48 - 1), "BOMB_PIXELS"),
        (Limits(aspect=1), "ASPECT_RATIO"),
    ],
)
def test_each_limit_is_a_bound_of_its_own(limits: Limits, code: str):
    with pytest.raises(Undecodable) as refusal:
        decode.inspect(jpeg(), limits)
    assert refusal.value.code == code
    assert decode.inspect(jpeg(), Limits(bytes=len(jpeg()), pixels=64 * 48, aspect=2))


def test_frames_and_metadata_are_bounded_in_every_format_that_has_them():
    exif = Image.Exif()
    exif[0x010E] = "x" * 2000
    for format in ("PNG", "GIF", "WEBP"):
        assert decode.inspect(animated(format, 5), Limits(frames=5)).notes[0] == "ANIMATED"
        with pytest.raises(Undecodable, match="TOO_MANY_FRAMES"):
            decode.inspect(animated(format, 5), Limits(frames=4))
    for format in ("PNG", "JPEG", "WEBP"):
        data = encoded(gradient(), format, exif=exif)
        assert decode.inspect(data, Limits(metadata_bytes=2500))
        with pytest.raises(Undecodable, match="BOMB_METADATA"):
            decode.inspect(data, Limits(metadata_bytes=1500))


def test_every_reason_code_is_explained():
    page = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| ([A-Z0-9_]+) \|", page, re.MULTILINE))
    used = {row.code for row in ROWS.values() if row.code}
    used |= {note for row in ROWS.values() for note in row.notes}
    for folder in ("contracts", "storage", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            code = path.read_text(encoding="utf-8")
            used |= set(re.findall(r'(?:Refused|Undecodable)\(\s*"([A-Z0-9_]+)"', code))
    assert {"TRUNCATED", "BOMB_SCANS", "ALPHA"} <= used
    assert used <= explained


# ------------------------------------------------------------------ pixels


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_ordinary_pictures_are_as_pillow_decodes_them(format: str):
    data = encoded(photograph(), format)
    assert np.array_equal(decode.image(data), by_pillow(data))


def test_every_mode_of_png_and_gif_is_as_pillow_converts_it():
    for mode in ("1", "L", "P"):
        for format in ("PNG", "GIF"):
            data = encoded(gradient(mode), format)
            assert np.array_equal(decode.image(data), by_pillow(data)), (mode, format)
    for frames in (animated("GIF", 3), animated("PNG", 3), animated("WEBP", 3), mpo()):
        assert np.array_equal(decode.image(frames), by_pillow(frames))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_each_exif_rotation_is_applied_as_pillow_applies_it(orientation: int, format: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(photograph(96, 64), format, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.array_equal(decode.image(data), expected)
    assert decode.reduced(data, 32).shape[:2] == decode.reduced(data, 32, "L").shape
    found = decode.inspect(data)
    assert (found.height, found.width) == expected.shape[:2]
    assert found.notes == (("EXIF_ROTATED",) if orientation > 1 else ())


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str):
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 1) + entry
    data = with_segment(jpeg(), 0xE1, b"Exif\0\0" + tiff + bytes(4))
    assert decode.image(data).shape == (64, 48, 3)


def test_transparency_is_laid_on_white():
    assert (decode.image(ROWS["I22 transparent red"].make()) == 255).all()
    # 200 at alpha 128: (200 * 128 + 255 * 127) / 255 = 227.4
    assert (decode.image(ROWS["I23 grey and alpha"].make(), "L") == 227).all()
    half = decode.image(encoded(half_transparent(), "PNG"))
    assert (half[:24] == 255).all()
    assert np.array_equal(half[24:], np.asarray(gradient())[24:])


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "expected"),
    [
        (1, 0, b"\x80", (1,), [[255] * 3, [0] * 3]),
        (2, 0, b"\x60", (1,), [[255] * 3, [170] * 3]),
        (4, 0, b"\x12", (1,), [[255] * 3, [34] * 3]),
        (8, 0, b"\x07\x08", (7,), [[255] * 3, [8] * 3]),
        (16, 0, struct.pack(">2H", 1000, 1001), (1000,), [[255] * 3, [4] * 3]),
        (8, 2, bytes((1, 2, 3, 4, 5, 6)), (1, 2, 3), [[255] * 3, [4, 5, 6]]),
        (
            16,
            2,
            struct.pack(">6H", 256, 512, 768, 1024, 1280, 1536),
            (256, 512, 768),
            [[255] * 3, [4, 5, 6]],
        ),
    ],
)
def test_a_transparent_colour_is_found_at_every_depth(depth, colour, row, key, expected):
    data = png(
        2,
        1,
        depth=depth,
        colour=colour,
        rows=b"\0" + row,
        extra=chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)),
    )
    assert decode.image(data)[0].tolist() == expected
    assert "ALPHA" in decode.inspect(data).notes


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 128, 129, 257, 32767, 65406, 65407, 65535]], np.uint16)
    grey = decode.image(encoded(Image.fromarray(values), "PNG"), "L")
    assert grey.tolist() == [[0, 0, 1, 1, 127, 254, 255, 255]]
    ramp = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    expected = np.rint(ramp / 257)
    assert np.array_equal(decode.image(encoded(Image.fromarray(ramp), "PNG"), "L"), expected)
    colours = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    data = cv2.imencode(".png", colours[..., ::-1])[1].tobytes()
    assert np.abs(decode.image(data) - np.rint(colours / 257)).max() <= 1


def test_cmyk_is_the_same_red_inverted_or_not():
    for adobe in (True, False):
        pixels = decode.image(cmyk(adobe)).astype(int)
        assert np.abs(pixels - [255, 0, 0]).max() <= 2, adobe


def test_luma_is_that_of_the_jpeg_and_of_converted_pixels_elsewhere():
    for format in ("JPEG", "PNG"):
        data = encoded(photograph(), format)
        expected = np.asarray(Image.fromarray(by_pillow(data)).convert("L")).astype(int)
        apart = np.abs(decode.image(data, "L") - expected)
        # Where a channel was clipped on the way to RGB the stored luma is the truer one.
        assert apart.max() <= (0 if format == "PNG" else 8)
        assert apart.mean() < 0.5


def test_a_reduced_jpeg_keeps_the_wanted_side_and_equals_opencvs():
    data = encoded(photograph(300, 200), "JPEG")
    for side_px, factor in ((200, 1), (101, 1), (100, 2), (51, 2), (50, 4), (25, 8), (1, 8)):
        small = decode.reduced(data, side_px)
        assert small.shape == (-(-200 // factor), -(-300 // factor), 3)
        assert min(small.shape[:2]) >= side_px
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_IGNORE_ORIENTATION
    assert np.array_equal(
        decode.reduced(data, 50, "L"), cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    )
    assert np.array_equal(decode.reduced(data, 1000, "L"), decode.image(data, "L"))
    turned = oriented(6, photograph(300, 200))
    assert decode.reduced(turned, 50).shape == (75, 50, 3)


def test_other_formats_are_reduced_by_nothing():
    for data in (encoded(half_transparent(), "PNG"), webp(), animated("GIF", 2)):
        assert decode.reduced(data, 8) is decode.image(data)


def test_the_stored_picture_is_neither_turned_nor_flattened():
    stored = decode.picture(oriented(6))
    assert (stored.size, stored.mode) == ((64, 48), "RGB")
    assert decode.picture(encoded(half_transparent(), "PNG")).mode == "RGBA"
    with pytest.raises(Undecodable):
        decode.picture(jpeg()[:-2])


def test_hidden_bytes_change_no_pixel():
    plain = decode.image(jpeg())
    for body in (b"<script>", b"Exif\0\0" + b"\xff" * 40, b"Adobe" + bytes(3)):
        for marker in (0xE1, 0xE2, 0xED, 0xFE):
            assert np.array_equal(decode.image(with_segment(jpeg(), marker, body)), plain)
    assert np.array_equal(decode.image(jpeg() + jpeg()), plain)
    assert np.array_equal(decode.image(bmp(64, -48, bytes(64 * 3 * 48))), np.zeros((48, 64, 3)))


# ------------------------------------------------------------------ the batch


def test_a_picture_is_decoded_once_a_batch_and_cannot_be_written_to():
    data = jpeg()
    first = decode.image(data)
    assert decode.image(bytes(bytearray(data))) is first
    assert decode.image(data, "L") is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0
    decode.forget()
    assert decode.image(data) is not first


def test_only_the_last_64_pictures_are_remembered():
    batch = [png(8, 8, rows=bytes((0, *[shade] * 24)) * 8) for shade in range(65)]
    first, second = decode.image(batch[0]), decode.image(batch[1])
    for data in batch[2:]:
        decode.image(data)
    assert decode.image(batch[1]) is second
    assert decode.image(batch[0]) is not first


def test_what_one_step_asked_for_changes_nothing_for_another():
    data = encoded(photograph(), "JPEG")
    alone = decode.image(data).copy()
    decode.forget()
    decode.reduced(data, 20)
    decode.image(data, "L")
    decode.picture(data)
    assert np.array_equal(decode.image(data), alone)


# ------------------------------------------------------------------ the limits of a process

LIMITED = """
import sys
sys.path.insert(0, {root!r})
from contracts import decode
from tests.contracts.bad_images import deflated_zeros, png
{body}
"""


def in_a_child(body: str) -> subprocess.CompletedProcess[str]:
    script = LIMITED.format(root=str(ROOT), body=body)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_a_picture_beyond_the_memory_limit_costs_itself_alone():
    run = in_a_child(
        "import random\n"
        "padding = random.Random(0).randbytes(200_000)\n"
        "big = png(6000, 6000, stream=deflated_zeros(18001 * 6000) + padding)\n"
        "decode.limit_process(150 << 20, 60)\n"
        "try:\n    decode.inspect(big)\n"
        "except decode.Undecodable as refusal:\n    print(refusal.code)\n"
        "print(decode.inspect(png(8, 8)).format)\n"
    )
    assert run.stdout.split() == ["DECODE_OOM", "PNG"], run.stderr


def test_a_stalled_process_is_ended_without_a_core_file():
    run = in_a_child(
        "import resource\n"
        "decode.limit_process(1 << 30, 1)\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1024\n"
        "while True:\n    pass\n"
    )
    assert run.returncode == -signal.SIGXCPU, run.stderr
    assert not list(Path.cwd().glob("core*"))


def test_processor_time_is_granted_anew_by_each_call():
    run = in_a_child(
        "import time\n"
        "for _ in range(3):\n"
        "    decode.limit_process(1 << 30, 1)\n"
        "    start = time.process_time()\n"
        "    while time.process_time() - start < 0.9:\n        pass\n"
        "print('done')\n"
    )
    assert run.stdout.strip() == "done", run.stderr


ELSEWHERE = """
import resource
decode.sys = type(decode.sys)("sys")
decode.sys.platform = {platform!r}
{change}
decode.limit_process(1 << 30, 60)
print(resource.getrlimit(resource.RLIMIT_CPU)[0] < 3600)
"""
REFUSING = """
real = resource.setrlimit
def refusing(limit, values):
    if limit == resource.RLIMIT_DATA:
        raise ValueError("not allowed to raise maximum limit")
    real(limit, values)
resource.setrlimit = refusing
"""


@pytest.mark.parametrize("change", ["del resource.RLIMIT_DATA", REFUSING], ids=["none", "refused"])
def test_a_limit_that_another_system_lacks_or_refuses_leaves_the_others(change: str):
    run = in_a_child(ELSEWHERE.format(platform="darwin", change=change))
    assert run.stdout.strip() == "True", run.stderr
    assert in_a_child(ELSEWHERE.format(platform="linux", change=change)).returncode == 1


# ------------------------------------------------------------------ real data


@pytest.mark.data
def test_real_pictures_are_as_pillow_decodes_them(data: Path):
    with tarfile.open(data / "cifar10" / "test-000.tar") as shard:
        files = [shard.extractfile(m).read() for m in shard if m.name.endswith(".jpg")][:300]
    with tarfile.open(data / "camvid" / "val-000.tar") as shard:
        files += [shard.extractfile(m).read() for m in shard if m.name.endswith((".jpg", ".png"))]
    for file in files:
        assert np.array_equal(decode.image(file), by_pillow(file))
        assert not set(decode.inspect(file).notes) - {"CONSTANT_IMAGE"}
    emoji = pl.read_parquet(data / "emoji" / "emoji.parquet", n_rows=300)["image"]
    for file in emoji.struct.field("bytes"):
        with Image.open(io.BytesIO(file)) as image:
            white = Image.new("RGBA", image.size, "white")
            expected = np.asarray(
                Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
            )
        assert np.abs(decode.image(file).astype(int) - expected).max() <= 1


def _labels(values, mode="L", format="PNG", **how):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(values)).convert(mode).save(buffer, format, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_are_grey_values_or_places_in_a_palette(mode):
    classes = np.array([[0, 1, 7], [254, 255, 3]], dtype=np.uint8)
    picture = Image.fromarray(classes)
    if mode == "P":
        picture = Image.frombytes("P", (3, 2), classes.tobytes())
        picture.putpalette([v for n in range(256) for v in (255 - n, n, 7)])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert decode.labels(buffer.getvalue()).tolist() == classes.tolist()


@pytest.mark.parametrize(
    ("depth", "row", "classes"), [(1, 0b01_000000, [0, 1]), (2, 0b1011_0000, [2, 3])]
)
def test_labels_of_few_bits_are_the_numbers_that_were_written(depth, row, classes):
    header = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    data = zlib.compress(bytes([0, row]))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    assert decode.labels(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).tolist() == [classes]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_labels(np.zeros((4, 4, 3), dtype=np.uint8), "RGB"), "LABEL_CHANNELS"),
        (_labels(np.zeros((4, 4), dtype=np.uint8), "LA"), "LABEL_CHANNELS"),
        (_labels(np.zeros((4, 4), dtype=np.uint8), format="JPEG"), "LABEL_LOSSY"),
        (_labels(np.full((4, 4), 256, dtype=np.uint16), "I;16"), "LABEL_VALUES"),
        (b"no picture", "NOT_AN_IMAGE"),
    ],
)
def test_what_is_no_label_image_is_refused(data, code):
    with pytest.raises(decode.Undecodable) as caught:
        decode.labels(data)
    assert caught.value.code == code


def test_labels_of_a_square_are_those_at_the_centres_of_its_pixels_and_no_others():
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert decode.square_labels(labels, 4).tolist() == labels[:, 1:5].tolist()
    assert decode.square_labels(labels, 2).tolist() == [[8, 10], [20, 22]]
    assert decode.square_labels(labels, 8).tolist() == (
        labels[:, 1:5].repeat(2, axis=0).repeat(2, axis=1).tolist()
    )
