"""Texts packed into rows of tokens: a batch holds little padding, or none."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import ConfigError, Problem
from pretraining.codecs import Codec, lacking
from pretraining.orders import Composition, Rows, drawn, order

Tokens = NDArray[np.int64]


class PackingCodec(Codec, Protocol):
    """A codec of texts that may be packed.

    Attributes:
        packing: None where a row is a text.
    """

    @property
    def packing(self) -> Literal["cut", "whole"] | None: ...  # noqa: D102
    @property
    def padding(self) -> int: ...  # noqa: D102

    def laid(self, raw: str) -> Tokens:
        """Return the tokens of a text, and a separator."""
        ...

    def begun(self) -> list[int]:
        """Return what stands in front of a row's first text."""
        ...


def packed_column(codecs: Mapping[str, Codec]) -> str | None:
    """Return the column whose rows hold several texts; None where a row is a record.

    Raises:
        ConfigError: there is another column beside it, whose rows are records.
    """
    packed = [name for name, codec in codecs.items() if getattr(codec, "packing", None)]
    if packed and len(codecs) > 1:
        others = sorted(set(codecs) - {packed[0]})
        raise ConfigError(
            [Problem("pretrain", f"packed texts are no records, as the rows of {others} are.")]
        )
    return packed[0] if packed else None


def refuse_composed(composition: Composition | None) -> None:
    """Raise ConfigError where a batch is composed of records by groups or streams."""
    of = composition or Composition()
    for key, given in (("groups", of.groups is not None), ("streams", bool(of.streams))):
        if given:
            raise ConfigError([Problem(f"pretrain.{key}", "goes with no packed texts.")])


def counted(samples: Any, codec: PackingCodec) -> Rows:
    """Return how many tokens each record's text is, its separator among them.

    Cost: every text is read and split once.
    """
    found = np.empty(len(samples.uids), dtype=np.int64)
    for start in range(0, len(found), 1024):
        rows = np.arange(start, min(start + 1024, len(found)))
        found[rows] = [len(tokens) for tokens in _laid(samples, codec, rows)]
    return found


class Packed:
    """The rows of a training, by number; epochs lie end to end.

    "cut": in an epoch's order the texts are laid end to end, each with a separator behind it, and
    row r is tokens [r N, (r + 1) N). "whole": a row takes the next texts as long as they fit, and
    is filled with padding; a text that is longer than a row is alone in one, cut at its end. An
    epoch begins a row of its own then.

    A row is reached by the lengths of the texts alone. Where epochs are not equally long, as
    those of "whole" or with `draws`, those before it are counted, which takes a sort of each.
    """

    def __init__(
        self,
        samples: Any,
        composition: Composition | None = None,
        *,
        codec: PackingCodec,
        seed: int,
        lengths: Rows | None = None,
        cache_bytes: int = 1 << 29,
    ) -> None:
        """Take the texts of an arm.

        Args:
            samples: as `pretraining.batches.Samples`.
            composition: of which `weights` have a say.
            codec: says how texts are packed.
            seed: of the order.
            lengths: what `counted` returns, counted here where not given.
            cache_bytes: memory for tokens; the first that fit stay.

        Raises:
            ConfigError: groups or streams compose the batches.
        """
        refuse_composed(composition)
        self.samples, self.codec = samples, codec
        self.places = codec.shape[0]
        self.lengths = counted(samples, codec) if lengths is None else lengths
        weights = None if composition is None else composition.weights

        def repeats(epoch: int) -> Any:
            if weights is None:
                return samples.repeats
            return drawn(samples.uids, samples.repeats, weights, seed, epoch)

        @lru_cache(maxsize=2)
        def laid_out(epoch: int) -> tuple[Rows, Rows]:
            """Return the records of an epoch in order, and the first token of each and the end."""
            rows = order(samples.uids, repeats(epoch), seed, epoch)
            return rows, np.concatenate([[0], np.cumsum(self.lengths[rows])])

        @lru_cache(maxsize=2)
        def filled(epoch: int) -> tuple[Rows, Rows]:
            """Return the records of an epoch in order, and the first of each row and the end."""
            rows, tokens = laid_out(epoch)
            room, firsts = self.places - len(codec.begun()), [0]
            while firsts[-1] < len(rows):
                fits = int(np.searchsorted(tokens, tokens[firsts[-1]] + room, side="right")) - 1
                firsts.append(max(fits, firsts[-1] + 1))
            return rows, np.array(firsts)

        def tokens_in(epoch: int) -> int:
            return int(np.asarray(repeats(epoch)) @ self.lengths)

        self._laid_out, self._filled = laid_out, filled
        if codec.packing == "cut":
            self._ends = _Ends(tokens_in)
        else:
            self._ends = _Ends(lambda epoch: len(filled(epoch)[1]) - 1)
        self._kept: dict[int, Tokens] = {}
        self._free, self._lock = cache_bytes, threading.Lock()

    def batch(self, rows: Rows) -> Tensor:
        """Return rows by their numbers, int64 (B, N)."""
        of_rows = [self._texts(int(row)) for row in rows]
        tokens = self._tokens({record for texts in of_rows for record, _, _ in texts})
        begun = [] if self.codec.packing == "cut" else self.codec.begun()
        found_BN = np.full((len(rows), self.places), self.codec.padding, dtype=np.int64)
        for row_N, texts in zip(found_BN, of_rows, strict=True):
            laid = [tokens[record][begin:end] for record, begin, end in texts]
            row = np.concatenate([np.array(begun, dtype=np.int64), *laid])[: self.places]
            row_N[: len(row)] = row
        return torch.from_numpy(found_BN)

    def records(self, rows: Rows) -> Rows:
        """Return the records whose texts stand in rows, in their order."""
        return np.array([record for row in rows for record, _, _ in self._texts(int(row))])

    def _texts(self, row: int) -> list[tuple[int, int, int]]:
        """Return the records of a row, each with where its tokens begin and end in its text."""
        if self.codec.packing == "whole":
            epoch, within = self._ends.at(row)
            records, firsts = self._filled(epoch)
            return [
                (int(r), 0, int(self.lengths[r]))
                for r in records[firsts[within] : firsts[within + 1]]
            ]
        found, first, left = [], row * self.places, self.places
        while left:
            epoch, within = self._ends.at(first)
            records, tokens = self._laid_out(epoch)
            at = int(np.searchsorted(tokens, within, side="right")) - 1
            while left and at < len(records):
                begin = within - int(tokens[at])
                taken = min(left, int(tokens[at + 1]) - within)
                found.append((int(records[at]), begin, begin + taken))
                first, within, left, at = first + taken, within + taken, left - taken, at + 1
        return found

    def _tokens(self, records: set[int]) -> dict[int, Tokens]:
        with self._lock:
            tokens = {record: self._kept[record] for record in records if record in self._kept}
            absent = np.array(sorted(records - set(tokens)), dtype=np.int64)
            raw = self.samples.read(absent) if len(absent) else {}
        for record, laid in zip(
            absent.tolist(), _encoded(self.samples, self.codec, absent, raw), strict=True
        ):
            tokens[record] = laid
            with self._lock:
                if record not in self._kept and laid.nbytes <= self._free:
                    self._kept[record] = laid
                    self._free -= laid.nbytes
        return tokens


class _Ends:
    """Where epochs end that are laid end to end; counted from the first on."""

    def __init__(self, length_of: Callable[[int], int]) -> None:
        self.length_of, self.ends = length_of, [0]
        self.lock = threading.Lock()

    def at(self, place: int) -> tuple[int, int]:
        """Return the epoch of a place, and where in it this is."""
        with self.lock:
            while self.ends[-1] <= place:
                self.ends.append(self.ends[-1] + self.length_of(len(self.ends) - 1))
            epoch = bisect_right(self.ends, place) - 1
            return epoch, place - self.ends[epoch]


def _laid(samples: Any, codec: PackingCodec, rows: Rows) -> list[Tokens]:
    return _encoded(samples, codec, rows, samples.read(rows))


def _encoded(
    samples: Any, codec: PackingCodec, rows: Rows, raw: Mapping[str, list[Any]]
) -> list[Tokens]:
    found = []
    for row, text in zip(rows, raw.get(codec.reads, [None] * len(rows)), strict=True):
        if text is None:
            raise lacking(int(samples.uids[row]), codec)
        found.append(codec.laid(text))
    return found
