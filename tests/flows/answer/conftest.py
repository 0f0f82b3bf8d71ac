"""Projects whose pools are measured and judged: only the answer is left to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.flows.answer import small


@pytest.fixture(scope="session")
def measured(projects: Callable[[], Any]) -> Callable[[str], Any]:
    """Return a copy of a project in which a recipe was run until its selection."""
    made: dict[str, Any] = {}

    def of(known: Any) -> Any:
        project = projects()
        shutil.copytree(known.recipe_dir, project.recipe_dir, dirs_exist_ok=True)
        return project

    def copy(recipe: str) -> Any:
        source = "texts" if "texts.jsonl" in recipe else "pictures"
        if source not in made:
            made[source] = projects()
            small.write(made[source])
            made[source].run(recipe, until="ingest")
        if recipe not in made:
            made[recipe] = of(made[source])
            made[recipe].run(recipe, until="select")
        return of(made[recipe])

    return copy
