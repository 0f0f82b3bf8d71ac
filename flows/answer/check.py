"""Check what a recipe says of pretraining and evaluation before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.answer import compare, evaluate, pretrain
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
        if objective is not None:
            evaluate.check(recipe, sections, objective)
        if encoders:
            compare.check(recipe, sections, store, given)
    problems.raise_any()
