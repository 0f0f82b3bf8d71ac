"""Greedy facility location: which records add most to the sum of best similarities, and how much.

F(S) = sum over rows i of max over columns j in S of w_j s_ij, where s is the cosine and 0 where it
is negative. Unit vectors are brought to a grid of 1 / GRID, so that an inner product, and each of
its partial sums, is a whole number below 2^24, which single precision holds exactly: gains are sums
of whole numbers, the same whatever the threads, blocks or device, and equal ones are equal. The
grid moves a cosine by some 0.0003; what comes out above 1 is 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from curation import _neighbours

GRID = 2048
ONE = GRID**2
"""A cosine of 1."""

LISTED, AT_ONCE, TIMES = 4096, 16, 8

Whole = NDArray[np.float32]
"""Whole numbers in single precision."""
Places = _neighbours.Indices | slice


def on_grid(x: NDArray[np.floating] | _neighbours.Rows) -> Whole:
    """Return the rows at length 1, times GRID, as whole numbers; a row of zeros stays."""
    rows = np.empty(x.shape, dtype=np.float32)
    for a, b in _neighbours.blocks(len(x)):
        np.rint(_neighbours.unit_64(x[a:b]) * GRID, out=rows[a:b], casting="same_kind")
    return rows


class Pairs:
    """Similarities of columns to rows, made as they are asked for.

    Attributes:
        columns: (n, d) on the grid, what is picked.
        rows: (m, d) on the grid, what is covered.
        weights: (n,) by which a column's similarities count, in [0, 1]; all 1 where None.
    """

    def __init__(
        self, columns: Whole, rows: Whole, weights: NDArray[np.float32] | None = None
    ) -> None:
        self.columns, self.rows, self.weights = columns, rows, weights

    def of(self, columns: Places, rows: Places = slice(None)) -> Whole:
        """Return the similarities of some columns to some rows, whole numbers from 0 to ONE."""
        found: Whole = self.columns[columns] @ self.rows[rows].T
        np.clip(found, 0, ONE, out=found)
        if self.weights is not None:
            found *= self.weights[columns][:, None]
            np.rint(found, out=found)
        return found

    def gains(self, best: Whole, columns: _neighbours.Indices) -> NDArray[np.float64]:
        """Return what each of the columns adds to what the rows have already."""
        gains = np.zeros(len(columns))
        for a, b in _neighbours.blocks(len(columns)):
            for c, d in _neighbours.blocks(len(self.rows), _neighbours.COLUMNS):
                over = self.of(columns[a:b], slice(c, d))
                over -= best[c:d]
                np.maximum(over, 0, out=over)
                gains[a:b] += over.sum(axis=1, dtype=np.float64)
        return gains

    def lost(
        self, columns: _neighbours.Indices, rows: _neighbours.Indices, before: Whole, now: Whole
    ) -> NDArray[np.float64]:
        """Return by how much gains fall where the best of some rows rose."""
        lost = np.zeros(len(columns))
        for a, b in _neighbours.blocks(len(columns)):
            for c, d in _neighbours.blocks(len(rows), _neighbours.COLUMNS):
                tile = self.of(columns[a:b], rows[c:d])
                np.clip(tile, before[c:d], now[c:d], out=tile)
                tile -= before[c:d]
                lost[a:b] += tile.sum(axis=1, dtype=np.float64)
        return lost


def best(columns: Whole, rows: Whole, chosen: Whole | None = None) -> Whole:
    """Return (m,) the largest similarity of each row to a column, or to what was chosen before."""
    found = np.zeros(len(rows), dtype=np.float32)
    for some in [columns] if chosen is None else [columns, chosen]:
        for a, b in _neighbours.blocks(len(some)):
            for c, d in _neighbours.blocks(len(rows), _neighbours.COLUMNS):
                tile = some[a:b] @ rows[c:d].T
                np.maximum(found[c:d], tile.max(axis=0), out=found[c:d])
    return np.minimum(found, ONE, out=found)


class Greedy:
    """Picks the column of largest gain again and again, the first of equals.

    A gain only falls as picks are added, so that an old one is a bound, and it falls by the rows
    alone whose best rose since. The columns of largest bounds have their gains after every pick,
    each other one has the gain of an earlier time, and is brought up to date only once its bound is
    among the largest (Minoux 1978, Optimization Techniques, LNCIS 7).

    Attributes:
        best: (m,) what its nearest pick is worth to each row.
        bounds: (n,) at least the gain of each column, -1 of what was picked.
    """

    def __init__(self, pairs: Pairs, start: Whole) -> None:
        self.pairs, self.best = pairs, start
        self.bounds = pairs.gains(start, np.arange(len(pairs.columns)))
        self._times = [start.copy()]
        self._time = np.zeros(len(self.bounds), dtype=np.int64)
        self._listed = np.empty(0, dtype=np.int64)
        self._similar: dict[int, Whole] = {}

    def picks(self, count: int) -> Iterator[tuple[int, float]]:
        """Yield so many columns and their gains, in whole numbers of 1 / ONE."""
        last: tuple[float, int] | None = None
        for _ in range(min(count, len(self.bounds))):
            while True:
                if last is not None:
                    column = int(self._listed[self.bounds[self._listed].argmax()])
                    gain = float(self.bounds[column])
                    if (-gain, column) <= last:
                        break
                last = self._list()
            if gain > 0:
                self._cover(column)
            self.bounds[column] = -1
            yield column, gain

    def _cover(self, column: int) -> None:
        """Raise the best of the rows that a pick is nearest to; lower the gains of the listed."""
        if column not in self._similar:
            largest = np.argsort(-self.bounds[self._listed], kind="stable")[:AT_ONCE]
            columns = self._listed[largest]
            self._similar = dict(zip(columns.tolist(), self.pairs.of(columns), strict=True))
        similar = self._similar[column]
        rows = np.flatnonzero(similar > self.best)
        before, now = self.best[rows], similar[rows]
        self.best[rows] = now
        self.bounds[self._listed] -= self.pairs.lost(self._listed, rows, before, now)

    def _list(self) -> tuple[float, int]:
        """List the columns of largest gain; return the place of the last of them in their order."""
        self._times.append(self.best.copy())
        self._time[self._listed] = len(self._times) - 1
        if len(self._times) > TIMES:
            self._renew(np.flatnonzero(self.bounds > 0))
            self._times = self._times[-1:]
            self._time[:] = 0
        while True:
            order = np.argsort(-self.bounds, kind="stable")[:LISTED]
            old = (self._time[order] < len(self._times) - 1) & (self.bounds[order] > 0)
            if not old.any():
                self._listed = np.sort(order)
                return -float(self.bounds[order[-1]]), int(order[-1])
            self._renew(order[old])

    def _renew(self, columns: _neighbours.Indices) -> None:
        """Bring the bounds of columns down to their gains."""
        for time in np.unique(self._time[columns]):
            some, before = columns[self._time[columns] == time], self._times[time]
            rows = np.flatnonzero(before < self.best)
            self.bounds[some] -= self.pairs.lost(some, rows, before[rows], self.best[rows])
        self._time[columns] = len(self._times) - 1


def sparse_picks(
    columns: _neighbours.Indices,
    starts: _neighbours.Indices,
    values: Whole,
    rows: _neighbours.Indices,
    count: int,
) -> Iterator[tuple[int, float]]:
    """Yield what `Greedy.picks` does, where all similarities but a few are 0.

    Args:
        columns: (e,) ascending, the column of each similarity that is not 0.
        starts: (n + 1,) where each column begins among them.
        values: (e,) the similarities, whole numbers.
        rows: (e,) their rows.
        count: how many to pick.
    """
    best = np.zeros(int(rows.max(initial=-1)) + 1, dtype=np.float32)
    gains = np.bincount(columns, weights=values, minlength=len(starts) - 1)
    queue = [(-gain, column, 0) for column, gain in enumerate(gains.tolist())]
    heapq.heapify(queue)
    for picked in range(min(count, len(queue))):
        while True:
            bound, column, looked_at = queue[0]
            span = slice(starts[column], starts[column + 1])
            if looked_at == picked or bound == 0:
                break
            over = values[span] - best[rows[span]]
            gain = float(over[over > 0].sum(dtype=np.float64))
            heapq.heapreplace(queue, (-gain, column, picked))
        heapq.heappop(queue)
        np.maximum.at(best, rows[span], values[span])
        yield column, -bound
