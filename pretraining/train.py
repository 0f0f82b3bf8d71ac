"""The training loop: one for all objectives, resumed as if it had never stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import ConfigError, DataError, DivergedError, Problem
from contracts.params import Count, NotNegative, Positive, Ratio, Seed, Share, names_of
from contracts.uid import random_bits
from pretraining import optim, ranks, schedules
from pretraining.checkpoint import Checkpoint, refuse_non_finite, refuse_other_weights
from pretraining.groups import fix, groups
from pretraining.journal import EVERY
from pretraining.objective import Batch, Moment, Objective
from pretraining.parts.gather import all_ranks, mean_over_ranks
from pretraining.parts.norm import spread_batch_norms
from pretraining.schedules import Cycles, Schedule
from pretraining.update import NORM, Update, refuse_divided

Precision = Literal["float32", "bfloat16"]
Log = Callable[[int, Mapping[str, float]], None]
# Of the trainer and the parts of objectives: another number where equal arguments give other
# weights, so that nothing that was trained before is taken for what is trained now.
VERSION = 2


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
    stop: Callable[[int], bool] | None = None,
    begin: Checkpoint | None = None,
    failed: Callable[[Checkpoint], str] | None = None,
    fetch_every: int | None = None,
    probe: Callable[[int], None] | None = None,
    continued: Checkpoint | None = None,
    save_at: Collection[int] = (),
    *,
    steps: Count,
    lr: Positive,
    schedule: Schedule = "cosine",
    warmup_ratio: Ratio = 0.1,
    optimizer: optim.Name = "adamw",
    weight_decay: NotNegative = 0.1,
    seed: Seed = 0,
    save_every: Count = 100,
    cycles: Cycles | None = None,
    decay_ratio: Share | None = None,
    cooldown_ratio: Share | None = None,
    constant_rate_ratio: Share | None = None,
    end_rate_ratio: Share | None = None,
    weight_decay_end: NotNegative | None = None,
    clip_norm: Positive | None = None,
    accumulate: Count | None = None,
    freeze: Sequence[str] | None = None,
    lr_multipliers: Mapping[str, Positive] | None = None,
    layer_decay: Share | None = None,
    precision: Precision | None = None,
) -> Trained:
    """Train an objective; on one machine type the result is a function of the arguments alone.

    All randomness of step s comes from a generator seeded by (seed, s), and on a CPU a resumed
    run computes with as many threads as the run before it, so a run that was stopped at any step
    and resumed ends with the same bits. On CUDA equal bits are not promised.

    Where several ranks train together (`pretraining.ranks`), each is given its rows of every batch
    and all end with the same weights: those of one process, but for rounding.

    With `accumulate` the mean gradient of the batch's parts, each with randomness of its own by
    (seed, s, part), makes one step. It is that of the whole batch, but for rounding, where the
    loss is a mean over records and a record's part of it depends on no other. It is another where
    records of a batch meet: as negatives, as in `clip` and `simclr`, or in a batch norm, as in
    `small_cnn`; these then see their own part alone.

    Args:
        objective: with its initial weights; also where it resumes.
        batches_from: gives the batches from a step on.
        save: is handed a checkpoint every `save_every` steps and at the end. All its weights are
            finite. Of several ranks one is enough to save; likewise with `log` and `failed`.
        resume: the state to go on from.
        device: `cpu` or `cuda`.
        log: is told the number of steps done, and the loss, the rate, what else the objective
            returns, and the norm of the gradients before they are clipped, `gradient_norm`.
        stop: is asked after every step, with the number done; true saves and ends the training
            there, of several ranks on all when next they wait for losses.
        begin: a state of another training of this objective, to begin from: its weights, its
            optimizer and its losses, at its step. Whatever follows from the step and the progress
            is this training's own.
        failed: is handed the state in front of a step that is not finite, with its batch, for
            `pretraining.replay`; what it returns stands in the error.
        fetch_every: so many steps are computed until the host waits for their losses. A step that
            is not finite changes nothing, nor do those after it, and training ends when the host
            learns of it. `log` is told then of each of them. Where not given 1 on a CPU, else as
            many as make a line of the log.
        probe: is called after every step, with the number done, to look at the weights. It
            changes nothing of the objective.
        continued: a state of a training over other records, of the same objective and roles and
            perhaps of other parameters, whose weights and optimizer go on here from step 0. After
            a schedule with a constant rate one that has such a rate goes on at it, with no
            warm-up; any other begins anew.
        save_at: further steps after which `save` is handed a checkpoint.
        steps: in all, not from `resume` on.
        lr: the full rate; step s uses the schedule's share at progress (s + 1/2) / steps.
        schedule: what follows the linear warm-up, a function of `pretraining.schedules`.
        warmup_ratio: share of the steps.
        optimizer: `adamw`, or `sgd` with momentum.
        weight_decay: of matrices only.
        seed: of views, masks and whatever else an objective draws.
        save_every: steps.
        cycles: of the schedule, as the next four; each is refused where it is another's.
        decay_ratio: of the schedule.
        cooldown_ratio: of the schedule.
        constant_rate_ratio: of the schedule.
        end_rate_ratio: of the schedule.
        weight_decay_end: to which the weight decay goes on half a cosine; it stays where not
            given.
        clip_norm: gradients are scaled down to this norm, that of all weights together.
        accumulate: parts into which each batch is divided; 1 where not given.
        freeze: prefixes of weights that are not trained (`pretraining.groups`).
        lr_multipliers: what the rate is multiplied by, by prefix of the weights.
        layer_decay: the share of the rate that a layer has of that of the layer above it.
        precision: of products and convolutions, by autocast; weights, losses and the optimizer stay
            in float32. Where not given bfloat16 on CUDA, else float32.
    Reference: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1 (`clip_norm`).

    Raises:
        ConfigError: a setting does not fit the schedule, the objective or the batch, or the
            checkpoint is of a run with other parameters, on another device or of another
            precision, `begin` is of another objective or beyond the steps, or `continued` is of
            another objective or optimizer.
        DivergedError: a loss, a gradient or a weight is not finite; what was saved before stays
            good.
        DataError: the batches end too early.
    """
    of_schedule = {
        "cycles": cycles,
        "decay_ratio": decay_ratio,
        "cooldown_ratio": cooldown_ratio,
        "constant_rate_ratio": constant_rate_ratio,
        "end_rate_ratio": end_rate_ratio,
    }
    further = {
        **of_schedule,
        "weight_decay_end": weight_decay_end,
        "clip_norm": clip_norm,
        "accumulate": accumulate,
        "freeze": freeze,
        "lr_multipliers": lr_multipliers,
        "layer_decay": layer_decay,
    }
    rates = schedules.parameters(schedule, {**of_schedule, "warmup_ratio": warmup_ratio})
    run = {
        "made": objective.description,
        "steps": steps,
        "lr": lr,
        "schedule": schedule,
        "warmup_ratio": warmup_ratio,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "seed": seed,
        # What is not given is left out, so that a state of before there was such a key is resumed.
        **{key: value for key, value in further.items() if value is not None},
    }
    kind = torch.device(device).type
    numerics: dict[str, Any] = {
        "device": kind,
        "dtype": precision or ("bfloat16" if kind == "cuda" else "float32"),
        "threads": torch.get_num_threads(),
        **({"ranks": ranks.count()} if ranks.count() > 1 else {}),
    }
    if begin is not None:
        _refuse_other_run(begin, run, numerics, keys=("made", "device", "dtype"))
        if begin.step >= steps:
            raise ConfigError(f"a training of {steps} steps cannot begin at step {begin.step}.")
        run["begin"] = {"step": begin.step, "run": begin.metadata["run"]}
    first = 0.0  # The progress at which the schedule stands at first.
    if continued is not None:
        refuse_other_training(continued, objective, optimizer)
        if {schedule, continued.metadata["run"]["schedule"]} <= set(schedules.STEADY):
            first = schedules.steady_from(**rates)
        run["continued"] = {"step": continued.step, "run": continued.metadata["run"]}
    run = json.loads(json.dumps(run))  # a tuple is a list, as in a checkpoint that was read
    if resume is not None:
        _refuse_other_run(resume, run, numerics)
    state_before = resume or begin
    if state_before is not None:
        numerics = dict(state_before.metadata["numerics"])
    objective.to(device).train()
    fix(objective, objective.frozen)
    if ranks.count() > 1:
        spread_batch_norms(objective)
    trained = groups(
        objective, freeze=freeze, lr_multipliers=lr_multipliers, layer_decay=layer_decay
    )
    fix(objective, freeze)
    refuse_divided(objective, accumulate or 1)
    update = Update(
        objective, trained, optimizer=optimizer, clip_norm=clip_norm, parts=accumulate or 1
    )
    losses, done = np.zeros(steps), 0
    if state_before is not None:
        _load(state_before, objective, update)
        done = state_before.step
        losses[:done] = state_before.tensors["losses"].numpy()
    elif continued is not None:
        _go_on(continued, objective, update)
    batches = batches_from(done) if done < steps else iter(())
    fetch_every = fetch_every or (1 if kind == "cpu" else EVERY)
    taken: list[_Step] = []
    asked = False

    def state() -> Checkpoint:
        tensors = {
            **{f"weights/{name}": value for name, value in trained_state(objective).items()},
            **{f"optimizer/{name}": value for name, value in update.state.items()},
            "losses": torch.from_numpy(losses[:done]),
        }
        refuse_non_finite(tensors, f"training, after step {done} of {steps}")
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return Checkpoint(copies, {"step": done, "run": run, "numerics": numerics})

    def failing(done: int, batch: Batch) -> Checkpoint:
        tensors = {
            **{f"weights/{name}": value for name, value in objective.state_dict().items()},
            **{f"optimizer/{name}": value for name, value in update.state.items()},
            **{f"batch/{c}": _of_all(v.to(device), accumulate or 1) for c, v in batch.items()},
        }
        return Checkpoint(tensors, {"step": done, "run": run, "numerics": numerics}, "step")

    def fetch() -> None:
        values = iter(_fetched([value for step in taken for _, value in step.scalars], device))
        for before, step in enumerate(taken, done - len(taken)):
            scalars = [(name, next(values)) for name, _ in step.scalars]
            checked, outputs = scalars[: step.checked], scalars[step.checked :]
            for what, value in checked:
                if not math.isfinite(value):
                    message = (
                        f"the {what} is {value} at step {before + 1} of {steps}: what was saved "
                        "before is good. Lower lr, or look for records with extreme values."
                    )
                    kept = [] if failed is None else [failed(failing(before, step.batch))]
                    raise DivergedError(" ".join([message, *kept]))
            means: dict[str, float] = {}
            for name, value in outputs:
                means[name] = means.get(name, 0.0) + value / (accumulate or 1)
            means["gradient_norm"] = dict(checked).get(NORM, math.nan)
            losses[before] = means["loss"]
            if log is not None:
                log(before + 1, {**means, "lr": step.rate})
        taken.clear()

    cuda = [torch.device(device)] if kind == "cuda" else []
    with _threads(int(numerics["threads"])), torch.random.fork_rng(cuda):
        while done < steps:
            batch = next(batches, None)
            if batch is None:
                raise DataError(f"the batches end after step {done}, but {steps} were asked for.")
            progress = (done + 0.5) / steps
            rate = lr * schedules.factor(schedule, max(progress, first), **rates)
            moments = [
                moment_at(done, steps, seed=seed, device=device, part=part)
                for part in range(accumulate or 1)
            ]
            decay = schedules.weight_decay_at(progress, weight_decay, weight_decay_end)
            update.begin(rate, decay)
            outputs = _stepped(objective, batch, moments, update, device, numerics["dtype"])
            objective.after_step(moments[0])
            update.end()
            taken.append(_Step(batch, rate, [*update.checked, *outputs], len(update.checked)))
            done += 1
            if probe is not None:
                probe(done)
            asked = asked or (stop is not None and stop(done))
            saving = done % save_every == 0 or done == steps or done in save_at
            # Ranks ask each other at steps that all of them know.
            if not (saving or done % fetch_every == 0 or (asked and ranks.count() == 1)):
                continue
            fetch()
            stopped = ranks.any_of(asked, device)
            if stopped or saving:
                reached = state()
                if save is not None:
                    save(reached)
            if stopped:
                break
    return Trained(objective, losses[:done].copy(), state())


def check(objective: Objective, batch: int, settings: Mapping[str, Any]) -> None:
    """Refuse what `train` would refuse, before there is a batch.

    Args:
        objective: that is to be trained.
        batch: records a step.
        settings: keyword parameters of `train`, at least `schedule` and `warmup_ratio`.

    Raises:
        ConfigError: with every problem, under its key.
    """
    problems: list[Problem] = []

    def ask(question: Callable[..., object], *given: Any, **named: Any) -> None:
        try:
            question(*given, **named)
        except ConfigError as error:
            problems.extend(error.problems)

    fix(objective, objective.frozen)
    of_schedules = {n for s in schedules.SCHEDULES.values() for n in names_of(s)}
    ask(
        schedules.parameters,
        settings["schedule"],
        {name: settings.get(name) for name in of_schedules},
    )
    ask(groups, objective, **{name: settings.get(name) for name in names_of(groups)})
    ask(_refuse_uneven, batch, settings.get("accumulate") or 1)
    ask(refuse_divided, objective, settings.get("accumulate") or 1)
    if problems:
        raise ConfigError(problems)


def moment_at(step: int, steps: int, *, seed: int, device: str = "cpu", part: int = 0) -> Moment:
    """Return the moment of a step: its randomness is a function of (seed, step, part).

    Args:
        step: steps done.
        steps: in all.
        seed: of the training.
        device: of the generator.
        part: of a divided batch, from 0 on.
    """
    stream = f"moment {part}" if part else "moment"
    bits = random_bits(np.array([step], dtype=np.uint64), seed, stream)
    rng = torch.Generator(device).manual_seed(int(bits[0]))
    return Moment(step / steps, rng, ranks.own(), ranks.count())


@dataclass(frozen=True)
class _Step:
    """A step whose numbers are still on the device.

    Attributes:
        batch: of it.
        rate: at which it was taken.
        scalars: by name, in the order of their coming.
        checked: so many of the first must be finite.
    """

    batch: Batch
    rate: float
    scalars: list[tuple[str, Tensor]]
    checked: int


@torch.no_grad()
def _fetched(scalars: Sequence[Tensor], device: str) -> list[float]:
    """Return numbers of the device: the one place of a step at which the host waits for it."""
    found = torch.stack([scalar.to(device, torch.float64).reshape(()) for scalar in scalars])
    return [float(number) for number in found.tolist()]


def _stepped(
    objective: Objective,
    batch: Batch,
    moments: Sequence[Moment],
    update: Update,
    device: str,
    dtype: Precision,
) -> list[tuple[str, Tensor]]:
    """Take a step, of the batch's parts together where there are several; return the scalars."""
    parts = len(moments)
    for values in batch.values():
        _refuse_uneven(len(values), parts)
    here = {column: _moved(values, device) for column, values in batch.items()}
    autocast = partial(
        torch.autocast, torch.device(device).type, torch.bfloat16, enabled=dtype == "bfloat16"
    )
    scalars: list[tuple[str, Tensor]] = []

    def add(outputs: Mapping[str, Tensor]) -> None:
        scalars.extend((name, mean_over_ranks(value.detach())) for name, value in outputs.items())

    with autocast():
        if parts == 1:
            _seed_torch(moments[0])
            add(objective.take_step(here, moments[0], update))
            return scalars
    divided = {column: values.tensor_split(parts) for column, values in here.items()}
    for part, moment in enumerate(moments):
        _seed_torch(moment)
        with autocast():
            outputs = objective({column: of[part] for column, of in divided.items()}, moment)
        update.backward(outputs["loss"])
        add(outputs)
    update.step()
    return scalars


def _moved(values: Tensor, device: str) -> Tensor:
    """Return a column on the device; CUDA copies pinned memory while the host goes on."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _seed_torch(moment: Moment) -> None:
    """Seed torch's own generators for a step: dropout in torch and timm takes no other."""
    torch.manual_seed(moment.rng.initial_seed() ^ moment.rank)


def _of_all(rows: Tensor, parts: int) -> Tensor:
    """Return the whole batch's rows in its order: of each part those of all ranks."""
    whole = all_ranks(rows)
    divided = whole.reshape(ranks.count(), parts, -1, *rows.shape[1:])
    return divided.transpose(0, 1).reshape(whole.shape)


def _refuse_uneven(records: int, parts: int) -> None:
    if records % parts:
        raise ConfigError(
            [Problem("pretrain.accumulate", f"a batch of {records} is not {parts} equal parts.")]
        )


def _load(state: Checkpoint, objective: Objective, update: Update) -> None:
    """Load a state into the objective and the optimizer."""
    load_weights(state, objective)
    remembered = state.group("optimizer")
    refuse_other_weights(update.state, remembered, "the optimizer to resume from")
    for name, value in update.state.items():
        value.copy_(remembered[name])


def load_weights(state: Checkpoint, objective: Objective) -> None:
    """Give an objective the weights of a state, all but those of frozen roles.

    Raises:
        DataError: they are of another model.
    """
    weights, here = state.group("weights"), trained_state(objective)
    refuse_other_weights(here, weights, "the checkpoint to resume from")
    for name, value in here.items():
        value.copy_(weights[name])


def _go_on(state: Checkpoint, objective: Objective, update: Update) -> None:
    there, here = state.metadata["run"]["made"]["encoders"], objective.description["encoders"]
    for role, part in here.items():
        # Tokens of equal numbers would be other texts, and the weights of the same shapes.
        if part["parameters"].get("vocabulary") != there[role]["parameters"].get("vocabulary"):
            message = (
                f"the vocabulary of {role} is another there. Give the same fit, which stays as it "
                "is while its section and its records are the same."
            )
            raise ConfigError([Problem("pretrain.continue_from", message)])
    try:
        _load(state, objective, update)
    except DataError as error:
        message = f"{error} Give the same encoders, and freeze the same weights."
        raise ConfigError([Problem("pretrain.continue_from", message)]) from None


def refuse_other_training(state: Checkpoint, objective: Objective, optimizer: str) -> None:
    """Refuse to continue a training of another objective, of other encoders or another optimizer.

    Raises:
        ConfigError: with what differs.
    """

    def asked(made: Mapping[str, Any], optimizer: str) -> dict[str, Any]:
        encoders = {role: part["name"] for role, part in made["encoders"].items()}
        return {"objective": made["objective"]["name"], **encoders, "optimizer": optimizer}

    run = state.metadata["run"]
    there = asked(run["made"], run["optimizer"])
    here = asked(objective.description, optimizer)
    differ = [
        f"{key} is {there.get(key)!r} there, {here.get(key)!r} here"
        for key in {**here, **there}
        if there.get(key) != here.get(key)
    ]
    if differ:
        message = f"is of another training: {'; '.join(differ)}. Give the same here."
        raise ConfigError([Problem("pretrain.continue_from", message)])


def trained_state(objective: Objective) -> dict[str, Tensor]:
    """Return what training changes: all but the frozen roles."""
    frozen = tuple(f"{path}." for path in objective.frozen)
    return {n: t for n, t in objective.state_dict().items() if not n.startswith(frozen)}


def _refuse_other_run(
    resume: Checkpoint,
    run: Mapping[str, Any],
    numerics: Mapping[str, Any],
    keys: Collection[str] | None = None,
) -> None:
    """Refuse a state of a run that differs in a key, or in one of these."""
    of_machine = ("device", "dtype", "ranks")
    before = resume.metadata["numerics"]
    there = {**resume.metadata["run"], **{k: before.get(k) for k in of_machine}}
    here = {**run, **{k: numerics.get(k) for k in of_machine}}
    differ = [
        f"{key} is {there.get(key)!r} there, {here.get(key)!r} here"
        for key in {**here, **there}
        if (keys is None or key in keys) and there.get(key) != here.get(key)
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
