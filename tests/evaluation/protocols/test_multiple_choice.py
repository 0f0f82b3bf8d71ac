"""Multiple choice, on hand numbers and against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.protocols.multiple_choice import multiple_choice

NONE = math.nan


def test_hand_numbers() -> None:
    # The first is right by both, the second only by byte: 3 / 6 is less than 2 / 2.
    nats = [[1.0, 2.0], [3.0, 2.0]]
    found = multiple_choice(nats, [[2, 2], [6, 2]], [0, 0])
    assert found["accuracy"].value == 0.5
    assert found["accuracy_per_byte"].value == 1
    assert found["bits_per_byte"].value == pytest.approx((1 + 3) / math.log(2) / (2 + 6))
    assert [found[name].higher_is_better for name in found] == [True, True, False]
    assert found["accuracy"].items is not None
    assert found["accuracy"].items.tolist() == [1, 0]


def test_choices_that_cost_the_same_share_what_is_right() -> None:
    found = multiple_choice([[1.0, 1, 1, 5], [1, 1, 2, 2]], np.ones((2, 4)), [2, 3])
    assert found["accuracy"].items is not None
    assert found["accuracy"].items == pytest.approx([1 / 3, 0])


def test_it_is_what_a_loop_over_questions_finds() -> None:
    rng = np.random.default_rng(0)
    questions = []
    for _ in range(200):
        count = int(rng.integers(1, 6))
        nats, length = rng.uniform(1, 9, count), rng.integers(1, 9, count)
        questions.append((nats, length, int(rng.integers(count))))
    nats_NK, bytes_NK = np.full((200, 5), NONE), np.full((200, 5), NONE)
    plain = by_byte = 0
    for row, (nats, length, answer) in enumerate(questions):
        nats_NK[row, : len(nats)], bytes_NK[row, : len(nats)] = nats, length
        plain += min(range(len(nats)), key=lambda k, of=nats: of[k]) == answer
        cost = [n / b for n, b in zip(nats, length, strict=True)]
        by_byte += cost.index(min(cost)) == answer
    found = multiple_choice(nats_NK, bytes_NK, [answer for *_, answer in questions])
    assert found["accuracy"].value == pytest.approx(plain / 200)
    assert found["accuracy_per_byte"].value == pytest.approx(by_byte / 200)
    assert plain != by_byte


def test_what_is_no_question_is_refused() -> None:
    for answer in ([2], [-1], [1]):
        with pytest.raises(DataError, match="none of its question's choices"):
            multiple_choice([[1.0, NONE]], [[3, NONE]], answer)
    for length in ([[0, 1]], [[NONE, 1]]):
        with pytest.raises(DataError, match="has no byte"):
            multiple_choice([[1.0, 2]], length, [0])
    with pytest.raises(DataError, match="do not fit"):
        multiple_choice([[1.0, 2]], [[1, 1]], [0, 1])
