from __future__ import annotations

import errno
import gc
import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from contracts import decode
from contracts.errors import ConfigError, DataError
from contracts.uid import hex_uid, shuffled, uid_of
from flows.reporter import Reporter
from storage import shards

PICTURES = """
[[source]]
path = "pictures"
[[select]]
name = "captioned"
where = "caption_stats.words >= 1"
"""
EXPORT = """
[export]
shard_records = {}
layout = "{}"
"""
ROWS = '[[source]]\npath = "rows"\nname = "rows"\nid = "id"\n'


def _lines(project: Any, *numbers: int, file: str = "0", **more: Any) -> None:
    rows = [{"id": f"r{i}", "text": f"text {i}", "n": i} | more for i in numbers]
    project.lines(f"rows/{file}.jsonl", rows)


def _folder(project: Any, name: str = "web") -> Path:
    return Path(project.last(name).result["export"])


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def _uids(path: Path) -> list[int]:
    return list(dict.fromkeys(int(name.split(".")[0], 16) for name in _members(path)))


def _tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


@pytest.fixture(scope="module")
def pictures(projects: Callable[[], Any], captioned: dict[str, bytes]) -> Any:
    """The captioned pictures as tars, Parquet and JSON lines of 30 records each.

    They lie in a folder whose name a shell or Python would read as something else.
    """
    project = projects()
    project.recipe_dir = project.recipe_dir / """it's "a" {1..2} place"""
    project.pictures(captioned)
    project.said = []
    project.run(
        PICTURES
        + EXPORT.format(30, "append")
        + 'format = ["webdataset", "parquet", "jsonl"]\ncolumns = ["caption_stats.words"]\n',
        reporter=Reporter(line=project.said.append),
    )
    return project


def _said(project: Any, word: str) -> list[str]:
    """Return the lines to paste that hold a word."""
    return [line for line in project.said if word in line]


@pytest.fixture(scope="module")
def expected(captioned: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    """Key in the shards to picture and caption."""
    found = {}
    for name, data in captioned.items():
        caption = captioned.get(f"{name.rpartition('.')[0]}.txt")
        if not name.endswith(".txt") and caption is not None:
            found[hex_uid(uid_of("pictures", name))] = (data, caption.decode())
    return found


FLOATS = [1e-5, 0.25, -3e-7, 1e16, 123456.789, 0.0, 1.5e300, 1e-4, 9999999999999998.0]


@pytest.mark.parametrize("which", [FLOATS, [f for f in FLOATS if f == 0 or 1e-4 <= abs(f) < 1e16]])
def test_a_float_is_written_as_python_writes_it_whichever_it_is(
    which: list[float], projects: Callable[[], Any]
):
    project = projects()
    rows = [{"id": f"r{i}", "text": "a", "number": f} for i, f in enumerate(which)]
    project.lines("rows/0.jsonl", rows)
    project.run(ROWS + "[export]\n")
    found = [data for name, data in _members(_tars(_folder(project))[0]).items() if "json" in name]
    for data, content in zip(found, map(json.loads, found), strict=True):
        assert content["number"] == which[int(content["source_id"][1:])]
        assert data == json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


# ------------------------------------------------------------------ what others read


def test_pythons_tarfile_reads_every_member(pictures: Any, expected: dict[str, Any]):
    found: dict[str, bytes] = {}
    for path in _tars(_folder(pictures)):
        found |= _members(path)
    keys = {name.partition(".")[0] for name in found}
    assert keys == set(expected)
    for key, (image, text) in expected.items():
        suffix = "jpg" if image.startswith(b"\xff\xd8") else "png"
        assert found[f"{key}.{suffix}"] == image
        assert found[f"{key}.txt"].decode() == text
        content = json.loads(found[f"{key}.json"])
        assert content["uid"] == key
        assert content["source"] == "pictures"
        assert content["caption_stats.words"] == len(text.split())
        assert (content["width"], content["height"]) == (24, 24)
    assert len(found) == 3 * len(expected)


def test_tar_headers_say_nothing_of_time_owner_or_machine(pictures: Any):
    with tarfile.open(_tars(_folder(pictures))[0]) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname, member.mode) == ("", "", 0o644)
            assert member.isreg()


# webdataset leaves the shards that it read to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_the_samples_in_order_by_the_printed_line(
    pictures: Any, expected: dict[str, Any]
):
    (line,) = _said(pictures, "webdataset.WebDataset")
    found = list(eval(line, {"webdataset": webdataset}))
    gc.collect()
    assert [sample["__key__"] for sample in found] == [
        hex_uid(uid) for path in _tars(_folder(pictures)) for uid in _uids(path)
    ]
    assert {
        s["__key__"]: (s.get("png", s.get("jpg")), s["txt"].decode()) for s in found
    } == expected


_DATASETS = """
import json, sys
import datasets
cache, *lines = sys.argv[1:]
for line in lines:
    rows = eval(line[:-1] + f", split='train', cache_dir={cache!r})")
    found = {}
    for row in rows:
        images = [row[name] for name in ("image", "png", "jpg") if row.get(name) is not None]
        assert len(images) <= 1
        image = images[0] if images else None
        uid = row.get("uid") or row["json"]["uid"]
        found[uid] = [image and [*image.size, *image.convert("RGB").getpixel((1, 1))],
                      row.get("text") or row.get("txt"), (row.get("json") or {}) and row["json"]]
    print(json.dumps(found))
"""


def _pixels(data: bytes) -> list[int]:
    image = Image.open(io.BytesIO(data))
    return [*image.size, *image.convert("RGB").getpixel((1, 1))]  # type: ignore[misc]


@pytest.fixture(scope="module")
def late(projects: Callable[[], Any]) -> Any:
    """Texts of which the last in the shards alone has a value that the others lack."""
    project = projects()
    uids = np.array([uid_of("rows", f"r{i}") for i in range(12)], dtype=np.uint64)
    last = int(shuffled(uids, 0, "export")[-1])
    rows = [{"id": f"r{i}", "text": f"text {i}", "n": i, "score": None} for i in range(12)]
    rows[last] |= {"score": 0.5}
    project.lines("rows/0.jsonl", rows)
    project.said = []
    project.run(ROWS + EXPORT.format(6, "append"), reporter=Reporter(line=project.said.append))
    return project


@pytest.mark.slow
def test_each_printed_line_opens_the_export_whole_in_datasets(
    pictures: Any, late: Any, expected: dict[str, Any], tmp_path: Path
):
    # Left alone it takes the members and types of the first samples for those of all: tars that
    # mix jpg and png, or hold a value that is null at first, come without some or not at all.
    lines = _said(pictures, "load_dataset") + _said(late, "load_dataset")
    command = [sys.executable, "-c", _DATASETS, str(tmp_path), *lines]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    tars, parquet, jsonl, texts = (json.loads(line) for line in run.stdout.splitlines())
    words = {key: text for key, (_, text) in expected.items()}
    whole = {key: [_pixels(image), text] for key, (image, text) in expected.items()}
    assert {key: row[:2] for key, row in tars.items()} == whole
    assert {key: row[:2] for key, row in parquet.items()} == whole
    assert {key: row[:2] for key, row in jsonl.items()} == {k: [None, t] for k, t in words.items()}
    assert all(row[2]["caption_stats.words"] == len(row[1].split()) for row in tars.values())
    assert sorted(row[2]["n"] for row in texts.values()) == list(range(12))
    assert sorted(row[2]["score"] or 0 for row in texts.values()) == [0.0] * 11 + [0.5]


def test_pyarrow_reads_parquet_with_the_features_of_hugging_face(
    pictures: Any, expected: dict[str, Any]
):
    paths = sorted((_folder(pictures) / "data").iterdir())
    assert [path.name for path in paths][:1] == [f"train-00000-of-{len(paths):05d}.parquet"]
    found = {}
    for path in paths:
        table = pq.read_table(path)
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"}
        for row in table.to_pylist():
            assert row["image"]["path"].startswith(row["uid"])
            found[row["uid"]] = (row["image"]["bytes"], row["text"])
    assert found == expected


def test_json_lines_hold_a_text_and_what_is_known_of_it(pictures: Any, expected: dict[str, Any]):
    rows = [
        json.loads(line)
        for path in sorted(_folder(pictures).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert {row["uid"]: row["text"] for row in rows} == {k: t for k, (_, t) in expected.items()}


def test_the_lines_to_paste_name_all_shards_and_the_draws(pictures: Any, expected: dict[str, Any]):
    (line,) = _said(pictures, "open_clip_train")
    words = shlex.split(line)
    assert words[words.index("--train-num-samples") + 1] == str(len(expected))
    assert words[words.index("--train-data") + 1].endswith("/v0001/{00000..00003}.tar")
    folder = str(_folder(pictures))
    assert f"datasets.load_dataset('parquet', data_dir={folder + '/data'!r})" in pictures.said


def test_exports_that_differ_are_two_configurations_to_the_cache_of_datasets(project: Any):
    # It knows a folder by its last name alone, and every recipe has a v0001.
    names = []
    for name, count in (("web", 3), ("other", 4)):
        _lines(project, *range(count))
        project.run(ROWS + EXPORT.format(10, "append"), name)
        readme = (_folder(project, name) / "README.md").read_text()
        front_matter = json.loads(readme.split("---\n")[1])
        assert front_matter["configs"][0]["data_files"] == "*.tar"
        names.append(front_matter["configs"][0]["config_name"])
        assert front_matter["dataset_info"]["config_name"] == names[-1]
    assert names[0] != names[1]


def test_where_datasets_takes_the_path_for_a_pattern_the_lines_say_so(project: Any):
    said: list[str] = []
    _lines(project, 0)
    recipe = ROWS + EXPORT.format(10, "append") + 'path = "out[1]"\n'
    project.run(recipe, reporter=Reporter(line=said.append))
    assert not any("load_dataset" in line for line in said)
    assert any(line.startswith("# datasets opens no folder with") for line in said)


# ------------------------------------------------------------------ order and layout


def test_the_order_is_a_function_of_uid_and_seed(project: Any):
    _lines(project, *range(25))
    uids = np.array([uid_of("rows", f"r{i}") for i in range(25)], dtype=np.uint64)
    for seed in (0, 3):
        project.run(ROWS + EXPORT.format(10, "packed") + f"seed = {seed}\n")
        found = [_uids(path) for path in _tars(_folder(project))]
        assert [len(uids_) for uids_ in found] == [10, 10, 5]
        assert [uid for shard in found for uid in shard] == uids[
            shuffled(uids, seed, "export")
        ].tolist()


def _hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in _tars(folder)}


def test_packed_bytes_do_not_depend_on_how_the_pool_grew(project: Any, projects: Callable[[], Any]):
    recipe = ROWS + EXPORT.format(10, "packed")
    _lines(project, *range(20))
    project.run(recipe)
    _lines(project, *range(20, 33), file="1")
    project.run(recipe)
    fresh = projects()
    _lines(fresh, *range(20, 33), file="1")
    _lines(fresh, *range(20))
    fresh.run(recipe)
    assert _hashes(_folder(project)) == _hashes(_folder(fresh))


def test_append_keeps_the_shards_before_as_the_same_files(project: Any):
    recipe = ROWS + EXPORT.format(10, "append") + 'format = ["webdataset", "parquet"]\n'
    _lines(project, *range(20))
    project.run(recipe)
    first = _folder(project)
    _lines(project, *range(20, 27), file="1")
    project.run(recipe)
    second = _folder(project)
    assert [path.parent.name for path in (first / "x", second / "x")] == ["v0001", "v0002"]
    inode = {path.name: path.stat().st_ino for path in _tars(first)}
    again = {path.name: path.stat().st_ino for path in _tars(second)}
    assert list(again) == ["00000.tar", "00001.tar", "00002.tar"]
    assert {name: again[name] for name in inode} == inode
    old = (first / "data/train-00001-of-00002.parquet").stat().st_ino
    assert (second / "data/train-00001-of-00003.parquet").stat().st_ino == old
    assert set(_uids(second / "00002.tar")) == {uid_of("rows", f"r{i}") for i in range(20, 27)}
    index = pl.read_parquet(second / shards.INDEX)
    assert index["shard"].to_list() == [0] * 10 + [1] * 10 + [2] * 7


def test_append_rewrites_a_shard_that_lost_a_record_and_keeps_the_order_of_the_rest(project: Any):
    recipe = ROWS + EXPORT.format(10, "append")
    rule = '[[select]]\nname = "n"\nwhere = "meta.n <> {}"\n'
    _lines(project, *range(20))
    project.run(recipe + rule.format(99))
    first = _folder(project)
    before = {path.name: _uids(path) for path in _tars(first)}
    project.run(recipe + rule.format(4))
    second = _folder(project)
    lost = uid_of("rows", "r4")
    after = {path.name: _uids(path) for path in _tars(second)}
    assert after == {name: [u for u in uids if u != lost] for name, uids in before.items()}
    for name, uids in before.items():
        same = (first / name).stat().st_ino == (second / name).stat().st_ino
        assert same == (lost not in uids)


def test_append_drops_a_shard_that_lost_all_its_records(project: Any):
    _lines(project, *range(20))
    project.run(ROWS + EXPORT.format(10, "append"))
    gone = [int(uid) for uid in _uids(_folder(project) / "00000.tar")]
    numbers = [i for i in range(20) if uid_of("rows", f"r{i}") in gone]
    where = " AND ".join(f"meta.n <> {n}" for n in numbers)
    kept = [path.stat().st_ino for path in _tars(_folder(project))][1]
    project.run(ROWS + EXPORT.format(10, "append") + f'[[select]]\nwhere = "{where}"\n')
    assert [path.stat().st_ino for path in _tars(_folder(project))] == [kept]


def test_a_record_that_was_updated_moves_to_a_new_shard(project: Any):
    import winnow

    _lines(project, *range(20))
    project.run(ROWS + EXPORT.format(10, "append"))
    rows = [{"id": f"r{i}", "text": f"text {i}", "n": i + (i == 7)} for i in range(20)]
    project.lines("rows/0.jsonl", rows)
    winnow.ingest(project.recipe_dir / "rows", pool="web", source="rows", id="id", update=True,
                  store=project.store.root)  # fmt: skip
    project.run(ROWS + EXPORT.format(10, "append"))
    found = [_uids(path) for path in _tars(_folder(project))]
    assert [len(uids) for uids in found] in ([9, 10, 1], [10, 9, 1])
    assert found[2] == [uid_of("rows", "r7")]


@pytest.mark.parametrize("name", ["00001.tar", shards.INDEX, shards.LAYOUT])
def test_a_damaged_file_is_not_carried_on_but_written_again_and_said(project: Any, name: str):
    recipe = ROWS + EXPORT.format(10, "append")
    _lines(project, *range(20))
    project.run(recipe)
    before, path = _hashes(_folder(project)), _folder(project) / name
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    said: list[str] = []
    _lines(project, 20, file="1")
    project.run(recipe, reporter=Reporter(line=said.append))
    assert [line for line in said if "damaged" in line and str(path) in line]
    assert shards.damaged(_folder(project)) == []
    samples = shards.ShardSamples(_folder(project))
    assert sorted(samples.read(np.arange(21))["text"]) == sorted(f"text {i}" for i in range(21))
    samples.close()
    if name != shards.LAYOUT:
        after = _hashes(_folder(project))
        assert {shard: after[shard] for shard in before} == before


def test_on_another_file_system_a_version_holds_copies(
    project: Any, monkeypatch: pytest.MonkeyPatch
):
    recipe = ROWS + EXPORT.format(10, "append")
    _lines(project, *range(20))
    project.run(recipe)
    before = _folder(project)
    link = os.link

    def across(source: Any, target: Any) -> None:
        if "shards" in Path(target).parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr(os, "link", across)
    _lines(project, *range(20, 25), file="1")
    project.run(recipe)
    assert _hashes(before).items() <= _hashes(_folder(project)).items()
    assert not (before / "00000.tar").samefile(_folder(project) / "00000.tar")


def test_other_treatment_of_the_pictures_writes_every_shard_anew(
    project: Any, captioned: dict[str, bytes]
):
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/0")})
    for image in ("keep", "jpeg", "keep"):
        project.run(PICTURES + EXPORT.format(10, "append") + f'image = "{image}"\n')
        members = [name for path in _tars(_folder(project)) for name in _members(path)]
        assert any(name.endswith(".png") for name in members) == (image == "keep")


# ------------------------------------------------------------------ what is written


def _with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("image", ["keep", "strip", "jpeg"])
def test_pictures_are_kept_stripped_or_encoded_anew(project: Any, image: str):
    data = _with_exif()
    project.pictures({"a.jpg": data, "a.txt": b"a caption"})
    side = "max_side_px = 32\n" if image == "jpeg" else ""
    project.run(PICTURES + EXPORT.format(10, "append") + f'image = "{image}"\n{side}')
    (tar,) = _tars(_folder(project))
    (found,) = (content for name, content in _members(tar).items() if name.endswith(".jpg"))
    assert (found == data) == (image == "keep")
    assert (b"a secret place" in found) == (image == "keep")
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(found))
    assert after.size == ((32, 24) if image == "jpeg" else (64, 48))
    if image != "jpeg":
        assert np.array_equal(np.asarray(before), np.asarray(after))


def _deep() -> dict[str, bytes]:
    """A picture of 16 bits in grey, of values that a reader who cuts them shows white; a photo."""
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(300, 60_000, 48 * 64).astype(np.uint16).reshape(48, 64)).save(
        buffer, "PNG"
    )
    return {"deep.png": buffer.getvalue(), "photo.jpg": _with_exif()}


def test_pictures_of_16_bits_are_told_of_and_png8_shows_them_as_we_see_them(project: Any):
    files = _deep()
    project.pictures(files)
    source = '[[source]]\npath = "pictures"\n' + EXPORT.format(10, "append")
    found: dict[str, dict[str, bytes]] = {}
    told: dict[str, bool] = {}
    for image in ("keep", "png8"):
        said: list[str] = []
        project.run(source + f'image = "{image}"\n', reporter=Reporter(line=said.append))
        found[image] = _members(_tars(_folder(project))[0])
        warning = [line for line in said if "1 pictures leave with 16 bits a channel" in line]
        card = (_folder(project) / "datacard.md").read_text()
        assert bool(warning) == ("leave with 16 bits a channel" in card)
        told[image] = bool(warning)
    assert told == {"keep": True, "png8": False}
    deep = f"{hex_uid(uid_of('pictures', 'deep.png'))}.png"
    photo = f"{hex_uid(uid_of('pictures', 'photo.jpg'))}.jpg"
    assert found["keep"][deep] == files["deep.png"]
    assert found["png8"][photo] == files["photo.jpg"]
    stock = np.asarray(Image.open(io.BytesIO(found["png8"][deep])).convert("RGB"))
    assert np.array_equal(stock, decode.image(files["deep.png"]))
    assert (stock.min(), stock.max()) == (1, 233)


def test_a_value_of_image_that_there_is_not_is_refused_with_the_nearest(project: Any):
    _lines(project, 0)
    with pytest.raises(ConfigError, match=r"export\.image: .*'png88'.*Nearest: png8"):
        project.run(ROWS + '[export]\nimage = "png88"\n')


def test_a_record_without_a_caption_has_an_empty_member(project: Any, captioned: dict[str, bytes]):
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/0")})
    project.run('[[source]]\npath = "pictures"\n' + EXPORT.format(3, "packed"))
    counts = [len(_members(path)) for path in _tars(_folder(project))]
    assert counts == [9, 9, 9, 9, 9, 3]


def test_parquet_files_of_pictures_before_label_images_came_get_their_column(
    project: Any, captioned: dict[str, bytes]
):
    picture = next(data for name, data in captioned.items() if name.endswith("a.png"))
    grey = io.BytesIO()
    Image.new("L", (24, 24), 2).save(grey, "PNG")
    project.pictures({"1.png": picture}, "bare")
    project.pictures({"2.png": picture, "masks/2.png": grey.getvalue()}, "labelled")
    bare = '[[source]]\npath = "bare"\n'
    labelled = '[[source]]\npath = "labelled"\nlabel_image = "masks/{stem}.png"\n'
    written = EXPORT.format(1, "append") + 'format = ["parquet"]\nmax_side_px = 12\n'
    project.run(bare + written)
    project.run(bare + labelled + written)
    found = [pq.read_table(path) for path in sorted(_folder(project).glob("data/*.parquet"))]
    assert len(found) == 2
    assert found[0].schema.equals(found[1].schema)
    labels = [label for table in found for label in table["label_image"].to_pylist()]
    # As small as the picture becomes.
    [small] = [decode.labels(label["bytes"]) for label in labels if label is not None]
    assert small.tolist() == [[2] * 12] * 12


def test_the_json_keeps_meta_and_what_json_cannot_hold_as_null(project: Any):
    project.lines("rows/0.jsonl", [{"id": "r0", "text": "a", "url": "u", "tags": ["x"], "d": 1.5}])
    project.run(ROWS + EXPORT.format(10, "append"))
    content = json.loads(
        _members(_tars(_folder(project))[0])[f"{hex_uid(uid_of('rows', 'r0'))}.json"]
    )
    assert content == {
        "uid": hex_uid(uid_of("rows", "r0")), "source": "rows", "source_id": "r0", "url": "u",
        "tags": '["x"]', "d": 1.5,
    }  # fmt: skip


REPEAT = """
import polars as pl
from curation.step import Role, selector

@selector(version=1, reads={"n": Role(pl.Int64)}, evidence={"repeats": pl.UInt16})
def twice(candidates):
    return candidates.select("uid", repeats=pl.lit(2, dtype=pl.UInt16))
"""


def _uid_files(project: Any, ids: list[str], repeats: bool = False) -> Path:
    project.lines("rows/0.jsonl", [{"id": i, "text": i, "n": n} for n, i in enumerate(ids)])
    (project.recipe_dir / "mine.py").write_text(REPEAT)
    rule = '[[select]]\nname = "twice"\nby = "./mine.py:twice"\nn = "meta.n"\n' if repeats else ""
    project.run(ROWS + '[export]\nformat = ["uids"]\n' + rule)
    return _folder(project)


def test_datacomps_ids_are_written_as_datacomp_does(project: Any):
    ids = [f"{n:032x}" for n in (2**100 + 5, 7, 2**64)]
    found = np.load(_uid_files(project, ids) / "subset.npy")
    assert found.dtype == np.dtype("u8,u8")
    assert [f"{high:016x}{low:016x}" for high, low in found.tolist()] == sorted(ids)
    assert project.last().result["shards"][0]["records"] == 3


@pytest.mark.parametrize("hexadecimal", [True, False])
def test_a_repeated_record_is_listed_as_often_as_it_is_seen(project: Any, hexadecimal: bool):
    ids = [f"{n:032x}" if hexadecimal else f"id {n}" for n in range(3)]
    folder = _uid_files(project, ids, repeats=True)
    if hexadecimal:
        assert len(np.load(folder / "subset.npy")) == 6
    else:
        found = pl.read_parquet(folder / "uids.parquet")
        assert found.columns == ["uid", "source", "source_id"]
        assert sorted(found["source_id"]) == sorted(ids * 2)
        assert project.last().result["shards"][0]["path"].endswith("uids.parquet")


def test_a_record_lies_in_the_shards_once_and_its_repeats_beside_them(project: Any):
    _lines(project, *range(4))
    (project.recipe_dir / "mine.py").write_text(REPEAT)
    project.run(
        ROWS + EXPORT.format(10, "append")
        + '[[select]]\nname = "twice"\nby = "./mine.py:twice"\nn = "meta.n"\n'
    )  # fmt: skip
    folder = _folder(project)
    assert len(_uids(_tars(folder)[0])) == 4
    assert pl.read_parquet(folder / shards.REPEATS)["repeats"].to_list() == [2] * 4
    assert shards.ShardSamples(folder).repeats.tolist() == [2] * 4


def test_the_trainers_reader_finds_picture_and_text_of_every_row(
    pictures: Any, expected: dict[str, Any]
):
    samples = shards.ShardSamples(_folder(pictures))
    rows = np.arange(len(samples.uids))
    found = samples.read(rows)
    samples.close()
    keys = [hex_uid(int(uid)) for uid in samples.uids]
    assert {
        key: (image, text)
        for key, image, text in zip(keys, found["image"], found["text"], strict=True)
    } == expected


# ------------------------------------------------------------------ whole or not at all


def test_latest_names_the_last_version_and_the_manifest_covers_every_file(pictures: Any):
    folder = _folder(pictures)
    latest = json.loads((folder.parent / "latest.json").read_text())
    assert latest == {"version": folder.name, "path": folder.name}
    content = shards.manifest(folder)
    assert content is not None
    named = {item["name"] for item in content["files"]}
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert there == named | {shards.MANIFEST}
    assert shards.damaged(folder) == []
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".building")] == []


@pytest.mark.parametrize("damage", ["gone", "cut", "manifest"])
@pytest.mark.parametrize("layout", ["append", "packed"])
def test_a_damaged_export_is_written_anew(project: Any, damage: str, layout: str):
    recipe = ROWS + EXPORT.format(10, layout)
    _lines(project, *range(20))
    project.run(recipe)
    whole = _hashes(_folder(project))
    assert project.run(recipe)["changed"] is False
    path = _folder(project) / ("00001.tar" if damage != "manifest" else shards.MANIFEST)
    if damage == "cut":
        os.truncate(path, 700)
    else:
        path.unlink()
    again = project.run(recipe)
    assert (again["changed"], again["version"]) == (True, 2)
    assert _hashes(_folder(project)) == whole
    assert shards.damaged(_folder(project)) == []
    assert project.run(recipe)["changed"] is False


def test_a_changed_bit_is_found_when_the_export_is_verified(project: Any):
    from flows.upkeep.verify import verify

    _lines(project, *range(20))
    project.run(ROWS + EXPORT.format(10, "append"))
    path = _folder(project) / "00001.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    assert [line.partition(":")[0] for line in verify(project.store, deep=True)] == [str(path)]


def test_an_unreadable_payload_ends_the_export_and_shows_nothing(
    project: Any, captioned: dict[str, bytes]
):
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/0")})
    recipe = '[[source]]\npath = "pictures"\npayload = "reference"\n' + EXPORT.format(3, "packed")
    project.run(recipe, until="select")
    next((project.recipe_dir / "pictures/0").glob("*.png")).unlink()
    with pytest.raises(DataError, match="SOURCE_GONE"):
        project.run(recipe, at=1)
    assert not list((project.store.root / "shards/web").glob("v*"))
    assert not list((project.store.root / "shards/web").glob(".building*"))


def test_an_export_goes_where_the_recipe_says(project: Any):
    _lines(project, *range(3))
    project.run(ROWS + EXPORT.format(10, "append") + 'path = "out/here"\n')
    assert _folder(project) == project.recipe_dir / "out/here/v0001"
    assert all(Path(s["path"]).is_file() for s in project.last().result["shards"])
