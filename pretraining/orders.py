"""In which order records come, and how batches are composed: functions of (uid, seed, epoch)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError, DataError, Problem
from contracts.uid import mix, random_bits, uniform
from pretraining import ranks

Rows = NDArray[np.int64]
UIDs = NDArray[np.uint64]
Repeats = NDArray[np.uint16] | Rows


@dataclass(frozen=True)
class Composition:
    """How batches are composed, beyond taking a record as often as it repeats.

    Attributes:
        weights: (n,) float64, not negative: a record is drawn in proportion.
        groups: (n,) uint64: the rows of a batch that belong together are of one group.
        positions: (n,) int64: of a record in its group, where there are groups.
        members: how many rows belong together; all of a batch where not given.
        streams: by name the records of a stream, bool (n,), and its rows of every batch.
    """

    weights: NDArray[np.float64] | None = None
    groups: UIDs | None = None
    positions: Rows | None = None
    members: int | None = None
    streams: Mapping[str, tuple[NDArray[np.bool_], int]] = field(default_factory=dict)


def order(uids: UIDs, repeats: Repeats, seed: int, epoch: int, stream: str | None = None) -> Rows:
    """Return the rows in the order in which an epoch draws them, each `repeats` times.

    The key that is sorted is a function of (uid, copy, seed, epoch) only, so the draws are the
    same records whatever the order of the rows, and two arms see common records in one order.
    A named stream has an order of its own.
    """
    rows, copies = _copies(repeats)
    bits = _bits(uids[rows], copies, seed, epoch, stream)
    return rows[np.lexsort((copies, uids[rows], bits))]


def drawn(
    uids: UIDs, repeats: Repeats, weights: NDArray[np.float64], seed: int, epoch: int
) -> Rows:
    """Return how often an epoch draws each record: floor(w + uniform(uid, seed, epoch)) times.

    w is the weight scaled to a mean of 1 over the records, each of which counts as often as it
    repeats and is drawn for each repeat anew.
    """
    rows, copies = _copies(repeats)
    scaled = weights[rows] * (len(rows) / weights[rows].sum())
    more = uniform(mix(uids[rows]) + copies, seed, f"draws {epoch}")
    return np.bincount(rows, np.floor(scaled + more), minlength=len(uids)).astype(np.int64)


def grouped(
    uids: UIDs,
    repeats: Repeats,
    groups: UIDs,
    positions: Rows,
    members: int,
    seed: int,
    epoch: int,
) -> Rows:
    """Return the rows of an epoch, so many members of one group after the other.

    A group, sorted by position and uid, is cut into as many runs as there are members, whose
    sizes differ by one at most. Each draw of the group takes one record of each run, in this
    order, and no record twice before the epoch ends. Smaller groups are passed over.
    """
    rows, copies = _copies(repeats)
    by_place = np.lexsort((copies, uids[rows], positions[rows], groups[rows]))
    rows, copies = rows[by_place], copies[by_place]
    _, first, of, sizes = np.unique(
        groups[rows], return_index=True, return_inverse=True, return_counts=True
    )
    run = (np.arange(len(rows)) - first[of]) * members // sizes[of]
    bits = _bits(uids[rows], copies, seed, epoch)
    # Each run in the order of the epoch: its i-th record is of the i-th draw of the group.
    within = np.lexsort((copies, uids[rows], bits, run, of))
    begins = np.flatnonzero(np.diff(of[within], prepend=-1) | np.diff(run[within], prepend=-1))
    draw = np.empty(len(rows), dtype=np.int64)
    draw[within] = np.arange(len(rows)) - np.repeat(begins, np.diff([*begins, len(rows)]))
    taken = np.flatnonzero(draw < sizes[of] // members)
    units = taken[np.lexsort((run[taken], draw[taken], of[taken]))].reshape(-1, members)
    head = units[:, 0]
    return rows[units[np.lexsort((copies[head], uids[rows[head]], bits[head]))]].ravel()


class Batches:
    """The rows of every step's batch.

    Attributes:
        names: of the streams, in the order of their rows.
    """

    def __init__(
        self,
        uids: UIDs,
        repeats: Repeats,
        composition: Composition | None = None,
        *,
        batch: int,
        seed: int,
        parts: int = 1,
    ) -> None:
        """Lay epochs end to end, of each stream its own.

        Args:
            uids: of the records.
            repeats: how often each counts.
            composition: none where not given.
            batch: records a step.
            seed: of the order.
            parts: into which `train` divides a batch.

        Raises:
            ConfigError: a batch, or a stream's rows of it, are not as many for each rank and part,
                or members do not divide it.
            DataError: there is no record, or none can be drawn.
        """
        of = composition or Composition()
        self.parts, self.names = parts, list(of.streams)
        streams = of.streams or {"": (np.ones(len(uids), dtype=bool), batch)}
        self._streams = []
        for name, (mask, rows) in streams.items():
            key = f"pretrain.streams.{name}.batch" if name else "pretrain.batch"
            if rows % (parts * ranks.count()):
                message = (
                    f"{rows} records are not {parts} equal parts for each of {ranks.count()} ranks."
                )
                raise ConfigError([Problem(key, message)])
            epochs = _epochs(uids, repeats * mask, of, name, rows, seed)
            self._streams.append((epochs, rows))

    def rows(self, step: int) -> Rows:
        """Return the rows of a step, (parts, ranks, n): of each part those of every rank.

        A rank has its rows of each stream, those of the first in front.
        """
        shape = self.parts, ranks.count(), -1
        of_streams = [
            epochs.between(step * rows, rows).reshape(shape) for epochs, rows in self._streams
        ]
        return np.concatenate(of_streams, axis=2)

    def streams(self) -> Rows:
        """Return the number of the stream of each of a rank's rows; without streams all are 0."""
        share = [rows // (self.parts * ranks.count()) for _, rows in self._streams]
        return np.tile(np.repeat(np.arange(len(share)), share), self.parts)


class _Epochs:
    """Epochs laid end to end; where they differ in length, they are counted from the first on."""

    def __init__(self, rows_of: Callable[[int], Rows], length_of: Callable[[int], int]) -> None:
        self.rows_of = lru_cache(maxsize=2)(rows_of)
        self.length_of, self.ends = length_of, [0]

    def between(self, first: int, count: int) -> Rows:
        while self.ends[-1] < first + count:
            self.ends.append(self.ends[-1] + self.length_of(len(self.ends) - 1))
        begin = bisect_right(self.ends, first) - 1
        epochs = range(begin, bisect_left(self.ends, first + count))
        rows = np.concatenate([self.rows_of(epoch) for epoch in epochs])
        return rows[first - self.ends[begin] :][:count]


def _epochs(
    uids: UIDs, repeats: Repeats, of: Composition, name: str, batch: int, seed: int
) -> _Epochs:
    """Return the epochs of one stream."""
    total = int(repeats.sum())
    if not total and name:
        raise DataError(
            f"pretrain.streams.{name}.where: is true for none of the {len(uids):,} records that "
            "are trained on. Give another condition, or keep such records."
        )
    if not total:
        raise DataError("there is no record to train on: the export kept none.")
    if of.weights is not None:
        weights = of.weights
        if not (weights * repeats).sum() > 0:
            raise DataError("pretrain.draws: is 0 for every record: nothing can be drawn.")

        def counts(epoch: int) -> Rows:
            return drawn(uids, repeats, weights, seed, epoch)

        return _Epochs(
            lambda epoch: order(uids, counts(epoch), seed, epoch, name),
            lambda epoch: int(counts(epoch).sum()),
        )
    if of.groups is not None:
        assert of.positions is not None
        groups, positions, members = of.groups, of.positions, of.members or batch
        if batch % members:
            raise ConfigError([Problem("pretrain.members", f"{batch} records are no multiple.")])
        length = members * int((sizes_of(groups, repeats)[1] // members).sum())
        if not length:
            raise DataError(
                f"pretrain.groups: no group has {members} records that are trained on. Give "
                "groups that are larger, or a smaller batch, or members."
            )
        return _Epochs(
            lambda epoch: grouped(uids, repeats, groups, positions, members, seed, epoch),
            lambda _: length,
        )
    return _Epochs(lambda epoch: order(uids, repeats, seed, epoch, name), lambda _: total)


def sizes_of(groups: UIDs, repeats: Repeats) -> tuple[UIDs, Rows]:
    """Return the groups and how many records each has, which count as often as they repeat."""
    names, of = np.unique(groups, return_inverse=True)
    return names, np.bincount(of, repeats, minlength=len(names)).astype(np.int64)


def _copies(repeats: Repeats) -> tuple[Rows, UIDs]:
    """Return each row as often as it repeats, and which copy of it each is."""
    rows = np.repeat(np.arange(len(repeats)), repeats)
    first = np.repeat(np.cumsum(repeats, dtype=np.int64) - repeats, repeats)
    return rows, (np.arange(len(rows)) - first).astype(np.uint64)


def _bits(uids: UIDs, copies: UIDs, seed: int, epoch: int, stream: str | None = None) -> UIDs:
    name = f"epoch {epoch}" + (f" of {stream}" if stream else "")
    return random_bits(mix(uids) + copies, seed, name)
