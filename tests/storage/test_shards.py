"""The tables beside the shards, and files taken over from another export."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from contracts.errors import StorageError
from storage import shards, tables
from storage.shards import Sample, Shard, TableFile

DATA = b"one line\nanother\n" * 1000


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, Shard]:
    """A file of an export, and what its manifest says."""
    path = tmp_path / "old/00003.jsonl"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path, Shard(path.name, 2000, len(DATA), hashlib.sha256(DATA).hexdigest())


def test_a_whole_file_is_taken_over_as_a_hard_link(old: tuple[Path, Shard], tmp_path: Path):
    path, promised = old
    found = shards.carried(path, promised, tmp_path / "new", "00001.jsonl")
    assert found == Shard("00001.jsonl", 2000, len(DATA), promised.sha256)
    assert (tmp_path / "new/00001.jsonl").stat().st_ino == path.stat().st_ino


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_file_is_not_taken_over(old: tuple[Path, Shard], tmp_path: Path, damage: str):
    path, promised = old
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(DATA[:-1] + (b"\x0b" if damage == "a bit" else b""))
    assert shards.carried(path, promised, tmp_path / "new", "00001.jsonl") is None
    assert not (tmp_path / "new/00001.jsonl").exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_where_there_is_no_hard_link_the_file_is_copied(
    old: tuple[Path, Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    path, promised = old

    def link(*_paths: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    found = shards.carried(path, promised, tmp_path / "new", "data/00001.jsonl")
    assert found is not None
    assert found.sha256 == promised.sha256
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["data"]
    assert (tmp_path / "new/data/00001.jsonl").read_bytes() == DATA
    assert (tmp_path / "new/data/00001.jsonl").stat().st_ino != path.stat().st_ino


def test_another_fault_of_a_link_is_an_error_with_the_path(
    old: tuple[Path, Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def link(*_paths: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StorageError, match=r"00001\.jsonl: Input/output error"):
        shards.carried(*old, tmp_path / "new", "00001.jsonl")


@pytest.mark.parametrize("step", [1, 7, 25, 100])
def test_a_tables_bytes_do_not_depend_on_how_its_rows_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
):
    monkeypatch.setattr(shards, "TABLE_ROWS", 10)
    frame = pl.DataFrame({"n": range(25)}, schema={"n": pl.UInt64})
    found = []
    for size in (25, step):
        with TableFile(tmp_path, f"{size}.parquet", frame.schema) as table:
            for start in range(0, 25, size):
                table.write(frame[start : start + size])
            found.append(table.publish())
    assert found[0].sha256 == found[1].sha256
    file = pq.ParquetFile(tmp_path / f"{step}.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 5]
    assert shards.read_table(tmp_path / f"{step}.parquet").equals(frame)


def test_a_table_without_rows_has_its_columns(tmp_path: Path):
    with TableFile(tmp_path, shards.LAYOUT, shards.LAYOUT_SCHEMA) as table:
        assert table.publish().records == 0
    assert dict(shards.read_table(tmp_path / shards.LAYOUT).schema) == shards.LAYOUT_SCHEMA


def test_a_layout_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "TABLE_ROWS", 3)
    uids = np.array([2**64 - 1, 5, 9, 1], dtype=np.uint64)
    contents = np.frombuffer(bytes(range(64)), dtype="V16")
    with TableFile(tmp_path, shards.LAYOUT, shards.LAYOUT_SCHEMA) as table:
        for shard, here in enumerate((slice(0, 1), slice(1, 4))):
            table.write(shards.layout_rows(uids[here], contents[here], shard))
        table.publish()
    found = shards.read_layout(tmp_path)
    assert found[0].tolist() == uids.tolist()
    assert found[1].tobytes() == contents.tobytes()
    assert found[2].tolist() == [0, 1, 1, 1]


def test_a_shards_rows_of_an_index_are_read_alone(tmp_path: Path):
    row = dict.fromkeys(shards.INDEX_SCHEMA)
    rows = [{**row, "uid": i, "shard": i // 2} for i in range(6)]
    with TableFile(tmp_path, shards.INDEX, shards.INDEX_SCHEMA) as table:
        table.write(pl.DataFrame(rows, schema=shards.INDEX_SCHEMA))
        table.publish()
    assert shards.read_index(tmp_path, 1)["uid"].to_list() == [2, 3]


def test_an_export_whose_index_names_images_is_read_as_it_was(tmp_path: Path):
    samples = [Sample(uid, b"\xff\xd8\xff%d" % uid, "jpg", f"text {uid}", b"{}") for uid in (3, 4)]
    shard, rows = shards.write_tar(tmp_path, "00000.tar", iter(samples), 0)
    former = {"payload_offset": "image_offset", "payload_length": "image_length"}
    pq.write_table(tables.to_arrow(rows.rename(former)), tmp_path / shards.INDEX)
    shards.seal(tmp_path, [shard], {})
    assert shards.read_index(tmp_path, 0).columns == rows.columns
    opened = shards.ShardSamples(tmp_path)
    found = opened.read(np.array([1, 0]))
    opened.close()
    assert found == {"image": [s.payload for s in samples[::-1]], "text": ["text 4", "text 3"]}


def test_label_images_lie_in_tars_and_exports_without_them_are_read_beside(tmp_path: Path):
    def export(name: str, uid: int, *label: Any) -> tuple[Path, pl.DataFrame]:
        sample = Sample(uid, b"\xff\xd8\xff%d" % uid, "jpg", None, b"{}", *label)
        folder = tmp_path / name
        given = {"labels": True} if label else {}
        shard, rows = shards.write_tar(folder, "00000.tar", iter([sample]), 0, **given)
        pq.write_table(tables.to_arrow(rows), folder / shards.INDEX)
        shards.seal(folder, [shard], {})
        return folder, rows

    bare, of_bare = export("bare", 3)
    labelled, of_labelled = export("labelled", 4, b"classes", "label.png")
    members = [name for name, _ in shards.read_tar(labelled / "00000.tar")]
    assert [name.partition(".")[2] for name in members] == ["jpg", "label.png", "json"]
    opened = shards.ShardSamples(bare, labelled)
    assert opened.read(np.array([0, 1]))["label_image"] == [None, b"classes"]
    assert opened.kind == "image"
    opened.close()
    assert "label_image" not in shards.ShardSamples(bare).read(np.array([0]))
    assert shards.as_index(of_bare, labels=True).columns == of_labelled.columns
    assert shards.as_index(of_labelled, labels=False).columns == of_bare.columns


def test_label_images_lie_in_parquet_as_pictures_do(tmp_path: Path):
    block = pl.DataFrame(
        {
            "uid": [3, 4],
            "payload": [b"a", b"b"],
            "suffix": ["jpg", "png"],
            "text": [None, "t"],
            "json": [b"{}", b"{}"],
            "label_image": [b"classes", None],
            "label_suffix": ["label.png", ""],
        },
        schema_overrides={"uid": pl.UInt64},
    )
    shards.write_parquet(tmp_path, "0.parquet", iter([block]), kind="image", labels=True)
    found = pq.read_table(tmp_path / "0.parquet")
    assert found["label_image"].to_pylist() == [
        {"bytes": b"classes", "path": f"{3:016x}.label.png"},
        None,
    ]
    features = json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label_image"] == features["image"] == {"_type": "Image"}
