"""From exported records to batches: any step can be reached without the steps before it."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.decode import Undecodable
from contracts.errors import ConfigError, DataError
from contracts.uid import hex_uid
from pretraining import ranks
from pretraining.codecs import Codec, lacking
from pretraining.orders import Batches, Composition, Rows
from pretraining.packing import Packed, PackingCodec, packed_column


class Samples(Protocol):
    """The exported shards of one arm, read by position.

    Attributes:
        uids: one for each record.
        repeats: how often an epoch sees the record.
    """

    uids: NDArray[np.uint64]
    repeats: NDArray[np.uint16]

    def read(self, rows: Rows) -> dict[str, list[Any]]:
        """Return all that is known of the rows, in their order: `image` as encoded bytes, `text`.

        Called by one thread at a time.
        """
        ...


def batches(
    samples: Samples,
    composition: Composition | None = None,
    *,
    codecs: Mapping[str, Codec],
    batch: int,
    seed: int,
    start: int,
    steps: int,
    cache_bytes: int = 1 << 29,
    threads: int = 2,
    parts: int = 1,
    lengths: Rows | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of the steps from `start` to `steps`.

    Step s takes the draws [s * batch, (s + 1) * batch) of the epochs' orders laid end to end, of
    streams each its rows; the column `stream` then has the number of each row's stream. Of several
    ranks each has its rows of them. Four batches are made ahead. Where the codec of texts packs
    them, a step takes rows in place of draws, see `pretraining.packing`.

    Args:
        samples: of an arm.
        composition: of the batches, beyond the repeats.
        codecs: of each column: it says of what a row is made.
        cache_bytes: memory for decoded records. The first that fit stay: an epoch sees all
            records, so by the time one returns, the others would have driven it out.
        threads: that decode.
        parts: into which `train` divides a batch: a rank has its rows of each.
        lengths: of texts that are packed, as `pretraining.packing.counted` returns them.

    Raises:
        ConfigError: there is no column, a batch is not as many rows for each rank, or packed texts
            go with another column, or with groups or streams.
        DataError: there is no record, none can be drawn, or one cannot be decoded or lacks what a
            codec reads.
    """
    if not codecs:
        raise ConfigError("a batch without columns: give the codecs of an objective.")
    composed = Batches(
        samples.uids, samples.repeats, composition, batch=batch, seed=seed, parts=parts
    )
    column = packed_column(codecs)
    if column is not None:
        packed = Packed(
            samples, composition, codec=cast(PackingCodec, codecs[column]), seed=seed,
            lengths=lengths, cache_bytes=cache_bytes,
        )  # fmt: skip

        def numbers(step: int) -> Rows:
            every = np.arange(step * batch, (step + 1) * batch).reshape(parts, ranks.count(), -1)
            return every[:, ranks.own()].ravel()

        return _ahead(
            lambda rows: {column: packed.batch(rows)}, numbers, range(start, steps), threads
        )
    records = _Records(samples, codecs, cache_bytes)
    streams = torch.from_numpy(composed.streams())
    made = _ahead(
        records.batch,
        lambda step: composed.rows(step)[:, ranks.own()].ravel(),
        range(start, steps),
        threads,
    )
    return ({**one, "stream": streams} for one in made) if composed.names else made


def uids_of(
    samples: Samples,
    composition: Composition | None = None,
    *,
    batch: int,
    seed: int,
    step: int,
    parts: int = 1,
    packed: Packed | None = None,
) -> NDArray[np.uint64]:
    """Return the uids of the records of a step, counted from 0, in the order of its rows.

    Of packed texts these are all that a row has some of.
    """
    if packed is not None:
        return samples.uids[packed.records(np.arange(step * batch, (step + 1) * batch))]
    composed = Batches(
        samples.uids, samples.repeats, composition, batch=batch, seed=seed, parts=parts
    )
    return samples.uids[composed.rows(step).ravel()]


def _ahead(
    made_of: Callable[[Rows], dict[str, Tensor]],
    rows: Callable[[int], Rows],
    steps: range,
    threads: int,
) -> Iterator[dict[str, Tensor]]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[dict[str, Tensor]]] = deque()
        try:
            for step in steps:
                waiting.append(pool.submit(made_of, rows(step)))
                if len(waiting) > 4:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Records:
    """The columns of the samples as arrays; the first rows that fit are kept in memory."""

    def __init__(self, samples: Samples, codecs: Mapping[str, Codec], cache_bytes: int) -> None:
        self.samples, self.codecs = samples, codecs
        empty = {column: self._encoded(codec, [], []) for column, codec in codecs.items()}
        row_bytes = sum(e.element_size() * math.prod(e.shape[1:]) for e in empty.values())
        slots = min(len(samples.uids), cache_bytes // row_bytes)
        self.kept = {column: e.new_empty(slots, *e.shape[1:]) for column, e in empty.items()}
        self.slot_of_row = np.full(len(samples.uids), -1, dtype=np.int64)
        self.used, self.slots = 0, slots
        self.lock = threading.Lock()

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        with self.lock:
            slots = self.slot_of_row[rows]
            absent = np.unique(rows[slots < 0])
            read = self.samples.read(absent) if len(absent) else {}
        fresh = {
            column: self._encoded(codec, absent, read.get(codec.reads, [None] * len(absent)))
            for column, codec in self.codecs.items()
        }
        place = torch.from_numpy(np.searchsorted(absent, rows[slots < 0]))
        held = torch.from_numpy(slots >= 0)
        result = {}
        for column, new in fresh.items():
            out = new.new_empty(len(rows), *new.shape[1:])
            out[held] = self.kept[column][torch.from_numpy(slots[slots >= 0])]
            out[~held] = new[place]
            result[column] = out
        self._keep(absent, fresh)
        return result

    def _keep(self, rows: Rows, fresh: dict[str, Tensor]) -> None:
        with self.lock:
            # Another thread may have kept some of them meanwhile.
            new = np.flatnonzero(self.slot_of_row[rows] < 0)[: self.slots - self.used]
            slots = np.arange(self.used, self.used + len(new))
            for column, values in fresh.items():
                self.kept[column][torch.from_numpy(slots)] = values[torch.from_numpy(new)]
            self.slot_of_row[rows[new]] = slots
            self.used += len(new)

    def _encoded(self, codec: Codec, rows: Iterable[int], raw: Sequence[Any]) -> Tensor:
        items = np.empty((len(raw), *codec.shape), dtype=codec.dtype)
        for place, (row, value) in enumerate(zip(rows, raw, strict=True)):
            if value is None:
                raise lacking(int(self.samples.uids[row]), codec)
            try:
                item = codec.encode(value)
            except Undecodable as error:
                raise DataError(
                    f"record {self._name(row)} cannot be decoded ({error}): the shards are "
                    "damaged, verify them."
                ) from error
            if item.shape != codec.shape:
                raise DataError(
                    f"record {self._name(row)}: {codec.reads} has the shape {item.shape}, "
                    f"not {codec.shape}."
                )
            items[place] = item
        return torch.from_numpy(items)

    def _name(self, row: int) -> str:
        return hex_uid(int(self.samples.uids[row]))
