"""What README.md and the pages of docs say: commands, recipes and lines of Python are run."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import winnow
from contracts import methods
from contracts.errors import CurationError
from curation import properties
from tests import index, recipe_page
from tests.flows.command import calling

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
# Pages whose recipes are run: here, but those of deduplication.md on a pool of their own.
RECIPES = {
    "README.md": 3, "recipe.md": 2, "deduplication.md": 10, "quality.md": 1, "selection.md": 1,
}  # fmt: skip
# What no test runs, and why.
NOT_RUN = {
    'winnow score caption_stats.words --question "Does it describe a picture?"': "asks a person",
    'winnow score --signal "width * height" -n 100 --group "meta.url IS NULL"': "asks a person",
    "make demo": "takes minutes",
    "make test": "is what runs this",
    "winnow replay PATH": "needs a training that diverged: tests/flows/answer/test_replay.py",
}
# What a page leaves to its reader, as the folder of `counter` has it.
PLACES = {
    "KEY": "0",
    "RULE": "captions",
    "POOL": "shop",
    "CODE": "PIXELS",
    "NAME": "shards",
    "METHOD": "minhash_clusters",
    "ALIAS": "kmeans",
    "N": "1",
    "PATH": "shards --pool shop --id key",
    "OLD=NEW": "gone=shards",
    "--workers 8": "--workers 2",
    "path/to/folder": "shards --target fresh.toml",
}


def blocks(language: str, page: str = README) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


# ------------------------------------------------------------------ made of the code


@pytest.mark.parametrize("path", index.pages(), ids=lambda path: path.name)
def test_what_is_made_of_the_code_is_fresh(path: Path):
    assert index.renewed(path) == path.read_text(encoding="utf-8"), "run: python tests/index.py"


def test_a_changed_first_line_or_a_new_method_makes_the_table_stale():
    line = methods.first_line("curation.select", "top")
    table = index.table()
    assert index.rewritten(README.replace(line, "Keep something."), "methods", table) == README
    without = "".join(row for row in README.splitlines(keepends=True) if "| `top` |" not in row)
    assert index.rewritten(without, "methods", table) == README


def test_every_key_of_a_recipe_has_a_sentence():
    rows = [line for line in recipe_page.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_folder_of_modules_is_in_the_architecture():
    own = {"tests", "recipes", "winnow"}
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for path in ROOT.glob("[a-z]*/**/__init__.py")
        if path.relative_to(ROOT).parts[0] not in own
    }
    assert set(index.PACKAGES) == folders


# ------------------------------------------------------------------ recipes


def fill(folder: Path, captions: Sequence[str], small: Sequence[int] = ()) -> None:
    """Write a tar of pictures of 256 px, those of `small` of 100, with captions and urls."""
    rng = np.random.default_rng(0)
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "00000.tar", "w") as archive:
        for i, caption in enumerate(captions):
            side = 100 if i in small else 256
            picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG")
            meta = json.dumps({"url": f"https://example.org/{i}"}).encode()
            members = {"jpg": jpeg.getvalue(), "json": meta, "txt": caption.encode()}
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    (folder / "mine.py").write_text(blocks("python")[0], encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's recipes find beside them: six records in a tar, their scores and vectors.

    Records 0 and 1 have nearly the same caption and the same vector, 2 has a caption of two words,
    3 is a small picture, 4 scores badly, 5 has no score.
    """
    folder = tmp_path_factory.mktemp("shop")
    fox = "a red fox runs over the hill at night and nobody sees it"
    captions = [fox, f"{fox}!", "two words", "a picture of a tree", "a boat on the lake"]
    fill(folder, [*captions, "an old man reads the newspaper"], small=[3])
    urls = [f"https://example.org/{i}" for i in range(6)]
    scores = pl.DataFrame({"url": urls, "score": [0.9, 0.8, 0.7, 0.6, 0.2, None]})
    scores.write_parquet(folder / "scores.parquet")
    vectors = np.eye(6, 8, dtype=np.float32)
    vectors[1] = vectors[0]
    np.save(folder / "vectors.npy", vectors)
    (folder / "ids.txt").write_text("".join(f"{i}\n" for i in range(6)))
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


def test_every_recipe_of_a_page_is_run():
    assert {n: len(found) for n, p in PAGES.items() if (found := blocks("toml", p))} == RECIPES


def test_every_recipe_of_the_readme_runs_and_does_what_its_comments_say(shop: Path):
    assert ran(shop, 0) == {"captions": 2, "one of each text": 1}
    assert ran(shop, 1) == {"aesthetic": 2, "no two alike": 1}
    assert ran(shop, 2) == {"shouted.ratio < 0.01": 1}


def test_the_recipe_of_a_selection_runs_and_is_certified(shop: Path):
    ran(shop, 0)
    path = shop / "covered.toml"
    path.write_text(blocks("toml", PAGES["selection.md"])[0].replace("0.1", "0.5"), "utf-8")
    found = winnow.run(path)
    assert found["dropped"] == {"cover": 3}
    assert found["certificate"]["value"] <= found["certificate"]["bound"]


def test_the_guard_of_a_page_compares_the_groups_that_it_names(shop: Path):
    ran(shop, 0)
    guard = blocks("toml", PAGES["quality.md"])[0].replace("meta.domain", "meta.url")
    english = 'name = "english only"\nwhere = "language.label = \'en\'"'
    path = shop / "guarded.toml"
    path.write_text(f'name = "guarded"\npool = "web"\n{guard}\n[[select]]\n{english}\n', "utf-8")
    assert winnow.run(path)["guard"] == {"groups": []}


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe of recipe.md was run, over 40 pictures with captions."""
    folder = tmp_path_factory.mktemp("counter")
    fill(folder, ["alone", *(f"a picture of number {i}" for i in range(1, 40))])
    (folder / "winnow.toml").write_text(blocks("toml", PAGES["recipe.md"])[0], encoding="utf-8")
    winnow.run(folder / "winnow.toml")
    return folder


def test_the_recipe_with_everything_runs_and_answers(counter: Path):
    run = winnow.open(counter / ".winnow").run("shop")
    assert run.ref["result"]["evaluation"]["answer"]["metric"].endswith("recall@1")
    assert run.funnel()["rule"].to_list()[-1] == "not nearly the same"


def test_the_recipe_of_a_language_model_trains_an_encoder_with_its_vocabulary(
    counter: Path, tmp_path: Path
):
    from pretraining.checkpoint import rebuild

    # A copy: commands take the run made last, which in `counter` is the shop's.
    path = shutil.copytree(counter, tmp_path / "project") / "language.toml"
    path.write_text(blocks("toml", PAGES["recipe.md"])[1], encoding="utf-8")
    [encoder] = rebuild(Path(winnow.run(path)["checkpoint"]).read_bytes()).values()
    assert 260 < encoder.codec.size <= 320


def test_every_file_of_a_store_is_of_a_kind_that_its_page_names(counter: Path):
    layout = blocks("", PAGES["store.md"])[0]
    tables = {"records", "payload", "files", "checkpoints", "evaluations", "states"}
    for path in (counter / ".winnow").rglob("*"):
        top, *below = path.relative_to(counter / ".winnow").parts
        assert re.search(rf"^(.*, )?{re.escape(top)}\b", layout, flags=re.MULTILINE), path
        if top == "objects" and len(below) == 3:
            table = below[1] if below[1] in tables else f"{below[1].partition('.')[0]}.*"
            assert f"`{table}`" in PAGES["store.md"].replace("objects/<pool>/", ""), path


# ------------------------------------------------------------------ Python


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


def test_the_readme_s_schedule_imports_what_there_is():
    """It would serve for ever."""
    for node in ast.walk(ast.parse(blocks("python")[2])):
        if isinstance(node, ast.ImportFrom):
            module = __import__(node.module or "", fromlist=["_"])
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize(
    ("page", "number"),
    [(n, i) for n, p in PAGES.items() if n != "README.md" for i in range(len(blocks("python", p)))],
)
def test_the_lines_of_python_of_a_page_run(
    counter: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: str,
    number: int,
):
    monkeypatch.chdir(counter)
    exec(compile(blocks("python", PAGES[page])[number], page, "exec"), {})
    # They ask the store and show what they find: the words of the counter's captions.
    assert "words" in capsys.readouterr().out


# ------------------------------------------------------------------ commands


def commands(page: str) -> list[str]:
    """Return the lines of a page that a shell understands, and what of `winnow` its text names."""
    lines = [re.split(r"\s+# ", line)[0] for b in blocks("", page) for line in b.splitlines()]
    named = re.findall(r"`(winnow [^`]+)`", page)
    # A command's name alone is no call of it.
    lines += [f"{call} --help" if call.count(" ") == 1 else call for call in named]
    return [line for line in dict.fromkeys(lines) if re.match(r"(winnow|make|cp|mv|rm)( |$)", line)]


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if commands(page)])
def test_every_command_of_a_page_runs(
    name: str,
    counter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    # A project moves as one, with its store.
    folder = shutil.copytree(counter, tmp_path / "project")
    monkeypatch.chdir(folder)
    winnow_ = calling(monkeypatch, capsys)
    for line in commands(PAGES[name]):
        if line in NOT_RUN:
            continue
        for place, there in PLACES.items():
            line = re.sub(rf"(?<!\w){place}\b", there, line)
        program, *words = shlex.split(line)
        if program == "winnow":
            code, _, said = winnow_(*words)
            assert code == 0, f"{line}: {said}"
        else:
            subprocess.run([program, *words], check=True, cwd=folder)


def test_what_is_not_run_is_on_a_page():
    assert set(NOT_RUN) <= {line for page in PAGES.values() for line in commands(page)}


def test_the_readme_has_every_exit_code():
    codes = {kind.exit_code for kind in kinds(CurationError)} - {CurationError.exit_code}
    listed = set(map(int, re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)))
    assert listed == codes | {0, 75}


def kinds(kind: type[CurationError]) -> list[type[CurationError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in kinds(child))]


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_that_a_page_links_to_is_there(page: str):
    path = next(p for p in (ROOT / page, ROOT / "docs" / page) if p.is_file())
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link
