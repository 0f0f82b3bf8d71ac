"""Read a pool: its live rows, their columns, the notes beside them and their payloads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.errors import ConfigError, DataError
from contracts.payload import KINDS
from flows.recipe.expressions import Expression, bound_roles, evaluate_expression
from storage import commit, tables
from storage.store import Object, Store

Mask = NDArray[np.bool_]
HOLDOUT = "holdout"
"""What a verdict calls the rule that holds records out."""
SHADOW = ".canaries"
"""How the name of a pool of planted copies ends."""


@dataclass
class PoolReader:
    """One version of a pool and the notes that lie beside it; knows no recipe.

    Attributes:
        holdout_masks: for each part the held-out rows; None where nothing is held out.
        notes: table to its objects, one beside each part.
        columns: path of a note's column, such as `caption.words`, to the table that has it.
    """

    store: Store
    pool: tables.Pool
    holdout_masks: Sequence[Mask] | None = None
    notes: dict[str, tuple[Object, ...]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def live(self) -> list[Mask]:
        """For each part the rows that were not removed."""
        masks = [np.ones(part.rows, dtype=bool) for part in self.pool.parts]
        if self.pool.removed is not None:
            removed = tables.read(self.store, self.pool.removed).partition_by("part", as_dict=True)
            for index, part in enumerate(self.pool.parts):
                if (gone := removed.get((part.name,))) is not None:
                    masks[index] &= ~self.uids(index).is_in(gone["uid"].implode()).to_numpy()
        return masks

    @cached_property
    def visible(self) -> list[Mask]:
        """For each part the rows that groupwise, poolwise, fits and selectors may see."""
        if self.holdout_masks is None:
            return self.live
        return [
            live & ~held_out for live, held_out in zip(self.live, self.holdout_masks, strict=True)
        ]

    def uids(self, part: int) -> pl.Series:
        """Return the uid of every row of a part, of removed ones too."""
        return tables.read(self.store, self.pool.parts[part].records, ["uid"])["uid"]

    def rows(self, part: int, paths: Sequence[str]) -> pl.DataFrame:
        """Return `uid` and flat columns of every row of a part, of removed ones too.

        Raises:
            ConfigError: a column is the payload.
        """
        at = self.pool.parts[part]
        if KINDS.keys() & paths or ("payload" in paths and at.payload is not None):
            raise ConfigError(
                "poolwise methods, fits and selectors look at narrow columns, not at the payload: "
                "measure it first."
            )
        return flat_columns(self.store, at, self.notes_at(part, paths), paths)

    def frame(
        self, paths: Sequence[str], masks: Sequence[Mask] | None = None, part: int | None = None
    ) -> pl.DataFrame:
        """Return `uid` and flat columns of the live rows, or of those that masks let through."""
        masks = self.live if masks is None else masks
        chosen = range(len(self.pool.parts)) if part is None else [part]
        frames = [self.rows(index, paths).filter(masks[index]) for index in chosen]
        if not frames:
            return pl.DataFrame(schema={"uid": pl.UInt64, **dict.fromkeys(paths, pl.Null)})
        return pl.concat(frames, how="vertical_relaxed")

    def roles(
        self, roles: Mapping[str, Expression], masks: Sequence[Mask], part: int | None = None
    ) -> pl.DataFrame:
        """Return `uid` and the roles of a method for the rows that masks let through."""
        flat = self.frame([p for e in roles.values() for p in e.paths], masks, part)
        return flat.select("uid", *bound_roles(flat, roles))

    def candidates(self, roles: Mapping[str, Expression], masks: Sequence[Mask]) -> pl.DataFrame:
        """Return `uid` and the roles of the rows that masks let through, sorted by uid.

        Vectors lie in a temporary file that is mapped: they take no memory of this process, and a
        method looks at them a block at a time.

        Raises:
            DataError: vectors of different lengths.
            StorageError: the temporary file finds no space.
        """
        uids = [self.uids(i).to_numpy()[mask] for i, mask in enumerate(masks)]
        order = np.argsort(np.concatenate([np.empty(0, dtype=np.uint64), *uids]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        narrow: list[pl.DataFrame] = []
        vectors: dict[str, _Vectors] = {}
        start = 0
        for index, of in enumerate(uids):
            rows = self.roles(roles, masks, index)
            for column in rows.iter_columns():
                if isinstance(column.dtype, pl.Array) and len(of):
                    if column.name not in vectors:
                        vectors[column.name] = _Vectors(
                            len(order), column.dtype, self.store.temporary
                        )
                    vectors[column.name].put(place[start : start + len(of)], column)
            narrow.append(rows.drop(vectors, strict=False))
            start += len(of)
        if not narrow:
            return self.roles(roles, masks)
        # A part in which nothing was measured has the column without a type, before it has one.
        rest = [rows.drop(vectors, strict=False) for rows in narrow]
        flat = pl.concat(rest, how="vertical_relaxed")
        return flat[order].with_columns(v.series().alias(name) for name, v in vectors.items())

    def notes_at(self, part: int, paths: Sequence[str]) -> dict[str, tables.Note]:
        """Return for each note's path its object beside a part, and its column there."""
        return {
            path: (self.notes[self.columns[path]][part], path.partition(".")[2])
            for path in paths
            if path in self.columns
        }

    def mask(self, expression: Expression, part: int) -> Mask:
        """Return where an expression is true in a part; null is not true."""
        flat = self.rows(part, expression.paths)
        true = evaluate_expression(flat, expression.polars, expression.text).fill_null(False)
        return true.to_numpy()

    def where(self, uids: Sequence[int] | pl.Series) -> list[Mask]:
        """Return for each part the live rows of some records."""
        wanted = np.unique(np.asarray(uids, dtype=np.uint64))
        if not len(wanted):
            return [np.zeros(part.rows, dtype=bool) for part in self.pool.parts]
        masks = []
        for index, live in enumerate(self.live):
            mine = self.uids(index).to_numpy()
            nearest = np.searchsorted(wanted, mine).clip(max=len(wanted) - 1)
            masks.append((wanted[nearest] == mine) & live)
        return masks

    def payloads(
        self, uids: Sequence[int] | pl.Series, *, gone: Literal["refuse", "null"] = "refuse"
    ) -> Iterator[pl.DataFrame]:
        """Yield `part`, `row`, `uid` and `payload` of some live records, a row group at a time.

        They come in pool order, encoded; the payload of a record that has none is null.

        Args:
            uids: of the records; those of parts that have no payload are left out.
            gone: what is done about a payload by reference whose file is missing.

        Raises:
            DataError: a payload is not what was ingested (SOURCE_GONE where its file is missing).
        """
        for index, mask in enumerate(self.where(uids)):
            part = self.pool.parts[index]
            if part.payload is None or not mask.any():
                continue
            for group in tables.payloads(self.store, part, rows=mask, gone=gone):
                yield group.select(pl.lit(index, pl.UInt32).alias("part"), "row", "uid", "payload")

    def pictures(
        self, uids: Sequence[int] | pl.Series, *, gone: Literal["refuse", "null"] = "refuse"
    ) -> Iterator[pl.DataFrame]:
        """Yield `payloads` as `image`; nothing of a pool whose payloads are no pictures."""
        if self.pool.kind == "image":
            for group in self.payloads(uids, gone=gone):
                yield group.rename({"payload": "image"})

    def flat(self, masks: Sequence[Mask]) -> Mask:
        """Return masks over parts as one mask over the live rows."""
        live = [mask[live] for mask, live in zip(masks, self.live, strict=True)]
        return np.concatenate([np.zeros(0, dtype=bool), *live])

    def by_part(self, live_mask: Mask) -> list[Mask]:
        """Return a mask over the live rows as masks over parts."""
        ends = np.cumsum([live.sum() for live in self.live])[:-1]
        masks = [live.copy() for live in self.live]
        for mask, chosen in zip(masks, np.split(live_mask, ends) if masks else [], strict=True):
            mask[mask] = chosen
        return masks


class _Vectors:
    """A column of vectors in a file without a name, mapped; null where none was put."""

    def __init__(self, count: int, dtype: pl.Array, folder: Path) -> None:
        self._dtype = dtype
        self._known = np.zeros(count, dtype=bool)
        inner = pl.Series([], dtype=dtype.inner).to_numpy().dtype
        needed = count * dtype.size * inner.itemsize
        # A store that is mounted to be read has no place of its own.
        home = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
        with commit.reporting(home, needed), tempfile.TemporaryFile(dir=home) as file:
            commit.reserve(file, max(1, needed))
            self._values = np.memmap(file, dtype=inner, mode="r+", shape=(count, dtype.size))

    def put(self, rows: NDArray[np.int64], vectors: pl.Series) -> None:
        """Lay vectors into rows."""
        if vectors.dtype != self._dtype:
            raise DataError(
                f"{vectors.name}: {vectors.dtype} in one part and {self._dtype} in another; one "
                "encoder writes one: embed them again."
            )
        known = vectors.is_not_null().to_numpy()
        self._known[rows] = known
        self._values[rows[known]] = vectors.drop_nulls().to_numpy()

    def series(self) -> pl.Series:
        """Return the column over the mapped file, which is not copied."""
        kind = pa.from_numpy_dtype(self._values.dtype)
        flat = pa.Array.from_buffers(kind, self._values.size, [None, pa.py_buffer(self._values)])
        absent = None if self._known.all() else pa.array(~self._known)
        found = pl.from_arrow(
            pa.FixedSizeListArray.from_arrays(flat, self._dtype.size, mask=absent)
        )
        assert isinstance(found, pl.Series)
        return found


def flat_columns(
    store: Store, part: tables.Part, notes: Mapping[str, tables.Note], paths: Sequence[str]
) -> pl.DataFrame:
    """Return `uid` and the named narrow columns of a part.

    In a part without payload `payload` is the text, and `image` or `audio` is null; in another part
    these are left out.
    """
    named = dict.fromkeys(paths)
    narrow = [path for path in named if path not in (*KINDS, "payload")]
    if part.payload is not None:
        return tables.glued(store, part, notes, narrow)
    wide = tables.glued(store, part, notes, [*narrow, "text"] if "payload" in named else narrow)
    if "payload" in named:
        wide = wide.with_columns(payload=pl.col("text"))
    wide = wide.with_columns(
        pl.lit(None, dtype=pl.Binary).alias(kind) for kind in KINDS if kind in named
    )
    return wide.select("uid", *(path for path in named if path != "uid"))
