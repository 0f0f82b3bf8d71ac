"""Files that a recipe names: values, vectors, id lists and models that one brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from contracts.errors import ConfigError, DataError

SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".npy", ".npz", ".safetensors")


def load(path: Path, *, ids: Path | None = None) -> pl.DataFrame:
    """Return a file, or a folder of them in sorted order, as a table with its own columns.

    Parquet, CSV and JSON lines are tables. A JSON list of strings becomes `entry` (the position)
    and `name`. An npy of shape (n, d) becomes `row` and `vector`; DataComp's `u8,u8` becomes
    `source_id` (32 hexadecimal digits), once for each repeat. An npz gives an array a column,
    safetensors a tensor a column. `ids`, an npy or a text file of ids, adds `source_id`.

    Raises:
        ConfigError: the suffix is not known.
        DataError: the file is empty, damaged, or holds Python objects.
    """
    try:
        frame = _load(path)
    except (OSError, ValueError, pl.exceptions.PolarsError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if ids is not None:
        names = _load(ids) if ids.suffix != ".txt" else _lines(ids)
        if names.height != frame.height:
            raise DataError(f"{ids}: {names.height} ids for {frame.height} rows of {path}.")
        column = "source_id" if "source_id" in names.columns else names.columns[0]
        frame = frame.with_columns(names[column].alias("source_id"))
    return frame


def columns(path: Path) -> dict[str, Any]:
    """Return a file's columns and types without reading more than it must."""
    first = _members(path)[0]
    if first.suffix == ".parquet":
        empty = pl.from_arrow(pq.read_schema(first).empty_table())
        assert isinstance(empty, pl.DataFrame)
        return dict(empty.schema)
    return dict(load(first).schema)


def _members(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    if not found:
        raise DataError(f"{path}: holds none of {', '.join(SUFFIXES)}.")
    return found


def _load(path: Path) -> pl.DataFrame:
    members = _members(path)
    if len(members) > 1:
        return pl.concat([_load(member) for member in members], how="vertical")
    path = members[0]
    if path.suffix == ".parquet":
        frame = pl.from_arrow(pq.read_table(path))
        assert isinstance(frame, pl.DataFrame)
        return frame
    if path.suffix == ".csv":
        return pl.read_csv(path, infer_schema_length=None)
    if path.suffix == ".jsonl":
        return pl.read_ndjson(path, infer_schema_length=None)
    if path.suffix == ".json":
        return _json(path)
    if path.suffix == ".npy":
        return _arrays({"vector": np.load(path, allow_pickle=False)})
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return _arrays({name: archive[name] for name in archive.files})
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return _arrays(load_file(path))
    raise ConfigError(f"{path}: a file is one of {', '.join(SUFFIXES)}.")


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
            raise DataError(f"{name} has shape {array.shape} and type {array.dtype}.")
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


def _lines(path: Path) -> pl.DataFrame:
    return pl.DataFrame({"source_id": path.read_text(encoding="utf-8").splitlines()})
