"""Bits per byte, on hand numbers and against a bootstrap of the ratio itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.protocols.bits_per_byte import bits_per_byte


def test_hand_numbers() -> None:
    # 8 bits over 4 bytes and 16 over 2: 24 bits over 6 bytes, not the mean of 2 and 8.
    nats = np.array([8.0, 16.0]) * math.log(2)
    found = bits_per_byte(nats, [4, 2])["bits_per_byte"]
    assert found.value == pytest.approx(4)
    assert found.n == 2
    assert found.higher_is_better is False
    # With 3 bytes a text: 4 + (8 - 16) / 3 and 4 + (16 - 8) / 3.
    assert found.items == pytest.approx([4 - 8 / 3, 4 + 8 / 3])
    even = bits_per_byte(np.full(3, 80 * math.log(2)), [10, 10, 10])["bits_per_byte"]
    assert (even.value, even.low, even.high) == pytest.approx((8, 8, 8))


def test_its_interval_is_that_of_the_ratio_drawn_anew() -> None:
    rng = np.random.default_rng(0)
    length = rng.integers(20, 400, 300).astype(float)
    nats = length * rng.normal(1.5, 0.3, 300)
    found = bits_per_byte(nats, length)["bits_per_byte"]
    rows = rng.integers(300, size=(1000, 300))
    drawn = nats[rows].sum(1) / length[rows].sum(1) / math.log(2)
    width = found.high - found.low
    expected = np.quantile(drawn, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=0.1 * width)


def test_texts_of_unknown_bytes_are_left_out_and_none_but_these_are_refused() -> None:
    found = bits_per_byte([1.0, 2.0, 3.0], [1, math.nan, 3])["bits_per_byte"]
    assert found.n == 2
    assert found.value == pytest.approx(1 / math.log(2))
    for length in ([math.nan, math.nan], [0.0, 0.0]):
        with pytest.raises(DataError, match="word_piece loses some"):
            bits_per_byte([1.0, 1.0], length)
    with pytest.raises(DataError, match="do not fit"):
        bits_per_byte([1.0], [1.0, 2.0])
