from __future__ import annotations

import hashlib
import io
import random
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, ImageSequence

from contracts import decode, encode

# Planted wherever a format has room for words; GPS, serial number and thumbnail among them.
CANARY = b"CANARY 48.8584 N serial 4711"


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours with some texture, nowhere symmetric."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 7) + y / 24, np.cos(y / 5) + x / 40, np.sin((x + 2 * y) / 9)]
    return np.stack([(w - w.min()) / np.ptp(w) * 255 for w in waves], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int | None = None) -> bytes:
    """EXIF with GPS, serial number, maker note and a comment, all of them the canary."""
    found = Image.Exif()
    if orientation is not None:
        found[0x0112] = orientation
    found[0x010E] = found[0x8298] = CANARY.decode()
    found.get_ifd(0x8769).update({0xA431: CANARY.decode(), 0x927C: CANARY, 0x9286: CANARY})
    found.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 0x1C: CANARY})
    return found.tobytes()


RGB = Image.fromarray(scene())
RGBA = Image.merge("RGBA", (*RGB.split(), Image.fromarray(scene()[::-1, :, 0])))
FRAMES = [Image.fromarray(np.roll(scene(), 5 * k, axis=1)) for k in range(3)]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta>" + CANARY + b"</x:xmpmeta>"


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def planted_jpeg(clean: bytes, orientation: int | None = None) -> bytes:
    """Put the canary into every place of a JPEG that holds no pixels."""
    jfif = clean.startswith(b"\xff\xd8\xff\xe0")
    start = 2 + (2 + int.from_bytes(clean[4:6], "big") if jfif else 0)
    segments = [
        segment(0xE0, b"JFXX\0\x10" + saved(RGB.resize((8, 6)), "JPEG") + CANARY),
        segment(0xE1, exif(orientation)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE2, b"FPXR\0" + CANARY),
        segment(0xEC, b"Ducky" + CANARY),
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x1c" + CANARY),
        segment(0xEF, CANARY),
        segment(0xFE, b"<script>" + CANARY + b"</script>"),
    ]
    if jfif:
        thumbnail = (
            clean[:4] + struct.pack(">H", 16 + 36) + clean[6:18] + b"\4\3" + bytes(8) + CANARY
        )
        assert start == 20
    head = thumbnail if jfif else clean[:2]
    scan = clean.index(b"\xff\xda", start)
    late = segment(0xFE, CANARY) + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    further = saved(RGB, "JPEG", comment=CANARY)
    return head + b"".join(segments) + clean[start:scan] + late + clean[scan:] + further + CANARY


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def planted_png(clean: bytes, orientation: int | None = None) -> bytes:
    header = 33
    early = [
        (b"tEXt", b"Comment\0" + CANARY),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(CANARY, 0)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"eXIf", exif(orientation).removeprefix(b"Exif\0\0")),
        (b"tIME", b"\x07\xea\1\1\0\0\0"),
        (b"prVt", CANARY),
    ]
    late = [(b"tEXt", b"Author\0" + CANARY), (b"prVt", CANARY)]
    return b"".join(
        (
            clean[:header],
            *(png_chunk(*each) for each in early),
            clean[header:-12],
            *(png_chunk(*each) for each in late),
            clean[-12:],
            CANARY,
        )
    )


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def planted_webp(clean: bytes, orientation: int | None = None) -> bytes:
    chunks, size = clean[12:], scene().shape
    if not chunks.startswith(b"VP8X"):
        sides = b"".join((side - 1).to_bytes(3, "little") for side in (size[1], size[0]))
        alpha = 0x10 * chunks.startswith(b"VP8L")
        chunks = riff_chunk(b"VP8X", bytes((alpha, 0, 0, 0)) + sides) + chunks
    chunks = chunks[:8] + bytes((chunks[8] | 0x0C,)) + chunks[9:]
    # An unknown chunk inside a frame of an animation, too.
    at = chunks.find(b"ANMF")
    if at > 0:
        end = at + 8 + int.from_bytes(chunks[at + 4 : at + 8], "little")
        frame = chunks[at + 8 : end] + riff_chunk(b"prvt", CANARY)
        chunks = chunks[:at] + riff_chunk(b"ANMF", frame) + chunks[end:]
    chunks += riff_chunk(b"EXIF", exif(orientation)) + riff_chunk(b"XMP ", XMP)
    return riff_chunk(b"RIFF", b"WEBP" + chunks + riff_chunk(b"prvt", CANARY)) + CANARY


def planted_gif(clean: bytes, orientation: int | None = None) -> bytes:
    def blocks(text: bytes) -> bytes:
        return bytes((len(text),)) + text + b"\0"

    at = 13 + (3 << (clean[10] % 8 + 1) if clean[10] & 0x80 else 0)
    extensions = (
        b"\x21\xfe" + blocks(CANARY),
        b"\x21\xff\x0bXMP DataXMP" + blocks(CANARY),
        b"\x21\xff\x0bMAKERNOTE10" + blocks(CANARY),
        b"\x21\x01" + blocks(bytes(12))[:-1] + blocks(CANARY),
    )
    return (
        clean[:at]
        + b"".join(extensions)
        + clean[at:-1]
        + b"\x21\xfe"
        + blocks(CANARY)
        + b";"
        + CANARY
    )


WORDS = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21


def cmyk_without_adobe() -> bytes:
    data = saved(RGB.convert("CMYK"), "JPEG")
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def interlaced_png() -> bytes:
    """The Adam7 passes of a picture, each with filter 0: Pillow reads but does not write them."""
    pixels = scene()
    raw = b""
    for y, x, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        raw += b"".join(b"\0" + row.tobytes() for row in pixels[y::down, x::right])
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*each) for each in chunks)


ANIMATION = {"save_all": True, "append_images": FRAMES[1:], "duration": 70, "loop": 3}
CLEAN: dict[str, bytes] = {
    "jpeg": saved(RGB, "JPEG", quality=90),
    "jpeg grey": saved(RGB.convert("L"), "JPEG"),
    "jpeg progressive": saved(RGB, "JPEG", progressive=True),
    "jpeg restarts": saved(RGB, "JPEG", restart_marker_blocks=2),
    "jpeg stored rgb": saved(RGB, "JPEG", keep_rgb=True),
    "jpeg icc": saved(RGB, "JPEG", icc_profile=PROFILE),
    "jpeg icc in parts": saved(RGB, "JPEG", icc_profile=PROFILE + bytes(150_000)),
    "jpeg adobe cmyk": saved(RGB.convert("CMYK"), "JPEG", progressive=True),
    "jpeg cmyk": cmyk_without_adobe(),
    "png": saved(RGB, "PNG"),
    "png grey 16": saved(Image.fromarray(WORDS), "PNG", transparency=21),
    "png bits": saved(RGB.convert("1"), "PNG"),
    "png palette": saved(RGB.quantize(16), "PNG", transparency=bytes(range(0, 160, 10))),
    "png alpha": saved(RGBA, "PNG"),
    "png colour key": saved(RGB, "PNG", transparency=tuple(scene()[0, 0].tolist())),
    "png icc": saved(RGB, "PNG", icc_profile=PROFILE),
    "png interlaced": interlaced_png(),
    "png rgb 16": cv2.imencode(".png", scene().astype(np.uint16) * 257)[1].tobytes(),
    "apng": saved(FRAMES[0], "PNG", **ANIMATION),
    "apng beside its default": saved(RGB, "PNG", default_image=True, **ANIMATION),
    "webp": saved(RGB, "WEBP"),
    "webp lossless": saved(RGB, "WEBP", lossless=True),
    "webp alpha": saved(RGBA, "WEBP"),
    "webp icc": saved(RGB, "WEBP", icc_profile=PROFILE),
    "webp animated": saved(FRAMES[0], "WEBP", **ANIMATION),
    "gif": saved(RGB.quantize(64), "GIF"),
    "gif animated": saved(FRAMES[0], "GIF", disposal=2, **ANIMATION),
    "bmp": saved(RGB, "BMP"),
}
PLANT: dict[str, Callable[[bytes, int | None], bytes]] = {
    "jpg": planted_jpeg,
    "png": planted_png,
    "webp": planted_webp,
    "gif": planted_gif,
}
PLANTED = {
    f"{name}, orientation {orientation}": PLANT[encode.suffix(data)](data, orientation)
    for name, data in CLEAN.items()
    for orientation in ((None, 6) if encode.suffix(data) in ("jpg", "png", "webp") else (None,))
    if encode.suffix(data) in PLANT
}


def frames(data: bytes) -> list[tuple[object, ...]]:
    """Pillow's own reading: every frame's mode, pixels, palette and time, and the ICC profile."""
    with Image.open(io.BytesIO(data)) as image:
        return [
            (
                frame.mode,
                frame.tobytes(),
                frame.convert("RGBA").tobytes(),
                frame.info.get("duration"),
                frame.info.get("loop"),
                frame.info.get("icc_profile"),
                frame.getexif().get(0x0112, 1),
            )
            for frame in ImageSequence.Iterator(image)
        ]


def jpeg_markers(data: bytes) -> list[int]:
    return [m[0][1] for m in re.finditer(rb"\xff[^\0\xd0-\xd7\xff]", data)]


# ------------------------------------------------------------------ stripped


@pytest.mark.parametrize("name", PLANTED)
def test_no_planted_word_survives_stripping_and_no_pixel_changes(name):
    planted = PLANTED[name]
    assert planted.count(CANARY) >= 4
    out = encode.stripped(planted)
    assert b"CANARY" not in out
    assert b"xmpmeta" not in out
    assert np.array_equal(decode.image(out), decode.image(planted))
    assert frames(out) == frames(planted)


@pytest.mark.parametrize("name", CLEAN)
def test_a_picture_without_metadata_keeps_every_byte(name):
    assert encode.stripped(CLEAN[name]) == CLEAN[name]


@pytest.mark.parametrize("name", PLANTED)
def test_stripping_twice_is_stripping_once(name):
    once = encode.stripped(PLANTED[name])
    assert encode.stripped(once) == once


@pytest.mark.parametrize("name", [n for n in PLANTED if n.endswith("None")])
def test_stripping_what_was_planted_gives_the_picture_as_it_was_before(name):
    clean = CLEAN[name.removesuffix(", orientation None")]
    out = encode.stripped(PLANTED[name])
    if name.startswith("webp"):  # a container once extended stays so, with its flags mended
        assert out.endswith(clean[30:] if clean[12:16] == b"VP8X" else clean[12:])
        assert out[20] & 0x0C == 0
    else:
        assert out == clean


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_kept_alone_and_one_that_says_nothing_is_not(kind, orientation):
    clean = {"jpg": CLEAN["jpeg"], "png": CLEAN["png"], "webp": CLEAN["webp lossless"]}[kind]
    out = encode.stripped(PLANT[kind](clean, orientation))
    with Image.open(io.BytesIO(out)) as image:
        found = dict(image.getexif())
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert found == ({} if orientation == 1 else {0x0112: orientation})
    assert np.array_equal(decode.image(out), upright)
    assert upright.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_an_orientation_that_does_not_exist_goes(kind):
    clean = {"jpg": CLEAN["jpeg"], "png": CLEAN["png"], "webp": CLEAN["webp"]}[kind]
    out = encode.stripped(PLANT[kind](clean, 9))
    assert out == encode.stripped(PLANT[kind](clean, 1))
    assert b"MM\0*" not in out


def test_a_colour_profile_survives_as_it_is():
    for name in ("jpeg icc", "jpeg icc in parts", "png icc", "webp icc"):
        planted = PLANT[encode.suffix(CLEAN[name])](CLEAN[name], None)
        with Image.open(io.BytesIO(encode.stripped(planted))) as image:
            assert image.info["icc_profile"].startswith(PROFILE)


def test_chunks_that_render_a_png_survive():
    kinds = (b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"cICP")
    bodies = (bytes(4), bytes(32), b"\0", b"\5\6\5", b"\x09\x10\0\1")
    png = CLEAN["png"]
    chunks = b"".join(png_chunk(k, b) for k, b in zip(kinds, bodies, strict=True))
    rich = png[:33] + chunks + png[33:]
    assert encode.stripped(planted_png(rich)) == rich


def test_the_header_of_a_jpeg_comes_before_its_orientation():
    out = encode.stripped(planted_jpeg(CLEAN["jpeg"], 6))
    assert jpeg_markers(out)[:3] == [0xD8, 0xE0, 0xE1]
    without = encode.stripped(planted_jpeg(CLEAN["jpeg cmyk"], 6))
    assert jpeg_markers(without)[:2] == [0xD8, 0xE1]


def test_an_mpo_keeps_its_first_picture_only():
    mpo = saved(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:])
    with Image.open(io.BytesIO(mpo)) as image:
        assert (image.format, image.n_frames) == ("MPO", 3)
    out = encode.stripped(mpo)
    with Image.open(io.BytesIO(out)) as image:
        assert image.format == "JPEG"
    assert out == encode.stripped(saved(FRAMES[0], "JPEG"))
    assert np.array_equal(decode.image(out), decode.image(mpo))


def test_the_thumbnail_that_a_camera_hides_in_exif_goes():
    thumbnail = saved(RGB.resize((16, 12)).rotate(90), "JPEG")
    # One directory (orientation), then a second that points to a JPEG: tags 0x0201 and 0x0202.
    first = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 26)
    second = struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
    plain = CLEAN["jpeg"]
    block = b"Exif\0\0" + first + second + thumbnail
    with_thumbnail = plain[:20] + segment(0xE1, block) + plain[20:]
    assert block[6 + 56 :] == thumbnail
    out = encode.stripped(with_thumbnail)
    assert len(out) == len(plain) + 10 + 26
    assert out.count(b"\xff\xd8\xff") == 1
    assert np.array_equal(decode.image(out), decode.image(with_thumbnail))


def test_metadata_between_the_scans_of_a_progressive_jpeg_go():
    plain = CLEAN["jpeg progressive"]
    second = [m.start() for m in re.finditer(rb"\xff\xda", plain)][1]
    planted = plain[:second] + segment(0xFE, CANARY) + segment(0xE2, CANARY) + plain[second:]
    assert encode.stripped(planted) == plain


def test_a_frame_that_no_decoder_knows_goes_and_leaves_the_others():
    animated = CLEAN["webp animated"]
    last = animated.rindex(b"VP8 ")
    broken = animated[:last] + b"VP9 " + animated[last + 4 :]
    out = encode.stripped(broken)
    assert out[12:] == animated[12 : animated.rindex(b"ANMF")]
    assert np.array_equal(decode.image(out), decode.image(broken))


def test_a_jfif_header_cut_short_goes():
    clean = CLEAN["jpeg"]
    short = clean[:2] + segment(0xE0, b"JFIF\0\1") + clean[20:]
    assert encode.stripped(short) == clean[:2] + clean[20:]
    assert np.array_equal(decode.image(short), decode.image(clean))


def test_bytes_broken_anywhere_are_refused_or_keep_what_the_decoder_sees():
    # Whatever a flipped byte makes of a picture: where it decodes, it strips to the same pixels.
    chance = random.Random(7)
    decoded = refused = 0
    for name, planted in PLANTED.items():
        for _ in range(40):
            broken = bytearray(planted)
            broken[chance.randrange(len(broken))] = chance.randrange(256)
            data = bytes(broken)
            try:
                pixels = decode.image(data)
            except decode.Undecodable:
                refused += 1
                continue
            decoded += 1
            assert np.array_equal(decode.image(encode.stripped(data)), pixels), name
    assert decoded > 300
    assert refused > 100


@pytest.mark.parametrize("name", PLANTED)
def test_a_picture_that_ends_early_is_refused(name):
    planted = PLANTED[name]
    with pytest.raises(decode.Undecodable):
        encode.stripped(planted[: len(planted) // 3])


def test_what_is_no_picture_is_refused():
    for data in (b"", b"<html>", b"%PDF-1.7", b"RIFF\4\0\0\0WAVE", b"\xff\xd8"):
        with pytest.raises(decode.Undecodable):
            encode.stripped(data)
        with pytest.raises(decode.Undecodable):
            encode.suffix(data)
        with pytest.raises(decode.Undecodable):
            encode.jpeg(data)


# ------------------------------------------------------------------ jpeg


@pytest.mark.parametrize("name", PLANTED)
def test_encoding_anew_leaves_no_metadata(name):
    out = encode.jpeg(PLANTED[name])
    assert b"CANARY" not in out
    assert encode.stripped(out) == out
    assert {m for m in jpeg_markers(out) if m >> 4 == 0xE or m == 0xFE} == {0xE0}


def test_encoding_anew_keeps_the_picture_nearly():
    planted = PLANTED["jpeg, orientation 6"]
    before, after = decode.image(planted), decode.image(encode.jpeg(planted))
    assert after.shape == (64, 48, 3)
    assert np.abs(before.astype(int) - after).mean() < 2


def test_a_block_of_pixels_becomes_its_mean():
    # 2 x 2 pixels 10, 20, 30, 40 everywhere: halved, each pixel is 25.
    tile = np.tile(np.array([[10, 20], [30, 40]], np.uint8), (32, 32))
    halved = encode.jpeg(saved(Image.fromarray(tile), "PNG"), max_side_px=32)
    assert (decode.image(halved) == 25).all()
    assert decode.image(halved).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [
        ((48, 64), 64, (48, 64)),
        ((48, 64), 65, (48, 64)),  # never enlarged
        ((48, 64), 32, (24, 32)),
        ((64, 48), 32, (32, 24)),
        ((48, 64), 63, (47, 63)),  # 47.25
        ((3, 600), 100, (1, 100)),  # half a pixel is still one
        ((48, 64), None, (48, 64)),
    ],
)
def test_the_longer_side_is_at_most_what_was_asked(shape, most, expected):
    data = saved(Image.fromarray(scene(*shape)), "PNG")
    assert decode.image(encode.jpeg(data, max_side_px=most)).shape[:2] == expected


def test_a_side_longer_than_a_jpeg_may_have_is_shortened():
    noise = np.random.default_rng(0).integers(0, 2, (330, 66_000), dtype=np.uint8)
    data = saved(Image.fromarray(noise * 255), "PNG", compress_level=1)
    with Image.open(io.BytesIO(encode.jpeg(data))) as image:
        assert image.size == (65_500, 328)


def test_equal_pictures_become_equal_bytes_in_another_process_too():
    code = (
        "import hashlib, sys; from contracts import encode;"
        "data = encode.jpeg(sys.stdin.buffer.read(), max_side_px=40);"
        "print(hashlib.sha256(data).hexdigest(), 'torch' in sys.modules)"
    )
    data = PLANTED["png alpha, orientation 6"]
    found = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True
    )
    decode.forget()
    here = hashlib.sha256(encode.jpeg(data, max_side_px=40)).hexdigest()
    assert found.stdout.split() == [here.encode(), b"False"]


def test_a_lower_quality_is_smaller():
    sizes = [len(encode.jpeg(CLEAN["png"], quality=quality)) for quality in (95, 75, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    assert encode.jpeg(CLEAN["png"]) == encode.jpeg(CLEAN["png"], quality=95)


# ------------------------------------------------------------------ suffix


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_png_of_16_bits_becomes_one_of_8_that_any_reader_shows_as_we_see_it():
    deep = _png(np.linspace(0, 65_535, 20 * 30).astype(np.uint16).reshape(20, 30))
    found = Image.open(io.BytesIO(encode.png8(deep)))
    assert (found.format, found.mode) == ("PNG", "L")
    assert np.array_equal(np.asarray(found.convert("RGB")), decode.image(deep))
    assert np.asarray(Image.open(io.BytesIO(deep)).convert("RGB")).mean() > 250  # all but white


def test_a_png_of_16_bits_in_colour_stays_in_colour():
    pixels = np.random.default_rng(0).integers(0, 65_536, (6, 8, 3), dtype=np.uint16)
    done, data = cv2.imencode(".png", pixels)
    assert done
    found = Image.open(io.BytesIO(encode.png8(data.tobytes())))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), decode.image(data.tobytes()))


def test_png8_leaves_other_pictures_as_they_are_unless_they_are_too_large():
    photo = _png(np.full((20, 30, 3), 90, dtype=np.uint8))
    assert encode.png8(photo) == encode.png8(photo, max_side_px=30) == photo
    smaller = Image.open(io.BytesIO(encode.png8(photo, max_side_px=15)))
    assert (smaller.format, smaller.size) == ("PNG", (15, 10))


def test_the_suffix_is_that_of_the_bytes():
    assert {name: encode.suffix(data) for name, data in CLEAN.items()} == {
        name: {"jpeg": "jpg", "apng": "png"}.get(name.split()[0], name.split()[0]) for name in CLEAN
    }
    assert {encode.suffix(data) for data in CLEAN.values()} == {"jpg", "png", "webp", "gif", "bmp"}


def test_a_label_image_becomes_as_small_as_its_picture_and_no_class_appears():
    labels = np.zeros((30, 50), dtype=np.uint8)
    labels[:, 25:] = 200
    data = saved(Image.fromarray(labels), "PNG")
    picture = saved(Image.fromarray(np.stack([labels] * 3, axis=2)), "PNG")
    smaller = decode.labels(encode.labels(data, max_side_px=21))
    assert smaller.shape == decode.image(encode.jpeg(picture, max_side_px=21)).shape[:2]
    assert np.unique(smaller).tolist() == [0, 200]
    assert smaller[0].tolist() == [0] * 10 + [200] * 11
    assert encode.labels(data, max_side_px=50) == data
