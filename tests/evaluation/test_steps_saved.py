from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from contracts.errors import DataError
from evaluation.steps_saved import StepsSaved, monotone, steps_saved

STEPS = (100, 200, 400)


def value(arm: list[float], random: list[float], **more: Any) -> float:
    """Of curves without any spread the whole interval is the value."""
    found = steps_saved([arm, arm], [random, random], STEPS, **more)
    assert found.low == found.value == found.high
    return found.value


def test_a_score_between_two_budgets_is_found_by_the_logarithm_of_the_steps() -> None:
    # 0.5 is half way from 0.4 to 0.6: 100 sqrt(2) steps in place of 400.
    assert value([0.4, 0.6, 0.8], [0.1, 0.3, 0.5]) == pytest.approx(4 / np.sqrt(2))
    assert value([0.1, 0.5, 0.8], [0.1, 0.3, 0.5]) == pytest.approx(2)
    assert value([0.1, 0.3, 0.5], [0.1, 0.3, 0.5]) == pytest.approx(1)
    assert value([0.5, 0.6, 0.8], [0.1, 0.3, 0.5]) == pytest.approx(4)


def test_beyond_the_budgets_it_is_more_than_four_or_less_than_one() -> None:
    early, never = value([0.51, 0.6, 0.8], [0.1, 0.3, 0.5]), value([0.1, 0.3, 0.49], [0, 0, 0.5])
    assert (early, never) == (np.inf, 0)
    assert StepsSaved(early, never, 2.0, 4.0).to_dict() == {
        "value": "> 4", "low": "< 1", "high": 2.0,
    }  # fmt: skip


def test_where_less_is_better_the_same_curves_upside_down_say_the_same() -> None:
    arm, random = [0.4, 0.6, 0.8], [0.1, 0.3, 0.5]
    upside = ([1 - v for v in arm], [1 - v for v in random])
    assert value(*upside, higher_is_better=False) == pytest.approx(value(arm, random))
    # Taken for a score of which more is better, the arm would never be there.
    assert value(*upside) == 0


def test_a_curve_that_falls_is_pooled_before_it_is_read() -> None:
    # 0.7, 0.5 are 0.6, 0.6: 0.55 is reached at 3/4 of the way from 0.4 to 0.6.
    assert value([0.4, 0.7, 0.5], [0.1, 0.3, 0.55]) == pytest.approx(4 / 2**0.75)
    # The random sets' last score is 0.5, not 0.4.
    assert value([0.3, 0.5, 0.7], [0.1, 0.6, 0.4]) == pytest.approx(2)


def test_monotone_curves_are_those_of_scipy() -> None:
    curves = np.random.default_rng(0).normal(size=(50, 6))
    expected = [isotonic_regression(curve).x for curve in curves]
    assert np.allclose(monotone(curves), expected)


def drawn(rng: np.random.Generator, sets: int, trainings: int, saved: float = 1.0) -> Any:
    """Curves of sets, each trained several times: what the trunk learned stays in its branches."""
    of_set, of_training = 0.0089, 0.0081
    mean_B = 0.2 + 0.06 * np.log2(np.array(STEPS) / 100 * saved)
    luck = rng.normal(0, of_set, (sets, 1, 1)) + rng.normal(0, of_training, (sets, trainings, 1))
    own = rng.normal(0, of_training / 2, (sets, trainings, len(STEPS)))
    return (mean_B + luck + own).reshape(sets * trainings, len(STEPS))


@pytest.mark.parametrize(("claim", "count"), [("set", 10), ("set", 4), ("rule", 8)])
def test_two_arms_that_are_alike_have_an_interval_that_holds_1(claim: Any, count: int) -> None:
    rng = np.random.default_rng(0)
    holds = []
    for _ in range(400):
        arm = drawn(rng, 1, 3) if claim == "set" else drawn(rng, count, 1)
        found = steps_saved(arm, drawn(rng, count, 1), STEPS, claim=claim, samples=300)
        holds.append(found.low <= 1 <= found.high)
    assert 0.93 < np.mean(holds) < 0.995


def test_a_set_that_saves_half_of_the_steps_is_found_to() -> None:
    rng = np.random.default_rng(0)
    found = [
        steps_saved(drawn(rng, 1, 3, saved=2), drawn(rng, 10, 1), STEPS, samples=300)
        for _ in range(200)
    ]
    assert np.mean([of.low <= 2 <= of.high for of in found]) > 0.93
    assert np.mean([of.low > 1 for of in found]) > 0.9
    assert np.median([of.value for of in found]) == pytest.approx(2, abs=0.15)


def test_the_interval_is_that_of_its_seed() -> None:
    rng = np.random.default_rng(1)
    arm, random = drawn(rng, 1, 3), drawn(rng, 10, 1)
    assert steps_saved(arm, random, STEPS) == steps_saved(arm, random, STEPS)
    assert steps_saved(arm, random, STEPS) != steps_saved(arm, random, STEPS, seed=1)


@pytest.mark.parametrize(
    ("arm", "random"),
    [
        ([[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]]),
        ([[0.1, 0.2]], [[0.1, 0.2, 0.3]] * 2),
        (np.empty((0, 3)), [[0.1, 0.2, 0.3]] * 2),
    ],
)
def test_too_few_trainings_or_budgets_are_refused(arm: Any, random: Any) -> None:
    with pytest.raises(DataError, match="two random sets or more at two budgets"):
        steps_saved(arm, random, STEPS)
