from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from contracts.errors import ConfigError, DataError
from storage.source import Columns, Location, Record, Rejected, find
from storage.sources.image_folder import ImageFolder


def _encoded(format: str = "JPEG", colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (colour, 99, 7)).save(buffer, format)
    return buffer.getvalue()


JPEG = _encoded()


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    files = {"1.jpg": JPEG, "1.txt": "a cat", "2.png": _encoded("PNG"), "2.json": '{"text": "a"}'}
    _write(folder, {f"cats/{name}": content for name, content in files.items()})
    _write(folder, {"dogs/1.jpg": JPEG, "dogs/2.jpg": JPEG})


def _read(path: Path | str, **columns) -> list[Record | Rejected]:
    found = find(path)
    source = ImageFolder(found.root, found.paths, Columns(**columns))
    return [item for unit in source.units() for item in source.records(unit)]


def _texts(path: Path | str) -> dict[str, str | None]:
    return {record.source_id: record.text for record in _read(path)}


def _marks(path: Path) -> dict[str, str]:
    return {unit.name: unit.fingerprint for unit in ImageFolder(path, [path], Columns()).units()}


def _write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(data)
    return root


def test_an_image_its_path_and_its_place_make_a_record(tmp_path):
    _write(tmp_path, {"cats/1.jpg": JPEG, "readme.html": "no"})
    assert _read(tmp_path) == [
        Record(
            "cats/1.jpg",
            "cats/1.jpg",
            image=JPEG,
            location=Location(f"{tmp_path}/cats/1.jpg", 0, len(JPEG)),
        )
    ]


def test_every_suffix_of_an_image_is_a_candidate_and_a_renamed_one_too(tmp_path):
    known = "jpg jpeg png gif webp tif bmp ico svg heic avif psd eps pdf apng jfif"
    names = [f"{i}.{suffix}" for i, suffix in enumerate(known.split())]
    _write(tmp_path, dict.fromkeys(names, b"whatever") | {"50.txt": JPEG, "51.TIFF": b"II*\0"})
    _write(tmp_path, {"60.txt": "a text", "61.txt": b"", "62.txt": "BMW", "63.csv": "a,b"})
    found = _read(tmp_path)
    assert {item.source_id for item in found} == {*names, "50.txt", "51.TIFF"}
    assert next(r.notes for r in found if r.source_id == "50.txt") == ("EXT_MISMATCH",)


def test_a_suffix_that_the_bytes_belie_is_noted(tmp_path):
    _write(tmp_path, {"a.jpg": _encoded("PNG"), "b.JPEG": JPEG, "c.png": _encoded("PNG")})
    assert [record.notes for record in _read(tmp_path)] == [("EXT_MISMATCH",), (), ()]


def test_the_caption_is_the_text_beside_the_image(tmp_path):
    _write(tmp_path, {"a.b.jpg": JPEG, "a.b.txt": "a cat\r\n", "b.png": _encoded("PNG")})
    assert _texts(tmp_path) == {"a.b.jpg": "a cat", "b.png": None}


def test_a_json_object_beside_the_image_gives_text_and_meta(tmp_path):
    fields = {"caption": "a cat", "license": "CC0-1.0", "url": "http://x", "exif": {"a": [1]}}
    _write(tmp_path, {"a.jpg": JPEG, "a.json": "\ufeff" + json.dumps(fields)})
    (record,) = _read(tmp_path)
    assert (record.text, record.licence) == ("a cat", "CC0-1.0")
    assert record.meta == {"url": "http://x", "exif": {"a": [1]}}


def test_the_text_file_goes_before_json_and_json_before_the_table(tmp_path):
    _write(
        tmp_path,
        {
            "a.jpg": JPEG,
            "a.txt": "from text",
            "a.json": '{"caption": "from json", "n": 2}',
            "b.jpg": JPEG,
            "b.json": '{"text": "from json"}',
            "c.jpg": JPEG,
            "metadata.csv": "file_name,text,n,m\n"
            + "".join(f"{stem}.jpg,from table,1,1\n" for stem in "abc"),
        },
    )
    assert _texts(tmp_path) == {"a.jpg": "from text", "b.jpg": "from json", "c.jpg": "from table"}
    assert _read(tmp_path)[0].meta == {"caption": "from json", "n": 2, "m": "1"}


def test_the_recipe_names_the_column_of_the_caption(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.json": '{"alt_text": "mine", "text": "other", "n": 7}'})
    (record,) = _read(tmp_path, text="alt_text", id="n")
    assert (record.source_id, record.text, record.meta) == ("7", "mine", {"text": "other"})


@pytest.mark.parametrize("name", ["metadata.csv", "captions.jsonl", "metadata.parquet"])
def test_a_table_in_the_layout_of_hugging_face_captions_images_below_it(tmp_path, name):
    rows = pl.DataFrame(
        {
            "file_name": ["a.jpg", "./sub/b.jpg", "sub\\c.jpg", "absent.jpg"],
            "text": ["first, with comma", "second", "NA", "fourth"],
            "label": ["x", "y", "007", "w"],
        }
    )
    _write(tmp_path, {"set/a.jpg": JPEG, "set/sub/b.jpg": JPEG, "set/sub/c.jpg": JPEG})
    _write(tmp_path, {"set/d.jpg": JPEG, "a.jpg": JPEG})
    write = {"csv": rows.write_csv, "jsonl": rows.write_ndjson, "parquet": rows.write_parquet}
    write[name.rpartition(".")[2]](tmp_path / "set" / name)
    assert _texts(tmp_path) == {
        "a.jpg": None,
        "set/a.jpg": "first, with comma",
        "set/d.jpg": None,
        "set/sub/b.jpg": "second",
        "set/sub/c.jpg": "NA",
    }
    assert [r.meta for r in _read(tmp_path / "set")] == [
        {"label": "x"},
        {},
        {"label": "y"},
        {"label": "007"},
    ]


def test_the_nearest_table_wins(tmp_path):
    _write(tmp_path, {"metadata.csv": "file_name,text\nsub/a.jpg,far\nsub/b.jpg,far\n"})
    _write(tmp_path, {"sub/captions.csv": "file_name,text\na.jpg,near\n"})
    _write(tmp_path, {"sub/a.jpg": JPEG, "sub/b.jpg": JPEG, "subs/a.jpg": JPEG})
    assert _texts(tmp_path) == {"sub/a.jpg": "near", "sub/b.jpg": "far", "subs/a.jpg": None}


def test_several_rows_of_one_image_give_it_several_captions(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG})
    _write(tmp_path, {"captions.csv": "file_name,caption\na.jpg,1\nb.jpg,4\na.jpg,2\na.jpg,3\n"})
    first, second = _read(tmp_path)
    assert [text["text"] for text in first.texts] == ["1", "2", "3"]
    assert (first.text, second.text, second.texts) == ("1", "4", None)


def test_a_table_without_file_names_is_an_error_that_names_it(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "captions.csv": "image,caption\na.jpg,x\n"})
    with pytest.raises(DataError, match=r"captions\.csv: .*'file_name'.*take it out"):
        _read(tmp_path)


def test_a_damaged_table_is_an_error_and_a_damaged_row_is_rejected(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG})
    _write(tmp_path, {"metadata.csv": b"file_name,text\na.jpg,caf\xe9\nb.jpg,ok\nb.jpg,1,2\n"})
    items = _read(tmp_path)
    assert [(i.where, i.code) for i in items if isinstance(i, Rejected)] == [
        ("metadata.csv#0", "CAPTION_NOT_UTF8"),
        ("metadata.csv#2", "CSV_RAGGED"),
    ]
    assert [i.text for i in items if isinstance(i, Record)] == [None, "ok"]
    (tmp_path / "metadata.csv").unlink()
    _write(tmp_path, {"metadata.parquet": b"PAR1"})
    with pytest.raises(DataError, match=r"metadata\.parquet: SOURCE_UNREADABLE"):
        _read(tmp_path)


def test_a_row_of_a_json_table_costs_no_more_than_what_it_cannot_say(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG})
    rows = '{"file_name": "a.jpg", "text": "one", "p": NaN}\n{"file_name": "b.jpg", "te\n'
    _write(tmp_path, {"metadata.jsonl": rows})
    bad, first, second = _read(tmp_path)
    assert (bad.where, bad.code) == ("metadata.jsonl#1", "JSON_INVALID")
    assert (first.text, first.meta, second.text) == ("one", {}, None)
    assert _passed(tmp_path) == [
        (".jpg", "a picture without a row or a text", 1, ["b.jpg"]),
        (".jsonl", "JSON_VALUE_DROPPED: JSON_INVALID", 1, ["row 0 of metadata.jsonl"]),
    ]


def test_a_table_that_is_a_link_is_not_followed(tmp_path):
    _write(tmp_path, {"out/m.csv": "file_name,text\na.jpg,secret\n", "in/a.jpg": JPEG})
    (tmp_path / "in/metadata.csv").symlink_to(tmp_path / "out/m.csv")
    with pytest.raises(DataError, match="SYMLINK"):
        _read(tmp_path / "in")


def test_a_unit_is_an_image_with_what_belongs_to_it(tmp_path):
    table = "file_name,text\na.jpg,one\nb.jpg,two\n"
    _write(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG, "c.jpg": JPEG, "c.txt": "x"})
    _write(tmp_path, {"metadata.csv": table})
    before = _marks(tmp_path)
    assert list(before) == ["a.jpg", "b.jpg", "c.jpg"]
    assert _marks(tmp_path) == before

    def changed() -> set[str]:
        after = _marks(tmp_path)
        return {name for name in after if after[name] != before[name]}

    _write(tmp_path, {"metadata.csv": table.replace("two", "2")})
    assert changed() == {"b.jpg"}
    _write(tmp_path, {"metadata.csv": table, "c.txt": "longer"})
    assert changed() == {"c.jpg"}
    _write(tmp_path, {"c.txt": "x", "a.json": "{}"})
    assert "a.jpg" in changed()


def test_units_are_told_without_reading_an_image(tmp_path, monkeypatch):
    _write(tmp_path, {"a.jpg": JPEG, "a.txt": "x", "b.txt": JPEG})
    monkeypatch.setattr(os, "open", None)
    assert list(_marks(tmp_path)) == ["a.jpg", "b.txt"]


def test_a_glob_takes_captions_that_it_does_not_match(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.txt": "one", "b.jpg": JPEG, "b.txt": "two"})
    assert _texts(f"{tmp_path}/b*.jpg") == {"b.jpg": "two"}
    assert _texts(f"{tmp_path}/*") == {"a.jpg": "one", "b.jpg": "two"}
    assert _texts(tmp_path / "a.jpg") == {"a.jpg": "one"}


def test_a_name_that_is_not_utf8_makes_an_id_but_no_place(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(path + b".jpg")).write_bytes(JPEG)
    Path(os.fsdecode(path + b".txt")).write_bytes(b"x")
    (record,) = _read(tmp_path)
    assert (record.source_id, record.text, record.location) == ("caf%E9.jpg", "x", None)


BAD: dict[str, tuple[dict[str, bytes | str], str, str]] = {
    "no utf-8": ({"x.jpg": JPEG, "x.txt": b"caf\xe9"}, "CAPTION_NOT_UTF8", "x.jpg"),
    "long": ({"x.jpg": JPEG, "x.txt": "a" * 10**6}, "CAPTION_TOO_LONG", "x.jpg"),
    "type": ({"x.jpg": JPEG, "x.json": '{"text":{"a":1}}'}, "SCHEMA_MISMATCH", "x.jpg"),
}
ODD = {
    "link": ("x.jpg", "SYMLINK"),
    "outside": ("x", "SYMLINK"),
    "pipe": ("x.jpg", "SPECIAL_FILE"),
    "large": ("x.jpg", "TOO_LARGE"),
    "caption link": ("x.txt", "SYMLINK"),
}


def _make_odd(root: Path, kind: str) -> None:
    if kind == "link":
        (root / "x.jpg").symlink_to("/etc/passwd")
    elif kind == "outside":
        (root / "x").symlink_to("/etc")
    elif kind == "pipe":
        os.mkfifo(root / "x.jpg")
    elif kind == "large":
        with (root / "x.jpg").open("wb") as file:
            file.write(JPEG)
            file.truncate(300 << 20)
    else:
        (root / "x.jpg").write_bytes(JPEG)
        (root / "x.txt").symlink_to("/etc/passwd")


@pytest.mark.parametrize("kind", [*BAD, *ODD])
def test_a_bad_item_is_rejected_with_its_reason_and_leaves_the_good_ones_alone(tmp_path, kind):
    for number in range(20):
        _write(tmp_path, {f"{number:02d}.jpg": _encoded(colour=number), f"{number:02d}.txt": "ok"})
    good = _read(tmp_path)
    assert len(good) == 20
    if kind in BAD:
        files, code, where = BAD[kind]
        _write(tmp_path, files)
    else:
        where, code = ODD[kind]
        _make_odd(tmp_path, kind)
    items = _read(tmp_path)
    assert [item for item in items if isinstance(item, Record)] == good
    (bad,) = (item for item in items if isinstance(item, Rejected))
    assert (bad.code, bad.where) == (code, where)
    assert bad.source_id == ("x" if kind == "outside" else "x.jpg")


@pytest.mark.parametrize(
    ("described", "meta", "note", "code"),
    [
        ('{"n": 1, "punsafe": NaN}', {"n": 1}, "JSON_VALUE_DROPPED", "JSON_INVALID"),
        ('{"n": [1, -Infinity]}', {"n": [1, None]}, "JSON_VALUE_DROPPED", "JSON_INVALID"),
        ('{"n": 1, "big": 1e400, "m": 99999999999999999999}', {"n": 1}, "JSON_VALUE_DROPPED",
         "VALUE_RANGE"),
        ('{"n": 1', {}, "JSON_DROPPED", "JSON_INVALID"),
        ("[1]", {}, "JSON_DROPPED", "JSON_INVALID"),
        ("", {}, "JSON_DROPPED", "JSON_INVALID"),
        ('{"n": 1, "n": NaN}', {}, "JSON_DROPPED", "JSON_INVALID"),
        ("[" * 10**5, {}, "JSON_DROPPED", "JSON_DEPTH"),
        (r'{"alt": "\ud800"}', {}, "JSON_DROPPED", "CAPTION_NOT_UTF8"),
    ],
)  # fmt: skip
def test_a_json_beside_an_image_costs_no_more_than_what_it_cannot_say(
    tmp_path, described, meta, note, code
):
    _write(tmp_path, {"a.jpg": JPEG, "a.txt": "a cat", "a.json": described})
    source = ImageFolder(tmp_path, [tmp_path], Columns())
    (record,) = (item for unit in source.units() for item in source.records(unit))
    assert (record.image, record.text, record.meta, record.notes) == (JPEG, "a cat", meta, (note,))
    assert source.passed_over.rows() == [(".json", f"{note}: {code}", 1, ["a.json"])]


def test_a_json_that_cannot_be_taken_costs_the_image_where_it_holds_the_id(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.json": '{"key": 1', "b.jpg": JPEG})
    _write(tmp_path, {"b.json": '{"key": 2, "x": NaN}'})
    first, second = _read(tmp_path, id="key")
    assert (first.code, first.where) == ("JSON_INVALID", "a.json")
    assert second.source_id == "2"


def test_suffixes_are_read_in_any_case_and_the_lower_one_wins(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.TXT": "no", "a.Txt": "no", "a.txt": "lower"})
    _write(tmp_path, {"DSC1.JPG": JPEG, "DSC1.TXT": "upper", "c.jpg": JPEG})
    _write(tmp_path, {"c.JSON": '{"caption": "json"}', "e.jpg": JPEG, "e.TXT": "2", "e.Txt": "3"})
    _write(tmp_path, {"f/f.png": JPEG, "f/Metadata.CSV": "file_name,text\nf.png,table\n"})
    assert _texts(tmp_path) == {
        "DSC1.JPG": "upper",
        "a.jpg": "lower",
        "c.jpg": "json",
        "e.jpg": "3",
        "f/f.png": "table",
    }


def _passed(path: Path | str) -> list[tuple[str, str, int, list[str]]]:
    found = find(path)
    source = ImageFolder(found.root, found.paths, Columns())
    for unit in source.units():
        list(source.records(unit))
    return source.passed_over.rows()


def test_what_belongs_to_no_image_is_counted_by_suffix(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.txt": "x", "a.TXT": "y", "a.caption": "z", "b.caption": ""})
    _write(tmp_path, {"c.caption": "", "lost.txt": "no image", "lost.json": "{}", "s/x.mp4": ""})
    assert _passed(tmp_path) == [
        (".caption", "not read", 3, ["a.caption", "b.caption"]),
        (".json", "beside no picture", 1, ["lost.json"]),
        (".mp4", "not read", 1, ["s/x.mp4"]),
        (".txt", "beside no picture", 1, ["lost.txt"]),
        (".txt", "not read", 1, ["a.TXT"]),
    ]
    assert _passed(f"{tmp_path}/a.*") == [
        (".caption", "not read", 1, ["a.caption"]),
        (".txt", "not read", 1, ["a.TXT"]),
    ]


def test_rows_and_images_that_do_not_meet_are_counted_on_both_sides(tmp_path):
    _write(tmp_path, {f"s/{stem}.jpg": JPEG for stem in "abcd"} | {"s/c.txt": "of its own"})
    _write(tmp_path, {"s/metadata.csv": "file_name,text\na.jpg,1\nx.jpg,2\ny.png,3\nz.jpg,4\n"})
    expected = [
        (".jpg", "a picture without a row or a text", 2, ["s/b.jpg", "s/d.jpg"]),
        (".jpg", "a row that names no picture", 2,
         ["s/metadata.csv: x.jpg", "s/metadata.csv: z.jpg"]),
        (".png", "a row that names no picture", 1, ["s/metadata.csv: y.png"]),
    ]  # fmt: skip
    assert _passed(tmp_path) == expected
    _write(tmp_path, {"t/e.jpg": JPEG})
    assert _passed(tmp_path) == expected
    assert _passed(f"{tmp_path}/s/[ab].jpg") == [
        (".jpg", "a picture without a row or a text", 1, ["b.jpg"])
    ]


@pytest.mark.parametrize("folder", ["s", ""])
def test_a_table_none_of_whose_rows_names_an_image_is_an_error_that_shows_both(tmp_path, folder):
    _write(tmp_path / folder, {"0.jpg": JPEG, "1.jpg": JPEG})
    _write(tmp_path / folder, {"metadata.csv": "file_name,text\nimgs/0.jpg,a\nimgs/1.jpg,b\n"})
    _write(tmp_path, {"z/9.jpg": JPEG})
    with pytest.raises(DataError, match=r"none of its 2 rows .*'imgs/0\.jpg', .* '0\.jpg'.*mend"):
        _read(tmp_path)
    with pytest.raises(DataError, match="none of its 2 rows"):
        _read(f"{tmp_path / folder}/0.*")


def test_names_may_begin_with_the_folder_of_their_table(tmp_path):
    _write(tmp_path, {"p/images/0.jpg": JPEG, "p/images/1/2.jpg": JPEG})
    rows = "file_name,text\nimages/0.jpg,zero\nimages/1/2.jpg,two\n"
    _write(tmp_path, {"p/images/metadata.csv": rows})
    for path, lead in ((tmp_path, "p/images/"), (tmp_path / "p/images", "")):
        assert _texts(path) == {f"{lead}0.jpg": "zero", f"{lead}1/2.jpg": "two"}
    # Where there is a folder of that name below, it is the one that is meant.
    _write(tmp_path, {"p/images/images/0.jpg": JPEG})
    assert _texts(tmp_path / "p/images") == {"0.jpg": None, "1/2.jpg": None, "images/0.jpg": "zero"}


def test_names_meet_in_any_normal_form_and_as_they_are_written_first(tmp_path):
    composed, apart = "caf\u00e9.jpg", "cafe\u0301.jpg"
    _write(tmp_path, {f"1/{apart}": JPEG, "1/metadata.csv": f"file_name,text\n{composed},one\n"})
    _write(tmp_path, {f"2/{composed}": JPEG, "2/metadata.csv": f"file_name,text\n{apart},two\n"})
    _write(tmp_path, {f"3/{composed}": JPEG, f"3/{apart}": JPEG})
    _write(tmp_path, {"3/metadata.csv": f"file_name,text\n{composed},c\n{apart},d\n"})
    assert _texts(tmp_path) == {
        f"1/{apart}": "one",
        f"2/{composed}": "two",
        f"3/{composed}": "c",
        f"3/{apart}": "d",
    }


def test_a_folder_of_links_is_read_with_what_lies_beside_it(tmp_path):
    _write(tmp_path, {"hub/1": JPEG, "hub/2": "a cat", "hub/3": "file_name,n\na.jpg,7\n"})
    (tmp_path / "snap").mkdir()
    for name, blob in (("a.jpg", "1"), ("a.txt", "2"), ("metadata.csv", "3")):
        (tmp_path / "snap" / name).symlink_to(tmp_path / "hub" / blob)
    found = find(tmp_path / "snap", follow_links=tmp_path)
    source = ImageFolder(found.root, found.paths, Columns(), found.follow_links)
    (record,) = (item for unit in source.units() for item in source.records(unit))
    assert (record.image, record.text, record.meta) == (JPEG, "a cat", {"n": "7"})


def test_what_is_gone_since_it_was_listed_is_a_failure_that_may_pass(tmp_path):
    _write(tmp_path, {"c.jpg": JPEG, "c.txt": "x", "d.jpg": JPEG})
    source = ImageFolder(tmp_path, [tmp_path], Columns())
    units = list(source.units())
    (tmp_path / "c.txt").unlink()
    (tmp_path / "d.jpg").unlink()
    found = [item for unit in units for item in source.records(unit)]
    assert [(item.where, item.code) for item in found] == [
        ("c.txt", "SOURCE_GONE"),
        ("d.jpg", "SOURCE_GONE"),
    ]
    assert all(item.passing for item in found)


def test_captions_that_are_empty_or_in_utf16_are_mended(tmp_path):
    _write(tmp_path, {"a.jpg": JPEG, "a.txt": " \u200b\n", "b.jpg": JPEG})
    _write(tmp_path, {"b.txt": "x\x00".encode("utf-16"), "c.jpg": b""})
    first, second, third = _read(tmp_path)
    assert (first.text, first.notes) == (None, ("CAPTION_EMPTY",))
    assert (second.text, second.notes) == ("x", ("CONTROL_CHARS",))
    assert third.image == b""


_THEIRS = """
import json, sys
from datasets import load_dataset
rows = load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[2])
print(json.dumps([rows["text"][:], rows["n"][:]]))
"""


@pytest.mark.slow
def test_hugging_face_reads_the_same_captions(tmp_path):
    _write(tmp_path, {f"set/train/{i}.jpg": _encoded(colour=i) for i in range(5)})
    rows = "".join(f"{i}.jpg,caption {i},{i}\n" for i in range(5))
    _write(tmp_path, {"set/train/metadata.csv": "file_name,text,n\n" + rows})
    command = [sys.executable, "-c", _THEIRS, str(tmp_path / "set"), str(tmp_path / "cache")]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    ours = _read(tmp_path / "set" / "train")
    assert [[r.text for r in ours], [int(r.meta["n"]) for r in ours]] == theirs


def test_a_label_image_lies_where_the_recipe_says_and_is_no_picture(tmp_path):
    files = {"a/1.jpg": JPEG, "a/1_mask.png": b"1", "masks/1.png": b"2", "a/2.jpg": JPEG}
    _write(tmp_path, files)
    beside = _read(tmp_path / "a", label_image="{path}_mask.png")
    assert [(i.where, getattr(i, "label_image", None)) for i in beside] == [
        ("1.jpg", b"1"),
        ("2.jpg", None),
    ]
    assert beside[1].code == "NO_LABEL_IMAGE"
    mirrored = _read(tmp_path, label_image="masks/{stem}.png")
    assert mirrored[0].label_image == b"2"
    assert [i.where for i in mirrored] == ["a/1.jpg", "a/1_mask.png", "a/2.jpg"]
    columns = Columns(label_image="masks/{stem}.png")
    source = ImageFolder(tmp_path, [tmp_path], columns)
    marks = {u.name: u.fingerprint for u in source.units()}
    (tmp_path / "masks" / "2.png").write_bytes(b"3")
    later = {u.name: u.fingerprint for u in source.units()}
    assert [n for n in marks if marks[n] != later[n]] == ["a/2.jpg"]
    assert source.passed_over.names.counts == {}
    with pytest.raises(ConfigError, match="must say where a picture's labels lie"):
        _read(tmp_path, label_image="masks/{name}.png")
    dotted = _read(tmp_path, label_image="./masks//{stem}.png")
    assert [i.where for i in dotted] == ["a/1.jpg", "a/1_mask.png", "a/2.jpg"]
    for elsewhere in ("../{stem}.png", "/masks/{stem}.png"):
        with pytest.raises(ConfigError, match="leads out of the source's path"):
            _read(tmp_path, label_image=elsewhere)


@pytest.mark.parametrize("folder", ["a", "c"])
def test_label_images_of_no_picture_are_counted_wherever_they_lie(tmp_path, folder):
    _write(tmp_path, {"b/1.jpg": JPEG, "b/2.jpg": JPEG, "b/x/1.jpg": JPEG})
    _write(tmp_path, {f"{folder}/{n}.png": b"1" for n in (1, 2, 3)})
    source = ImageFolder(tmp_path, [tmp_path], Columns(label_image=f"{folder}/{{stem}}.png"))
    assert [unit.name for unit in source.units()] == ["b/1.jpg", "b/2.jpg", "b/x/1.jpg"]
    reason = "the labels of no picture"
    assert source.passed_over.rows() == [(".png", reason, 1, [f"{folder}/3.png"])]
