"""What a step of training may do to the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from contracts.errors import ConfigError, ContractError, Problem
from pretraining import optim, ranks
from pretraining.groups import Group
from pretraining.objective import Objective
from pretraining.parts.gather import mean_over_ranks

Snapshot = Mapping[str, Tensor]
NORM = "norm of the gradients"


class Update:
    """Gradients become another state of the weights; what an objective's `take_step` is handed.

    Whether a step is finite is found out on the device, and nothing here waits for it: from the
    first step that is not, no step changes anything.

    Attributes:
        state: all that the optimizers remember, by name; changed in place.
        checked: of this step each loss and each norm of the gradients, before they were clipped,
            by what it is, in the order of their coming.
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
        self.checked: list[tuple[str, Tensor]] = []
        self._rate = self._weight_decay = 0.0
        # 1 from the first loss or gradient on that is not finite, in the form the optimizers read.
        self._skip = torch.zeros((), device=next(iter(self._weights.values())).device)

    @torch.no_grad()
    def begin(self, rate: float, weight_decay: float) -> None:
        """Begin a step at this rate."""
        self._rate, self._weight_decay, self.checked = rate, weight_decay, []
        self._objective.zero_grad(set_to_none=True)
        self._before = {n: t.detach().clone() for n, t in self._unmasked().items()}

    @torch.no_grad()
    def end(self) -> None:
        """End a step: what it changed beside the optimizers goes back where it was not finite."""
        skip = self._skip.bool()
        for name, tensor in self._unmasked().items():
            tensor.copy_(torch.where(skip, self._before[name], tensor))

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those that are there."""
        self._check("loss", mean_over_ranks(loss.detach()))
        (loss / self._parts).backward()  # type: ignore[no-untyped-call]

    def step(self, groups: Sequence[str] | None = None) -> None:
        """Clip the gradients, change the weights by them, and clear them.

        Args:
            groups: names of the objective's `parameter_groups`; all where not given. Gradients of
                the others are cleared too.

        Raises:
            ContractError: there is no such group.
        """
        unknown = set(groups or ()) - set(self._optimizers)
        if unknown:
            raise ContractError(
                f"{type(self._objective).__name__} has no parameter_groups {sorted(unknown)}, only "
                f"{sorted(self._optimizers)}."
            )
        ranks.average_gradients(list(self._weights.values()))
        having = [weight for weight in self._weights.values() if weight.grad is not None]
        norm = nn.utils.get_total_norm([w.grad for w in having if w.grad is not None])
        self._check(NORM, norm)
        if self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(having, self._clip_norm, norm)
        for name, optimizer in self._optimizers.items():
            if groups is None or name in groups:
                optimizer.step(self._rate, self._weight_decay, self._skip)
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

    @torch.no_grad()
    def _check(self, what: str, value: Tensor) -> None:
        self.checked.append((what, value))
        self._skip = torch.maximum(self._skip, (~torch.isfinite(value)).float().reshape(()))

    def _unmasked(self) -> dict[str, Tensor]:
        """Return what a step may change beside the optimizers, which skip a step by themselves.

        That is statistics of the forward pass and weights that follow others; of an objective that
        takes its steps itself, of which the first may be finite, everything.
        """
        fixed = tuple(f"{path}." for path in self._objective.frozen)
        named = chain(self._objective.named_buffers(), self._objective.named_parameters())
        own = {
            name: value
            for name, value in named
            if name not in self._weights and not name.startswith(fixed)
        }
        return {**own, **(self._all() if takes_its_steps(self._objective) else {})}

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
