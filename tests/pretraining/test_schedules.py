import random
from itertools import pairwise

import pytest

from contracts.errors import ConfigError
from contracts.params import names_of
from pretraining.schedules import (
    SCHEDULES,
    STEADY,
    factor,
    parameters,
    steady_from,
    steps_before_decay,
    weight_decay_at,
)

GRID = [n / 10_000 for n in range(10_000)]


def test_the_warm_up_is_linear_and_the_cosine_falls_from_one_to_nothing():
    at = [0.0, 0.05, 0.1, 0.325, 0.55, 0.775, 1.0]
    found = [factor("cosine", p, warmup_ratio=0.1) for p in at]
    assert found == pytest.approx([0, 0.5, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_constant_stays_and_no_warm_up_starts_at_full_rate():
    assert [factor("constant", p, warmup_ratio=0.5) for p in (0.25, 0.5, 0.99)] == [0.5, 1, 1]
    assert factor("cosine", 0.0, warmup_ratio=0.0) == 1


def test_a_warm_up_of_the_whole_training_never_divides_by_nothing():
    assert factor("cosine", 0.999, warmup_ratio=1.0) == 0.999


def test_a_repeated_cosine_goes_through_warm_up_and_cosine_in_each_cycle():
    at = [0.0, 0.025, 0.05, 0.275, 0.3875, 0.5, 0.525, 0.55, 0.775]
    found = [factor("repeated_cosine", p, warmup_ratio=0.1, cycles=2) for p in at]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0.146447, 0, 0.5, 1, 0.5], abs=1e-6)
    # Without a warm-up it restarts at the full rate.
    found = [factor("repeated_cosine", p, warmup_ratio=0.0, cycles=4) for p in (0.2499, 0.25)]
    assert found == pytest.approx([0, 1], abs=1e-5)


def test_warm_up_stable_decay_is_constant_and_falls_over_the_last_fifth():
    at = [0.0, 0.05, 0.1, 0.5, 0.8, 0.85, 0.9, 0.95, 1.0]
    own = parameters("warmup_stable_decay", {"warmup_ratio": 0.1})
    found = [factor("warmup_stable_decay", p, **own) for p in at]
    assert found == pytest.approx([0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    half = factor("warmup_stable_decay", 0.75, warmup_ratio=0.1, decay_ratio=0.5)
    assert half == pytest.approx(0.5)


def test_the_infinite_schedule_cools_to_a_constant_rate_and_anneals_exponentially():
    # Of 80 steps 10 warm up, 20 cool from 1e-3 to 4e-4, and the last 20 anneal to 1e-5.
    own = {
        "warmup_ratio": 10 / 80,
        "cooldown_ratio": 20 / 80,
        "decay_ratio": 20 / 80,
        "constant_rate_ratio": 0.4,
        "end_rate_ratio": 0.01,
    }
    found = [1e-3 * factor("infinite", n / 80, **own) for n in (0, 5, 10, 20, 30, 60, 70, 80)]
    wanted = [0, 5e-4, 1e-3, 7e-4, 4e-4, 4e-4, 6.3246e-5, 1e-5]
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_continuous_where_it_warms_up(schedule):
    cycles = {"cycles": 3} if schedule == "repeated_cosine" else {}
    own = parameters(schedule, {"warmup_ratio": 0.1, **cycles})
    values = [factor(schedule, p, **own) for p in GRID]
    jumps = [abs(b - a) for a, b in pairwise(values)]
    # The steepest is the warm-up: 10 a unit of progress, and as often as there are cycles.
    assert max(jumps) <= 10 * cycles.get("cycles", 1) / len(GRID) + 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_stays_between_nothing_and_the_full_rate(schedule):
    draw = random.Random(0)
    for _ in range(200):
        last, constant = sorted(draw.uniform(0.001, 1) for _ in range(2))
        given = {
            "warmup_ratio": draw.choice([0.0, draw.uniform(0, 1 / 3)]),
            "cooldown_ratio": draw.uniform(0.001, 1 / 3),
            "decay_ratio": draw.uniform(0.001, 1 / 3),
            "constant_rate_ratio": constant,
            "end_rate_ratio": last,
            "cycles": draw.randint(2, 9),
        }
        legal = names_of(SCHEDULES[schedule])
        own = parameters(schedule, {k: v for k, v in given.items() if k in legal})
        assert all(0 <= factor(schedule, p, **own) <= 1 for p in GRID[::97])


@pytest.mark.parametrize(
    ("schedule", "given", "message"),
    [
        ("cosine", {"cycles": 2}, r"pretrain.cycles: is of 'repeated_cosine', not of 'cosine'"),
        (
            "constant",
            {"decay_ratio": 0.1},
            r"pretrain.decay_ratio: is of 'warmup_stable_decay' and 'infinite', not of 'constant'",
        ),
        ("repeated_cosine", {}, r"pretrain.cycles: is required"),
        ("repeated_cosine", {"cycles": 1}, r"pretrain.cycles: .*greater than or equal to 2"),
        ("infinite", {"end_rate_ratio": 0.0}, r"pretrain.end_rate_ratio: .*greater than 0"),
        ("infinite", {"end_rate_ratio": 0.5}, r"pretrain.end_rate_ratio: is above"),
        ("warmup_stable_decay", {"decay_ratio": 0.95}, r"warmup_ratio 0.1, decay_ratio 0.95 are"),
        ("infinite", {"cooldown_ratio": 0.8}, r"more than all the steps"),
        ("infinit", {}, r"pretrain.schedule: there is no 'infinit'. Nearest: infinite"),
    ],
)
def test_what_does_not_fit_the_schedule_is_refused_under_its_key(schedule, given, message):
    with pytest.raises(ConfigError, match=message):
        parameters(schedule, {"warmup_ratio": 0.1, **given})


def test_the_weight_decay_goes_from_the_first_to_the_last_on_half_a_cosine():
    found = [weight_decay_at(p, 0.04, 0.4) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([0.04, 0.092721, 0.22, 0.347279, 0.4], abs=1e-6)
    assert weight_decay_at(0.7, 0.1, None) == 0.1


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 37])
@pytest.mark.parametrize("decay_ratio", [0.1, 0.2, 0.45, 1.0])
def test_the_steps_before_a_decay_have_the_constant_rate_and_none_after_it(steps, decay_ratio):
    own = parameters("warmup_stable_decay", {"warmup_ratio": 0.0, "decay_ratio": decay_ratio})
    rates = [factor("warmup_stable_decay", (s + 0.5) / steps, **own) for s in range(steps)]
    before = steps_before_decay(steps, **own)
    assert before == 1 or set(rates[:before]) == {1.0}
    # A decay that begins in the middle of a step has that step.
    assert all(rate < 1.0 for rate in rates[before + 1 :])
    assert steps_before_decay(steps, **parameters("cosine", {"warmup_ratio": 0.1})) is None


@pytest.mark.parametrize("schedule", STEADY)
def test_a_schedule_that_goes_on_does_so_at_its_constant_rate(schedule):
    own = parameters(schedule, {"warmup_ratio": 0.1})
    share = own.get("constant_rate_ratio", 1.0)
    assert factor(schedule, steady_from(**own), **own) == share
    assert factor(schedule, steady_from(**own) - 0.01, **own) != share
