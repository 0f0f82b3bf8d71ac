"""Probes: a loss on other records, asked of training weights without a trace."""

import math

import pytest
import torch

from contracts.methods import names
from pretraining.probes import probe
from pretraining.train import train
from tests.pretraining.made import batch_of, fitting, made

SETTINGS = {"steps": 2, "lr": 0.01}


def trained(objective, look=None):
    batches = [batch_of(objective, seed=step) for step in range(2)]
    return train(objective, lambda start: iter(batches[start:]), probe=look, **SETTINGS)


@pytest.mark.parametrize("name", names("pretraining.objectives"))
def test_weights_are_the_same_with_and_without_probes(name):
    objective, found = made(name, first=fitting(name)[0]), []
    apart = [batch_of(objective, seed=seed) for seed in (7, 8)]

    def look(done):
        again = [probe(objective, apart, progress=done / 2, seed=0, device="cpu") for _ in range(2)]
        assert again[0] == again[1]
        found.append(again[0])

    probed = trained(objective, look)
    plain = trained(made(name, first=fitting(name)[0]))
    assert probed.checkpoint.to_bytes() == plain.checkpoint.to_bytes()
    assert len(found) == 2
    assert all(map(math.isfinite, found))


def test_it_is_the_mean_of_the_losses_over_batches_in_evaluation_mode():
    class Told(torch.nn.Module):
        def forward(self, batch, moment):
            assert not self.training
            return {"loss": batch["x"].mean() + moment.progress}

    batches = [{"x": torch.full((2,), value)} for value in (1.0, 4.0)]
    assert probe(Told(), batches, progress=0.25, seed=0, device="cpu") == 2.75
