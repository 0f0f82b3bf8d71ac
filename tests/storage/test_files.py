"""Files that a recipe names: whole ones are tables, others end in an error that names them."""

from __future__ import annotations

import json
import os
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from contracts.errors import CurationError, DataError, StorageError
from storage import files

ROWS = pl.DataFrame({"n": [1, 2, 3], "score": [0.1, 0.2, 0.3]})
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"values{suffix}"
    {
        ".parquet": lambda: ROWS.write_parquet(path),
        ".csv": lambda: ROWS.write_csv(path),
        ".jsonl": lambda: ROWS.write_ndjson(path),
        ".json": lambda: path.write_text(json.dumps(ROWS.to_dicts())),
        ".npy": lambda: np.save(path, VECTORS),
        ".npz": lambda: np.savez_compressed(path, vector=VECTORS),
        ".safetensors": lambda: save_file({"vector": VECTORS}, path),
    }[suffix]()
    return path


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, suffix: str):
    path = write(tmp_path, suffix)
    good = path.read_bytes()
    assert files.load(path).height == 3
    rng = random.Random(0)
    bad = [b"", good[: len(good) // 2], bytes(len(good)), rng.randbytes(300)]
    for _ in range(20):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        bad.append(bytes(data))
    refused: list[str] = []
    for data in bad:
        path.write_bytes(data)
        for read in (files.load, files.columns):
            try:
                read(path)
            except CurationError as error:
                refused.append(str(error))
    assert len(refused) >= 4
    assert all(path.name in message for message in refused)


def npy_header(shape: str, kind: str = "'<f4'") -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "header",
    [
        npy_header("(1000000000000,)"),
        npy_header("(1000000, 1000000)"),
        npy_header("(2, 2, 2)"),
        npy_header("()"),
        npy_header("(2,)", "'|O'"),
        npy_header("(" * 3000),
    ],
)
def test_an_array_whose_header_lies_takes_no_memory(tmp_path: Path, header: bytes):
    (tmp_path / "v.npy").write_bytes(header + bytes(64))
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("vector.npy", header + bytes(64))
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=path.name):
            files.load(path)


def test_what_would_fill_the_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "BOMB_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vector.npy", npy_header("(1048576,)") + bytes(4 << 20))
    table = pa.table({f"c{i}": pa.nulls(100_000, pa.int8()) for i in range(10)})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=r"bomb\.\w+: .* this is a bomb"):
            files.load(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "1e999999", '[{"a": ' + "9" * 9999 + "}]", "[1]"])
def test_json_that_is_no_table_is_an_error(tmp_path: Path, text: str):
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(DataError, match=r"v\.json"):
        files.load(tmp_path / "v.json")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "v.parquet")
    for read in (files.load, files.columns):
        with pytest.raises(DataError, match=r"v\.parquet: is no file to read"):
            read(tmp_path / "v.parquet")


def test_a_file_that_is_gone_is_no_bad_data(tmp_path: Path):
    with pytest.raises(StorageError, match=r"v\.npy: No such file"):
        files.load(tmp_path / "v.npy")


def test_files_of_a_folder_with_unequal_columns_are_named(tmp_path: Path):
    ROWS.write_parquet(tmp_path / "a.parquet")
    ROWS.drop("n").write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: has .*; the first .* has n: Int64\."):
        files.load(tmp_path)
    ROWS.with_columns(pl.col("n").cast(pl.Float64)).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: has n: Float64; the first .* n: Int64\."):
        files.load(tmp_path)


def test_digits_behind_a_zero_are_text_in_the_key_of_a_csv_alone(tmp_path: Path):
    path = tmp_path / "v.csv"
    path.write_text("key,n,zero,score\n000010000,7,0,05\n12,8,0,10\n")
    assert files.load(path, key="key").rows() == [("000010000", 7, 0, 5), ("12", 8, 0, 10)]
    assert files.load(path, key="n").rows() == [(10000, 7, 0, 5), (12, 8, 0, 10)]
    assert files.load(path, key="zero")["zero"].to_list() == [0, 0]


def test_one_file_of_a_folder_with_a_zero_before_digits_makes_all_its_keys_texts(tmp_path: Path):
    for name, row in (("a", "12,0.5"), ("b", "007,0.25"), ("c", "8,0.75")):
        (tmp_path / f"{name}.csv").write_text(f"key,score\n{row}\n")
    assert files.load(tmp_path, key="key").rows() == [("12", 0.5), ("007", 0.25), ("8", 0.75)]
    assert files.load(tmp_path).rows() == [(12, 0.5), (7, 0.25), (8, 0.75)]


def test_a_text_file_is_a_list_of_ids_as_they_are_written(tmp_path: Path):
    path = tmp_path / "ids.txt"
    path.write_text("007\n\n12\n")
    assert files.load(path)["uid"].to_list() == ["007", None, "12"]


def test_ids_in_csv_stay_as_they_are_written(tmp_path: Path):
    path = tmp_path / "v.csv"
    path.write_text("uid,source_id,score\n0000000000000007,007,1\n1234567890123e45,1e3,2\n")
    found = files.load(path)
    assert found["uid"].to_list() == ["0000000000000007", "1234567890123e45"]
    assert found["source_id"].to_list() == ["007", "1e3"]
    assert found["score"].to_list() == [1, 2]
