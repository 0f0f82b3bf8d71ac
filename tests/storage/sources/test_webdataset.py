from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import decode
from contracts.errors import DataError
from storage import walk
from storage.source import Columns, Location, Record, Refused, Rejected, find
from storage.sources import _tar
from storage.sources._stream import Stream
from storage.sources._tar import Tar
from storage.sources.webdataset import Webdataset

ALIASES = Columns()
JPEG = b"\xff\xd8\xff picture "
Members = list[tuple[str, bytes]]


def tar_of(members: Members, format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def header(name: bytes, size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, b"%011o\0" % len(data), kind) + data + bytes(-len(data) % 512)


def sample(key: str, text: str | None = "a text") -> Members:
    image = [(f"{key}.jpg", JPEG + key.encode())]
    return image if text is None else [*image, (f"{key}.txt", text.encode())]


def samples(count: int, start: int = 0) -> Members:
    return [m for n in range(start, start + count) for m in sample(f"{n:04d}", f"text {n}")]


END = bytes(10240)
GOOD = samples(20, 100)


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.tar").write_bytes(tar_of(samples(3)))
    packed = [*samples(2), ("9.jpg", JPEG), ("9.json", b'{"n": 1}'), ("9.cls", b"4")]
    (folder / "b.tar.gz").write_bytes(gzip.compress(tar_of(packed), mtime=0))


def read(
    folder: Path, content: bytes | Members, name: str = "a.tar", columns: Columns = ALIASES
) -> list[Record | Rejected]:
    data = content if isinstance(content, bytes) else tar_of(content)
    (folder / name).write_bytes(data)
    return read_all(folder, columns)


def read_all(path: Path, columns: Columns = ALIASES) -> list[Record | Rejected]:
    found = find(path)
    source = Webdataset(found.root, found.paths, columns)
    return [item for unit in source.units() for item in source.records(unit)]


def records(items: list[Record | Rejected]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def codes(items: list[Record | Rejected]) -> list[str]:
    return [item.code for item in items if isinstance(item, Rejected)]


def keys(items: list[Record | Rejected]) -> list[str]:
    return [item.source_id.partition("/")[2] for item in records(items)]


def check_good(items: list[Record | Rejected], code: str, count: int = 1) -> None:
    """The 20 good samples are what they are without the bad one, which has its code."""
    found = [r for r in records(items) if r.source_id.split("/")[-1] in {k[:4] for k, _ in GOOD}]
    assert [(r.text, r.image, r.notes) for r in found] == [
        (f"text {n}", JPEG + f"{n:04d}".encode(), ()) for n in range(100, 120)
    ]
    assert codes(items) == [code] * count


# ------------------------------------------------------------------ what a sample is


def test_a_sample_is_its_image_its_text_its_label_and_its_json(tmp_path: Path):
    described = b'{"url": "http://x", "uid": "ab", "box": [1, 2.5, {"a": null}]}'
    members = [("7.jpg", JPEG), ("7.txt", b"a cat\n"), ("7.cls", b"3"), ("7.json", described)]
    [record] = read(tmp_path, members)
    path = str(tmp_path / "a.tar")
    assert record == Record(
        "a.tar/7",
        "a.tar@0",
        image=JPEG,
        text="a cat",
        location=Location(path, 512, len(JPEG)),
        meta={"url": "http://x", "uid": "ab", "box": [1, 2.5, {"a": None}], "label": 3},
    )


def test_the_location_of_an_image_finds_its_bytes_in_a_plain_tar(tmp_path: Path):
    for record in records(read(tmp_path, GOOD)):
        assert record.location is not None
        data = Path(record.location.path).read_bytes()
        at = record.location.offset
        assert data[at : at + record.location.length] == record.image


def test_a_json_gives_the_text_where_there_is_no_txt_member(tmp_path: Path):
    items = read(tmp_path, [("0.png", JPEG), ("0.json", b'{"caption": "a dog", "n": 1}')])
    assert [(r.text, r.meta) for r in records(items)] == [("a dog", {"n": 1})]


def test_a_txt_member_wins_and_a_json_caption_stays_in_meta_unless_it_says_the_same(tmp_path: Path):
    items = read(
        tmp_path,
        [
            *[
                ("0.jpg", JPEG),
                ("0.txt", b"short"),
                ("0.json", b'{"caption": "longer", "text": ""}'),
            ],
            *[("1.jpg", JPEG), ("1.txt", b"same"), ("1.json", b'{"caption": "same"}')],
        ],
    )
    assert [(r.text, r.meta) for r in records(items)] == [
        ("short", {"caption": "longer", "text": ""}),
        ("same", {}),
    ]


def test_a_label_that_is_no_integer_stays_text_and_another_of_the_json_becomes_label_name(
    tmp_path: Path,
):
    items = read(
        tmp_path,
        [
            *[("0.jpg", JPEG), ("0.cls", b"n0152")],
            *[("1.jpg", JPEG), ("1.cls", b"4\n"), ("1.json", b'{"label": "dog"}')],
            *[("2.jpg", JPEG), ("2.cls", b"4"), ("2.json", b'{"label": 4}')],
        ],
    )
    assert [r.meta for r in records(items)] == [
        {"label": "n0152"},
        {"label": 4, "label_name": "dog"},
        {"label": 4},
    ]


def test_masks_and_unknown_members_are_passed_over(tmp_path: Path):
    members = [("0.jpg", JPEG), ("0.mask.png", b"m"), ("0.wav", b"w"), ("0.npy", b"n")]
    items = read(tmp_path, members)
    assert [(r.image, r.text, r.meta) for r in records(items)] == [(JPEG, None, {})]
    assert len(items) == 1


def test_the_recipe_may_name_the_members_that_are_image_and_text(tmp_path: Path):
    members = [("0.en.txt", b"dog"), ("0.de.txt", b"Hund"), ("0.a.jpg", JPEG), ("0.b.jpg", b"no")]
    assert codes(read(tmp_path, members)) == ["AMBIGUOUS_KEY"] * 2
    assert codes(read(tmp_path, members[:3])) == ["AMBIGUOUS_KEY"]
    [record] = read(tmp_path, members, columns=Columns(image="a.jpg", text="de.txt"))
    assert (record.image, record.text) == (JPEG, "Hund")


def test_the_recipe_may_name_a_key_of_the_json_as_text_although_there_is_a_txt(tmp_path: Path):
    members = [("0.jpg", JPEG), ("0.txt", b"alt"), ("0.json", b'{"blip": "a cat"}')]
    [record] = read(tmp_path, members, columns=Columns(text="blip"))
    assert record.text == "a cat"


def test_the_id_is_tar_and_key_or_the_key_alone_or_a_column(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    members = [("x/0.jpg", JPEG), ("x/0.json", b'{"uid": "f00"}')]
    ids = {}
    for column in (None, "key", "uid", "meta.uid"):
        [record] = read(tmp_path, members, "sub/b.tar", Columns(id=column))
        ids[column] = record.source_id
    assert ids == {None: "sub/b.tar/x/0", "key": "x/0", "uid": "f00", "meta.uid": "f00"}


def test_a_tar_without_any_image_is_a_tar_of_texts(tmp_path: Path):
    items = read(tmp_path, [("0.txt", b"one"), ("1.json", b'{"text": "two", "n": 2}')])
    assert [(r.text, r.image, r.meta) for r in records(items)] == [
        ("one", None, {}),
        ("two", None, {"n": 2}),
    ]


def test_every_suffix_of_a_decoded_format_is_an_image(tmp_path: Path):
    suffixes = ("jpg", "jpeg", "jpe", "jfif", "JFIF", "png", "apng", "webp", "gif", "bmp", "dib")
    members = [m for n, s in enumerate(suffixes) for m in ((f"{n}.{s}", JPEG), (f"{n}.txt", b"t"))]
    found = records(read(tmp_path, members))
    assert [(r.image, r.text) for r in found] == [(JPEG, "t")] * len(suffixes)
    assert all(r.notes == () for r in found[:5])


@pytest.mark.parametrize("suffix", ["tif", "tiff", "avif", "heic", "jxl", "svg", "psd", "cr2"])
def test_images_of_a_format_that_is_not_decoded_never_make_a_pool_of_texts(
    tmp_path: Path, suffix: str
):
    data = {"tif": b"II*\0", "avif": b"\0\0\0\x20ftypavif"}.get(suffix, b"8BPS\0\1") + bytes(40)
    items = read(tmp_path, [(f"0.{suffix}", data), ("0.txt", b"a text"), ("1.txt", b"alone")])
    # As in a folder: the decoder, which sees its bytes at ingest, gives the reason.
    [record] = records(items)
    assert record.image == data
    with pytest.raises(decode.Undecodable, match=r"UNSUPPORTED_FORMAT|NOT_AN_IMAGE"):
        decode.inspect(data)
    assert codes(items) == ["NO_IMAGE"]


def test_an_image_that_is_decoded_goes_before_one_that_is_not(tmp_path: Path):
    [record] = read(tmp_path, [("0.tif", b"II*\0"), ("0.jpg", JPEG), ("0.heic", b"h")])
    assert record.image == JPEG


def test_members_and_files_that_no_record_takes_are_counted_by_suffix(tmp_path: Path):
    members = [
        *[m for n in range(3) for m in ((f"{n}.mp4", b"v"), (f"{n}.txt", b"t"))],
        *[("3.txt", b"t"), ("3.mov", b"w"), ("3.seg.npy", b"n"), ("3.pdf", b"%PDF")],
        *[("4.mov", b"w")],
    ]
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    for name in ("a.parquet", "a_stats.json", "sizes.json", "readme.md", "notes.json"):
        (tmp_path / name).write_bytes(b"")
    source = Webdataset(tmp_path, [tmp_path], Columns())
    items = [item for unit in source.units() for item in source.records(unit)]
    assert [r.text for r in records(items)] == ["t"] * 4
    assert source.passed_over.rows() == [
        (".mp4", "not read", 3, ["a.tar/0.mp4", "a.tar/1.mp4"]),
        (".json", "not read", 1, ["notes.json"]),
        (".md", "not read", 1, ["readme.md"]),
        (".mov", "not read", 1, ["a.tar/3.mov"]),
        (".npy", "not read", 1, ["a.tar/3.seg.npy"]),
        (".pdf", "not read", 1, ["a.tar/3.pdf"]),
    ]


def test_a_sample_of_a_film_alone_has_no_content(tmp_path: Path):
    assert codes(read(tmp_path, [("0.mp4", b"x"), ("0.json", b'{"digit": 1}')])) == ["NO_CONTENT"]


def test_members_of_audio_are_the_payload_where_no_sample_has_an_image(tmp_path: Path):
    members = [
        ("0.wav", b"w"),
        ("0.txt", b"t"),
        ("0.cls", b"7"),
        ("1.a.flac", b"f"),
        ("2.mp3", b"m"),
    ]
    found = records(read(tmp_path, members))
    assert [r.payload for r in found] == [("audio", b"w"), ("audio", b"f"), ("audio", b"m")]
    assert (found[0].text, found[0].meta) == ("t", {"label": 7})
    assert [r.notes for r in found] == [(), ("DOTTED_KEY",), ()]


def test_a_sample_without_sound_in_a_tar_of_audio_and_one_of_two_clips_are_refused(tmp_path: Path):
    members = [("0.wav", b"w"), ("1.txt", b"t"), ("2.wav", b"w"), ("2.flac", b"f")]
    assert codes(read(tmp_path, members)) == ["NO_AUDIO", "AMBIGUOUS_KEY", "AMBIGUOUS_KEY"]
    found = records(read(tmp_path, members, columns=Columns(audio="flac")))
    assert [(r.source_id, r.payload) for r in found] == [("a.tar/2", ("audio", b"f"))]


def test_beside_images_audio_is_passed_over_unless_it_is_asked_for(tmp_path: Path):
    members = [("0.jpg", JPEG), ("0.wav", b"w")]
    assert [r.payload for r in records(read(tmp_path, members))] == [("image", JPEG)]
    assert [r.payload for r in records(read(tmp_path, members, columns=Columns(audio="wav")))] == [
        ("audio", b"w")
    ]


def test_members_of_volumes_have_one_suffix_and_are_the_payload_where_nothing_else_is(
    tmp_path: Path,
):
    members = [("0.nii.gz", b"g"), ("1.nii", b"n"), ("2.a.nii.gz", b"d"), ("3.txt", b"t")]
    items = read(tmp_path, members)
    assert codes(items) == ["NO_VOLUME"]
    found = records(items)
    assert [r.payload for r in found] == [("volume", b"g"), ("volume", b"n"), ("volume", b"d")]
    assert [r.notes for r in found] == [(), (), ("DOTTED_KEY",)]
    beside = [("0.wav", b"w"), ("0.nii.gz", b"g")]
    assert [r.payload for r in records(read(tmp_path, beside))] == [("audio", b"w")]
    asked = read(tmp_path, beside, columns=Columns(volume="nii.gz"))
    assert [r.payload for r in records(asked)] == [("volume", b"g")]


def test_of_two_volumes_the_advice_keeps_their_suffix(tmp_path: Path):
    items = read(tmp_path, [("0.a.nii.gz", b"a"), ("0.b.nii.gz", b"b")])
    assert codes(items) == ["AMBIGUOUS_KEY", "AMBIGUOUS_KEY"]
    assert "write 0_a.nii.gz for 0.a.nii.gz" in items[0].detail


# ------------------------------------------------------------------ T01 to T06: ends of a tar


def ten(tmp_path: Path, cut: int) -> list[Record | Rejected]:
    return read(tmp_path, tar_of(samples(10))[:cut])


SAMPLE = 4 * 512  # header, image, header, text


def test_t01_a_cut_between_samples_looks_like_a_tar_without_an_end(tmp_path: Path):
    items = ten(tmp_path, 5 * SAMPLE)
    assert keys(items) == ["0000", "0001", "0002", "0003", "0004"]
    assert codes(items) == []
    assert [r.notes for r in records(items)] == [(), (), (), (), ("TAR_NO_EOF",)]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("a_stats.json", {"count": 12, "successes": 10}),
        ("sizes.json", {"a.tar": 10}),
        ("index.json", {"shardlist": [{"url": "b/a.tar", "nsamples": 10}]}),
    ],
)
def test_t01_an_index_tells_a_cut_between_samples_from_a_tar_without_an_end(
    tmp_path: Path, name: str, index: object
):
    (tmp_path / name).write_text(json.dumps(index))
    items = ten(tmp_path, 5 * SAMPLE)
    assert (len(records(items)), codes(items)) == (5, ["TAR_TRUNCATED"])
    assert "10 by its index" in items[-1].detail


@pytest.mark.parametrize("offset", [2 * 512, 2 * 512 + 100, 2 * 512 + 2, 3 * 512, 3 * 512 + 3])
def test_t02_to_t04_a_cut_inside_a_sample_costs_that_sample(tmp_path: Path, offset: int):
    items = ten(tmp_path, 5 * SAMPLE + offset)
    assert keys(items) == ["0000", "0001", "0002", "0003", "0004"]
    assert codes(items) == ["TAR_TRUNCATED"]
    assert items[-1].source_id == "a.tar/0005"
    assert items[-1].where == f"a.tar@{5 * SAMPLE}"


@pytest.mark.parametrize("offset", [200, 512, 515])
def test_t03_and_t04_a_cut_in_the_first_member_of_a_sample_keeps_all_before(
    tmp_path: Path, offset: int
):
    items = ten(tmp_path, 5 * SAMPLE + offset)
    assert len(records(items)) == 5
    assert codes(items) == ["TAR_TRUNCATED"]


def test_t02_a_single_sample_is_kept_and_noted_as_nothing_says_that_it_is_cut(tmp_path: Path):
    [record] = read(tmp_path, tar_of(samples(1))[:1024])
    assert (record.text, record.notes) == (None, ("TAR_NO_EOF",))


@pytest.mark.parametrize("left", [0, 100, 512, 1000])
def test_t05_missing_end_blocks_are_noted_on_the_last_record(tmp_path: Path, left: int):
    items = ten(tmp_path, 10 * SAMPLE + left)
    assert len(records(items)) == 10
    assert codes(items) == []
    assert [n for r in records(items) for n in r.notes] == ["TAR_NO_EOF"]


def test_t05_two_zero_blocks_are_an_end(tmp_path: Path):
    assert not any(r.notes for r in records(ten(tmp_path, 10 * SAMPLE + 1024)))


def test_t06_two_tars_in_a_row_are_both_read(tmp_path: Path):
    items = read(tmp_path, tar_of(samples(2)) + tar_of(samples(2, 2)))
    assert [(r.source_id, r.notes) for r in records(items)] == [
        ("a.tar/0000", ()),
        ("a.tar/0001", ()),
        ("a.tar/0002", ("TAR_CONCATENATED",)),
        ("a.tar/0003", ("TAR_CONCATENATED",)),
    ]


def test_t06_the_same_key_in_a_second_tar_is_a_sample_of_its_own(tmp_path: Path):
    items = read(tmp_path, tar_of(samples(1)) + tar_of(samples(1)))
    assert keys(items) == ["0000", "0000"]


def test_bytes_after_the_end_that_are_no_tar_are_noted(tmp_path: Path):
    items = read(tmp_path, tar_of(GOOD) + b"x" * 700)
    assert (len(records(items)), items[-1].notes) == (20, ("TRAILING_BYTES",))


# ------------------------------------------------------------------ T07 to T24


def test_t07_interleaved_keys_are_no_half_samples(tmp_path: Path):
    mixed = [("0.jpg", JPEG), ("1.jpg", JPEG), ("0.txt", b"x"), ("1.txt", b"y")]
    items = read(tmp_path, [*mixed, *GOOD])
    check_good(items, "KEY_SPLIT", 4)
    assert {i.source_id for i in items if isinstance(i, Rejected)} == {"a.tar/0", "a.tar/1"}


@pytest.mark.parametrize("second", ["0.jpg", "0.JPG"])
def test_t08_and_t09_of_two_members_of_one_name_the_first_is_kept(tmp_path: Path, second: str):
    items = read(tmp_path, [("0.jpg", JPEG), (second, b"other"), ("0.txt", b"t"), *GOOD])
    check_good(items, "DUP_MEMBER")
    assert [(r.image, r.text) for r in records(items) if r.source_id == "a.tar/0"] == [(JPEG, "t")]


@pytest.mark.parametrize("name", ["noext", "dir.d/noext", ".x.jpg", "dir/.x.jpg", "x."])
def test_t10_and_t12_names_without_key_or_extension(tmp_path: Path, name: str):
    check_good(read(tmp_path, [(name, JPEG), *GOOD]), "NO_EXTENSION")


def test_t11_dots_in_a_name_are_taken_where_one_member_can_be_the_image(tmp_path: Path):
    items = read(tmp_path, [("a.b.jpg", JPEG), ("a.b.txt", b"t"), *GOOD])
    [record] = [r for r in records(items) if r.source_id == "a.tar/a"]
    assert (record.image, record.text, record.notes) == (JPEG, "t", ("DOTTED_KEY",))


@pytest.mark.parametrize("names", [("a.b.jpg", "a.c.jpg"), ("a.jpg", "a.png")])
def test_t11_two_possible_images_are_ambiguous(tmp_path: Path, names: tuple[str, str]):
    items = read(tmp_path, [*((name, JPEG) for name in names), ("a.txt", b"t"), *GOOD])
    check_good(items, "AMBIGUOUS_KEY", 2)


def test_t11_every_picture_under_a_dotted_key_is_counted_and_the_advice_helps(tmp_path: Path):
    def named(stem: str) -> Members:
        return [m for n in range(40) for m in sample(stem.format(n), f"picture {n}")]

    items = read(tmp_path, [*named("v1.{:04d}"), *GOOD])
    check_good(items, "AMBIGUOUS_KEY", 40)
    bad = [item for item in items if isinstance(item, Rejected)]
    assert [item.source_id for item in bad] == [f"a.tar/v1.{n:04d}.jpg" for n in range(40)]
    assert len({item.where for item in bad}) == 40
    assert "40 under the key 'v1', which ends at the first dot" in bad[0].detail
    assert "write v1_0000.jpg for v1.0000.jpg" in bad[0].detail
    items = read(tmp_path, named("v1_{:04d}"))
    assert [r.text for r in records(items)] == [f"picture {n}" for n in range(40)]
    texts = [(f"v1.{n}.txt", b"t") for n in range(7)]
    assert codes(read(tmp_path, texts)) == ["AMBIGUOUS_KEY"] * 7


def test_t12_webdatasets_own_members_and_folders_are_no_samples(tmp_path: Path):
    folder = member(b"folder/", b"", b"5") + member(b"old/", b"", b"\0")
    data = folder + member(b"__meta__/a.json", b"{}") + member(b"__index__.json", b"{}")
    items = read(tmp_path, data + tar_of(GOOD))
    assert (len(records(items)), codes(items)) == (20, [])


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x.jpg",
        "a/../../x.jpg",
        "/abs.jpg",
        "C:\\x.jpg",
        "c:x.jpg",
        "..\\x.jpg",
        "\\x.jpg",
    ],
)
def test_t13_names_that_lead_out_of_a_folder(tmp_path: Path, name: str):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    check_good(read(folder, [(name, JPEG), *GOOD]), "PATH_TRAVERSAL")
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == [folder / "a.tar"]


def test_t13_a_nul_in_a_pax_name(tmp_path: Path):
    pax = member(b"p", b"18 path=a\0b/c.jpg\n", b"x")
    check_good(read(tmp_path, pax + member(b"x.jpg", JPEG) + tar_of(GOOD)), "PATH_TRAVERSAL")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"Z"])
def test_t14_links_devices_and_sparse_files(tmp_path: Path, kind: bytes):
    check_good(read(tmp_path, member(b"0.jpg", b"", kind) + tar_of(GOOD)), "TAR_MEMBER_TYPE")


def test_t14_sparse_files_in_both_forms_are_walked_over(tmp_path: Path):
    gnu = bytearray(member(b"0.jpg", b"12345", b"S"))
    gnu[482] = 1
    gnu[148:156] = b" " * 8
    gnu[148:156] = b"%06o\0 " % sum(gnu[:512])
    more = bytes(504) + b"\1" + bytes(7)
    gnu[512:512] = more + bytes(512)
    pax = member(b"p", b"22 GNU.sparse.major=1\n", b"x") + member(b"1.jpg", b"12345")
    check_good(read(tmp_path, bytes(gnu) + pax + tar_of(GOOD)), "TAR_MEMBER_TYPE", 2)


def test_t15_a_size_of_8_tebibytes_is_a_cut_tar_and_costs_no_memory(tmp_path: Path):
    huge = header(b"z.jpg", b"\x80" + (8 << 40).to_bytes(11, "big"))
    data = tar_of(GOOD)[: 20 * SAMPLE] + huge + b"x" * 5000
    for name in ("a.tar", "a.tar.gz"):
        packed = gzip.compress(data) if name.endswith("gz") else data
        check_good(read(tmp_path, packed, name), "TAR_TRUNCATED")
        (tmp_path / name).unlink()


def test_t16_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_tar, "MEMBERS", 40)
    check_good(read(tmp_path, [*GOOD, *((f"z{n}.jpg", b"") for n in range(9))]), "TAR_TOO_MANY")


def test_t17_a_pax_header_of_5_megabytes(tmp_path: Path):
    comment = b"5000000 comment=" + b"x" * (5_000_000 - 17) + b"\n"
    data = member(b"p", comment, b"x") + member(b"0.jpg", JPEG)
    check_good(read(tmp_path, data + tar_of(GOOD)), "TAR_HEADER_TOO_LARGE")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.zst"])
def test_t18_a_bomb_is_stopped_by_the_bytes_that_it_unfolds_to(tmp_path: Path, name: str):
    bomb = tar_of(GOOD)[: 20 * SAMPLE] + header(b"z.jpg", b"\x80" + (1 << 30).to_bytes(11, "big"))
    bomb += bytes(200 << 20)
    packed = gzip.compress(bomb, 9) if name.endswith("gz") else zstandard.compress(bomb, 3)
    check_good(read(tmp_path, packed, name), "BOMB_RATIO")


def test_t19_an_image_without_caption_is_a_record_and_a_caption_without_image_is_not(
    tmp_path: Path,
):
    items = read(tmp_path, [*sample("0", None), ("1.txt", b"alone"), *GOOD])
    check_good(items, "NO_IMAGE")
    assert records(items)[0].text is None


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 100, bytes(100), b"PK\3\4" * 300])
def test_t20_the_only_file_is_no_tar(tmp_path: Path, content: bytes):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar: is no tar"):
        read_all(path)


def test_t20_one_of_several_files_is_no_tar(tmp_path: Path):
    (tmp_path / "b.tar").write_bytes(b"just some text\n" * 100)
    items = read(tmp_path, GOOD)
    check_good(items, "SOURCE_UNREADABLE")
    assert items[-1].where == "b.tar"


def test_t21_names_not_in_utf8_of_300_characters_and_in_two_forms(tmp_path: Path):
    latin = member(b"caf\xe9.jpg", JPEG) + member(b"caf\xe9.txt", b"t")
    long = "d" * 100 + "/" + "n" * 300
    twins = ["\u00e9", "e\u0301"]
    members = [m for key in (long, *twins) for m in sample(key)]
    items = read(tmp_path, latin + tar_of(members))
    assert keys(items) == ["caf%E9", long, *twins]
    assert {r.text for r in records(items)} == {"t", "a text"}


def test_t22_an_empty_tar_has_no_samples(tmp_path: Path):
    assert read(tmp_path, END) == []
    assert read(tmp_path, []) == []


@pytest.mark.parametrize("suffix", ["pyd", "pth", "pickle", "pkl", "npz", "x.PKL"])
def test_t23_members_that_other_loaders_unpickle_are_not_read(tmp_path: Path, suffix: str):
    canary = tmp_path / "canary"
    data = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    items = read(tmp_path, [*sample("0"), (f"0.{suffix}", data), *GOOD])
    check_good(items, "FORBIDDEN_MEMBER")
    assert records(items)[0].text == "a text"
    assert not canary.exists()


def test_t24_a_tar_is_right_where_an_index_disagrees(tmp_path: Path):
    (tmp_path / "index.json").write_text('{"shardlist": [{"url": "a.tar", "nsamples": 19}]}')
    items = read(tmp_path, GOOD)
    assert [r.notes for r in records(items)] == [*[()] * 19, ("INDEX_MISMATCH",)]


def test_a_member_above_64_mebibytes_costs_its_sample(tmp_path: Path):
    big = member(b"0.jpg", bytes((64 << 20) + 1)) + member(b"0.txt", b"t")
    check_good(read(tmp_path, big + tar_of(GOOD)), "TOO_LARGE")


@pytest.mark.parametrize(
    ("described", "meta", "note", "code"),
    [
        (b'{"a": 1', {}, "JSON_DROPPED", "JSON_INVALID"),
        (b'{"a": NaN, "b": 2}', {"b": 2}, "JSON_VALUE_DROPPED", "JSON_INVALID"),
        (b"[1]", {}, "JSON_DROPPED", "JSON_INVALID"),
        (b'{"a": 1, "a": 2}', {}, "JSON_DROPPED", "JSON_DUP_KEY"),
        (b'{"a": ' + b"[" * 100_000, {}, "JSON_DROPPED", "JSON_DEPTH"),
        (b'{"a": 1e400, "b": 2}', {"b": 2}, "JSON_VALUE_DROPPED", "VALUE_RANGE"),
    ],
)
def test_a_json_beside_an_image_costs_no_more_than_what_it_cannot_say(
    tmp_path: Path, described: bytes, meta: dict[str, int], note: str, code: str
):
    (tmp_path / "a.tar").write_bytes(tar_of([*sample("0"), ("0.json", described)]))
    source = Webdataset(tmp_path, [tmp_path], Columns())
    [unit] = source.units()
    [record] = source.records(unit)
    assert (record.text, record.meta, record.notes) == ("a text", meta, (note,))
    assert record.image is not None
    assert source.passed_over.rows() == [(".json", f"{note}: {code}", 1, ["a.tar/0.json"])]


def test_a_json_that_is_all_there_is_or_holds_the_id_is_read_strictly(tmp_path: Path):
    assert codes(read(tmp_path, [("0.json", b'{"text": "x", "a": NaN}')])) == ["JSON_INVALID"]
    members = [*sample("0"), ("0.json", b'{"uid": 1'), *sample("1")]
    members.append(("1.json", b'{"uid": 2, "a": NaN}'))
    bad, record = read(tmp_path, members, columns=Columns(id="uid"))
    assert (bad.code, bad.source_id, record.source_id) == ("JSON_INVALID", None, "2")


@pytest.mark.parametrize(
    ("text", "code"),
    [(b"caf\xe9", "CAPTION_NOT_UTF8"), (b"a" * 65537, "CAPTION_TOO_LONG")],
)
def test_a_caption_that_cannot_be_taken_costs_its_sample(tmp_path: Path, text: bytes, code: str):
    check_good(read(tmp_path, [("0.jpg", JPEG), ("0.txt", text), *GOOD]), code)


# ------------------------------------------------------------------ compression, files beside


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst", "misnamed.tar"])
def test_a_compressed_tar_gives_the_same_records_without_locations(tmp_path: Path, name: str):
    data = tar_of(GOOD)
    packed = zstandard.compress(data) if name.endswith("zst") else gzip.compress(data)
    items = read(tmp_path, packed, name)
    assert [(r.text, r.image) for r in records(items)] == [
        (f"text {n}", JPEG + f"{n:04d}".encode()) for n in range(100, 120)
    ]
    assert all(r.location is None and not r.notes for r in records(items))
    assert codes(items) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.zst"])
def test_a_cut_compressed_tar_keeps_whole_samples(tmp_path: Path, name: str):
    data = tar_of([m for n in range(200) for m in sample(f"{n:04d}", f"{n * 7919 % 10007}" * 40)])
    packed = gzip.compress(data) if name.endswith("gz") else zstandard.compress(data)
    items = read(tmp_path, packed[: len(packed) // 2], name)
    found = records(items)
    assert codes(items) == ["TAR_TRUNCATED"]
    assert keys(items) == [f"{n:04d}" for n in range(len(found))]
    assert all(r.text == f"{n * 7919 % 10007}" * 40 for n, r in enumerate(found))


def test_a_window_of_two_gibibytes_is_refused(tmp_path: Path):
    options = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "b.tar.zst").write_bytes(packer.compress(tar_of(GOOD)) + packer.flush())
    check_good(read(tmp_path, GOOD), "BOMB_WINDOW")


def test_the_parquet_file_of_img2dataset_is_joined_by_key_and_the_json_wins(tmp_path: Path):
    rows = {
        "key": ["000000002", "000000000", "000000001"],
        "url": ["u2", "u0", "u1"],
        "caption": ["c2", "c0", "c1"],
        "status": ["failed_to_download", "success", "success"],
        "width": [None, 10, 11],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "00000.parquet")
    described = b'{"key": "000000000", "width": 99, "uid": "abc"}'
    members = [
        *[("000000000.jpg", JPEG), ("000000000.json", described), ("000000000.txt", b"c0")],
        *[("000000001.jpg", JPEG), ("000000001.txt", b"other")],
        *[("000000003.jpg", JPEG), ("000000003.txt", b"c3")],
    ]
    zero, one, three = read(tmp_path, members, "00000.tar")
    assert (zero.text, zero.meta) == (
        "c0",
        {"url": "u0", "status": "success", "width": 99, "key": "000000000", "uid": "abc"},
    )
    assert (one.text, one.meta) == (
        "other",
        {"url": "u1", "caption": "c1", "status": "success", "width": 11},
    )
    assert (three.meta, three.notes) == ({}, ("INDEX_MISMATCH",))
    assert (zero.notes, one.notes) == ((), ())


def test_a_parquet_file_that_cannot_be_read_is_reported_and_the_tar_stays(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    items = read(tmp_path, GOOD)
    check_good(items, "SOURCE_UNREADABLE")
    assert items[-1].where == "a.parquet"


def test_a_unit_is_a_tar_and_changes_with_it_and_its_parquet_file(tmp_path: Path):
    for name in ("b.tar", "a.tar.gz", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    source = Webdataset(tmp_path, [tmp_path], Columns())
    before = {unit.name: unit.fingerprint for unit in source.units()}
    assert list(before) == ["a.tar.gz", "b.tar"]
    (tmp_path / "a.parquet").write_bytes(b"y")
    after = {unit.name: unit.fingerprint for unit in source.units()}
    assert before["a.tar.gz"] != after["a.tar.gz"]
    assert before["b.tar"] == after["b.tar"]


def test_a_disk_that_gives_no_more_is_a_failure_that_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whichever read fails, what came before is kept and nothing is called damaged."""
    reads, left, real = 0, 10**9, walk._File.readinto

    def failing(file: Any, buffer: Any) -> int:
        nonlocal reads, left
        reads, left = reads + 1, left - 1
        if left < 0:
            raise Refused("UNREADABLE", "Input/output error")
        return real(file, buffer)

    monkeypatch.setattr(walk._File, "readinto", failing)
    assert codes(read(tmp_path, GOOD)) == []
    # How many there are, Python's buffer decides.
    for whole in range(reads):
        left = whole
        items = read_all(tmp_path)
        assert codes(items) == ["UNREADABLE"]
        [bad] = [item for item in items if isinstance(item, Rejected)]
        assert bad.passing
        assert all(r.text == f"text {100 + n}" for n, r in enumerate(records(items)))


def test_a_linked_tar_in_a_folder_is_not_followed(tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.tar").write_bytes(tar_of(samples(1)))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.tar").symlink_to(other / "x.tar")
    check_good(read(folder, GOOD), "SYMLINK")


# ------------------------------------------------------------------ the tar reader against another


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=6),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([0, 60, 120, 260]),
)
def test_a_healthy_tar_reads_as_in_python(
    files: list[tuple[str, bytes]], format: int, padding: int
):
    files = [(f"{'p' * padding}/{name}" if padding else name, data) for name, data in files]
    try:
        data = tar_of(files, format)
    except ValueError:
        return  # too long a name for ustar
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar]
    assert [(m.name, m.start, m.size) for m in _members(data)] == expected


def _members(data: bytes) -> list[_tar.Member]:
    with Path("/dev/null").open("rb") as null:
        stream = Stream(null)
        stream._file = io.BytesIO(data)
        stream.skip = lambda size: len(stream.read(size))
        stream._check_unchanged = lambda: None
        return list(Tar(stream).members())


WHOLE = tar_of(samples(8))


@settings(max_examples=150)
@given(
    cut=st.integers(0, len(WHOLE)),
    flip=st.none() | st.tuples(st.integers(0, 8 * SAMPLE - 1), st.integers(0, 7)),
    packed=st.booleans(),
)
def test_wherever_a_tar_is_cut_or_flipped_the_whole_samples_before_are_kept(
    cut: int, flip: tuple[int, int] | None, packed: bool
):
    data = bytearray(WHOLE)
    if flip is not None:
        data[flip[0]] ^= 1 << flip[1]
    sound = min(cut, flip[0] if flip else cut) // SAMPLE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        path.write_bytes(gzip.compress(data[:cut], 1) if packed else data[:cut])
        try:
            items = read_all(path)
        except DataError:
            assert sound == 0
            return
    assert keys(items)[:sound] == [f"{n:04d}" for n in range(min(sound, 8))]
    assert all(r.text == f"text {n}" for n, r in enumerate(records(items)[:sound]))
    if flip is None:
        # A sample that is cut is never given as one without a text, unless it is the only one.
        # The last needs no padding: its text has 6 bytes.
        whole = (cut + SAMPLE - 1542) // SAMPLE
        assert all(r.text for r in records(items)[1:])
        assert len(records(items)) in (min(whole, 8), 1)


# ------------------------------------------------------------------ memory, real data

_MEASURED = r"""
import re, sys
from pathlib import Path
from storage.source import Columns
from storage.sources.webdataset import Webdataset
path = Path(sys.argv[1])
source = Webdataset(path.parent, [path], Columns())
count = sum(1 for unit in source.units() for _ in source.records(unit))
# ru_maxrss would count the parent's memory, from before the child's own program began.
print(count, re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_the_tar(tmp_path: Path):
    peaks = []
    for count in (400, 4000):
        path = tmp_path / f"{count}.tar"
        image = JPEG + bytes(20_000)
        path.write_bytes(tar_of([(f"{n:06d}.jpg", image) for n in range(count)]))
        run = [sys.executable, "-c", _MEASURED, str(path)]
        found, peak = map(int, subprocess.run(run, check=True, capture_output=True).stdout.split())
        assert found == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (8 << 10)  # kilobytes; the larger tar has 82 MB


@pytest.mark.data
def test_cifar_has_a_thousand_samples_a_tar_each_with_its_label_and_place(data: Path):
    classes = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    source = Webdataset(data / "cifar10", [data / "cifar10"], Columns())
    units = list(source.units())
    assert [u.name for u in units][:3] == ["test-000.tar", "test-001.tar", "train-000.tar"]
    for unit in units[:3]:
        found = records(list(source.records(unit)))
        assert len(found) == 1000
        assert Counter(r.meta["label"] for r in found) == dict.fromkeys(range(10), 100)
        content = unit.path.read_bytes()
        for record in found:
            assert record.source_id.endswith("_" + classes[record.meta["label"]])
            assert record.meta["label_name"] == classes[record.meta["label"]]
            at = record.location
            assert at is not None
            assert content[at.offset : at.offset + at.length] == record.image
            assert record.image.startswith(b"\xff\xd8\xff")
            assert not record.notes


@pytest.mark.data
def test_camvid_masks_are_no_images(data: Path):
    items = read_all(data / "camvid" / "val-000.tar")
    assert (len(items), codes(items)) == (101, [])
    assert all(r.image.startswith(b"\xff\xd8\xff") for r in records(items))
    assert records(items)[0].meta["pixels"]["car"] == 1507


@pytest.mark.data
def test_the_spoken_digits_are_sounds_with_a_digit_and_a_speaker(data: Path):
    found = records(read_all(data / "spoken_digits" / "spoken_digits-000.tar"))
    assert len(found) == 600
    assert {payload[0] for r in found if (payload := r.payload)} == {"audio"}
    assert Counter(r.meta["digit"] for r in found) == dict.fromkeys(range(10), 60)


def test_a_second_member_may_be_the_label_image_of_the_picture(tmp_path: Path):
    members = [("0.jpg", JPEG), ("0.seg.png", b"s"), ("1.jpg", JPEG), ("1.txt", b"a cat")]
    labelled, bare = read(tmp_path, members, columns=Columns(label_image="seg.png"))
    assert (labelled.image, labelled.label_image, labelled.meta) == (JPEG, b"s", {})
    assert (bare.code, bare.source_id) == ("NO_LABEL_IMAGE", "a.tar/1")
