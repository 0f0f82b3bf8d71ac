"""A project with everything a store can hold, made once; each test gets a copy of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import run as runs
from flows.answer import arms
from flows.upkeep.refit import refit
from storage import seals
from storage.store import Store
from tests.flows.command import Command, calling

WEB = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[holdout]
ratio = 0.2
[embed.grams]
encoder = "hashed_ngrams"
dimension = 16
[fit.kmeans]
num_clusters = 2
[annotate.mine]
file = "vectors.csv"
key = "source_id"
[[select]]
name = "words"
where = "caption_stats.words >= 2 AND nearest_centroid.cosine > -2 AND mine.score < 90"
[[select]]
name = "some"
by = "random_sample"
budget_ratio = 0.9
[export]
format = ["webdataset", "jsonl"]
shard_records = 20
arms = ["recipe", "random"]
"""
PICTURES = """
name = "pictures"
[[source]]
path = "pictures"
payload = "reference"
[[select]]
name = "wide"
where = "width >= 4"
[export]
path = "out"
"""


@dataclass
class Made:
    """A project's folder, its store, and the folder in which it was made first."""

    folder: Path
    origin: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / ".winnow")

    def run(self, name: str, **options: Any) -> dict[str, Any]:
        recipe = runs.read_recipe(self.folder / f"{name}.toml")
        return runs.run(recipe, self.store, runs.Options(**options))

    def write(self, texts: int) -> None:
        rows = [{"id": f"r{i}", "text": f"number {i} of some", "n": i} for i in range(texts)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "texts.jsonl").write_text(lines + "{broken\n")


@pytest.fixture(scope="session")
def _made(projects: Callable[[], Any], captioned: dict[str, bytes]) -> Made:
    project = projects()
    made = Made(project.recipe_dir, project.recipe_dir)
    project.recipe(WEB, "web")
    project.recipe(PICTURES, "pictures")
    project.pictures(dict(sorted(captioned.items())[:6]))
    scores = "".join(f"r{i},{i}\n" for i in range(30))
    (made.folder / "vectors.csv").write_text("source_id,score\n" + scores)
    made.write(20)
    made.run("web")
    recipe = runs.read_recipe(made.folder / "web.toml")
    refit(recipe, made.store, "grams", runs.Options())
    made.write(30)
    made.run("web")
    made.run("pictures")
    with made.store.lease():
        last = project.last("web")
        kept = last.verdict.filter(last.verdict["dropped_by"].is_null()).select("uid", "repeats")
        arms.make(last.runtime, {"recipe": [kept]}, None, kept["uid"])
    training = made.store.root / "training"
    training.mkdir()
    (training / f"{'0' * 64}.safetensors").write_bytes(seals.sealed(b"the state of a training"))
    return made


@pytest.fixture
def made(_made: Made, tmp_path: Path) -> Made:
    """A copy of the project in another folder."""
    shutil.copytree(_made.folder, tmp_path / "project")
    return Made(tmp_path / "project", _made.folder)


@pytest.fixture(scope="session")
def original(_made: Made) -> Made:
    """The project itself, to be read only."""
    return _made


@pytest.fixture
def winnow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Call the command in an empty folder; return exit code, output, errors."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return calling(monkeypatch, capsys)
