"""What a step of training may do to the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from contracts.errors import ConfigError, ContractError, DivergedError, Problem
from pretraining import optim, ranks
from pretraining.groups import Group
from pretraining.objective import Objective
from pretraining.parts.gather import mean_over_ranks

Snapshot = Mapping[str, Tensor]


class Update:
    """Gradients become another state of the weights; what an objective's `take_step` is handed.

    Attributes:
        state: all that the optimizers remember, by name; changed in place.
        gradient_norm: of the last step, before it was clipped.
    """

    def __init__(
        self,
        objective: Objective,
        trained: Sequence[Group],
        *,
        optimizer: optim.Name,
        clip_norm: float | None,
        parts: int,
    ) -> None:
        """Take the weights that are trained.

        Args:
            objective: whose weights they are.
            trained: the weights, by rate and decay.
            optimizer: `adamw` or `sgd`.
            clip_norm: gradients are scaled down to this norm.
            parts: of a divided batch: a loss counts one part of it.
        """
        self._objective, self._clip_norm, self._parts = objective, clip_norm, parts
        self._weights = {n: w for group in trained for n, w in group.weights.items()}
        named = parameter_groups(objective, trained)
        self._optimizers = {name: optim.optimizer(optimizer, own) for name, own in named.items()}
        self.state = {
            f"{name}:{key}" if name else key: value
            for name, made in self._optimizers.items()
            for key, value in made.state.items()
        }
        self.gradient_norm = math.nan
        self._rate = self._weight_decay = 0.0
        self._where = ""

    @torch.no_grad()
    def begin(self, rate: float, weight_decay: float, where: str) -> None:
        """Begin a step at this rate; `where` says which, for an error."""
        self._rate, self._weight_decay, self._where = rate, weight_decay, where
        self._objective.zero_grad(set_to_none=True)
        self._before = {n: t.detach().clone() for n, t in self._changed_early().items()}

    @torch.no_grad()
    def undo(self) -> None:
        """Go back to where the step began, which was found not to be finite."""
        for name, tensor in self._changed_early().items():
            tensor.copy_(self._before[name])

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those that are there.

        Raises:
            DivergedError: the loss is not finite, on any rank.
        """
        self._refuse_non_finite("loss", float(mean_over_ranks(loss.detach())))
        (loss / self._parts).backward()  # type: ignore[no-untyped-call]

    def step(self, groups: Sequence[str] | None = None) -> None:
        """Clip the gradients, change the weights by them, and clear them.

        Args:
            groups: names of the objective's `parameter_groups`; all where not given. Gradients of
                the others are cleared too.

        Raises:
            ContractError: there is no such group.
            DivergedError: a gradient is not finite; no weight is changed.
        """
        unknown = set(groups or ()) - set(self._optimizers)
        if unknown:
            raise ContractError(
                f"{type(self._objective).__name__} has no parameter_groups {sorted(unknown)}, only "
                f"{sorted(self._optimizers)}."
            )
        ranks.average_gradients(list(self._weights.values()))
        having = [weight for weight in self._weights.values() if weight.grad is not None]
        norm = gradient_norm(having)
        self.gradient_norm = float(norm)
        self._refuse_non_finite("norm of the gradients", self.gradient_norm)
        if self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(having, self._clip_norm, norm)
        for name, optimizer in self._optimizers.items():
            if groups is None or name in groups:
                optimizer.step(self._rate, self._weight_decay)
        self._objective.zero_grad(set_to_none=True)

    @torch.no_grad()
    def snapshot(self) -> Snapshot:
        """Return copies of the weights and of what the optimizers remember, of no buffer."""
        return {name: tensor.detach().clone() for name, tensor in self._all().items()}

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, bit for bit."""
        for name, tensor in self._all().items():
            tensor.copy_(snapshot[name])

    def _refuse_non_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"the {what} is {value} at {self._where}: what was saved before is good. "
                "Lower lr, or look for records with extreme values."
            )

    def _changed_early(self) -> dict[str, Tensor]:
        """Return what a step changes before it is known to be finite.

        That is statistics of the forward pass; of an objective that takes its steps itself, which
        may be several, everything.
        """
        buffers = {f"buffers/{name}": value for name, value in self._objective.named_buffers()}
        return {**buffers, **(self._all() if takes_its_steps(self._objective) else {})}

    def _all(self) -> dict[str, Tensor]:
        weights = {f"weights/{name}": weight for name, weight in self._weights.items()}
        return {**weights, **{f"optimizer/{name}": t for name, t in self.state.items()}}


def parameter_groups(objective: Objective, trained: Sequence[Group]) -> dict[str, list[Group]]:
    """Return the weights of each of the objective's groups, all under no name where it has none.

    Raises:
        ContractError: a group has no weight, or a weight is in none.
    """
    if not objective.parameter_groups:
        return {"": list(trained)}
    named: dict[str, list[Group]] = {}
    found: set[str] = set()
    for name, asked in objective.parameter_groups.items():
        heads = tuple(f"{head}." for head in asked.weights)
        named[name] = [
            Group(of.lr_multiplier * asked.lr, of.decays, mine)
            for of in trained
            if (mine := {n: w for n, w in of.weights.items() if f"{n}.".startswith(heads)})
        ]
        found |= {weight for of in named[name] for weight in of.weights}
    missing = {n for of in trained for n in of.weights} - found
    empty = [name for name, of in named.items() if not of]
    if missing or empty:
        raise ContractError(
            f"{type(objective).__name__}: parameter_groups leave out {sorted(missing)[:3]}"
            f"{f', and {empty} have no weight' if empty else ''}."
        )
    return named


def gradient_norm(weights: Sequence[nn.Parameter]) -> Tensor:
    """Return the norm of the gradients of all weights together, of those that have one."""
    return nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])


def takes_its_steps(objective: Objective) -> bool:
    """Whether an objective has a `take_step` of its own."""
    return type(objective).take_step is not Objective.take_step


def refuse_divided(objective: Objective, parts: int) -> None:
    """Refuse to divide the batches of an objective that takes its steps itself.

    Raises:
        ConfigError: it has a `take_step` of its own.
    """
    if parts > 1 and takes_its_steps(objective):
        message = f"{type(objective).__name__} takes its steps itself, of whole batches."
        raise ConfigError([Problem("pretrain.accumulate", message)])
