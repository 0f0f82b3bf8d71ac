"""Files that a recipe names: values, vectors, id lists and models that one brings."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ConfigError, CurationError, DataError
from storage import commit

SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".npy", ".npz", ".safetensors")
# A file that says it decodes to more than the first, and to as many times its size as the second,
# is refused: a bomb of some kilobytes would take all memory.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 200
# Ids are texts, whatever they look like: a number would lose its leading zeros, and 16
# hexadecimal digits may look like one.
IDS: Mapping[str, Any] = {"uid": pl.String, "source_id": pl.String}


def load(path: Path, *, ids: Path | None = None, key: str | None = None) -> pl.DataFrame:
    """Return a file, or a folder of them in sorted order, as a table with its own columns.

    Parquet, CSV and JSON lines are tables. The lines of a text file become `uid`, texts, null where
    a line is empty. A JSON list of strings becomes `entry` (the position)
    and `name`. An npy of shape (n, d) becomes `row` and `vector`; DataComp's `u8,u8` becomes
    `source_id` (32 hexadecimal digits), once for each repeat. An npz gives an array a column,
    safetensors a tensor a column.

    Args:
        path: the file.
        ids: an npy or a text file of ids, one a row: they become `source_id`.
        key: the column whose values name records: in CSV it is text where digits stand behind a
            zero, as in keys of img2dataset.

    Raises:
        ConfigError: the suffix is not known.
        DataError: the file is empty, damaged, a bomb, or holds Python objects (65).
        StorageError: it cannot be read (74).
    """
    frame = _table(path, key)
    if ids is not None:
        names = _table(ids)
        if names.height != frame.height:
            raise DataError(f"{ids}: {names.height} ids for {frame.height} rows of {path}.")
        column = "source_id" if "source_id" in names.columns else names.columns[0]
        frame = frame.with_columns(names[column].alias("source_id"))
    return frame


def columns(path: Path) -> dict[str, Any]:
    """Return a file's columns and types without reading more than it must."""
    first = _members(path)[0]
    if first.suffix == ".parquet":
        return dict(_read(first, lambda file: _frame(pq.read_schema(file).empty_table())).schema)
    return dict(load(first).schema)


def _members(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    if not found:
        raise DataError(f"{path}: holds none of {', '.join(SUFFIXES)}.")
    return found


def _table(path: Path, key: str | None = None) -> pl.DataFrame:
    frames = {member: _read(member, partial(_load, key=key)) for member in _members(path)}
    if key is not None and any(f.schema.get(key) == pl.String for f in frames.values()):
        # A leading zero in one file makes the keys of all of them texts.
        for member, frame in frames.items():
            if member.suffix == ".csv" and frame.schema.get(key, pl.String()).is_integer():
                frames[member] = frame.with_columns(pl.col(key).cast(pl.String))
    first, *others = frames.values()
    if not others:
        return first
    for member, frame in frames.items():
        if frame.schema != first.schema:
            raise DataError(
                f"{member}: has {_unlike(frame, first)}; the first file of {path} has "
                f"{_unlike(first, frame)}."
            )
    return pl.concat(frames.values())


def _unlike(frame: pl.DataFrame, other: pl.DataFrame) -> str:
    """Return the columns of a table that another has not, or with another type."""
    own = [f"{c}: {t}" for c, t in frame.schema.items() if other.schema.get(c) != t]
    return ", ".join(own) or f"its columns as {', '.join(frame.columns)}"


def _read(path: Path, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
    """Return what one file holds, or say what is wrong with it."""
    with commit.reporting(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no file to read, but a pipe, a device or a folder.")
        try:
            return read(path)
        except CurationError:
            raise
        except (Exception, pl.exceptions.PanicException) as error:
            # Seven libraries parse these bytes, each with exceptions of its own for damaged ones.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            raise DataError(f"{path}: is damaged, or no {path.suffix}: {said}") from error


def _load(path: Path, *, key: str | None = None) -> pl.DataFrame:
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        # A column of one value takes nothing on disk, and in memory some bytes a row.
        cells = 4 * file.metadata.num_rows * len(file.schema_arrow)
        _check_size(path, max(cells, sum(group.total_byte_size for group in groups)))
        return _frame(file.read())
    if path.suffix == ".csv":
        return _csv(path, key)
    if path.suffix == ".jsonl":
        return pl.read_ndjson(path, infer_schema_length=None)
    if path.suffix == ".json":
        return _json(path)
    if path.suffix == ".npy":
        return _arrays({"vector": _array(path)})
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(member.file_size for member in archive.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            return _arrays({name: arrays[name] for name in arrays.files})
    if path.suffix == ".txt":
        lines = pl.Series("uid", path.read_text(encoding="utf-8").splitlines(), pl.String)
        return lines.set(lines == "", None).to_frame()
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return _arrays(load_file(path))
    raise ConfigError(f"{path}: a file is one of {', '.join(SUFFIXES)}, or a list of ids, .txt.")


def _csv(path: Path, key: str | None) -> pl.DataFrame:
    frame = pl.read_csv(path, infer_schema_length=None, schema_overrides=IDS)
    if key not in frame.columns or not frame.schema[key].is_integer():
        return frame
    texts = pl.read_csv(path, columns=[key], infer_schema=False)
    return frame.with_columns(s for s in texts if s.str.contains("^0[0-9]").any())


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _array(path: Path) -> np.ndarray[Any, Any]:
    # Mapped, so that a header which names more than the file holds is found before any memory is
    # asked for; copied, so that it stays what it was when it was checked.
    return np.array(np.load(path, allow_pickle=False, mmap_mode="r"))


def _check_size(path: Path, decoded_bytes: int) -> None:
    size = path.stat().st_size
    if decoded_bytes > max(BOMB_BYTES, BOMB_RATIO * size):
        raise DataError(
            f"{path}: {size:,} bytes would become {decoded_bytes:,}, more than {BOMB_RATIO} times "
            "as many: this is a bomb, or damaged."
        )


def _json(path: Path) -> pl.DataFrame:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        entries = pl.int_range(len(content), dtype=pl.UInt32, eager=True)
        return pl.DataFrame({"entry": entries, "name": pl.Series(content, dtype=pl.String)})
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return pl.DataFrame(content, infer_schema_length=None)
    raise DataError(f"{path}: is a JSON list of texts or of objects, or it is not read.")


def _arrays(arrays: dict[str, Any]) -> pl.DataFrame:
    if set(arrays) == {"vector"} and arrays["vector"].dtype.names is not None:
        pairs = arrays["vector"]
        high, low = (pairs[name].astype(np.uint64) for name in pairs.dtype.names)
        names = [f"{h:016x}{w:016x}" for h, w in zip(high, low, strict=True)]
        return pl.DataFrame({"source_id": pl.Series(names, dtype=pl.String)})
    columns: dict[str, pl.Series] = {}
    for name, array in arrays.items():
        if array.dtype == object or array.ndim not in (1, 2):
            raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}.")
        columns[name] = (
            pl.Series(array)
            if array.ndim == 1
            else pl.Series(array, dtype=pl.Array(_inner(array.dtype), array.shape[1]))
        )
    frame = pl.DataFrame(columns)
    return frame.with_row_index("row")


def _inner(dtype: Any) -> Any:
    return {"float16": pl.Float16, "float32": pl.Float32, "float64": pl.Float64}.get(
        str(dtype), pl.Float32
    )
