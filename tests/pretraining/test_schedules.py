import pytest

from pretraining.schedules import factor


def test_the_warm_up_is_linear_and_the_cosine_falls_from_one_to_nothing():
    at = [0.0, 0.05, 0.1, 0.325, 0.55, 0.775, 1.0]
    found = [factor("cosine", p, warmup_ratio=0.1) for p in at]
    assert found == pytest.approx([0, 0.5, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_constant_stays_and_no_warm_up_starts_at_full_rate():
    assert [factor("constant", p, warmup_ratio=0.5) for p in (0.25, 0.5, 0.99)] == [0.5, 1, 1]
    assert factor("cosine", 0.0, warmup_ratio=0.0) == 1


def test_a_warm_up_of_the_whole_training_never_divides_by_nothing():
    assert factor("cosine", 0.999, warmup_ratio=1.0) == 0.999
