"""Train on exported shards from Python: what [pretrain] does, without a recipe and a store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError, DataError, Problem
from flows.answer import pretrain as training
from flows.recipe import sections
from storage import commit, shards


def pretrain(
    folders: Sequence[Path], out: Path, given: Mapping[str, Any], device: str | None
) -> dict[str, Any]:
    """Train on the tars of exports and write the encoder; see `winnow.pretrain`.

    Raises:
        ConfigError: the section is wrong, or reads what shards do not hold.
        DataError: a folder is no export of ours.
    """
    from pretraining import ranks
    from pretraining.checkpoint import exported

    recipe = sections.parsed({"pretrain": dict(given)}, recipe_dir=Path.cwd(), name="python")
    section = recipe.pretrain
    if recipe.problems or section is None:
        raise ConfigError(recipe.problems)
    if (
        section.bound()
        or section.orders()
        or section.continue_from is not None
        or any("weights" in of for of in training.roles(section, Path.cwd()).values())
    ):
        message = (
            "expressions over notes, weights and states are found by a recipe: use winnow.run."
        )
        raise ConfigError([Problem("pretrain", message)])
    if section.validation_ratio is not None:
        message = "probes are taken where a recipe trains: use winnow.run."
        raise ConfigError([Problem("pretrain.validation_ratio", message)])
    training.check(section, recipe.recipe_dir)
    objective = training.build(section, section.seed, recipe.recipe_dir)
    digest = hashlib.sha256()
    for folder in folders:
        content = shards.manifest(folder)
        if content is None:
            raise DataError(f"{folder}: is no export: it has no {shards.MANIFEST}.")
        digest.update(str(content["sha256"]).encode())
    # Of other shards it is another state, and begins anew.
    state = out.with_name(f"{out.stem}.{digest.hexdigest()[:16]}.training.safetensors")
    with (
        ranks.joined(device or training.device_here()) as here,
        closing(shards.ShardSamples(*folders)) as samples,
    ):
        done = training.fit(
            objective, samples, section, state, steps=section.steps, seed=section.seed,
            resume=training.saved(state), device=here,
        )  # fmt: skip
        if ranks.own() == 0:
            description = {"steps": section.steps, "arm": "shards"}
            commit.write(out, exported(done.objective.cpu(), description))
            training.drop(state)
    return {"path": str(out), "steps": section.steps, "losses": done.losses.tolist()}
