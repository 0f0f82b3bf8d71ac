"""From exported records to batches: any step can be reached without the steps before it."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts import decode
from contracts.errors import ConfigError, DataError
from contracts.uid import hex_uid, mix, random_bits

Tokenize = Callable[[list[str]], Tensor]
Rows = NDArray[np.int64]


class Samples(Protocol):
    """The exported shards of one arm, read by position.

    Attributes:
        uids: one for each record.
        repeats: how often an epoch sees the record.
    """

    uids: NDArray[np.uint64]
    repeats: NDArray[np.uint16]

    def read(self, rows: Rows) -> dict[str, list[Any]]:
        """Return `image` (encoded bytes) and `text` (str) of the rows, in their order.

        Called by one thread at a time.
        """
        ...


def order(uids: NDArray[np.uint64], repeats: NDArray[np.uint16], seed: int, epoch: int) -> Rows:
    """Return the rows in the order in which an epoch draws them, each `repeats` times.

    The key that is sorted is a function of (uid, copy, seed, epoch) only, so the draws are the
    same records whatever the order of the rows, and two arms see common records in one order.
    """
    rows = np.repeat(np.arange(len(uids)), repeats)
    first = np.repeat(np.cumsum(repeats, dtype=np.int64) - repeats, repeats)
    copies = (np.arange(len(rows)) - first).astype(np.uint64)
    bits = random_bits(mix(uids[rows]) + copies, seed, f"epoch {epoch}")
    return rows[np.lexsort((copies, uids[rows], bits))]


def batches(
    samples: Samples,
    *,
    reads: Sequence[str],
    side_px: int,
    batch: int,
    seed: int,
    start: int,
    steps: int,
    tokenize: Tokenize | None = None,
    cache_bytes: int = 1 << 29,
    threads: int = 2,
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of the steps from `start` to `steps`.

    Step s takes the draws [s * batch, (s + 1) * batch) of the epochs' orders laid end to end.
    `image` is uint8 (B, 3, side_px, side_px): the middle square, scaled; `text` is tokens_BN.
    Four batches are made ahead.

    Args:
        cache_bytes: memory for decoded records. The first that fit stay: an epoch sees all
            records, so by the time one returns, the others would have driven it out.
        threads: that decode.

    Raises:
        ConfigError: a column is unknown, or text is read and `tokenize` is missing.
        DataError: there is no record, or one cannot be decoded or has no text.
    """
    unknown = set(reads) - {"image", "text"}
    if unknown:
        raise ConfigError(f"no batch has {sorted(unknown)}: there is image and text.")
    if "text" in reads and tokenize is None:
        raise ConfigError("the objective reads text: give its tokenize to batches.")
    if not int(samples.repeats.sum()):
        raise DataError("there is no record to train on: the export kept none.")
    records = _Records(samples, reads, side_px, tokenize, cache_bytes)
    return _ahead(records, _Draws(samples, seed), batch, start, steps, threads)


def _ahead(
    records: _Records, draws: _Draws, batch: int, start: int, steps: int, threads: int
) -> Iterator[dict[str, Tensor]]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[dict[str, Tensor]]] = deque()
        try:
            for step in range(start, steps):
                waiting.append(pool.submit(records.batch, draws.between(step * batch, batch)))
                if len(waiting) > 4:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Draws:
    """The endless sequence of draws."""

    def __init__(self, samples: Samples, seed: int) -> None:
        self.length = int(samples.repeats.sum())
        self.epoch = lru_cache(maxsize=2)(
            lambda epoch: order(samples.uids, samples.repeats, seed, epoch)
        )

    def between(self, first: int, count: int) -> Rows:
        epochs = range(first // self.length, (first + count - 1) // self.length + 1)
        rows = np.concatenate([self.epoch(epoch) for epoch in epochs])
        offset = first % self.length
        return rows[offset : offset + count]


class _Records:
    """The columns of the samples as arrays; the first rows that fit are kept in memory."""

    def __init__(
        self,
        samples: Samples,
        reads: Sequence[str],
        side_px: int,
        tokenize: Tokenize | None,
        cache_bytes: int,
    ) -> None:
        self.samples = samples
        self.convert: dict[str, Callable[[Rows, list[Any]], Tensor]] = {}
        if "image" in reads:
            self.convert["image"] = lambda rows, data: self._images(rows, data, side_px)
        if "text" in reads:
            assert tokenize is not None
            self.convert["text"] = lambda rows, texts: self._tokens(rows, texts, tokenize)
        nothing = np.empty(0, dtype=np.int64)
        empty = {column: convert(nothing, []) for column, convert in self.convert.items()}
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
            read = self.samples.read(absent) if len(absent) else {c: [] for c in self.convert}
        fresh = {c: convert(absent, read[c]) for c, convert in self.convert.items()}
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

    def _images(self, rows: Rows, data: list[bytes], side_px: int) -> Tensor:
        images_BHWC = np.empty((len(data), side_px, side_px, 3), dtype=np.uint8)
        for image, row, encoded in zip(images_BHWC, rows, data, strict=True):
            try:
                image[:] = decode.square(decode.reduced(encoded, side_px), side_px)
            except decode.Undecodable as error:
                raise DataError(
                    f"record {hex_uid(int(self.samples.uids[row]))} cannot be decoded ({error}): "
                    "the shards are damaged, verify them."
                ) from error
        return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).contiguous()

    def _tokens(self, rows: Rows, texts: list[str | None], tokenize: Tokenize) -> Tensor:
        for row, text in zip(rows, texts, strict=True):
            if text is None:
                raise DataError(
                    f"record {hex_uid(int(self.samples.uids[row]))} has no text: "
                    "drop such records with a rule, text IS NOT NULL."
                )
        return tokenize([text for text in texts if text is not None])
