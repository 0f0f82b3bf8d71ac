"""However many workers read a source, the pool has the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from contracts import methods
from flows.ingest import ingest as ingesting
from flows.ingest.ingest import SourceSpec, ingest
from storage.block import Divisible
from storage.source import Columns, Record, Rejected, find, open_source
from storage.store import Store
from tests.flows.ingest.reading import Reader

SOAK = bool(os.environ.get("WINNOW_SOAK"))
APART = [
    name
    for name in methods.names("storage.sources")
    if getattr(methods.load("storage.sources", name), "apart", False)
]
FORMATS = ("json_lines", "webdataset", "csv_text", "text_folder", "volumes")


def _make(name: str, folder: Path) -> None:
    make = importlib.import_module(f"tests.storage.sources.test_{name}").make_source
    for copy in ("a", "b", "c"):
        (folder / copy).mkdir(parents=True)
        make(folder / copy)


def _tars(folder: Path) -> None:
    """Write tars of small pictures with captions, one of which cannot be decoded."""
    folder.mkdir()
    for number in range(5):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for sample in range(4):
                data = io.BytesIO()
                Image.new("RGB", (16, 16), (number * 50, sample * 60, 7)).save(data, "JPEG")
                picture = data.getvalue()[: 40 if number == sample == 1 else None]
                for suffix, member in (("jpg", picture), ("txt", b"a caption")):
                    entry = tarfile.TarInfo(f"{number}{sample}.{suffix}")
                    entry.size = len(member)
                    tar.addfile(entry, io.BytesIO(member))


def _tree(store: Store) -> dict[str, str]:
    return {
        str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.root.rglob("*")
        if path.is_file() and "lease" not in path.name
    }


@pytest.mark.parametrize(
    "name", sorted({*FORMATS} - {"image_folder"}) if SOAK else ["json_lines", "webdataset"]
)
def test_two_workers_write_the_bytes_of_one(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    assert name in APART
    monkeypatch.setattr(ingesting, "_SHARE_UNITS", 2)
    if name == "webdataset":
        _tars(tmp_path / "source")
    else:
        _make(name, tmp_path / "source")
    spec = SourceSpec(
        find(tmp_path / "source"), "s", Columns(slices=name == "volumes"), max_quarantined_ratio=1
    )
    trees = []
    for workers in (1, 2):
        store = Store(tmp_path / f"store{workers}")
        with store.lease():
            found = ingest(store, "web", spec, workers=workers)
        assert found["accepted"] > 3
        trees.append(_tree(store))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_stretches_of_one_plain_file_are_read_by_several_workers(
    tmp_path: Path, mark: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingesting, "_SHARE_BYTES", 300)
    # Some begin with what would mark a file as UTF-8, as UTF-16 or as gzip.
    odd = [b"", b"{broken", b"\xef\xbb\xbf{}", b"\xff\xfe{}", b"\x1f\x8b{}", b'{"text": " "}']
    lines = [
        odd[n // 3 % len(odd)] if n % 3 == 2 else b'{"text": "text %d", "n": %d}' % (n, n)
        for n in range(120)
    ]
    lines[60] = b'{"text": "%s"}' % (b"long " * 300)
    path = tmp_path / "texts.jsonl"
    path.write_bytes(mark + b"\n".join(lines))
    source = open_source(find(path), Columns(), "json_lines")
    assert isinstance(source, Divisible)
    cut = [part for unit in source.units() for part in source.stretches(unit, 300)]
    assert len(cut) > 8
    trees = []
    for workers in (1, 2):
        store = Store(tmp_path / f"store{workers}")
        with store.lease():
            spec = SourceSpec(find(path), "s", max_quarantined_ratio=1)
            found = ingest(store, "web", spec, workers=workers)
        assert (found["accepted"], found["read"]) == (80, 113)
        trees.append(_tree(store))
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 90)),
        ("a.json", json.dumps([{"text": "a"}] * 90).encode()),
        ("a.jsonl", ('{"text": "a"}\n' * 90).encode("utf-16")),
        ("a.jsonl", b'{"text": "a"}\r' * 90),
        ("a.jsonl", b"no JSON\n" * 90),
        ("a.jsonl", b'{"text": "a"}\n' * 3),
    ],
    ids=["compressed", "an array", "UTF-16", "lone carriage returns", "no JSON", "small"],
)
def test_what_cannot_be_cut_at_line_ends_stays_whole(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    source = open_source(find(tmp_path / name), Columns(), "json_lines")
    assert isinstance(source, Divisible)
    [unit] = source.units()
    assert list(source.stretches(unit, 40)) == [unit]


def test_a_file_that_changes_between_its_stretches_says_so_in_each_that_is_read_later(
    tmp_path: Path,
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 90)
    source = open_source(find(path), Columns(), "json_lines")
    assert isinstance(source, Divisible)
    [unit] = source.units()
    first, *others = source.stretches(unit, 100)
    assert all(isinstance(found, Record) for found in source.records(first))
    path.write_bytes(b'{"text": "b"}\n' * 91)
    for other in others:
        *_, last = source.records(other)
        assert isinstance(last, Rejected)
        assert last.code == "CHANGED_WHILE_READING"


@pytest.mark.parametrize("name", APART)
def test_units_that_lie_apart_are_read_by_a_copy_in_any_order(name: str, tmp_path: Path):
    _make(name, tmp_path)
    source = open_source(find(tmp_path), Columns(slices=name == "volumes"), name)
    units = list(source.units())
    want = {unit.name: list(source.records(unit)) for unit in units}
    assert len(units) > 2
    for unit in reversed(units):
        copy = pickle.loads(pickle.dumps(source))
        assert list(copy.records(unit)) == want[unit.name]


def test_what_workers_pass_over_and_refuse_is_counted_as_by_one(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingesting, "_SHARE_UNITS", 1)
    (reader.folder / "d").mkdir()
    for number in range(10):
        with tarfile.open(reader.folder / f"d/{number}.tar", "w") as tar:
            for name, data in (("a.txt", b"a text"), ("a.pdf", b"%PDF"), ("b.txt", b" ")):
                entry = tarfile.TarInfo(f"{number}{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    (reader.folder / "d/notes.pdf").write_bytes(b"%PDF")
    found = []
    for number, workers in enumerate((1, 2)):
        spec = SourceSpec(find(reader.folder / "d"), "d", max_quarantined_ratio=1)
        with reader.store.lease():
            found.append(ingest(reader.store, f"web{number}", spec, workers=workers))
    one, two = ({**each, "pool": ""} for each in found)
    assert one == two
    assert one["accepted"] == 10
    counted = [(g["suffix"], g["reason"], g["count"]) for g in one["left_out"]]
    assert sorted(counted) == [
        (".pdf", "not read", 1),
        (".pdf", "not read", 10),
        (".tar", "CAPTION_EMPTY", 10),
    ]
