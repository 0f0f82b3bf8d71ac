"""What holds of the repository as a whole."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from PIL import Image

import winnow
from contracts import methods
from contracts.errors import CurationError
from curation import properties
from flows.cli.commands import app
from flows.recipe import sections as recipes
from flows.recipe.planner import plan
from tests import index

ROOT = Path(__file__).resolve().parents[1]
METHODS = [(folder, name) for folder in index.FOLDERS for name in index.names(folder)]
CURATION = [(folder, name) for folder, name in METHODS if folder.startswith("curation.")]
OBJECTIVES = [(folder, name) for folder, name in METHODS if folder == "pretraining.objectives"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def source(folder: str, name: str) -> str:
    return (ROOT / folder.replace(".", "/") / f"{name}.py").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


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


# ------------------------------------------------------------------ the README


def test_the_readme_s_table_of_methods_is_fresh():
    assert index.rewritten(README) == README, "run: python tests/index.py"


def test_a_changed_first_line_or_a_new_method_makes_the_table_stale():
    line = methods.first_line("curation.select", "top")
    assert index.rewritten(README.replace(line, "Keep something.")) == README
    without = "".join(row for row in README.splitlines(keepends=True) if "| `top` |" not in row)
    assert index.rewritten(without) == README


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's recipes find beside them: six records in a tar, their scores and vectors.

    Records 0 and 1 have nearly the same caption and the same vector, 2 has a caption of two words,
    3 is a small picture, 4 scores badly, 5 has no score.
    """
    folder = tmp_path_factory.mktemp("shop")
    fox = "a red fox runs over the hill at night and nobody sees it"
    captions = [fox, f"{fox}!", "two words", "a picture of a tree", "a boat on the lake", "a man"]
    captions[5] = "an old man reads the newspaper"
    rng = np.random.default_rng(0)
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "00000.tar", "w") as archive:
        for i, caption in enumerate(captions):
            side = 100 if i == 3 else 256
            picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG")
            meta = json.dumps({"url": f"https://example.org/{i}"}).encode()
            members = {"jpg": jpeg.getvalue(), "json": meta, "txt": caption.encode()}
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    urls = [f"https://example.org/{i}" for i in range(6)]
    scores = pl.DataFrame({"url": urls, "score": [0.9, 0.8, 0.7, 0.6, 0.2, None]})
    scores.write_parquet(folder / "scores.parquet")
    vectors = np.eye(6, 8, dtype=np.float32)
    vectors[1] = vectors[0]
    np.save(folder / "vectors.npy", vectors)
    (folder / "ids.txt").write_text("".join(f"{i}\n" for i in range(6)))
    (folder / "mine.py").write_text(blocks("python")[0], encoding="utf-8")
    return folder


@cache
def ran(folder: Path, number: int) -> dict[str, int]:
    """Run a recipe of the README and those before it; return what each rule dropped."""
    if number:
        ran(folder, number - 1)
    block = blocks("toml")[number]
    path = folder / f"{tomllib.loads(block)['name']}.toml"
    path.write_text(block, encoding="utf-8")
    dropped: dict[str, int] = winnow.run(path)["dropped"]
    return dropped


def test_every_recipe_of_the_readme_runs_and_does_what_its_comments_say(shop: Path):
    assert len(blocks("toml")) == 3
    assert ran(shop, 0) == {"captions": 2, "one of each text": 1}
    assert ran(shop, 1) == {"aesthetic": 2, "no two alike": 1}
    assert ran(shop, 2) == {"shouted.ratio < 0.01": 1}


def test_the_readme_s_own_method_keeps_the_promises_of_its_kind(
    shop: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(shop)
    held = properties.check(winnow.method("./mine.py:marks"))
    assert {"row_order", "batch_split", "nulls", "empty"} <= set(held)


def test_the_readme_s_lines_of_python_run(shop: Path, monkeypatch: pytest.MonkeyPatch):
    ran(shop, 0)
    monkeypatch.chdir(shop)
    names: dict[str, object] = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    saved = tomllib.loads((shop / "looser.toml").read_text(encoding="utf-8"))
    assert saved["select"][0]["where"] == "caption_stats.words >= 2"
    assert names["run"].funnel()["dropped"].sum() > names["looser"].funnel()["dropped"].sum()


def test_every_python_block_of_the_readme_imports_what_there_is():
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module or "", fromlist=["_"])
                assert all(hasattr(module, alias.name) for alias in node.names)


def commands() -> list[str]:
    lines = [line.partition("  #")[0] for block in blocks("") for line in block.splitlines()]
    inline = re.findall(r"`(winnow [^`]+)`", README)
    return [line for line in (*lines, *inline) if re.match(r"winnow( |$)", line)]


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_is_one_that_there_is(line: str):
    program = typer.main.get_command(app)
    _, *words = shlex.split(line)
    if not words:
        return
    known = {option for parameter in program.commands[words[0]].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_readme_has_every_exit_code():
    codes = {kind.exit_code for kind in kinds(CurationError)} - {CurationError.exit_code}
    listed = set(map(int, re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)))
    assert listed == codes | {0, 75}


def kinds(kind: type[CurationError]) -> list[type[CurationError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in kinds(child))]


def test_every_file_that_a_page_links_to_is_there():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{page.name}: {link}"


# ------------------------------------------------------------------ the rest


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_a_packaged_recipe_plans(path: Path, tmp_path: Path):
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in re.findall(r'"file:([^"]+\.json)"', path.read_text(encoding="utf-8")):
        (tmp_path / name).write_text('["cat"]')
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
