"""What a selection covers of its pool, told from a sample: how near, and how close to the best.

Nothing here compares all records with all: a sample of the pool's records is compared with every
record, in one pass for all rules and a second for the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.uid import UIDs, shuffled, uniform
from curation import _coverage, _neighbours

STREAM = "certificate"
HALVINGS = 6
# Records a sampled one is compared with for random subsets: so that all but e^-12 hold one of them.
DEPTH, MOST_DEPTH = 12, 4096
EXACT_PAIRS = 10**9


@dataclass(frozen=True)
class Cover:
    """What some records cover.

    Attributes:
        records: how many they are.
        distance: mean distance of a record of the pool to the nearest of them, sqrt(2 - 2 cos);
            where no cosine is above 0, sqrt(2).
        low: lower end of its 95 % interval over the sample.
        high: upper end.
    """

    records: int
    distance: float
    low: float
    high: float


@dataclass(frozen=True)
class Certificate:
    """What a selection covers of the pool it was made from.

    Attributes:
        records: of the pool, with a vector.
        sample: how many of them were looked at.
        rules: what was left before the first rule and after each, by the order of the rules.
        halvings: what a random half, quarter and so on of the kept covers, the smallest first, and
            last all of them: where the curve falls no more, more records add nothing.
        farthest: the largest distance of a record to the nearest kept.
        farthest_is_exact: of all records; otherwise of the sample, so at least.
        value: facility location, the mean of the best cosine to a kept record, over the sample.
        bound: no set of as many records has more.
        random_value: the mean of that value over random sets of as many.
        random_sd: its standard deviation between sets.
        percentile: the share of random sets that are worth no more.
        distinct: the effective number of distinct records among the kept, by Vendi's score of at
            most `sample` of them.
        random_distinct: of a random set of as many.
    """

    records: int
    sample: int
    rules: list[Cover]
    halvings: list[Cover]
    farthest: float
    farthest_is_exact: bool
    value: float
    bound: float
    random_value: float
    random_sd: float
    percentile: float
    distinct: float
    random_distinct: float


def certify(
    x: NDArray[np.floating] | _neighbours.Rows,
    uids: UIDs,
    dropped_by: _neighbours.Indices,
    *,
    rules: int,
    sample: int = 2000,
    subsets: int = 1000,
    seed: int = 0,
) -> Certificate:
    """Compare a sample of a pool with what each rule left of it.

    The bound: for any records A, no k records are worth more than F(A) and the k largest gains
    over A together (Nemhauser, Wolsey and Fisher 1978, Mathematical Programming 14; Leskovec et al.
    2007, KDD); the least is taken over nothing, half of the kept and all of them. Random subsets
    are drawn record by record with the kept share, so that their sizes are nearly equal.

    Args:
        x: (n, d) vectors of any length but 0, sorted by uid.
        uids: (n,).
        dropped_by: (n,) the number of the rule that dropped a record; `rules` where it is kept.
        rules: how many there are.
        sample: records that are looked at; those with the smallest draws.
        subsets: random sets of as many records.
        seed: of the draws.

    Cost: 2 * sample * n * D multiplications; 24 bytes a record, 12 KB a sampled one, and 32 bytes
    for each of them and of 12 n / k records near it, k being the kept.
    Vendi's score: Friedman and Dieng 2023, arXiv:2210.02410.
    """
    order = shuffled(uids, seed, STREAM)
    looked_at = np.sort(order[:sample])
    rows = _coverage.on_grid(_at(x, looked_at))
    kept = dropped_by == rules
    count = int(kept.sum())
    level = _levels(order, dropped_by, rules, count)
    depth = min(len(x), MOST_DEPTH, max(64, math.ceil(DEPTH * len(x) / count)))

    best = np.zeros((rules + HALVINGS + 1, len(rows)), dtype=np.float32)
    gains = np.empty(len(x))
    near = _Nearest(len(rows), depth)
    for a, b, tile in _tiles(x, rows):
        gains[a:b] = tile.sum(axis=1, dtype=np.float64)
        for number in np.unique(level[a:b]):
            largest = tile[level[a:b] == number].max(axis=0)
            np.maximum(best[number], largest, out=best[number])
        near.offer(a, tile)
    # After a rule everything of later levels is left; the halvings are a level each from the end.
    left = np.maximum.accumulate(best[::-1])[::-1]
    whole = left[rules]
    grown = np.maximum.accumulate(best[rules:][::-1])
    half = grown[-2]

    bounds = [np.sort(gains)[-count:].sum()]
    over_half, over_all = np.empty(len(x)), np.empty(len(x))
    for a, b, tile in _tiles(x, rows):
        for over, covered in ((over_half, half), (over_all, whole)):
            over[a:b] = np.maximum(tile - covered, 0).sum(axis=1, dtype=np.float64)
    for over, covered in ((over_half, half), (over_all, whole)):
        bounds.append(covered.sum(dtype=np.float64) + np.sort(over)[-count:].sum())

    scale = len(rows) * _coverage.ONE
    values = near.values_of_subsets(uids, count / len(x), subsets, seed)
    value = float(whole.sum(dtype=np.float64)) / scale
    exact = len(x) * count <= EXACT_PAIRS
    nearest = whole
    if exact:
        nearest = _coverage.best(
            _coverage.on_grid(_at(x, np.flatnonzero(kept))), _coverage.on_grid(x)
        )
    after = [int((dropped_by >= rule).sum()) for rule in range(rules + 1)]
    sizes = [int((level >= rules + HALVINGS - n).sum()) for n in range(HALVINGS + 1)]
    few = np.flatnonzero(kept[order])[: len(looked_at)]
    return Certificate(
        records=len(x),
        sample=len(rows),
        rules=[_cover(n, b) for n, b in zip(after, left, strict=False)],
        halvings=[_cover(n, b) for n, b in zip(sizes, grown, strict=True) if n],
        farthest=float(_distance(nearest).max()),
        farthest_is_exact=exact,
        value=value,
        bound=min(float(min(bounds)) / scale, 1.0),
        random_value=float(values.mean()),
        random_sd=float(values.std(ddof=1)),
        percentile=float((values <= value).mean()),
        distinct=distinct(_at(x, order[few])),
        random_distinct=distinct(_at(x, order[: len(few)])),
    )


def distinct(x: NDArray[np.floating]) -> float:
    """Return the effective number of distinct rows: exp of the spectrum's entropy of x'x / n."""
    units = _neighbours.unit_64(x)
    spectrum = np.linalg.eigvalsh(units.T @ units / len(units))
    positive = spectrum[spectrum > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def _at(
    x: NDArray[np.floating] | _neighbours.Rows, rows: _neighbours.Indices
) -> NDArray[np.floating]:
    found: NDArray[np.floating] = x[rows]
    return found


def _levels(
    order: _neighbours.Indices, dropped_by: _neighbours.Indices, rules: int, count: int
) -> _neighbours.Indices:
    """Return the rule that dropped a record; of a kept one how far it is towards the last half.

    The first half of the kept, by draws, has level rules, the next quarter rules + 1, and so on.
    """
    level = dropped_by.copy()
    drawn = order[dropped_by[order] == rules]
    for halving in range(1, HALVINGS + 1):
        level[drawn[: count >> halving]] = rules + halving
    return level


def _tiles(
    x: NDArray[np.floating] | _neighbours.Rows, rows: _coverage.Whole
) -> Iterator[tuple[int, int, _coverage.Whole]]:
    """Yield the similarities of a block of records to the sampled ones."""
    for a, b in _neighbours.blocks(len(x)):
        tile = _coverage.on_grid(x[a:b]) @ rows.T
        yield a, b, np.clip(tile, 0, _coverage.ONE, out=tile)


def _distance(similarity: _coverage.Whole) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.sqrt(
        np.maximum(2 - 2 * similarity.astype(np.float64) / _coverage.ONE, 0)
    )
    return found


def _cover(records: int, best: _coverage.Whole) -> Cover:
    distance = _distance(best)
    mean = float(distance.mean())
    error = 1.96 * float(distance.std()) / math.sqrt(len(distance))
    return Cover(records, mean, mean - error, mean + error)


class _Nearest:
    """For each sampled record the records most like it, the likest first in the end."""

    def __init__(self, rows: int, depth: int) -> None:
        self.depth = depth
        self.similar = [np.empty((rows, 0), dtype=np.float32)]
        self.record = [np.empty((rows, 0), dtype=np.int64)]

    def offer(self, start: int, tile: _coverage.Whole) -> None:
        """Look at a block of records, of which (records, rows) similarities are given."""
        numbers = np.arange(start, start + len(tile))
        self.similar.append(tile.T.copy())
        self.record.append(np.broadcast_to(numbers, (tile.shape[1], len(tile))))
        if sum(one.shape[1] for one in self.similar) > 2 * self.depth:
            self._shorten()

    def _shorten(self) -> None:
        similar, record = np.hstack(self.similar), np.hstack(self.record)
        if similar.shape[1] > self.depth:
            chosen = np.argpartition(-similar, self.depth - 1, axis=1)[:, : self.depth]
            similar = np.take_along_axis(similar, chosen, axis=1)
            record = np.take_along_axis(record, chosen, axis=1)
        self.similar, self.record = [similar], [record]

    def values_of_subsets(
        self, uids: UIDs, share: float, subsets: int, seed: int
    ) -> NDArray[np.float64]:
        """Return what random sets of a share of the records are worth.

        A sampled record none of whose nearest is in a set counts with the last of them, which is
        more than it is worth: random sets look better than they are, never worse.
        """
        self._shorten()
        order = np.lexsort((self.record[0], -self.similar[0]), axis=1)
        similar = np.take_along_axis(self.similar[0], order, axis=1) / np.float32(_coverage.ONE)
        nearest_first = np.take_along_axis(self.record[0], order, axis=1)
        records, place = np.unique(nearest_first, return_inverse=True)
        place = place.reshape(similar.shape)
        values = np.empty(subsets)
        for number in range(subsets):
            drawn = uniform(uids[records], seed, f"{STREAM}:{number}") < share
            member = drawn[place]
            first = np.where(member.any(axis=1), member.argmax(axis=1), similar.shape[1] - 1)
            values[number] = np.take_along_axis(similar, first[:, None], axis=1).mean(
                dtype=np.float64
            )
        return values
