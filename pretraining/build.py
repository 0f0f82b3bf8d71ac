"""Make an objective and its encoders from the sections of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from contracts.errors import ConfigError, Problem
from contracts.methods import load
from contracts.params import parse
from contracts.uid import random_bits
from pretraining.objective import Objective

OBJECTIVES, ENCODERS = "pretraining.objectives", "pretraining.encoders"


class Part(BaseModel):
    """A class by name and the keyword parameters it is made with."""

    model_config = ConfigDict(frozen=True, strict=True)
    name: str
    parameters: dict[str, Any]


class Description(BaseModel):
    """All that it takes to make an objective again.

    Attributes:
        encoders: by the name of the objective's positional parameter.
        seed: of the initial weights.
    """

    model_config = ConfigDict(frozen=True, strict=True)
    objective: Part
    encoders: dict[str, Part]
    seed: int


def build(
    objective: str,
    section: Mapping[str, Any],
    encoder: str,
    encoder_section: Mapping[str, Any],
    *,
    text_encoder_section: Mapping[str, Any] | None = None,
    seed: int,
    recipe_dir: Path | None = None,
) -> Objective:
    """Return the objective with fresh weights, a function of the arguments alone.

    A positional parameter of the objective called `text_encoder` gets `words`; any other gets
    the encoder that is named.

    Args:
        objective: a file of `pretraining/objectives`, or a reference to one's own class.
        section: the objective's parameters, those of `[pretrain]`.
        encoder: a file of `pretraining/encoders`, or a reference.
        encoder_section: the encoder's parameters, `[pretrain.encoder]`.
        text_encoder_section: those of `words`, `[pretrain.text_encoder]`.
        seed: of the initial weights.
        recipe_dir: the folder to which a reference is relative.

    Raises:
        ConfigError: with every problem of the sections, each under its key.
    """
    named = Part(name=encoder, parameters=dict(encoder_section))
    words = Part(name="words", parameters=dict(text_encoder_section or {}))
    roles = _roles(load(OBJECTIVES, objective, recipe_dir=recipe_dir))
    description = Description(
        objective=Part(name=objective, parameters=dict(section)),
        encoders={role: words if role == "text_encoder" else named for role in roles},
        seed=seed,
    )
    return assemble(description, recipe_dir=recipe_dir)


def assemble(description: Description, *, recipe_dir: Path | None = None) -> Objective:
    """Return the objective that a description describes, with fresh weights.

    Raises:
        ConfigError: with every problem, as `build`.
    """
    objective = load(OBJECTIVES, description.objective.name, recipe_dir=recipe_dir)
    roles = _roles(objective)
    if set(description.encoders) != set(roles):
        raise ConfigError(
            f"{description.objective.name} takes the encoders {roles}, "
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
    encoders = {}
    for role in roles:
        part = description.encoders[role]
        encoder = load(ENCODERS, part.name, recipe_dir=recipe_dir)
        where = "pretrain.text_encoder" if role == "text_encoder" else "pretrain.encoder"
        if not _fits(encoder, role, objective):
            reads = getattr(encoder, "reads", "nothing")
            problems.append(
                Problem(where, f"{part.name} reads {reads}: {role} of {objective.__name__} cannot.")
            )
        encoders[role] = encoder, part.name, parsed(encoder, part.parameters, where)
    if problems:
        raise ConfigError(problems)
    with torch.random.fork_rng(devices=[]):
        bits = random_bits(np.zeros(1, dtype=np.uint64), description.seed, "initial weights")
        torch.manual_seed(int(bits[0]))
        towers = [encoder(**own) for encoder, _, own in encoders.values()]
        made: Objective = objective(*towers, **parameters)
    made.description = Description(
        objective=Part(name=description.objective.name, parameters=parameters),
        encoders={role: Part(name=n, parameters=own) for role, (_, n, own) in encoders.items()},
        seed=description.seed,
    ).model_dump()
    return made


def _roles(objective: Any) -> list[str]:
    """Return the names of an objective's positional parameters: the encoders it asks for."""
    return [
        name
        for name, parameter in inspect.signature(objective).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]


def _fits(encoder: Any, role: str, objective: type[Objective]) -> bool:
    """Whether the encoder reads what the role (`image_encoder`) or the objective says."""
    wanted = role.removesuffix("encoder").rstrip("_")
    return getattr(encoder, "reads", None) in ((wanted,) if wanted else objective.reads)
