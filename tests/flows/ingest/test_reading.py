"""However many workers read a source, the pool has the same bytes."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from contracts import methods
from flows.ingest import ingest as ingesting
from flows.ingest.ingest import SourceSpec, ingest
from storage.source import Columns, find, open_source
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
