"""A step that was not finite, run once more to see why."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from contracts.errors import ConfigError, DataError, DivergedError
from contracts.params import parse
from pretraining.build import Description, assemble
from pretraining.checkpoint import Checkpoint, refuse_foreign, refuse_other_weights
from pretraining.objective import Objective
from pretraining.train import train, trained_state


def replay(
    data: bytes,
    *,
    device: str = "cpu",
    allow: Collection[str] = (),
    recipe_dir: Path | None = None,
) -> dict[str, Any]:
    """Run a step again from the state in front of it, and return what can be seen of it.

    `step`, counted from 1, and `steps`; `scalars`, what the objective returned, the loss among
    them, empty where it did not come so far; `gradient_norm`, None where there was no gradient;
    `module`, the first whose output was not finite, None where there was none; `weights`, in
    front of the step, and `gradients` that are not finite, by name; `inputs`, by column the rows
    that are not finite; `records`, the uids of the batch, row by row, empty where they are not
    known; `error`, None where the step was finite on this device.

    Args:
        data: bytes of a `Checkpoint` of the kind `step`, the one that `train` hands to `failed`.
        device: another than that of the training computes the same but for rounding.
        allow: as of `pretraining.checkpoint.rebuild`.
        recipe_dir: as of `pretraining.checkpoint.rebuild`.

    Raises:
        DataError: it is no such file, is damaged, or is of another model.
    """
    kept = Checkpoint.from_bytes(data, "step")
    # Where the training began is of no account at this step.
    run = {
        key: value
        for key, value in kept.metadata["run"].items()
        if key not in ("begin", "continued")
    }
    try:
        description = Description.model_validate(run["made"])
        refuse_foreign(description, allow)
        objective = assemble(description, recipe_dir=recipe_dir)
        settings = parse(train, {k: v for k, v in run.items() if k != "made"}, where="run")
    except (ValidationError, ConfigError) as error:
        raise DataError(f"the step is of no objective known here: {error}") from None
    weights, batch = kept.group("weights"), kept.group("batch")
    refuse_other_weights(objective.state_dict(), weights, "the step")
    objective.load_state_dict(weights)
    numerics = {**kept.metadata["numerics"], "device": torch.device(device).type}
    numerics.pop("ranks", None)  # The batch is whole.
    resume = Checkpoint(
        {
            **{f"weights/{name}": value for name, value in trained_state(objective).items()},
            **{f"optimizer/{name}": value for name, value in kept.group("optimizer").items()},
            "losses": torch.zeros(kept.step),
        },
        {"step": kept.step, "run": run, "numerics": numerics},
    )
    seen = _Seen(objective)
    found = None
    try:
        train(
            objective,
            lambda _: iter([batch]),
            resume=resume,
            device=device,
            log=seen.log,
            stop=lambda _: True,
            **{**settings, "precision": numerics["dtype"]},
        )
    except DivergedError as diverged:
        found = str(diverged)
        if seen.gradients:
            norm = nn.utils.get_total_norm(list(seen.gradients.values()))
            seen.gradient_norm = float(norm)
    return {
        "step": kept.step + 1,
        "steps": settings["steps"],
        "scalars": seen.scalars,
        "gradient_norm": seen.gradient_norm,
        "module": seen.module,
        "weights": [name for name, value in weights.items() if not _finite(value)],
        "gradients": [name for name, value in seen.gradients.items() if not _finite(value)],
        "inputs": {
            column: [row for row, value in enumerate(values) if not _finite(value)]
            for column, values in batch.items()
            if not _finite(values)
        },
        "records": list(kept.metadata.get("records", [])),
        "error": found,
    }


class _Seen:
    """What a step shows up to a loss that is not finite, and the module that first went wrong."""

    def __init__(self, objective: Objective) -> None:
        self.scalars: dict[str, float] = {}
        self.gradient_norm: float | None = None
        self.gradients: dict[str, Tensor] = {}
        self.module: str | None = None
        for name, module in objective.named_modules():
            module.register_forward_hook(partial(self._look, name))
        for name, weight in objective.named_parameters():
            if weight.requires_grad:
                keep = partial(self._keep, name)
                weight.register_post_accumulate_grad_hook(keep)  # type: ignore[no-untyped-call]

    def log(self, _step: int, scalars: Mapping[str, float]) -> None:
        """Take the scalars of a step that was finite."""
        self.gradient_norm = scalars["gradient_norm"]

    def _look(self, name: str, _module: nn.Module, _given: Any, output: Any) -> None:
        # The objective is the module without a name.
        if not name:
            if not self._spoilt():
                self.scalars = {key: float(value.detach()) for key, value in output.items()}
        elif self.module is None and isinstance(output, Tensor) and not _finite(output):
            self.module = name

    def _keep(self, name: str, weight: Tensor) -> None:
        if weight.grad is not None and not self._spoilt():
            self.gradients[name] = weight.grad.detach().clone()

    def _spoilt(self) -> bool:
        return not math.isfinite(self.scalars.get("loss", 0.0))


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
