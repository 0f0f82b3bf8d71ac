"""The README beside the shards, by which `datasets` opens the tars whole.

Left alone it takes the members and types of the first five samples for those of all: a picture
in another format is lost, and a value that is null there and not later ends the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from contracts.payload import kind_of
from storage.shards import Shard
from storage.store import canonical


def readme(tars: Sequence[Shard], types: Mapping[str, Any], key: str, *, has_card: bool) -> str:
    """Return a README whose front matter names the tars and the columns of their samples.

    Args:
        tars: with what their members end in.
        types: of the values in the json member, by name.
        key: of the export: the cache of `datasets` knows a folder by its last name and this one
            alone, and would take the `v0001` of one recipe for that of another.
        has_card: whether a data card lies beside it.
    """
    members = sorted({member for tar in tars for member in tar.members} - {"json", "txt"})
    columns: list[dict[str, Any]] = [{"name": n, "dtype": "string"} for n in ("__key__", "__url__")]
    # Of audio it would ask for torchcodec already when it reads the tars, of volumes for nibabel.
    types_of = {"image": "image", "audio": "binary", "volume": "binary"}
    kinds = {name: str(kind_of(name.removeprefix("label."))) for name in members}
    columns += [{"name": name, "dtype": types_of[kind]} for name, kind in kinds.items()]
    if any("txt" in tar.members for tar in tars):
        columns.append({"name": "txt", "dtype": "string"})
    columns.append({"name": "json", "struct": [_feature(n, t) for n, t in sorted(types.items())]})
    # JSON is YAML.
    front_matter = canonical(
        {
            "configs": [{"config_name": key, "data_files": "*.tar"}],
            "dataset_info": {"config_name": key, "features": columns},
        }
    ).decode()
    card = "\nThe data card is `datacard.md`.\n" if has_card else ""
    return f"---\n{front_matter}\n---\n{card}"


def _feature(name: str, dtype: Any) -> dict[str, Any]:
    """Return a column as the front matter describes it; types as `export` makes them JSON."""
    if isinstance(dtype, pl.List | pl.Array):
        item = _feature("", dtype.inner)
        return {"name": name, "list": item.get("dtype") or [item]}
    if isinstance(dtype, pl.Struct):
        return {"name": name, "struct": [_feature(f.name, f.dtype) for f in dtype.fields]}
    return {"name": name, "dtype": _scalar(dtype)}


def _scalar(dtype: Any) -> str:
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_integer():
        return "uint64" if dtype == pl.UInt64 else "int64"
    return "float64" if dtype.is_float() else "string"
