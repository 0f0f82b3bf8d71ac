import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed

from pretraining.objectives.clip import clip_loss
from pretraining.parts.gather import all_ranks, own_rows
from pretraining.parts.language import IGNORED, language_loss

ROOT = Path(__file__).resolve().parents[3]


def test_one_process_has_all_rows():
    x = torch.randn(3, 2)
    assert all_ranks(x) is x
    assert own_rows(x) is x


def as_rank(rank, path):
    """Compare loss and gradients of half a batch on each of two ranks with those of the whole."""
    rng = torch.Generator().manual_seed(0)
    items = torch.randn(6, 3, generator=rng)
    maps = torch.randn(2, 3, 4, generator=rng).requires_grad_()
    scale = torch.tensor(5.0, requires_grad=True)
    whole = clip_loss(items @ maps[0], items @ maps[1], scale)
    wanted = torch.autograd.grad(whole, [maps, scale])
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(path, 2), rank=rank, world_size=2
    )
    try:
        rows = items[3 * rank :][:3]
        assert torch.equal(own_rows(items), rows)
        assert torch.equal(all_ranks(rows), items)
        loss = clip_loss(all_ranks(rows @ maps[0]), all_ranks(rows @ maps[1]), scale)
        torch.testing.assert_close(loss, whole)
        for found, gradient in zip(torch.autograd.grad(loss, [maps, scale]), wanted, strict=True):
            distributed.all_reduce(found)
            torch.testing.assert_close(found / 2, gradient, rtol=1e-5, atol=1e-6)
        # Five labels, of which the first rank has two.
        labels = torch.tensor([1, IGNORED, 0, 2, 2, 1])
        logits = (items @ maps[0]).detach()
        loss = language_loss(logits[3 * rank :][:3], labels[3 * rank :][:3])
        distributed.all_reduce(loss)
        wanted = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)
        torch.testing.assert_close(loss / 2, wanted)
    finally:
        distributed.destroy_process_group()


def test_of_two_processes_each_has_all_rows_and_their_mean_gradient_is_that_of_the_batch(tmp_path):
    path = str(tmp_path / "store")
    code = f"from {__name__} import as_rank; as_rank(1, {path!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) as other:
        as_rank(0, path)
    assert other.returncode == 0
