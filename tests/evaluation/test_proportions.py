"""Intervals of shares against published values and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.proportions import newcombe, wilson


def test_wilson_has_the_published_ends():
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
    low, high = wilson([81 / 263, 15 / 148, 0 / 20, 1 / 29], [263, 148, 20, 29])
    assert low == pytest.approx([0.2553, 0.0624, 0.0000, 0.0061], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)


def test_newcombe_has_the_published_ends():
    # Newcombe 1998, Interval estimation for the difference, table II, method 10.
    gap, low, high = newcombe([56, 9, 6, 5, 0, 10], [70, 10, 7, 56, 10, 10],
                              [48, 3, 2, 0, 0, 0], [80, 10, 7, 29, 10, 10])  # fmt: skip
    assert gap == pytest.approx([0.2, 0.6, 4 / 7, 5 / 56, 0, 1])
    assert low == pytest.approx([0.0524, 0.1705, 0.0582, -0.0381, -0.2775, 0.6075], abs=5e-5)
    assert high == pytest.approx([0.3339, 0.8090, 0.8062, 0.1926, 0.2775, 1.0], abs=5e-5)


def test_a_smaller_level_gives_a_wider_interval_that_holds_the_share():
    p = np.array([0.0, 0.3, 1.0])
    low, high = wilson(p, [9, 9, 9], 0.05)
    lower, higher = wilson(p, [9, 9, 9], 0.001)
    ends = np.stack([lower, low, p, high, higher])
    assert (np.diff(ends, axis=0) >= 0).all()
    assert (low[0], high[2]) == (0, 1)
