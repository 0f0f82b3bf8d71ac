"""Two processes that train together end as one that trains alone, but for rounding."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn

from contracts.errors import ConfigError, DivergedError
from contracts.methods import names
from pretraining import ranks
from pretraining.objective import Moment
from pretraining.parts.gather import mean_over_ranks
from pretraining.parts.norm import spread_batch_norms
from pretraining.replay import replay
from pretraining.train import train
from tests.pretraining.made import batch_of, fitting, made
from tests.pretraining.test_batches import Shards, seen

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STEPS, SIZE = 20, 8
SOAK = bool(os.environ.get("WINNOW_SOAK"))
FEW = ("clip", "mlm")
OBJECTIVES = names("pretraining.objectives") if SOAK else FEW
DIVIDED = ("clip", "mlm")


def trained(name, *, spoil=False, **given):
    """Train on this rank's rows; return what comes of it, and the states that were saved."""
    objective, saved, parts = made(name, first=fitting(name)[0]), [], given.get("accumulate", 1)
    own = torch.arange(SIZE).reshape(parts, ranks.count(), -1)[:, ranks.own()].flatten()

    def batches_from(start):
        for step in range(start, STEPS):
            batch = batch_of(objective, seed=step, size=SIZE)
            if spoil and step == 3:
                batch["weight"][SIZE - 2] = torch.inf
            yield {column: values[own] for column, values in batch.items()}

    settings = {"steps": STEPS, "lr": 0.001, "save_every": STEPS, **given}
    return train(objective, batches_from, saved.append, **settings), saved


def normed(module):
    """Return what a batch norm makes of two batches, its gradients, and its state."""
    rng, found = torch.Generator().manual_seed(0), []
    for _ in range(2):
        x = (torch.randn(SIZE, 3, 2, 2, generator=rng) + 5).requires_grad_()
        weighting = torch.randn(SIZE, 3, 2, 2, generator=rng)
        own = slice(ranks.own() * SIZE // ranks.count(), (ranks.own() + 1) * SIZE // ranks.count())
        y = module(x[own])
        (y * weighting[own]).mean().backward()
        for tensor in (y, x.grad[own] / ranks.count()):
            whole = [torch.empty_like(tensor) for _ in range(ranks.count())]
            if ranks.count() > 1:
                distributed.all_gather(whole, tensor.detach().contiguous())
            else:
                whole = [tensor.detach()]
            found.append(torch.cat(whole))
    gradients = [mean_over_ranks(weight.grad) for weight in module.parameters()]
    return [*found, *gradients, *(value.float() for value in module.buffers())]


def everything():
    """Return all that is compared, computed by one process or by this rank."""
    found = {name: trained(name)[0] for name in OBJECTIVES}
    found |= {f"{name} in parts": trained(name, accumulate=2)[0] for name in DIVIDED}
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    if ranks.count() > 1:
        spread_batch_norms(norm)
    return {**found, "norm": normed(norm)}


def of_several():
    """Return what only several ranks show."""
    stopped, [state] = trained("clip", stop=lambda done: ranks.own() == 1 and done == 7)
    resumed, _ = trained("clip", resume=state)
    kept = []
    with pytest.raises(DivergedError) as error:
        trained("distillation", spoil=True, failed=lambda step: kept.append(step) or "Kept.")
    with pytest.raises(ConfigError, match=r"pretrain.batch: 7 records are not 1 equal parts for"):
        seen(Shards(range(20)), batch=7)
    drawn = {parts: seen(Shards(range(40)), batch=8, parts=parts, steps=2) for parts in (1, 2)}
    return {
        "stopped": stopped, "resumed": resumed, "kept": kept, "error": str(error.value),
        "drawn": drawn,
    }  # fmt: skip


def as_rank(rank, path):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(path, 2), rank=rank, world_size=2,
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    try:
        return everything(), of_several()
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def alone():
    return everything()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Return what the first of two ranks found."""
    path = str(tmp_path_factory.mktemp("ranks") / "store")
    code = f"from {__name__} import as_rank; as_rank(1, {path!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) as other:
        found = as_rank(0, path)
    assert other.returncode == 0
    return found


@pytest.mark.parametrize("name", [*OBJECTIVES, *(f"{name} in parts" for name in DIVIDED)])
def test_the_losses_of_two_ranks_are_those_of_one_process(name, alone, together):
    one, two = alone[name], together[0][name]
    assert np.abs(two.losses / one.losses - 1).max() <= 1e-4
    assert two.checkpoint.metadata["numerics"]["ranks"] == 2
    assert set(one.checkpoint.tensors) == set(two.checkpoint.tensors)


def test_a_batch_norm_over_ranks_is_torchs_over_the_whole_batch(alone, together):
    for one, two in zip(alone["norm"], together[0]["norm"], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def test_all_ranks_stop_where_one_is_asked_to_and_go_on_as_if_they_had_not(together):
    whole, found = together[0]["clip"], together[1]
    assert found["stopped"].checkpoint.step == 7
    assert found["resumed"].checkpoint.to_bytes() == whole.checkpoint.to_bytes()
    with pytest.raises(ConfigError, match="ranks is 2 there, None here"):
        trained("clip", resume=found["stopped"].checkpoint)


def test_a_step_that_is_not_finite_on_another_rank_is_kept_with_the_whole_batch(together):
    found = together[1]
    assert "at step 4 of 20" in found["error"]
    assert found["error"].endswith("Kept.")
    again = replay(found["kept"][0].to_bytes())
    assert again["step"] == 4
    assert again["inputs"] == {"weight": [SIZE - 2]}
    assert again["error"] is not None


def test_a_rank_reads_its_rows_of_each_part_of_a_batch(together):
    whole = seen(Shards(range(40)), batch=8, steps=2)
    assert together[1]["drawn"] == {
        1: [batch[:4] for batch in whole],
        2: [[*batch[:2], *batch[4:6]] for batch in whole],
    }


def test_the_numbers_of_a_record_are_the_same_whatever_the_ranks():
    def moment(rank, count):
        return Moment(0.0, torch.Generator().manual_seed(3), rank, count)

    whole = moment(0, 1).rand(6, 2)
    for count in (2, 3):
        parts = [moment(rank, count).rand(6 // count, 2) for rank in range(count)]
        assert torch.equal(torch.cat(parts), whole)


def test_a_batch_norm_that_would_see_one_rank_only_is_refused():
    class Own(nn.BatchNorm1d):
        pass

    with pytest.raises(ConfigError, match="0 is a Own, which sees the rows of one rank only"):
        spread_batch_norms(nn.Sequential(Own(3)))


def test_one_process_is_not_changed_by_what_several_need():
    x = torch.randn(4, 3, 2, 2)
    mine, theirs = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    spread_batch_norms(mine)
    spread_batch_norms(mine)
    assert torch.equal(mine(x), theirs(x))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    weight = nn.Parameter(torch.ones(2))
    ranks.average_gradients([weight])
    assert weight.grad is None
    assert mean_over_ranks(x) is x
    assert (ranks.count(), ranks.own(), ranks.any_of(True, "cpu")) == (1, 0, True)
    with ranks.joined("cpu") as device:
        assert device == "cpu"
