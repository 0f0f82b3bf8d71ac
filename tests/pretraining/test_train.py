import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.adamw import adamw

from contracts.errors import ConfigError, DataError
from contracts.methods import names
from contracts.uid import random_bits
from pretraining.checkpoint import Checkpoint, exported
from pretraining.codecs import ImageCodec
from pretraining.objective import Moment, Objective
from pretraining.train import check, moment_at, train
from tests.pretraining.made import batch_of, encoder, fitting, made

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
FITTING = {name: fitting(name) for name in names("pretraining.objectives")}
every_objective = pytest.mark.parametrize("name", FITTING)


def small(name, first=None, **parameters):
    return made(name, parameters, first or FITTING[name][0])


def made_batches(objective):
    """Return batches that are a function of the step."""

    def batches_from(start):
        for step in range(start, STEPS):
            yield batch_of(objective, seed=step)

    return batches_from


def trained(objective, save=None, resume=None, **changes):
    positional = ("log", "stop", "device", "begin", "fetch_every", "continued", "save_at")
    given = {key: changes.pop(key) for key in positional if key in changes}
    settings = {"steps": STEPS, "lr": 0.01, "seed": 0, "save_every": 1, **changes}
    return train(objective, made_batches(objective), save, resume, **given, **settings)


class Line(Objective):
    """Loss (w - 3)^2, times what the batch says, with noise from the moment."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(1, 1)

    def forward(self, batch, moment):
        noise = torch.rand((), generator=moment.rng)
        return {"loss": ((self.encoder.weight - 3) ** 2 * batch["image"] + 0 * noise).mean()}


def lines(values):
    return lambda start: iter({"image": torch.tensor([v])} for v in values[start:])


def every_setting(objective):
    """Return settings that use all there is, for any objective."""
    first = next(name for name, _ in objective.named_parameters())
    return {
        "schedule": "infinite",
        "cooldown_ratio": 0.3,
        "decay_ratio": 0.4,
        "weight_decay_end": 0.5,
        "clip_norm": 0.5,
        "accumulate": 2,
        "freeze": [first],
        "lr_multipliers": {objective.exports[-1]: 0.1},
        "layer_decay": 0.7,
    }


@pytest.mark.parametrize(
    ("name", "first", "optimizer"),
    # What an optimizer remembers depends on no objective.
    [(name, first, "adamw") for name, fit in FITTING.items() for first in fit]
    + [("clip", "vit", "sgd"), ("simclr", "small_cnn", "sgd")],
)
def test_resuming_at_any_step_equals_never_stopping_bit_for_bit(name, optimizer, first):
    """With the default settings, and where the encoder tells its depth with all others."""

    def fresh():
        return small(name, first)

    saved = []
    more = every_setting(fresh()) if hasattr(encoder(first), "stem") else {}
    more["optimizer"] = optimizer
    straight = trained(fresh(), lambda c: saved.append(c.to_bytes()), **more)
    assert len(saved) == STEPS
    for data in (saved[0], saved[3], saved[6], saved[7]):
        resumed = trained(fresh(), resume=Checkpoint.from_bytes(data), **more)
        assert resumed.losses.tolist() == straight.losses.tolist()
        assert resumed.checkpoint.to_bytes() == straight.checkpoint.to_bytes()
        assert exported(resumed.objective, {}) == exported(straight.objective, {})
    assert saved[-1] == straight.checkpoint.to_bytes()


def plainly_trained(objective):
    """Train with nothing but torch and what the default settings say, written out."""
    frozen = tuple(f"{path}." for path in objective.frozen)
    weights = {n: w for n, w in objective.named_parameters() if not n.startswith(frozen)}
    kept = {
        n: (torch.zeros_like(w), torch.zeros_like(w), torch.zeros(())) for n, w in weights.items()
    }
    objective.train()
    for path in objective.frozen:
        objective.get_submodule(path).eval()
    for step, batch in enumerate(made_batches(objective)(0)):
        bits = random_bits(np.array([step], dtype=np.uint64), 0, "moment")
        moment = Moment(step / STEPS, torch.Generator().manual_seed(int(bits[0])))
        objective.zero_grad(set_to_none=True)
        objective(batch, moment)["loss"].backward()
        progress = (step + 0.5) / STEPS
        rest = (progress - 0.1) / 0.9
        share = progress / 0.1 if progress < 0.1 else 0.5 * (1 + math.cos(math.pi * rest))
        for name, weight in weights.items():
            if weight.grad is not None:
                mean, square, steps = kept[name]
                adamw(
                    [weight], [weight.grad], [mean], [square], [], [steps], fused=True,
                    amsgrad=False, beta1=0.9, beta2=0.98, lr=0.01 * share,
                    weight_decay=0.1 if weight.ndim > 1 else 0.0, eps=1e-6, maximize=False,
                )  # fmt: skip
        objective.after_step(moment)
    return objective


@every_objective
def test_without_further_settings_the_weights_are_those_of_the_plain_loop_byte_for_byte(name):
    result = trained(small(name))
    assert exported(result.objective, {}) == exported(plainly_trained(small(name)), {})
    # So a state that was saved before there were further settings is still resumed.
    assert set(result.checkpoint.metadata["run"]) == {
        "made", "steps", "lr", "schedule", "warmup_ratio", "optimizer", "weight_decay", "seed",
    }  # fmt: skip


CHILD = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from test_train import small, trained
from pretraining.checkpoint import Checkpoint, exported, rebuild

path = Path(sys.argv[1])

def save(checkpoint):
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(checkpoint.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

resume = Checkpoint.from_bytes(path.read_bytes()) if path.exists() else None
print("from", resume.step if resume else 0, flush=True)
result = trained(
    small("clip"), save, resume, save_every=2, log=lambda step, _: print("step", step, flush=True)
)
rebuild(exported(result.objective, {}))
print("imported", "torch._dynamo" in sys.modules, "sympy" in sys.modules, flush=True)
"""


def child(path):
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def test_a_killed_training_run_again_ends_with_the_same_bits_and_never_loads_the_compiler(
    tmp_path,
):
    path = tmp_path / "state.safetensors"
    with child(path) as first:
        for line in first.stdout:
            if line == "step 5\n":
                first.send_signal(signal.SIGKILL)
                break
        else:
            pytest.fail("the child never came to step 5")
    assert first.returncode == -signal.SIGKILL
    assert 4 <= Checkpoint.from_bytes(path.read_bytes()).step < STEPS
    with child(path) as second:
        lines = second.stdout.read().splitlines()
    assert second.returncode == 0, lines
    assert lines[0] in ("from 4", "from 6")
    assert lines[-1] == "imported False False"
    assert path.read_bytes() == trained(small("clip"), save_every=2).checkpoint.to_bytes()


def test_another_seed_other_views_and_the_same_seed_the_same():
    losses = [trained(small("simclr"), seed=seed).losses.tolist() for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_the_randomness_of_a_step_is_its_own():
    draws = {
        torch.rand((), generator=moment_at(s, 9, seed=d).rng).item()
        for s in range(9)
        for d in (0, 1, 2**32)
    }
    assert len(draws) == 27
    assert moment_at(3, 12, seed=0).progress == 0.25


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained(small("simclr")).losses.tolist()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert trained(small("simclr")).losses.tolist() == first


def test_a_stopped_training_saves_where_it_stands_and_goes_on_from_there():
    saved, asked = [], []

    def stop(done):
        asked.append(done)
        return done == 3

    stopped = trained(small("clip"), saved.append, stop=stop, save_every=100)
    assert asked == [1, 2, 3]
    assert [c.step for c in saved] == [3]
    assert stopped.checkpoint.step == len(stopped.losses) == 3
    rest = trained(small("clip"), resume=saved[0], save_every=100)
    assert rest.checkpoint.to_bytes() == trained(small("clip")).checkpoint.to_bytes()


# Half of the 8 steps, with a decay over the last two of these four.
BRANCH = {"steps": 4, "schedule": "warmup_stable_decay", "warmup_ratio": 0.25, "decay_ratio": 0.5}
TRUNK = {"schedule": "constant", "warmup_ratio": 0.125, "save_every": 100}


class Watched:
    """A moment that remembers whether it was asked how far training is."""

    rand, rank, ranks = Moment.rand, 0, 1

    def __init__(self):
        self.rng, self.asked = torch.Generator().manual_seed(0), False

    @property
    def progress(self):
        self.asked = True
        return 0.5


def goes_by_progress(name):
    objective, moment = small(name), Watched()
    objective(batch_of(objective), moment)
    objective.after_step(moment)
    return moment.asked


@pytest.mark.parametrize("name", [name for name in FITTING if not goes_by_progress(name)])
def test_a_branch_of_a_trunk_ends_as_a_training_that_went_its_whole_way_bit_for_bit(name):
    trunk = trained(small(name), stop=lambda done: done == 2, **TRUNK).checkpoint
    saved = []
    branch = trained(small(name), saved.append, begin=trunk, **BRANCH)
    whole = trained(small(name), **BRANCH)
    assert branch.losses.tolist() == whole.losses.tolist()
    assert exported(branch.objective, {}) == exported(whole.objective, {})
    # What it began from is of its identity: it is no state of the training that went all the way.
    told = branch.checkpoint.metadata["run"]
    assert told == {
        **whole.checkpoint.metadata["run"], "begin": {"step": 2, "run": trunk.metadata["run"]},
    }  # fmt: skip
    assert [c.step for c in saved] == [3, 4]
    resumed = trained(small(name), resume=saved[0], begin=trunk, **BRANCH)
    assert resumed.checkpoint.to_bytes() == branch.checkpoint.to_bytes()
    with pytest.raises(ConfigError, match="of another run: begin is None there"):
        trained(small(name), resume=whole.checkpoint, begin=trunk, **BRANCH)
    with pytest.raises(ConfigError, match=r"of another run: begin is \{'step': 2"):
        trained(small(name), resume=saved[0], **BRANCH)


def test_a_training_begins_with_what_is_its_own_and_not_beyond_its_end():
    trunk = trained(small("clip"), stop=lambda done: done == 2, **TRUNK).checkpoint
    other = trained(small("clip"), begin=trunk, **{**BRANCH, "lr": 0.001, "seed": 1})
    assert other.checkpoint.metadata["run"]["lr"] == 0.001
    with pytest.raises(ConfigError, match="a training of 2 steps cannot begin at step 2"):
        trained(small("clip"), begin=trunk, **{**BRANCH, "steps": 2})
    with pytest.raises(ConfigError, match="is of another run: made is"):
        trained(small("simclr"), begin=trunk, **BRANCH)


def test_losses_that_are_fetched_later_are_the_same_and_a_stop_does_not_wait():
    told = {}
    for every in (1, 3):
        told[every] = []
        result = trained(
            small("simclr"), log=lambda *t, e=every: told[e].append(t), fetch_every=every,
            stop=lambda done: done == 5, save_every=100,
        )  # fmt: skip
        told[every].append(result.checkpoint.to_bytes())
        assert [step for step, _ in told[every][:-1]] == [1, 2, 3, 4, 5]
    assert told[1] == told[3]


@pytest.mark.parametrize("name", ["dino", "clip"])
def test_a_training_that_goes_on_has_all_of_the_state_and_is_resumed_bit_for_bit(name):
    before = trained(small(name), schedule="constant").checkpoint
    saved, rates = [], []
    on = {"schedule": "warmup_stable_decay", "seed": 1, "continued": before}
    straight = trained(
        small(name), saved.append, log=lambda _, told: rates.append(told["lr"]), **on
    )
    # A constant rate goes on without a warm-up; after another schedule there is one.
    assert rates[0] == 0.01
    steps = {t.item() for n, t in straight.checkpoint.group("optimizer").items() if "step" in n}
    assert max(steps) == 2 * STEPS
    resumed = trained(small(name), resume=saved[3], **on)
    assert resumed.checkpoint.to_bytes() == straight.checkpoint.to_bytes()
    still = trained(small(name), **{**on, "lr": 1e-30, "weight_decay": 0.0}).checkpoint
    learned = [n for n, _ in small(name).named_parameters()]
    moved = {n for n in learned if not torch.equal(
        still.group("weights")[n], before.group("weights")[n])}  # fmt: skip
    assert all(n.startswith("teacher") for n in moved)
    with pytest.raises(ConfigError, match="continued is None there"):
        trained(small(name), resume=before, **on)


def test_it_saves_every_so_many_steps_after_others_that_are_asked_for_and_at_the_end():
    steps = []
    trained(small("simclr"), lambda c: steps.append(c.step), save_every=3, save_at=(4,))
    assert steps == [3, 4, 6, 8]


def test_the_log_is_told_each_step_its_scalars_and_its_rate():
    told = []
    result = trained(
        small("clip"), log=lambda step, metrics: told.append((step, metrics)), schedule="constant"
    )
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    assert [metrics["loss"] for _, metrics in told] == result.losses.tolist()
    assert set(told[0][1]) == {"loss", "scale", "lr", "gradient_norm"}
    assert told[0][1]["lr"] == pytest.approx(0.01 * (0.5 / STEPS) / 0.1)
    assert told[-1][1]["lr"] == 0.01


def test_a_loss_that_is_not_finite_stops_training_and_what_was_saved_is_the_last_good_state():
    values = [1.0, 1.0, float("nan"), 1.0]
    saved = []
    with pytest.raises(DataError, match="the loss is nan at step 3 of 4"):
        train(Line(), lines(values), saved.append, steps=4, lr=0.1, save_every=1)
    assert [c.step for c in saved] == [1, 2]
    assert all(torch.isfinite(t).all() for t in saved[-1].tensors.values())


def test_weights_that_are_not_finite_are_never_saved():
    saved = []
    with pytest.raises(DataError, match=r"after step 1 of 2: .* not finite"):
        train(
            Line(),
            lines([1.0, 1.0]),
            saved.append,
            steps=2,
            lr=3e38,
            warmup_ratio=0.0,
            optimizer="sgd",
            save_every=1,
        )
    assert saved == []


def test_batches_that_end_early_are_an_error():
    with pytest.raises(DataError, match="the batches end after step 2, but 5"):
        train(Line(), lines([1.0, 1.0]), steps=5, lr=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_parabola_is_descended(optimizer):
    result = train(
        Line(), lines([1.0] * 200), steps=200, lr=0.1, weight_decay=0.0, optimizer=optimizer
    )
    assert result.objective.encoder.weight.item() == pytest.approx(3, abs=0.02)
    assert result.losses[-1] < 1e-3 < result.losses[0]
    assert result.losses.dtype == np.float64


def test_a_checkpoint_of_another_run_is_refused_with_every_difference():
    saved = []
    trained(small("simclr"), saved.append)
    with pytest.raises(ConfigError) as caught:
        trained(small("simclr", dim=16), resume=saved[0], lr=0.02, schedule="constant")
    message = str(caught.value)
    assert "lr is 0.01 there, 0.02 here" in message
    assert "schedule is 'cosine' there, 'constant' here" in message
    assert "made is" in message
    other = Line()
    other.description = small("simclr").description
    with pytest.raises(DataError, match="of another model"):
        trained(other, resume=saved[0])


def test_a_resumed_run_computes_with_as_many_threads_as_before_and_says_so():
    saved = []
    first = trained(small("simclr"), saved.append)
    assert first.checkpoint.metadata["numerics"] == {
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
    }
    inside = []
    torch.set_num_threads(2)
    trained(small("simclr"), resume=saved[2], log=lambda *_: inside.append(torch.get_num_threads()))
    assert set(inside) == {1}
    assert torch.get_num_threads() == 2


@every_objective
def test_in_bfloat16_it_learns_nearly_the_same_and_is_resumed_bit_for_bit(name):
    saved, settings = [], {"precision": "bfloat16", "lr": 0.001}
    exact = trained(small(name), lr=0.001)
    rough = trained(small(name), saved.append, **settings)
    assert rough.checkpoint.metadata["numerics"]["dtype"] == "bfloat16"
    assert rough.losses.tolist() != exact.losses.tolist()
    assert rough.losses == pytest.approx(exact.losses, rel=0.05)
    resumed = trained(small(name), resume=saved[3], **settings)
    assert resumed.checkpoint.to_bytes() == rough.checkpoint.to_bytes()
    assert all(t.dtype != torch.bfloat16 for t in saved[3].tensors.values())


def test_a_state_of_another_precision_is_refused_and_float32_is_what_a_cpu_does_anyway():
    saved = []
    trained(small("simclr"), saved.append)
    resumed = trained(small("simclr"), resume=saved[3], precision="float32")
    assert resumed.checkpoint.to_bytes() == saved[-1].to_bytes()
    for given in ({"resume": saved[3]}, {"begin": saved[3]}):
        with pytest.raises(ConfigError, match="dtype is 'float32' there, 'bfloat16' here"):
            trained(small("simclr"), precision="bfloat16", **given)


def weights_of(result):
    return {n: w.detach().clone() for n, w in result.objective.state_dict().items()}


class Mean(Objective):
    """A loss that is a mean over records, without randomness."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(self.encoder.weight, 0.1)
        torch.nn.init.constant_(self.encoder.bias, 0.2)
        self.codecs = {"image": ImageCodec(16)}
        self.steps_done = 0

    def forward(self, batch, moment):  # noqa: ARG002
        pixels = batch["image"].float().mean((2, 3)) / 255
        return {"loss": self.encoder(pixels).square().sum(1).mean()}

    def after_step(self, moment):  # noqa: ARG002
        self.steps_done += 1


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_divided_batch_equals_the_whole_where_the_loss_is_a_mean_over_records(parts):
    whole, divided = trained(Mean()), trained(Mean(), accumulate=parts)
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(divided)[name], weight, rtol=1e-5, atol=1e-6)
    assert divided.losses == pytest.approx(whole.losses, rel=1e-5)
    assert whole.losses[-1] < 0.95 * whole.losses[0]
    assert divided.objective.steps_done == STEPS


def test_negatives_of_a_divided_batch_are_those_of_the_part_alone():
    whole, divided = trained(small("simclr")), trained(small("simclr"), accumulate=2)
    # With random vectors the loss is about log(2B - 1): 2.7 for 8 records, 1.9 for 4.
    assert whole.losses[0] - divided.losses[0] > 0.5


def test_the_randomness_of_a_part_is_its_own_and_the_first_has_that_of_the_step():
    draws = [
        torch.rand((), generator=moment_at(s, 9, seed=0, part=p).rng).item()
        for s in range(3)
        for p in range(4)
    ]
    assert len(set(draws)) == 12
    assert draws[0] == torch.rand((), generator=moment_at(0, 9, seed=0).rng).item()


def test_a_batch_that_is_not_so_many_equal_parts_is_refused():
    with pytest.raises(ConfigError, match=r"pretrain.accumulate: a batch of 8 is not 3 equal"):
        trained(Mean(), accumulate=3)


def test_gradients_are_clipped_to_the_norm_of_all_together():
    told = []
    result = trained(
        Mean(), log=lambda _, scalars: told.append(scalars), optimizer="sgd", lr=1.0,
        schedule="constant", warmup_ratio=0.0, weight_decay=0.0, clip_norm=0.01,
        stop=lambda _: True,
    )  # fmt: skip
    # At a rate of 1 and without decay the first step is the gradient itself.
    moved = [w - Mean().state_dict()[name] for name, w in weights_of(result).items()]
    assert torch.cat([w.flatten() for w in moved]).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert told[0]["gradient_norm"] > 0.1


def test_gradients_below_the_norm_stay_as_they_are():
    plain, clipped = trained(small("simclr")), trained(small("simclr"), clip_norm=1e6)
    for name, weight in weights_of(plain).items():
        assert torch.equal(weights_of(clipped)[name], weight)


def test_what_is_frozen_stays_bit_for_bit_statistics_and_all_and_the_rest_learns():
    fresh = small("clip").state_dict()
    found = weights_of(trained(small("clip"), freeze=["image_encoder"]))
    for name, weight in found.items():
        assert torch.equal(weight, fresh[name]) == name.startswith("image_encoder."), name


class Still(Objective):
    """A loss whose gradient is nothing, so that the weight decay acts alone."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(self.encoder.weight, 1.0)

    def forward(self, batch, moment):  # noqa: ARG002
        return {"loss": 0 * self.encoder.weight.sum()}


def test_the_weight_decay_grows_along_its_cosine():
    settings = {"steps": 2, "lr": 0.1, "schedule": "constant", "warmup_ratio": 0.0}
    result = train(Still(), lines([1.0, 1.0]), weight_decay=0.0, weight_decay_end=1.0, **settings)
    # At progress 1/4 and 3/4 the decay is (1 -+ cos(pi/4)) / 2 = 0.146447 and 0.853553.
    wanted = (1 - 0.1 * 0.146447) * (1 - 0.1 * 0.853553)
    assert result.objective.encoder.weight[0, 0].item() == pytest.approx(wanted, rel=1e-5)


def test_what_train_would_refuse_is_told_before_with_every_key():
    settings = {
        "schedule": "cosine", "warmup_ratio": 0.1, "cycles": 3, "freeze": ["encodr"],
        "accumulate": 3, "layer_decay": 0.5,
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        check(small("simclr"), 8, settings)
    assert [problem.key for problem in caught.value.problems] == [
        "pretrain.cycles", "pretrain.freeze", "pretrain.layer_decay", "pretrain.accumulate",
    ]  # fmt: skip
    fitting = small("simclr", "vit")
    check(fitting, 8, {"warmup_ratio": 0.1, **every_setting(fitting)})


def test_a_state_of_a_run_with_further_settings_is_refused_without_them():
    saved = []
    trained(small("simclr"), saved.append, clip_norm=1.0)
    with pytest.raises(ConfigError, match=r"clip_norm is 1.0 there, None here"):
        trained(small("simclr"), resume=saved[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_runs_and_resumes_there():
    saved = []
    trained(small("clip"), saved.append, device="cuda")
    resumed = trained(small("clip"), resume=saved[3], device="cuda")
    assert len(resumed.losses) == STEPS
    assert resumed.checkpoint.metadata["numerics"]["dtype"] == "bfloat16"
    with pytest.raises(ConfigError, match="device is 'cuda' there, 'cpu' here"):
        trained(small("clip"), resume=saved[3])
