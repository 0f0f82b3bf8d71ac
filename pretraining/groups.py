"""Which weights are trained, at which share of the rate, and which of them decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import nn

from contracts.errors import ConfigError, Problem, nearest
from pretraining.objective import Objective


@dataclass(frozen=True)
class Group:
    """Weights that are updated alike.

    Attributes:
        lr_multiplier: what their rate is multiplied by.
        decays: whether the weight decay is theirs.
        weights: by name.
    """

    lr_multiplier: float
    decays: bool
    weights: Mapping[str, nn.Parameter]


def groups(
    module: nn.Module,
    *,
    freeze: Sequence[str] | None = None,
    lr_multipliers: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
) -> list[Group]:
    """Return the weights that are trained, each in one group.

    Matrices decay; vectors and scalars (biases, norms, temperatures) do not. A prefix is one or
    more parts of a weight's dotted name: `text_encoder` is that of `text_encoder.projection`, but
    `text` is not. With L blocks, the stem of an encoder that tells its depth has the multiplier
    layer_decay^(L + 1), its block i of 1 to L layer_decay^(L + 1 - i), and whatever lies above
    the blocks 1; it is multiplied by that of `lr_multipliers`.

    Args:
        module: weights that need no gradient are passed over.
        freeze: prefixes of weights that are not trained.
        lr_multipliers: by prefix; of several that fit a weight the longest holds.
        layer_decay: in (0, 1]; 1 where not given.
    Reference: Bao et al. 2022, arXiv:2106.08254 (the rate's decay over layers).

    Raises:
        ConfigError: no weight has a prefix, nothing is left to train, or an encoder that is
            exported does not tell its depth; with every problem, under its key.
    """
    freeze, lr_multipliers = freeze or (), lr_multipliers or {}
    named = dict(module.named_parameters())
    problems = [
        *_unknown("freeze", freeze, named),
        *_unknown("lr_multipliers", lr_multipliers, named),
    ]
    trained = {n: w for n, w in named.items() if w.requires_grad and not _fitting(n, freeze)}
    if not trained:
        problems.append(Problem("pretrain.freeze", "leaves no weight to train."))
    below: dict[str, int] = {}
    if layer_decay is not None:
        below = _layers_below_the_top(module)
        problems += _without_depth(module, below)
    if problems:
        raise ConfigError(problems)
    found: dict[tuple[float, bool], dict[str, nn.Parameter]] = defaultdict(dict)
    for name, weight in trained.items():
        longest = max(_fitting(name, lr_multipliers), key=len, default=None)
        multiplier = 1.0 if longest is None else lr_multipliers[longest]
        if layer_decay is not None:
            multiplier *= layer_decay ** below.get(name, 0)
        found[multiplier, weight.ndim > 1][name] = weight
    return [Group(multiplier, decays, weights) for (multiplier, decays), weights in found.items()]


def fix(module: nn.Module, freeze: Sequence[str] | None) -> None:
    """Freeze weights; a whole submodule is set to evaluation, so that its statistics stay too.

    Args:
        module: changed in place.
        freeze: prefixes, as of `groups`.
    """
    freeze = freeze or ()
    for name, weight in module.named_parameters():
        if _fitting(name, freeze):
            weight.requires_grad_(False)
    for name, submodule in module.named_modules():
        if name in freeze:
            submodule.eval()


def _prefixes(name: str) -> list[str]:
    """Return `a`, `a.b` and `a.b.c` for `a.b.c`."""
    return list(accumulate(name.split("."), lambda head, part: f"{head}.{part}"))


def _fitting(name: str, prefixes: Iterable[str]) -> list[str]:
    own = _prefixes(name)
    return [prefix for prefix in prefixes if prefix in own]


def _unknown(key: str, prefixes: Iterable[str], names: Iterable[str]) -> list[Problem]:
    known = {prefix for name in names for prefix in _prefixes(name)}
    return [
        Problem(
            f"pretrain.{key}",
            f"no weight's name begins with {prefix!r}."
            + nearest(prefix, [k for k in known if k.count(".") == prefix.count(".")]),
        )
        for prefix in prefixes
        if prefix not in known
    ]


def _tells_depth(module: nn.Module) -> bool:
    return isinstance(getattr(module, "blocks", None), nn.ModuleList) and hasattr(module, "stem")


def _layers_below_the_top(module: nn.Module) -> dict[str, int]:
    """Return how many layers lie above a weight, for the weights of encoders with a depth."""
    below = {}
    for path, encoder in module.named_modules():
        if not _tells_depth(encoder):
            continue
        blocks, stem = getattr(encoder, "blocks"), getattr(encoder, "stem")  # noqa: B009
        for name, _ in encoder.named_parameters():
            first, _, rest = name.partition(".")
            if first in stem:
                layer = 0
            elif first == "blocks":
                layer = int(rest.partition(".")[0]) + 1
            else:
                layer = len(blocks) + 1
            below[f"{path}.{name}".removeprefix(".")] = len(blocks) + 1 - layer
    return below


def _without_depth(module: nn.Module, below: Mapping[str, int]) -> list[Problem]:
    exports = module.exports if isinstance(module, Objective) else ()
    return [
        Problem("pretrain.layer_decay", f"the {export} does not tell its depth, as a vit does.")
        for export in exports
        if not any(name.startswith(f"{export}.") for name in below)
    ]
