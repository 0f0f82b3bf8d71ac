"""Texts packed into rows, against rows that a loop over all texts makes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from contracts.errors import ConfigError, DataError
from contracts.tokens import PADDING, SEPARATOR, START, Vocabulary
from pretraining import ranks
from pretraining.batches import batches, uids_of
from pretraining.codecs import ImageCodec
from pretraining.orders import Composition, drawn, order
from pretraining.packing import Packed, counted
from pretraining.parts.vocabulary import VocabularyCodec

PLACES, SEED = 12, 5
UIDS = np.arange(100, 109, dtype=np.uint64)
REPEATS = np.array([1, 2, 1, 0, 1, 3, 1, 1, 1], dtype=np.uint16)
# One is empty, one as long as a row has room for, one longer than two rows.
LENGTHS = [3, 1, 0, 4, 10, 2, 27, 5, 7]
TEXTS = ["abcdefghi"[n] * length for n, length in enumerate(LENGTHS)]


class Texts:
    """The records; counts what is read."""

    def __init__(self, texts: list[Any] = TEXTS) -> None:
        self.uids, self.repeats, self.texts = UIDS, REPEATS, texts
        self.reads: Counter[int] = Counter()

    def read(self, rows: Any) -> dict[str, list[Any]]:
        self.reads.update(rows.tolist())
        return {"text": [self.texts[row] for row in rows]}


def codec(packing: Any) -> VocabularyCodec:
    return VocabularyCodec(Vocabulary.of_bytes(), PLACES, packing)


def epoch_texts(epoch: int, weights: Any = None) -> list[list[int]]:
    """The tokens of an epoch's texts, each with a separator behind it."""
    counts = REPEATS if weights is None else drawn(UIDS, REPEATS, weights, SEED, epoch)
    rows = order(UIDS, counts, SEED, epoch)
    return [[*Vocabulary.of_bytes().encode(TEXTS[row]), SEPARATOR] for row in rows]


def cut(epochs: int, weights: Any = None) -> list[list[int]]:
    laid = [t for epoch in range(epochs) for text in epoch_texts(epoch, weights) for t in text]
    return [laid[first : first + PLACES] for first in range(0, len(laid) - PLACES + 1, PLACES)]


def whole(epochs: int, weights: Any = None) -> list[list[int]]:
    rows = []
    for epoch in range(epochs):
        row = [START]
        for text in epoch_texts(epoch, weights):
            if len(row) > 1 and len(row) + len(text) > PLACES:
                rows.append(row)
                row = [START]
            row += text
        rows.append(row)
    return [(row + [PADDING] * PLACES)[:PLACES] for row in rows]


def seen(packing: Any, texts: Any = None, composition: Any = None, **given: Any) -> list[Any]:
    settings: dict[str, Any] = {"batch": 4, "seed": SEED, "start": 0, "steps": 9, **given}
    made = batches(texts or Texts(), composition, codecs={"text": codec(packing)}, **settings)
    return [one["text"].tolist() for one in made]


WEIGHTS = np.array([0.2, 1, 3, 1, 1, 0.5, 1, 0, 1])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["repeats", "draws"])
@pytest.mark.parametrize(("packing", "rows_of"), [("cut", cut), ("whole", whole)])
def test_rows_are_those_of_a_loop_over_the_texts_of_all_epochs(packing, rows_of, weights):
    composition = None if weights is None else Composition(weights=weights)
    found = [row for one in seen(packing, None, composition) for row in one]
    expected = rows_of(30, weights)
    assert found == expected[: len(found)]
    assert len(found) == 36


@pytest.mark.parametrize("packing", ["cut", "whole"])
def test_a_step_is_reached_without_reading_what_stands_before_it(packing):
    texts = Texts()
    lengths = counted(texts, codec(packing))
    assert lengths.tolist() == [length + 1 for length in LENGTHS]
    assert set(texts.reads.values()) == {1}
    texts.reads.clear()
    [last] = seen(packing, texts, start=8, lengths=lengths)
    assert last == seen(packing)[8]
    packed = Packed(Texts(), codec=codec(packing), seed=SEED)
    rows = np.arange(32, 36)
    assert set(texts.reads) == set(packed.records(rows).tolist())
    named = uids_of(texts, None, batch=4, seed=SEED, step=8, packed=packed)
    assert named.tolist() == UIDS[packed.records(rows)].tolist()


def test_no_text_is_cut_but_one_that_is_longer_than_a_row():
    rows = [row for one in seen("whole") for row in one]
    assert all(row[0] == START for row in rows)
    letters = Counter(tuple(text) for row in rows for text in _parts(row[1:]))
    byte = Vocabulary.of_bytes().encode
    assert set(letters) == {
        tuple(byte(text)[: PLACES - 1]) for text, n in zip(TEXTS, REPEATS, strict=True) if n
    }


def _parts(row: list[int]) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in row:
        if token == PADDING:
            continue
        if token == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts if parts[-1] else parts[:-1]


def test_threads_and_a_cache_of_no_bytes_change_nothing():
    for packing in ("cut", "whole"):
        assert seen(packing, threads=1, cache_bytes=0) == seen(packing, threads=4)
    texts = Texts()
    seen("cut", texts, steps=30)
    # Read to be counted, and once more for what is kept.
    assert max(texts.reads.values()) <= 2 + 4


@pytest.mark.parametrize("parts", [1, 2])
def test_ranks_share_the_rows_of_every_part(parts, monkeypatch):
    expected = seen("cut", batch=8, parts=parts)
    monkeypatch.setattr(ranks, "count", lambda: 2)
    of_ranks = []
    for rank in range(2):
        monkeypatch.setattr(ranks, "own", lambda rank=rank: rank)
        of_ranks.append(seen("cut", batch=8, parts=parts))
    for step, rows in enumerate(expected):
        mine = [np.array(of_rank[step]).reshape(parts, -1, PLACES) for of_rank in of_ranks]
        assert np.concatenate(mine, axis=1).reshape(-1, PLACES).tolist() == rows


def test_a_text_that_stands_alone_begins_as_a_row_of_the_training_does():
    byte = Vocabulary.of_bytes().encode("a")[0]
    assert codec("cut").encode("a").tolist()[:4] == [SEPARATOR, byte, SEPARATOR, PADDING]
    assert codec("whole").encode("a").tolist() == codec(None).encode("a").tolist()
    assert codec("cut").continued("a", ["a"]).tolist()[1][:4] == [SEPARATOR, byte, byte, PADDING]


def test_what_packed_texts_do_not_go_with_is_refused():
    settings: dict[str, Any] = {"batch": 4, "seed": 0, "start": 0, "steps": 1}
    with pytest.raises(ConfigError, match=r"no records, as the rows of \['image'\] are"):
        batches(Texts(), codecs={"text": codec("cut"), "image": ImageCodec(4)}, **settings)
    groups = Composition(groups=UIDS, positions=np.zeros(9, dtype=np.int64), members=1)
    streams = Composition(streams={"a": (np.ones(9, dtype=bool), 4)})
    for composition in (groups, streams):
        with pytest.raises(ConfigError, match="goes with no packed texts"):
            seen("cut", None, composition, batch=4)
    with pytest.raises(DataError, match="0000000000000068 has no text"):
        seen("cut", Texts([*TEXTS[:4], None, *TEXTS[5:]]))


def test_a_row_is_int64_of_the_codecs_length():
    [one] = batches(Texts(), codecs={"text": codec("cut")}, batch=2, seed=0, start=0, steps=1)
    assert one["text"].shape == (2, PLACES)
    assert one["text"].dtype == torch.int64
