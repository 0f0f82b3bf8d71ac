"""The recipes of the leaderboard's bench are the demo's, but for what they keep."""

from __future__ import annotations

import shutil
from pathlib import Path

import flows.demo
from benchmarks import leaderboard
from flows import run as runs


def test_a_recipe_a_share_keeps_that_share_and_is_otherwise_the_demo_s(tmp_path: Path):
    for name in flows.demo.RECIPES:
        shutil.copy(flows.demo.PACKAGED / name, tmp_path / name)
    paths = leaderboard.recipes(tmp_path, (0.05, 1.0), full=True)
    assert [path.stem for path in paths] == ["demo_boot", "demo", "best_5", "best_100", "demo_full"]
    _, demo, least, all_, full = found = [runs.read_recipe(path) for path in paths]
    assert [recipe.problems for recipe in found] == [()] * 5
    assert [recipe.name for recipe in found] == [path.stem for path in paths]
    for recipe, share in ((least, 0.05), (all_, 1)):
        assert recipe.raw["select"][-1]["budget_ratio"] == share
        assert (recipe.pretrain, recipe.evaluate) == (demo.pretrain, demo.evaluate)
        assert recipe.compare is not None
        assert recipe.compare.arms == ["recipe", "random", "untrained"]
    assert full.raw["select"] == demo.raw["select"]
    assert full.compare is not None
    assert full.compare.grid == "full"
