"""What holds of the repository as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from contracts import methods
from flows import recipe as recipes
from flows.plan import plan
from tests import index

ROOT = Path(__file__).resolve().parents[1]
METHODS = [(folder, name) for folder in index.FOLDERS for name in index.names(folder)]
CURATION = [(folder, name) for folder, name in METHODS if folder.startswith("curation.")]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def source(folder: str, name: str) -> str:
    return (ROOT / folder.replace(".", "/") / f"{name}.py").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_a_method_says_in_one_line_what_it_does(folder: str, name: str):
    line = methods.first_line(folder, name)
    assert line.endswith(".")
    assert len(line) <= 90


@pytest.mark.parametrize(("folder", "name"), [*CURATION, ("pretraining.objectives", "clip")])
def test_a_method_names_its_reference(folder: str, name: str):
    assert "Reference:" in source(folder, name)


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_a_method_has_a_test(folder: str, name: str):
    assert (ROOT / "tests" / folder.replace(".", "/") / f"test_{name}.py").is_file()


@pytest.mark.parametrize(("folder", "name"), CURATION)
def test_a_method_of_curation_has_a_golden_table(folder: str, name: str):
    assert (ROOT / "tests" / "golden" / f"{name}.parquet").is_file()


def test_the_readme_s_table_of_methods_is_fresh():
    assert index.rewritten(README) == README, "run: python tests/index.py"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_a_packaged_recipe_plans(path: Path, tmp_path: Path):
    (tmp_path / "concepts.json").write_text('["cat"]')
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    plan(recipes.parsed(raw, beside=tmp_path, name=path.stem))


@pytest.mark.parametrize("block", blocks("toml"))
def test_a_recipe_of_the_readme_plans(block: str, tmp_path: Path):
    import polars as pl

    pl.DataFrame({"url": ["a"], "score": [0.5]}).write_parquet(tmp_path / "scores.parquet")
    plan(recipes.parsed(tomllib.loads(block), beside=tmp_path, name="readme"))


def test_the_readme_s_own_method_keeps_the_promises_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from curation import properties

    (tmp_path / "mine.py").write_text(blocks("python")[0])
    monkeypatch.chdir(tmp_path)
    assert properties.check(methods.find("./mine.py:loud"))


def test_every_python_block_of_the_readme_parses():
    for block in blocks("python"):
        ast.parse(block)


def test_the_changelog_begins_with_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)[1] == project["version"]


def test_nothing_is_left_to_do_in_the_code():
    packages = [p for p in ROOT.glob("*/__init__.py") if p.parent.name != "tests"]
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
