"""What an encoder is, and what all share: prefetched decoding, square crops, unit columns."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import decode

Pixels = NDArray[np.uint8]
Value = TypeVar("Value")
Result = TypeVar("Result")


class Encoder(Protocol):
    """A callable that turns payloads or texts into unit vectors, row by row.

    A row's vector has the same bits whatever the other rows, their number and their order.
    The constructor's keyword-only parameters are the recipe's; `device` comes first, by
    position, and is found by itself where it is None.

    Attributes:
        version: raised when the same configuration gives other vectors.
        reads: each role with the pool column that it defaults to; every role may be absent.
        writes: each written column with its dimension.
        fingerprint: sha256 of weights and preprocessing; vectors of two fingerprints are
            never compared.
        numerics: device type and number type, such as `cpu/float32`.
    """

    version: int
    reads: Mapping[str, str]
    writes: Mapping[str, int]
    fingerprint: str
    numerics: str

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Encode a table whose columns are the roles.

        Returns:
            One column `Array(Float16, dimension)` for each of `writes`, in the order of the rows:
            unit vectors, null where the input is null, absent or not decodable, or where the
            vector is zero or not finite.
        """
        ...


def _cores() -> int:
    """Return how many cores this process may use; only Linux tells these from all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetched(
    function: Callable[[Value], Result], values: Iterable[Value], *, ahead: int
) -> Iterator[Result]:
    """Yield function(value) in order, computed by threads that stay up to `ahead` values in front.

    Decoding and resizing leave the interpreter lock, so they run while the model does.
    """
    remaining = iter(values)
    with ThreadPoolExecutor(_cores()) as pool:
        waiting: deque[Future[Result]] = deque(
            pool.submit(function, value) for value in islice(remaining, ahead)
        )
        while waiting:
            result = waiting.popleft().result()
            for value in islice(remaining, 1):
                waiting.append(pool.submit(function, value))
            yield result


def prepared(
    column: pl.Series, prepare: Callable[[Any], NDArray[Any]], *, ahead: int = 64
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (row, prepared value) in order, leaving out nulls and what cannot be decoded."""

    def one(row: int) -> tuple[int, NDArray[Any]] | None:
        try:
            return row, prepare(column[row])
        except decode.Undecodable:
            return None

    known: list[int] = column.is_not_null().arg_true().to_list()
    return (found for found in prefetched(one, known, ahead=ahead) if found is not None)


def unit(x_ND: NDArray[Any]) -> NDArray[np.float16]:
    """Return x / |x| row by row, as NaN where |x| is zero or not finite."""
    x_ND = x_ND.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        norm_N1 = np.sqrt(np.square(x_ND).sum(axis=1, keepdims=True))
        unit_ND: NDArray[np.float16] = (x_ND / norm_N1).astype(np.float16)
    return unit_ND


def unit_column(
    height: int, dimension: int, parts: Iterable[tuple[list[int], NDArray[Any]]]
) -> pl.Series:
    """Return `Array(Float16, dimension)`: the unit vectors of the given rows, null elsewhere.

    Args:
        height: rows of the column.
        dimension: of a vector.
        parts: row numbers, and the vectors (any length, any float type) that belong to them.
    """
    x_ND = np.full((height, dimension), np.nan, dtype=np.float16)
    for rows, vectors in parts:
        x_ND[rows] = unit(vectors)
    known = np.isfinite(x_ND).all(axis=1)
    x_ND[~known] = 0
    column = pl.Series("vector", x_ND, dtype=pl.Array(pl.Float16, dimension))
    kept = pl.when(pl.col("known")).then(pl.col("vector")).alias("vector")
    return pl.DataFrame({"vector": column, "known": known}).select(kept).to_series()
