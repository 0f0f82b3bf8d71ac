from __future__ import annotations

import pytest

from flows.look import drawing


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (drawing.Axis(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]),
        (drawing.Axis(-0.03, 0.02, 0, 100), [-0.03, -0.02, -0.01, 0, 0.01, 0.02]),
        (drawing.Axis(0.5, 3.5, 0, 100, whole=True), [1, 2, 3]),
        (drawing.Axis(0, 1, 0, 100, whole=True), [0, 1]),
        (drawing.Axis(995, 1205, 0, 100), [1000, 1050, 1100, 1150, 1200]),
    ],
)
def test_ticks_are_round_numbers_on_the_axis(axis, ticks):
    assert axis.ticks == pytest.approx(ticks)


def test_an_axis_draws_its_ends_at_its_pixels():
    axis = drawing.Axis(2, 4, 50, 150)
    assert [axis.at(v) for v in (2, 3, 4)] == [50, 100, 150]
