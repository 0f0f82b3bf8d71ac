"""Check what a recipe says of pretraining and evaluation before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.errors import ConfigError, Problem
from contracts.payload import KINDS
from flows.answer import compare, evaluate, pretrain
from flows.measure.targets import pool_of
from flows.recipe.sections import Problems, Recipe
from storage.store import Store


def check_stages(recipe: Recipe, store: Store, given: Mapping[str, Any]) -> None:
    """Check the sections of pretraining and evaluation against the signatures they configure.

    Raises:
        ConfigError: with every problem found.
    """
    problems = Problems()
    if recipe.compare is not None and "pretrain" not in recipe.raw:
        problems.add("compare", "needs [pretrain]: what the arms are trained with.")
    encoders = [e for e in recipe.evaluate if "cluster" not in e]
    if encoders and recipe.pretrain is None and "pretrain" not in recipe.raw:
        problems.add("evaluate", "needs [pretrain]: the encoder to evaluate.")
    if recipe.compare is not None and not encoders:
        problems.add("compare", "needs [[evaluate]]: what the arms are compared by.")
    objective = None
    if recipe.pretrain is not None:
        with problems.at("pretrain"):
            objective = pretrain.check(recipe.pretrain, recipe.recipe_dir)
    with problems.at("evaluate"):
        sections = evaluate.sections(recipe)
        for i, section in enumerate(sections):
            if section.pool is not None and pool_of(store, section.pool) is None:
                problems.add(
                    f"evaluate[{i}].pool",
                    f"there is no pool {section.pool!r} in {store.root}: ingest it first.",
                )
        if objective is not None:
            evaluate.check(recipe, sections, objective)
        if encoders:
            compare.check(recipe, sections, store, given)
    problems.raise_any()


def check_payload(recipe: Recipe, kind: str | None) -> None:
    """Check that the encoders of a training read the payloads that the pool has.

    Args:
        recipe: with a [pretrain] or without.
        kind: of the pool's payloads; None where it has none.

    Raises:
        ConfigError: with every role that reads another kind.
    """
    if recipe.pretrain is None or kind is None:
        return
    import torch

    with torch.device("meta"):
        built = pretrain.build(recipe.pretrain, 0, recipe.recipe_dir)
    reads = {role: built.codecs[column].reads for role, column in built.inputs.items()}
    problems = [
        Problem(f"pretrain.{role}", f"reads {of}, and the pool has {kind}.")
        for role, of in reads.items()
        if of in KINDS and of != kind
    ]
    if problems:
        raise ConfigError(problems)
