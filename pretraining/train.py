"""The training loop: one for all objectives, resumed as if it had never stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import ConfigError, DataError
from contracts.params import Count, Positive, Ratio, Seed
from contracts.uid import random_bits
from pretraining import optim
from pretraining.checkpoint import Checkpoint, refuse_non_finite, refuse_other_weights
from pretraining.objective import Batch, Moment, Objective
from pretraining.schedules import Schedule, factor

Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        objective: the same module that was handed in.
        losses: float64, one for each step from the first on, also when resumed.
        checkpoint: the last state; its `step` is below the steps asked for where `stop` said so.
    """

    objective: Objective
    losses: NDArray[np.float64]
    checkpoint: Checkpoint


def train(
    objective: Objective,
    batches_from: Callable[[int], Iterator[Batch]],
    save: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
    device: str = "cpu",
    log: Log | None = None,
    stop: Callable[[], bool] | None = None,
    *,
    steps: Count,
    lr: Positive,
    schedule: Schedule = "cosine",
    warmup_ratio: Ratio = 0.1,
    optimizer: optim.Name = "adamw",
    weight_decay: Annotated[float, Field(ge=0)] = 0.1,
    seed: Seed = 0,
    save_every: Count = 100,
) -> Trained:
    """Train an objective; on one machine type the result is a function of the arguments alone.

    All randomness of step s comes from a generator seeded by (seed, s), and on a CPU a resumed
    run computes with as many threads as the run before it, so a run that was stopped at any step
    and resumed ends with the same bits. On CUDA the forward pass runs under bfloat16 autocast,
    and equal bits are not promised.

    Args:
        objective: with its initial weights; also where it resumes.
        batches_from: gives the batches from a step on.
        save: is handed a checkpoint every `save_every` steps and at the end. All its weights are
            finite.
        resume: the state to go on from.
        device: `cpu` or `cuda`.
        log: is told the number of steps done, and the loss, the rate and what else the objective
            returns.
        stop: is asked after every step; true saves and ends the training there.
        steps: in all, not from `resume` on.
        lr: the full rate; step s uses the schedule's share at progress (s + 1/2) / steps.
        schedule: what follows the linear warm-up.
        warmup_ratio: share of the steps.
        optimizer: `adamw`, or `sgd` with momentum.
        weight_decay: of matrices only.
        seed: of views, masks and whatever else an objective draws.
        save_every: steps.

    Raises:
        ConfigError: the checkpoint is of a run with other parameters or on another device.
        DataError: a loss or a weight is not finite, or the batches end too early; what was saved
            before stays good.
    """
    run = {
        "made": objective.description,
        "steps": steps,
        "lr": lr,
        "schedule": schedule,
        "warmup_ratio": warmup_ratio,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "seed": seed,
    }
    kind = torch.device(device).type
    numerics = {
        "device": kind,
        "dtype": "bfloat16" if kind == "cuda" else "float32",
        "threads": torch.get_num_threads(),
    }
    run = json.loads(json.dumps(run))  # a tuple is a list, as in a checkpoint that was read
    if resume is not None:
        _refuse_other_run(resume, run, numerics)
        numerics = dict(resume.metadata["numerics"])
    objective.to(device).train()
    update = optim.optimizer(optimizer, objective, weight_decay=weight_decay)
    losses = np.zeros(steps)
    done = 0 if resume is None else _restore(resume, objective, update, losses)
    batches = batches_from(done) if done < steps else iter(())

    def state() -> Checkpoint:
        tensors = {
            **{f"weights/{name}": value for name, value in objective.state_dict().items()},
            **{f"optimizer/{name}": value for name, value in update.state.items()},
            "losses": torch.from_numpy(losses[:done]),
        }
        refuse_non_finite(tensors, f"training, after step {done} of {steps}")
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return Checkpoint(copies, {"step": done, "run": run, "numerics": numerics})

    with _threads(int(numerics["threads"])):
        while done < steps:
            batch = next(batches, None)
            if batch is None:
                raise DataError(f"the batches end after step {done}, but {steps} were asked for.")
            rate = lr * factor(schedule, (done + 0.5) / steps, warmup_ratio=warmup_ratio)
            moment = moment_at(done, steps, seed=seed, device=device)
            where = f"step {done + 1} of {steps}"
            outputs = _step(objective, update, batch, moment, rate=rate, device=device, where=where)
            losses[done] = outputs["loss"]
            done += 1
            if log is not None:
                log(done, {**outputs, "lr": rate})
            stopped = stop is not None and stop()
            if save is not None and (stopped or done % save_every == 0 or done == steps):
                save(state())
            if stopped:
                break
    return Trained(objective, losses[:done].copy(), state())


def moment_at(step: int, steps: int, *, seed: int, device: str = "cpu") -> Moment:
    """Return the moment of a step: its randomness is a function of (seed, step)."""
    bits = random_bits(np.array([step], dtype=np.uint64), seed, "moment")
    rng = torch.Generator(device).manual_seed(int(bits[0]))
    return Moment(step / steps, rng)


def _step(
    objective: Objective,
    update: optim.Optimizer,
    batch: Batch,
    moment: Moment,
    *,
    rate: float,
    device: str,
    where: str,
) -> dict[str, float]:
    """Update the weights once and return the scalars; a loss that is not finite changes none."""
    here = {column: values.to(device, non_blocking=True) for column, values in batch.items()}
    on_cuda = torch.device(device).type == "cuda"
    with torch.autocast("cuda", torch.bfloat16) if on_cuda else nullcontext():
        outputs = objective(here, moment)
    scalars = {name: float(value.detach()) for name, value in outputs.items()}
    if not math.isfinite(scalars["loss"]):
        raise DataError(
            f"the loss is {scalars['loss']} at {where}: what was saved before is good. "
            "Lower lr, or look for records with extreme values."
        )
    objective.zero_grad(set_to_none=True)
    outputs["loss"].backward()
    update.step(rate)
    objective.after_step(moment)
    return scalars


def _restore(
    resume: Checkpoint, objective: Objective, update: optim.Optimizer, losses: NDArray[np.float64]
) -> int:
    """Load the state into the objective, the optimizer and the losses; return the steps done."""
    weights = resume.group("weights")
    refuse_other_weights(objective.state_dict(), weights, "the checkpoint to resume from")
    objective.load_state_dict(weights)
    remembered = resume.group("optimizer")
    refuse_other_weights(update.state, remembered, "the optimizer to resume from")
    for name, value in update.state.items():
        value.copy_(remembered[name])
    losses[: resume.step] = resume.tensors["losses"].numpy()
    return resume.step


def _refuse_other_run(
    resume: Checkpoint, run: Mapping[str, Any], numerics: Mapping[str, Any]
) -> None:
    there = {**resume.metadata["run"], "device": resume.metadata["numerics"]["device"]}
    here = {**run, "device": numerics["device"]}
    differ = [
        f"{k} is {there.get(k)!r} there, {v!r} here" for k, v in here.items() if there.get(k) != v
    ]
    if differ:
        raise ConfigError(
            f"the checkpoint at step {resume.step} is of another run: {'; '.join(differ)}. "
            "Resume with the same parameters, or start anew."
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with this many threads: sums of floats depend on how they are split."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
