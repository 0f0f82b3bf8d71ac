"""Trainings are found by `VERSION`: what would train otherwise must raise it."""

from __future__ import annotations

import json

import pytest

from pretraining.train import VERSION
from tests.pretraining import traces

KEPT = json.loads(traces.FILE.read_text())
ADVICE = "raise pretraining.train.VERSION, then: python -m tests.pretraining.traces"


@pytest.mark.parametrize(("objective", "encoder"), traces.pairs())
def test_equal_arguments_give_the_losses_that_they_gave(objective: str, encoder: str):
    kept = KEPT["losses"].get(f"{objective}, {encoder}")
    assert kept is not None, "it is new: python -m tests.pretraining.traces"
    # Another machine rounds otherwise, and four steps carry that on.
    assert traces.losses(objective, encoder) == pytest.approx(kept, rel=1e-3), ADVICE


def test_the_losses_are_of_this_version_and_of_nothing_that_is_gone():
    assert KEPT["version"] == VERSION, ADVICE
    assert list(KEPT["losses"]) == [f"{o}, {e}" for o, e in traces.pairs()]
