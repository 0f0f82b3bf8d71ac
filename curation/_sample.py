"""A small hostile table for any step: nulls, ties, many scripts, broken bytes, a giant group."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import methods
from contracts.params import schema_of
from contracts.uid import mix
from curation.step import Parameters, Role, Step

DIMENSIONS = 16
SLOTS = 128

TEXTS = [
    "A photo of a small brown dog that runs on the beach at noon.",
    "a photo of a small brown dog that runs on the beach at noon",
    "A photo of a small brown cat that sleeps on the sofa at night.",
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.",
    "cat",
    "dog",
    "",
    "   ",
    "!!!",
    "\u200b",
    "一只棕色的小狗在海滩上奔跑，天空很蓝。",
    "一只棕色的小狗在沙滩上奔跑，天空很蓝。",
    "茶色の小さな犬が浜辺を走っています。",
    "สุนัขสีน้ำตาลตัวเล็กวิ่งบนชายหาด",
    "كلب بني صغير يركض على الشاطئ",
    "कुत्ता समुद्र तट पर दौड़ रहा है",
    "Маленькая коричневая собака бежит по пляжу.",
    "Un petit café près de la plage, à l'ombre d'un vieux chêne.",
    "Un petit cafe\u0301 pre\u0300s de la plage, a\u0300 l'ombre d'un vieux che\u0302ne.",
    "STRASSE straße ﬁne ① Ⅳ ½",
    "🐶🏽 👩‍👩‍👧 👍",
    "12 345,67 € on 2024-02-29",
    "Write to ann@example.org or call +1 555 010 9999; card 4111 1111 1111 1111.",
    "# Title\n\n- one\n- two…\n- three...\n\nThe end of it, and that is that.\n" * 2,
]
"""Every line stands for a way in which texts go wrong; see docs/reasons.md for real ones."""


def sample(step: Step, rows: int = 64) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return a table made for the step's roles, and by name its further tables and slots.

    It holds nulls (a whole row of them too), empty values, ties, several scripts, broken images,
    near-duplicates, and one group of half the rows; it is the same on every machine.
    """
    table = _columns(step.reads, rows)
    others: dict[str, Any] = {name: _table(step, name) for name in step.tables}
    return table, others | {name: SampleScorer() for name in step.slots}


def parameters(step: Step) -> list[Parameters]:
    """Return the parameters to check a step under: its defaults, then each other mode or switch.

    A parameter that has no default gets a usual value; so does every budget.
    """
    usual = {"threshold": 0.9, "cap": 4, "num_clusters": 4, "levels": [8, 2], "target_ratio": 0.5}
    schema = schema_of(step.function)
    fields = {k: v for k, v in schema.model_fields.items() if k not in step.bound}
    first = {k: usual[k] for k, v in fields.items() if v.is_required() and k in usual}
    first |= {"budget": 16} if "budget" in fields else {}
    kinds = schema.model_json_schema()["properties"]
    found = [first]
    for name, field in fields.items():
        values = [True, False] if kinds[name].get("type") == "boolean" else kinds[name].get("enum", [])
        found += [{**first, name: value} for value in values if value != field.default]
    return found


class SampleScorer:
    """A scorer for slots: a number in [0, 1) that depends on the value's bytes alone."""

    fingerprint = "sample"

    def __call__(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return the first 4 bytes of each value's blake2b as a fraction."""
        digests = [hashlib.blake2b(repr(v).encode(), digest_size=4).digest() for v in values]
        integers = [int.from_bytes(digest, "big") for digest in digests]
        return (np.array(integers, dtype=np.float64) / 2**32).astype(np.float32)


def _columns(reads: dict[str, Role], rows: int) -> pl.DataFrame:
    columns = [_uids(rows).alias("uid")]
    number = np.arange(rows)
    for name, role in reads.items():
        column = _of_role(name, role, rows).alias(name)
        # One row in twelve is null, another one in each column; row 5 is null in all.
        shift = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest(), "big")
        there = ((number + shift) % 12 != 0) & (number != 5)
        columns.append(pl.select(pl.when(pl.Series(there)).then(column)).to_series().alias(name))
    return pl.DataFrame(columns)


def _of_role(name: str, role: Role, rows: int) -> pl.Series:
    known = ROLES.get(name)
    column = known(rows) if known is not None else None
    allowed = role.dtype if isinstance(role.dtype, tuple) else (role.dtype,)
    if column is not None and (None in allowed or any(column.dtype == one for one in allowed)):
        return column
    if column is not None and column.dtype.is_numeric() and _is_numeric(allowed[0]):
        return column.cast(allowed[0])
    return _of_type(allowed[0], rows)


def _of_type(dtype: Any, rows: int) -> pl.Series:
    """Return some values of a type: small numbers with ties, the texts, lists of few numbers."""
    small = np.arange(rows) % 5
    if dtype is None or _is_numeric(dtype):
        return pl.Series(small).cast(dtype or pl.Float64)
    if dtype == pl.Boolean:
        return pl.Series(small > 1)
    if dtype == pl.String:
        return _texts(rows)
    if dtype == pl.Binary:
        return pl.Series([str(n).encode() for n in small])
    if dtype == pl.Array:
        return _vectors(rows, "")
    inner = getattr(dtype, "inner", None) or pl.UInt32
    return pl.Series([list(range(n)) for n in small]).cast(pl.List(inner))


def _is_numeric(dtype: Any) -> bool:
    return dtype is not None and dtype().is_numeric() if isinstance(dtype, type) else False


def _table(step: Step, name: str) -> pl.DataFrame:
    """Return a further table: the default fit's own model, or columns made by their names."""
    table = step.tables[name]
    folder, _, fit = (table.default or "").partition(".")
    if folder == "fit" and fit in methods.names("curation.fit"):
        model = methods.load("curation.fit", fit)
        model = model.bind(**parameters(model)[0])
        rows, others = sample(model)
        made: pl.DataFrame = model(rows, **others)
        return made
    reads = {column: step.reads.get(column, Role()) for column in table.columns}
    if table.pool:
        reads = {role: step.reads[role] for role in reads or step.reads}
    reads.pop("uid", None)
    made = _columns(reads, 24)
    return made if table.pool or "uid" in table.columns else made.drop("uid").drop_nulls()
