"""Make an objective and its encoders from the sections of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from contracts import methods
from contracts.errors import ConfigError, ContractError, DataError, Problem
from contracts.methods import load
from contracts.params import parse
from contracts.uid import random_bits
from pretraining.codecs import Codec
from pretraining.objective import Encoder, Objective

OBJECTIVES, ENCODERS = "pretraining.objectives", "pretraining.encoders"
# What a role gets where nothing is named: the first of these that fits.
DEFAULTS = (
    "small_cnn", "words", "vit", "text_transformer", "spectrogram_transformer",
    "volume_transformer",
)  # fmt: skip


class Part(BaseModel):
    """A class by name and the keyword parameters it is made with."""

    model_config = ConfigDict(frozen=True, strict=True)
    name: str
    parameters: dict[str, Any]


class Description(BaseModel):
    """All that it takes to make an objective again.

    Attributes:
        encoders: by role.
        seed: of the initial weights.
        frozen: the roles that are not trained, besides those that the objective fixes.
    """

    model_config = ConfigDict(frozen=True, strict=True)
    objective: Part
    encoders: dict[str, Part]
    seed: int
    frozen: list[str] = []


@dataclass(frozen=True)
class Role:
    """A positional parameter of an objective: an encoder that it asks for.

    Attributes:
        protocol: whose methods the encoder must have, and its codec those of the `codec` there.
        reads: what it must read; None for anything.
    """

    protocol: type
    reads: str | None = None

    def misfit(self, encoder: Any) -> str | None:
        """Return why an encoder cannot have the role, None where it can."""
        codec = get_type_hints(self.protocol).get("codec", Codec)
        for thing, protocol in ((encoder, self.protocol), (encoder.codec, codec)):
            missing = sorted(m for m in _methods(protocol) if not hasattr(thing, m))
            if missing:
                return f"has no {', '.join(missing)}, which {protocol.__name__} asks for"
        reads = encoder.codec.reads
        if self.reads not in (None, reads):
            return f"reads {reads}, not {self.reads}"
        return None


def roles_of(objective: Any) -> dict[str, Role]:
    """Return the positional parameters of an objective.

    Raises:
        ContractError: one is annotated by something else than a Protocol.
    """
    hints = get_type_hints(objective.__init__, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(objective).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        hint, reads = hints.get(name, Encoder), None
        if get_origin(hint) is Annotated:
            hint, reads, *_ = get_args(hint)
        if not getattr(hint, "_is_protocol", False):
            raise ContractError(
                f"{objective.__name__}: {name} is annotated {hint}; a role is an Encoder, "
                'Annotated[Encoder, "image"], or another Protocol.'
            )
        found[name] = Role(hint, reads)
    return found


def build(
    objective: str,
    section: Mapping[str, Any],
    encoders: Mapping[str, Part],
    *,
    seed: int,
    frozen: Sequence[str] = (),
    weights: Mapping[str, Mapping[str, Tensor]] | None = None,
    heads: Mapping[str, Mapping[str, Tensor]] | None = None,
    recipe_dir: Path | None = None,
) -> Objective:
    """Return the objective with fresh weights, a function of the arguments alone.

    Args:
        objective: a file of `pretraining/objectives`, or a reference to one's own class.
        section: the objective's parameters, those of `[pretrain]`.
        encoders: by role a file of `pretraining/encoders`, or a reference, with its parameters; a
            role that is not named gets the first of `DEFAULTS` that fits.
        seed: of the initial weights.
        frozen: roles that are not trained.
        weights: by role the weights that an encoder begins with, in place of fresh ones.
        heads: likewise those of the submodule that `heads_of` names for the role.
        recipe_dir: the folder to which a reference is relative.

    Raises:
        ConfigError: with every problem of the sections, each under its key.
        DataError: weights are those of another encoder.
    """
    named = dict(encoders)
    for role, asked in roles_of(load(OBJECTIVES, objective, recipe_dir=recipe_dir)).items():
        if role not in named:
            named[role] = Part(name=default(role, asked), parameters={})
    description = Description(
        objective=Part(name=objective, parameters=dict(section)),
        encoders=named,
        seed=seed,
        frozen=list(frozen),
    )
    return assemble(description, weights=weights, heads=heads, recipe_dir=recipe_dir)


def assemble(
    description: Description,
    *,
    weights: Mapping[str, Mapping[str, Tensor]] | None = None,
    heads: Mapping[str, Mapping[str, Tensor]] | None = None,
    recipe_dir: Path | None = None,
) -> Objective:
    """Return the objective that a description describes, with fresh weights or those given.

    Raises:
        ConfigError: with every problem, as `build`.
        DataError: weights are those of another encoder.
    """
    objective = load(OBJECTIVES, description.objective.name, recipe_dir=recipe_dir)
    roles = roles_of(objective)
    if set(description.encoders) != set(roles):
        raise ConfigError(
            f"{description.objective.name} takes the encoders {list(roles)}, "
            f"not {sorted(description.encoders)}."
        )
    problems: list[Problem] = []

    def parsed(method: Any, parameters: dict[str, Any], where: str) -> dict[str, Any]:
        try:
            return parse(method, parameters, where=where)
        except ConfigError as error:
            problems.extend(error.problems)
            return {}

    parameters = parsed(objective, description.objective.parameters, "pretrain")
    classes, own = {}, {}
    for role in roles:
        part = description.encoders[role]
        classes[role] = load(ENCODERS, part.name, recipe_dir=recipe_dir)
        own[role] = parsed(classes[role], part.parameters, f"pretrain.{role}")
    if problems:
        raise ConfigError(problems)
    with torch.random.fork_rng(devices=[]):
        bits = random_bits(np.zeros(1, dtype=np.uint64), description.seed, "initial weights")
        torch.manual_seed(int(bits[0]))
        towers = {role: classes[role](**own[role]) for role in roles}
        for role, tower in towers.items():
            misfit = roles[role].misfit(tower)
            if misfit is not None:
                name = description.encoders[role].name
                message = f"{name} {misfit}: {role} of {objective.__name__} cannot be it."
                problems.append(Problem(f"pretrain.{role}", message))
        first = next(iter(objective.aligned), "")
        for role in objective.aligned[1:]:
            if towers[role].codec != towers[first].codec:
                message = f"reads otherwise than {first}: give both the same vocabulary and length."
                problems.append(Problem(f"pretrain.{role}", message))
        if problems:
            raise ConfigError(problems)
        # Before the objective is made, as it may copy an encoder.
        for role, tensors in (weights or {}).items():
            _load(towers[role], tensors, role)
        made: Objective = objective(*towers.values(), **parameters)
    made.inputs, made.codecs = _columns(towers)
    made.places = {
        role: path
        for path, module in made.named_modules()
        for role, tower in towers.items()
        if module is tower
    }
    for role, tensors in (heads or {}).items():
        _load(made.get_submodule(made.heads_of[role]), tensors, role)
    still = [r for r in roles if r in (*made.fixed, *description.frozen)]
    with_heads = [made.heads_of[r] for r in still if r in made.heads_of]
    made.frozen = (*(made.places[r] for r in still), *with_heads)
    made.description = Description(
        objective=Part(name=description.objective.name, parameters=parameters),
        encoders={r: Part(name=description.encoders[r].name, parameters=own[r]) for r in roles},
        seed=description.seed,
        frozen=description.frozen,
    ).model_dump()
    return made


def default(role: str, asked: Role) -> str:
    """Return the first of `DEFAULTS` that fits a role.

    Raises:
        ConfigError: none does.
    """
    with torch.device("meta"):
        for name in DEFAULTS:
            if asked.misfit(load(ENCODERS, name)()) is None:
                return name
    known = ", ".join(methods.names(ENCODERS))
    raise ConfigError([Problem(f"pretrain.{role}.name", f"is required: one of {known}.")])


def _columns(towers: Mapping[str, Encoder]) -> tuple[dict[str, str], dict[str, Codec]]:
    """Return the column that each role reads, and the codec of each column.

    Equal codecs share a column; it is called after what it reads, where that is taken after the
    role too: `image`, `teacher.image`.
    """
    inputs: dict[str, str] = {}
    codecs: dict[str, Codec] = {}
    for role, tower in towers.items():
        codec = tower.codec
        column = next((name for name, other in codecs.items() if other == codec), codec.reads)
        if codecs.get(column, codec) != codec:
            column = f"{role}.{codec.reads}"
        inputs[role], codecs[column] = column, codec
    return inputs, codecs


def _methods(protocol: type) -> set[str]:
    """Return the names of the methods and properties that a Protocol asks for."""
    return {
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name, value in vars(base).items()
        if isinstance(value, FunctionType | property)
        and (not name.startswith("_") or name == "__call__")
    }


def _load(tower: Any, tensors: Mapping[str, Tensor], role: str) -> None:
    if any(tensor.is_meta for tensor in tower.state_dict().values()):
        return  # Laid out without memory: there is nothing to fill.
    try:
        tower.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"pretrain.{role}: the weights are of another encoder: {error}") from None
