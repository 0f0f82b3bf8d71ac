import json

import torch

from pretraining.journal import Journal, peak_memory_bytes


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_line_has_means_speed_and_the_share_of_waiting_since_the_line_before():
    clock, lines = Clock(), []

    def batches():
        for _ in range(3):
            clock.now += 1.0  # a batch takes a second to come
            yield {"image": torch.zeros(6, 1)}

    journal = Journal(lines.append, steps=3, every=2, clock=clock)
    for step, _ in enumerate(journal.timed(batches()), start=1):
        clock.now += 3.0  # and a step three
        with journal.paused():
            clock.now += 9.0  # what else is done does not count
        journal(step, {"loss": float(step), "lr": 0.5})
    found = [json.loads(line) for line in lines]
    assert [line.pop("step") for line in found] == [2, 3]
    assert all(line.pop("peak_memory_bytes") > 1 << 20 for line in found)
    speed = {"records_per_s": 1.5, "waiting_ratio": 0.25}
    assert found == [{"loss": 1.5, "lr": 0.5, **speed}, {"loss": 3.0, "lr": 0.5, **speed}]
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


def test_the_peak_grows_with_what_is_held():
    before = peak_memory_bytes()
    held = torch.ones(1 << 26)  # 256 MiB
    assert peak_memory_bytes() >= before
    assert peak_memory_bytes() > held.numel() * 4
