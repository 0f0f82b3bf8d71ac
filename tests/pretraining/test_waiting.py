"""Between two looks at the losses nothing makes the host wait for the device."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pretraining.train
from contracts.methods import names
from pretraining.objective import Objective
from pretraining.objectives import salt
from pretraining.parts import views
from pretraining.train import train
from tests.pretraining.made import batch_of, fitting, made

STEPS = 30  # of which two are taken
WAITING = {
    "_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "_unique2",
    "unique_dim", "lift_fresh",
}  # fmt: skip
"""Operators that on CUDA fetch a number or a shape, or copy numbers out of plain memory."""


COUNTED = {
    "mlm": {"index", "index_put"},
    "electra": {"index", "index_put", "index_put_"},
    "spark": {"nonzero"},
}
"""These take tokens or places out of all, whose number the device alone knows: to compute the
logits of all tokens would cost more than to wait. `spark` waits once for each size of a grid."""


class Waits(TorchDispatchMode):
    """Remembers what would make the host wait, of the operators that run while it listens."""

    def __init__(self):
        super().__init__()
        self.found, self.listening = set(), False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if self.listening and (name in WAITING or masks):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def listening(monkeypatch):
    waits, fetched = Waits(), pretraining.train._fetched

    def looked(*given):
        waits.listening = False
        return fetched(*given)

    # As on CUDA.
    monkeypatch.setattr(views, "rows_of", lambda _: slice(None))
    monkeypatch.setattr(salt, "rows_of", lambda _: slice(None))
    monkeypatch.setattr(pretraining.train, "_fetched", looked)
    with waits:
        yield waits


def run(objective, waits, **given):
    def batches(_):
        for step in range(2):
            waits.listening = False
            batch = batch_of(objective, seed=step)
            # Constants are copied to the device in the first step.
            waits.listening = step > 0
            yield batch

    settings = {"steps": STEPS, "lr": 0.01, "fetch_every": STEPS, "clip_norm": 0.5, **given}
    return train(objective, batches, stop=lambda done: done == 2, accumulate=2, **settings)


@pytest.mark.parametrize("name", names("pretraining.objectives"))
def test_no_objective_waits_within_a_step(name, monkeypatch):
    first = fitting(name)[0]
    with listening(monkeypatch) as waits:
        run(made(name, first=first), waits)
    assert not waits.listening
    assert waits.found == COUNTED.get(name, set())


@pytest.mark.parametrize("name", ["simclr", "salt"])
def test_to_compute_all_rows_in_place_of_some_changes_no_loss(name, monkeypatch):
    plain = run(made(name), Waits())
    with listening(monkeypatch) as waits:
        assert run(made(name), waits).losses == pytest.approx(plain.losses, rel=1e-5)


def test_nor_does_the_other_optimizer(monkeypatch):
    with listening(monkeypatch) as waits:
        run(made("clip", first="vit"), waits, optimizer="sgd")
    assert waits.found == set()


class Waiting(Objective):
    """Looks at its loss, counts on a mask, and copies a number to the device."""

    def __init__(self, wait):
        super().__init__()
        self.encoder = torch.nn.Linear(2, 1)
        self.codecs, self.wait = {}, wait

    def forward(self, batch, moment):  # noqa: ARG002
        loss = self.encoder(batch["x"]).square()
        self.wait(loss)
        return {"loss": loss.mean()}


@pytest.mark.parametrize(
    ("wait", "operator"),
    [
        (lambda loss: loss.detach().mean().item(), "_local_scalar_dense"),
        (lambda loss: bool((loss > 0).any()), "_local_scalar_dense"),
        (lambda loss: loss[loss > 0], "index"),
        (lambda loss: loss.new_zeros(4, 1).add_(torch.tensor(2.0)), "lift_fresh"),
    ],
)
def test_one_that_waits_is_found(wait, operator, monkeypatch):
    with listening(monkeypatch) as waits:
        waits.listening = True
        steps = {"steps": 2, "lr": 0.1, "fetch_every": 2}
        train(Waiting(wait), lambda _: iter([{"x": torch.ones(4, 2)}] * 2), **steps)
    assert waits.found == {operator}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", sorted(set(names("pretraining.objectives")) - set(COUNTED)))
def test_on_a_gpu_torch_finds_none_either(name, monkeypatch):
    fetched = pretraining.train._fetched

    def looked(*given):
        torch.cuda.set_sync_debug_mode("default")
        return fetched(*given)

    monkeypatch.setattr(pretraining.train, "_fetched", looked)
    objective = made(name, first=fitting(name)[0])

    def batches(_):
        for step in range(2):
            torch.cuda.set_sync_debug_mode("error" if step else "default")
            yield batch_of(objective, seed=step)

    try:
        done = train(
            objective, batches, device="cuda", stop=lambda done: done == 2, fetch_every=STEPS,
            steps=STEPS, lr=0.01,
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # torch raises where a step waits: both were taken.
    assert done.checkpoint.step == 2
