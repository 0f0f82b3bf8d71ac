"""Nearest neighbours and k-means on unit vectors: one numerical path, the same on any backend.

A matrix product in single precision finds what may be nearest; wherever two candidates are closer
than its rounding error, double precision decides, and a tie goes to the first. So the answer is a
function of the vectors alone: not of threads, blocks or device. The products come from NumPy's
BLAS, or from torch where a CUDA device is. faiss is not used: on 100,000 x 256 vectors, one thread
of one core, assigning to 300 centroids takes 0.20 s with either, 25 iterations of k-means 2.8 s
with faiss and 3.3 s here, to the same mean cosine, and its result depends on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.uid import UIDs, shuffled

if TYPE_CHECKING:
    import torch

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

ROWS, COLUMNS = 1024, 2048
IN_MEMORY_BYTES = 256 << 20
TIE = 1e-12
"""Cosines in double precision that differ by less are equal: far above its rounding error, far
below what vectors in half or single precision can differ by without being the same."""


def matrix(vectors: pl.Series, *, zeros: bool = True) -> tuple[Mask, NDArray[np.floating]]:
    """Return which rows hold a vector, and those vectors as (n, d) in half or single precision.

    Args:
        vectors: an Array, or a List of one length.
        zeros: whether a vector of zeros, which has no direction, is one.

    Raises:
        DataError: vectors of different lengths; NaN or infinity in a vector.
    """
    held, rows = in_place(vectors, zeros=zeros)
    return held, rows.x if len(rows) == len(rows.x) else rows[:]


def in_place(vectors: pl.Series, *, zeros: bool = True) -> tuple[Mask, Rows]:
    """Return what `matrix` does, where the vectors lie: none is copied, whatever is left out.

    Raises:
        DataError: as `matrix`.
    """
    if isinstance(vectors.dtype, pl.List):
        dimensions = vectors.list.len().drop_nulls().unique().sort().to_list()
        if len(dimensions) > 1:
            raise DataError(
                f"{vectors.name}: vectors of {dimensions[:5]} dimensions in one column; "
                "one encoder writes one length: embed them again."
            )
        vectors = vectors.list.to_array(dimensions[0] if dimensions else 0)
    assert isinstance(vectors.dtype, pl.Array)
    held = vectors.is_not_null().to_numpy()
    x = vectors.to_numpy() if held.all() else _values(vectors)
    if x.dtype not in (np.float16, np.float32):
        x = x.astype(np.float32)
    rows = Rows(x, np.flatnonzero(held))
    lengths = _lengths(rows)
    broken = int((~np.isfinite(lengths)).sum())
    if broken:
        raise DataError(
            f"{vectors.name}: {broken} of {len(rows)} vectors hold NaN or infinity; "
            "embed these records again, or make their vectors null."
        )
    if zeros or lengths.all():
        return held, rows
    held = held.copy()
    held[held] = lengths > 0
    return held, Rows(x, np.flatnonzero(held))


def _values(vectors: pl.Series) -> NDArray[np.floating]:
    """Return an Array's vectors, those of null rows too, whatever these hold."""
    arrow = vectors.rechunk().to_arrow()
    size = arrow.type.list_size
    flat = arrow.values.slice(arrow.offset * size, len(arrow) * size)
    values: NDArray[np.floating] = flat.to_numpy(zero_copy_only=False)
    return values.reshape(len(arrow), size)


def directions(vectors: pl.Series) -> tuple[Mask, Vectors]:
    """Return which rows have a direction, and those vectors at length 1.

    Raises:
        DataError: as `matrix`.
    """
    held, x = matrix(vectors, zeros=False)
    return held, unit(x)


def unit(x: NDArray[np.floating] | Rows) -> Vectors:
    """Return the rows at length 1; a row of zeros stays."""
    rows = np.empty(x.shape, dtype=np.float32)
    for a, b in blocks(len(x)):
        rows[a:b] = unit_64(x[a:b])
    return rows


@dataclass(frozen=True)
class Rows:
    """Chosen rows of a matrix, copied only as they are asked for, a block at a time.

    Attributes:
        x: (n, d), in half or single precision.
        chosen: (m,) rows of x.
    """

    x: NDArray[np.floating]
    chosen: Indices

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, at: slice | Indices) -> NDArray[np.floating]:
        return self.x[self.chosen[at]]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d)."""
        return len(self.chosen), self.x.shape[1]


class Units(Rows):
    """Chosen rows of a matrix, none of length 0, at length 1."""

    def __getitem__(self, at: slice | Indices) -> Vectors:
        return unit(self.x[self.chosen[at]])


def single(x: NDArray[np.floating]) -> Vectors:
    """Return rows in single precision; half precision by table, 4 times as fast as NumPy's cast."""
    if x.dtype != np.float16:
        return x.astype(np.float32, copy=False)
    return np.take(_halves(), x.view(np.uint16), mode="clip")


@cache
def _halves() -> Vectors:
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def unit_64(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows at length 1 in double precision; a row of zeros stays."""
    rows = _double(x)
    lengths = np.sqrt(_dot(rows, rows))
    return rows / np.where(lengths > 0, lengths, 1.0)[:, None]


def cosine(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of x_i and y_i in double precision: exactly 1 where they are equal."""
    found = np.empty(len(x))
    for a, b in blocks(len(x)):
        p, q = _double(x[a:b]), _double(y[a:b])
        lengths = np.sqrt(_dot(p, p) * _dot(q, q))
        found[a:b] = _dot(p, q) / np.where(lengths > 0, lengths, 1.0)
    return np.clip(found, -1.0, 1.0)


def nearest(rows: Vectors | Units, columns: Vectors) -> Indices:
    """Return for each unit row the column of largest cosine, the first of equals.

    Cost: n m d multiplications; a block of scores of 8 MiB.
    """
    found = [closest(rows[a:b], columns) for a, b in blocks(len(rows))]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def closest(
    rows: Vectors,
    columns: Vectors | Units,
    *,
    span: tuple[Indices, Indices] | None = None,
    device: str | None = None,
) -> Indices:
    """Return for each of a block of unit rows the column of largest cosine, the first of equals.

    Args:
        rows: (n, d), at length 1.
        columns: (m, d), at length 1.
        span: (n,) and (n,): a row may have the columns from the one to before the other; a row
            that may have none gets -1.
        device: a torch device; by default CUDA where it is, else NumPy.
    """
    slack = 2 * rounding(columns.shape[1])
    best = np.full(len(rows), -1, dtype=np.int64)
    top = np.full(len(rows), -np.inf, dtype=np.float32)
    for a, b in blocks(len(columns), COLUMNS):
        tile, hidden = columns[a:b], None
        if span is not None and (span[0].max() > a or span[1].min() < b):
            number = np.arange(a, b)
            hidden = (number < span[0][:, None]) | (number >= span[1][:, None])
        score, here, doubtful, rivals = _screen(rows, tile, hidden, slack, device or _cuda())
        here[doubtful] = _first_best(rows[doubtful], tile, rivals)
        here += a
        wins = score > top + slack
        close = ~wins & (score >= top - slack) & (score > -np.inf)
        if close.any():
            now = cosine(rows[close], columns[here[close]])
            wins[close] = now > cosine(rows[close], columns[best[close]]) + TIE
        best[wins], top[wins] = here[wins], score[wins]
    return best


def ranking(rows: Vectors, columns: Vectors, depth: int) -> Indices:
    """Return (n, depth): the columns of largest cosine to each of a block of unit rows.

    In descending order, the first of equals first; all columns where there are fewer than depth.

    Cost: n m d multiplications and `depth` passes over the scores, a block of 8 MiB at a time.
    """
    if depth == 1:
        return closest(rows, columns)[:, None]
    slack = 2 * rounding(columns.shape[1])
    found = np.empty((len(rows), min(depth, len(columns))), dtype=np.int64)
    for a, b in blocks(len(rows), max(1, ROWS * COLUMNS // len(columns))):
        scores = _scores(rows[a:b], columns, _cuda())
        for place in range(found.shape[1]):
            _, best, doubtful, rivals = _top(scores, slack)
            best[doubtful] = _first_best(rows[a:b][doubtful], columns, rivals)
            found[a:b, place] = best
            scores[np.arange(b - a), best] = -np.inf
    return found


def nearest_others(
    x: NDArray[np.floating], count: int
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Find for each row so many others of largest cosine, or all others where there are fewer.

    Args:
        x: (n, d) of any length but 0, in any precision.
        count: how many to look for.

    Returns:
        Rows, ascending; the others, in descending order of the cosine, ties by row; the cosines.

    Cost: n² d multiplications, a pass over the scores to find the largest, and count * d
    multiplications a row in double precision; blocks of 8 MiB of scores.
    """
    slack, exact = 2 * rounding(x.shape[1]), unit_64(x)
    units = exact.astype(np.float32)
    found: list[tuple[Indices, Indices, NDArray[np.float64]]] = []
    wanted = min(count, len(x) - 1)
    for a, b in blocks(len(x) if wanted > 0 else 0, max(1, ROWS * COLUMNS // len(x))):
        scores = _scores(units[a:b], units, _cuda())
        scores[np.arange(b - a), np.arange(a, b)] = -np.inf
        place = len(x) - wanted
        least = np.partition(scores, place, axis=1)[:, place]
        row, other = np.divmod(np.flatnonzero(scores >= least[:, None] - slack), len(x))
        row += a
        value = np.minimum(_dot(exact[row], exact[other]), 1.0)
        order = np.lexsort((other, -value, row))
        row, other, value = row[order], other[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        found.append((row[rank < wanted], other[rank < wanted], value[rank < wanted]))
    nothing = np.empty(0, dtype=np.int64)
    rows, others, values = zip(*found, (nothing, nothing, np.empty(0)), strict=True)
    return np.concatenate(rows), np.concatenate(others), np.concatenate(values)


def shortlist(
    x: NDArray[np.floating] | Rows, centroids: Vectors, depth: int
) -> tuple[Indices, NDArray[np.float64], Indices]:
    """Rank for each centroid the rows of largest cosine: in descending order, ties by row.

    Args:
        x: (n, d) of any length but 0, in any precision.
        centroids: (k, d), at length 1.
        depth: how many to look for.

    Returns:
        (k, m) rows, their cosines, and (k,) how many of a line are surely the largest in their
        true order: all m = n, or those beyond rounding error above what was left out.

    Cost: n k d multiplications; some 30 (depth + 4,096) bytes a centroid.
    """
    depth = min(depth, len(x))
    score = np.empty((len(centroids), 0), dtype=np.float32)
    found = np.empty((len(centroids), 0), dtype=np.int64)
    for a, b in blocks(len(x), max(4 * ROWS, depth)):
        rows = np.broadcast_to(np.arange(a, b), (len(centroids), b - a))
        score = np.hstack([score, _scores(centroids, unit(x[a:b]), _cuda())])
        found = np.hstack([found, rows])
        if score.shape[1] > depth:
            kept = np.argpartition(-score, depth - 1, axis=1)[:, :depth]
            score = np.take_along_axis(score, kept, axis=1)
            found = np.take_along_axis(found, kept, axis=1)
    exact = np.empty(found.shape)
    for number, centroid in enumerate(centroids):
        of = found[number]
        value = cosine(x[of], np.broadcast_to(centroid, (len(of), centroids.shape[1])))
        order = np.lexsort((of, -value))
        found[number], exact[number] = of[order], value[order]
    if depth == len(x):
        return found, exact, np.full(len(centroids), depth)
    floor = score.min(axis=1) + rounding(centroids.shape[1])
    return found, exact, (exact > floor[:, None]).sum(axis=1)


def kmeans(
    x: NDArray[np.floating] | Rows,
    uids: UIDs,
    num_clusters: int,
    *,
    iterations: int,
    spherical: bool,
    seed: int,
    stream: str,
    starts: Indices | None = None,
) -> tuple[Vectors, Indices]:
    """Cluster the rows of x, which come sorted by uid; return the centroids and their sizes.

    Lloyd's iterations from given rows, or those with the smallest draws; spherical assigns by
    cosine and keeps centroids at length 1, otherwise by Euclid's distance. A cluster that runs
    empty restarts at the row farthest from its centroid; one that ends empty, as where there are
    fewer different vectors than clusters, is left out.

    Cost: iterations * n k d multiplications; 4 d bytes a row, `IN_MEMORY_BYTES` at most where it
    is spherical, as more rows are brought to length 1 anew in each iteration.
    """
    rows: Vectors | Units
    if not spherical:
        rows = x[:].astype(np.float32, copy=False)
    else:
        units = Units(x.x, x.chosen) if isinstance(x, Rows) else Units(x, np.arange(len(x)))
        rows = units if 4 * len(x) * x.shape[1] > IN_MEMORY_BYTES else units[:]
    if not len(rows):
        return rows[:], np.empty(0, dtype=np.int64)
    searched = rows if isinstance(rows, Units) or spherical else _lifted(rows)
    starts = shuffled(uids, seed, stream)[:num_clusters] if starts is None else starts
    k = len(starts)
    centroids = rows[np.sort(starts)]
    label = np.full(len(rows), -1, dtype=np.int64)
    for _ in range(iterations):
        before, label = label, _assigned(searched, centroids, spherical)
        if np.array_equal(before, label):
            break
        refilled = _refill(rows, centroids, label)
        centroids = _means(rows, centroids, refilled, spherical)
    sizes = np.bincount(_assigned(searched, centroids, spherical), minlength=k)
    return centroids[sizes > 0], sizes[sizes > 0]


def rounding(dimensions: int) -> float:
    """Bound the error of an inner product of two unit vectors in single precision."""
    return (dimensions + 8) * 2.0**-24


def blocks(count: int, size: int = ROWS) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive blocks."""
    for start in range(0, count, size):
        yield start, min(start + size, count)


@cache
def _cuda() -> str | None:
    """Return "cuda" where torch can use one; looks for a driver before it loads torch."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()) or not find_spec("torch"):
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


def _screen(
    rows: Vectors, columns: Vectors, hidden: Mask | None, slack: float, device: str | None
) -> tuple[Vectors, Indices, Mask, Mask]:
    """Return what `_top` does of the scores of rows and columns; -inf where hidden."""
    if device is None:
        scores = rows @ columns.T
        if hidden is not None:
            scores[hidden] = -np.inf
        return _top(scores, slack)
    import torch

    on_device = _product(rows, columns, device)
    if hidden is not None:
        on_device.masked_fill_(torch.from_numpy(hidden).to(device), -torch.inf)
    highest, where = on_device.max(dim=1, keepdim=True)
    near = on_device >= highest - slack
    doubtful = (near.sum(dim=1) > 1) & (highest[:, 0] > -torch.inf)
    found = (highest[:, 0], where[:, 0], doubtful, near[doubtful])
    return tuple(tensor.cpu().numpy() for tensor in found)  # type: ignore[return-value]


def _top(scores: Vectors, slack: float) -> tuple[Vectors, Indices, Mask, Mask]:
    """Return each row's largest score, its column, where others are within the slack, and which.

    The last has a line only for each row of the third.
    """
    best = scores.argmax(axis=1)
    top = np.take_along_axis(scores, best[:, None], axis=1)
    near = scores >= top - slack
    doubtful = (np.count_nonzero(near, axis=1) > 1) & (top[:, 0] > -np.inf)
    return top[:, 0], best, doubtful, near[doubtful]


def _scores(rows: Vectors, columns: Vectors, device: str | None) -> Vectors:
    if device is None:
        return rows @ columns.T
    scores: Vectors = _product(rows, columns, device).cpu().numpy()
    return scores


def _product(rows: Vectors, columns: Vectors, device: str) -> torch.Tensor:
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 is outside the bound of `rounding`
    try:
        return torch.from_numpy(rows).to(device) @ torch.from_numpy(columns).to(device).T
    finally:
        torch.set_float32_matmul_precision(precision)


def _first_best(rows: Vectors, columns: Vectors, rivals: Mask) -> Indices:
    """Return for each row the rival of largest cosine in double precision, the first of equals."""
    some = np.flatnonzero(rivals.any(axis=0))
    if not len(some):
        return some
    exact = unit_64(rows) @ unit_64(columns[some]).T
    exact[~rivals[:, some]] = -np.inf
    first: Indices = some[(exact >= exact.max(axis=1, keepdims=True) - TIE).argmax(axis=1)]
    return first


def _lengths(x: NDArray[np.floating] | Rows) -> NDArray[np.float64]:
    lengths = np.empty(len(x))
    for a, b in blocks(len(x)):
        rows = _double(x[a:b])
        lengths[a:b] = np.sqrt(_dot(rows, rows))
    return lengths


def _double(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return rows in double precision, a copy unless they are."""
    if x.dtype == np.float16:
        x = single(x)
    return x.astype(np.float64, copy=False)


def _dot(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inner product of x_i and y_i; the same bits whatever rows are beside them."""
    products: NDArray[np.float64] = np.einsum("ij,ij->i", x, y)
    return products


def _assigned(searched: Vectors | Units, centroids: Vectors, spherical: bool) -> Indices:
    return nearest(searched, centroids if spherical else _lifted_centroids(centroids))


def _lifted(x: Vectors) -> Vectors:
    """Lift rows so that the largest cosine to a lifted centroid is the smallest distance.

    The inner product of (x, 1, 0) and (c, -|c|²/2, r) is -|x - c|²/2 but for terms of x alone; r
    makes the lifted centroids equally long (Bachrach et al. 2014, RecSys, section 3).
    """
    ones, zeros = np.ones((len(x), 1), np.float32), np.zeros((len(x), 1), np.float32)
    return unit(np.hstack([x, ones, zeros]))


def _lifted_centroids(centroids: Vectors) -> Vectors:
    wide = centroids.astype(np.float64)
    half = _dot(wide, wide) / 2
    square = 2 * half + half**2
    return unit(np.column_stack([wide, -half, np.sqrt(square.max() - square)]))


def _refill(rows: Vectors | Units, centroids: Vectors, label: Indices) -> Indices:
    """Give each empty cluster one of the rows farthest from their centroids, ties by row."""
    empty = np.flatnonzero(np.bincount(label, minlength=len(centroids)) == 0)
    if not len(empty):
        return label
    distance = np.empty(len(rows))
    for a, b in blocks(len(rows)):
        gap = rows[a:b].astype(np.float64) - centroids[label[a:b]]
        distance[a:b] = _dot(gap, gap)
    farthest = np.lexsort((np.arange(len(rows)), -distance))[: len(empty)]
    farthest = farthest[distance[farthest] > 0]
    moved = label.copy()
    moved[farthest] = empty[: len(farthest)]
    return moved


def _means(rows: Vectors | Units, centroids: Vectors, label: Indices, spherical: bool) -> Vectors:
    """Return the mean of each cluster, summed in double precision in the order of rows.

    An empty cluster, and a spherical one whose vectors cancel out, keeps its centroid.
    """
    order = np.argsort(label, kind="stable")
    ends = np.searchsorted(label[order], np.arange(len(centroids)), side="right")
    means = centroids.astype(np.float64)
    for number, members in enumerate(np.split(order, ends[:-1])):
        if len(members):
            mean = rows[members].mean(axis=0, dtype=np.float64)
            length = np.sqrt(mean @ mean) if spherical else 1.0
            means[number] = mean / length if length > TIE else means[number]
    return means.astype(np.float32)
