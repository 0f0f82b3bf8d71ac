"""What holds of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

from contracts import methods
from flows.recipe import sections as recipes
from flows.recipe.planner import plan
from tests import index

ROOT = Path(__file__).resolve().parents[1]
METHODS = [(folder, name) for folder in index.FOLDERS for name in index.names(folder)]
CURATION = [(folder, name) for folder, name in METHODS if folder.startswith("curation.")]
OBJECTIVES = [(folder, name) for folder, name in METHODS if folder == "pretraining.objectives"]


def source(folder: str, name: str) -> str:
    return (ROOT / folder.replace(".", "/") / f"{name}.py").read_text(encoding="utf-8")


# ------------------------------------------------------------------ methods


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_a_method_says_in_one_line_what_it_does(folder: str, name: str):
    line = methods.first_line(folder, name)
    assert line.endswith(".")
    assert len(line) <= 90


@pytest.mark.parametrize(("folder", "name"), [*CURATION, *OBJECTIVES])
def test_a_method_names_its_reference(folder: str, name: str):
    assert "Reference:" in source(folder, name)


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_a_method_has_a_test(folder: str, name: str):
    assert (ROOT / "tests" / folder.replace(".", "/") / f"test_{name}.py").is_file()


@pytest.mark.parametrize(("folder", "name"), CURATION)
def test_a_method_of_curation_has_a_golden_table(folder: str, name: str):
    assert (ROOT / "tests" / "golden" / f"{name}.parquet").is_file()


@pytest.mark.parametrize(("folder", "name"), CURATION)
def test_the_kind_in_the_table_is_that_of_the_step(folder: str, name: str):
    assert index.kind(folder, name) == methods.load(folder, name).kind


# ------------------------------------------------------------------ the rest


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_a_packaged_recipe_plans(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Some name what this environment lacks, which `tests/flows/recipe/test_plan.py` looks at.
    monkeypatch.setattr("flows.recipe.planner.missing", lambda _needed: [])
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in re.findall(r'"file:([^"]+\.json)"', path.read_text(encoding="utf-8")):
        (tmp_path / name).write_text('["cat"]')
    for alias, section in raw.get("annotate", {}).items():
        if "file" in section:
            columns = re.findall(rf"\b{alias}\.(\w+)", path.read_text(encoding="utf-8"))
            columns.append(section["key"].removeprefix("meta."))
            values = {column: ["a"] for column in columns}
            pl.DataFrame(values).write_parquet(tmp_path / section["file"])
    for alias, section in raw.get("embed", {}).items():
        if section["encoder"] == "checkpoint":
            # As it is once the recipe that it names has trained it.
            found = {
                "encoder": "checkpoint",
                "path": "boot.safetensors",
                "reads": ["image", "text"],
            }
            raw["embed"][alias] = found
    planned = plan(recipes.parsed(raw, recipe_dir=tmp_path, name=path.stem))
    assert [rule.name for rule, _ in planned.rules] == [rule["name"] for rule in raw["select"]]


def test_a_decision_says_its_context_its_choice_and_what_would_change_it():
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        heads = re.findall(r"^\*\*(.+?)\*\*", text, flags=re.MULTILINE)
        assert heads == ["Context.", "Choice.", "What would change our mind."], page.name


def test_the_changelog_begins_with_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    head = re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)
    assert head is not None
    assert head[1] == project["version"]


def test_nothing_is_left_to_do_in_the_code():
    packages = [p for p in ROOT.glob("*/__init__.py") if p.parent.name != "tests"]
    assert len(packages) >= 8
    for package in packages:
        for path in package.parent.rglob("*.py"):
            found = re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))
            assert found is None, path


def test_packages_import_only_what_they_may():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
