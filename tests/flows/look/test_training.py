"""The curves of a training, out of its log."""

from __future__ import annotations

import polars as pl
import pytest

from flows.look.training import POINTS, curves
from flows.look.views import _parsed


def test_each_column_is_a_curve_with_its_probes_and_what_is_not_finite_is_left_out():
    log = pl.DataFrame(
        {
            "step": [5.0, 10.0, 20.0, 30.0],
            "loss": [None, 2.0, float("nan"), 1.0],
            "probe_loss": [3.0, None, None, None],
            "waiting_ratio": [None, 0.5, 0.25, 0.0],
        }
    )
    loss, waiting = curves(log)
    assert (loss.name, loss.points, loss.probes) == (
        "loss", [(10.0, 2.0), (30.0, 1.0)], [(5.0, 3.0)],
    )  # fmt: skip
    assert waiting.points == [(10.0, 0.5), (20.0, 0.25), (30.0, 0.0)]
    assert waiting.probes == []
    # Steps go to the right, larger values up; the probe lies within the picture.
    first, last = (tuple(map(float, pair.split(","))) for pair in loss.line.split(" "))
    assert first == (pytest.approx(52 + 266 / 3, abs=0.01), loss.y.at(2.0))
    assert last[0] == 318
    assert 6 < loss.y.at(3.0) < first[1] < last[1] < 128


def test_of_many_lines_some_make_a_point_by_their_mean():
    log = pl.DataFrame({"step": list(range(1, 1001)), "lr": [1.0, 3.0] * 500})
    [rate] = curves(log)
    assert len(rate.points) == 250 <= POINTS
    assert rate.points[0] == (4, 2.0)
    assert rate.points[-1] == (1000, 2.0)
    assert curves(pl.DataFrame()) == []


@pytest.mark.parametrize("line", [b"", b"\xff", b"[1]", b'{"step": "1"}', b"[" * 100_000])
def test_a_line_of_a_log_that_is_none_is_left_out(line: bytes):
    assert _parsed(line) is None
    assert _parsed(b'{"step": 1, "loss": 1' + b"0" * 400 + b"}") is None
    assert _parsed(b'{"step": 1, "loss": 2}') == {"step": 1.0, "loss": 2.0}
