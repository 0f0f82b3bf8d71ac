"""Nothing of another's is replaced, hidden or read: where an export may lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from flows import run as runs
from flows.dry import dry_run
from flows.export import destination
from flows.options import Options
from storage import commit, shards, tables
from storage.store import _sealed

ROWS = '[[source]]\npath = "rows"\nname = "rows"\nid = "id"\n'
OUT = '[export]\npath = "{}"\n'


def _rows(project: Any, count: int = 5) -> None:
    project.lines("rows/0.jsonl", [{"id": f"r{i}", "text": f"text {i}"} for i in range(count)])


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
        if p.name != ".export.lease"
    }


def test_another_recipes_export_is_refused_before_anything_is_read(project: Any):
    _rows(project)
    project.run(ROWS + OUT.format("out"))
    before = _tree(project.recipe_dir / "out")
    with pytest.raises(ConfigError, match="export of recipe 'web' version 1 lies there") as refusal:
        project.run(ROWS + OUT.format("out"), "other")
    assert str(project.recipe_dir / "out") in str(refusal.value)
    assert _tree(project.recipe_dir / "out") == before
    assert tables.load_pool(project.store, "other") is None


def test_a_path_whose_latest_version_is_anothers_is_refused_though_ours_is_free(project: Any):
    _rows(project)
    project.run(ROWS + OUT.format("out"))
    project.run(ROWS + OUT.format("mine"), "other")
    before = _tree(project.recipe_dir / "out")
    with pytest.raises(ConfigError, match="recipe 'web' version 1"):
        project.run(ROWS + OUT.format("out") + "seed = 1\n", "other")
    assert _tree(project.recipe_dir / "out") == before


def test_a_recipe_of_the_same_name_in_another_store_is_another_recipe(
    project: Any, projects: Callable[[], Any]
):
    other = projects()
    out = project.recipe_dir / "out"
    for one in (project, other):
        _rows(one, 4 if one is other else 5)
    project.run(ROWS + OUT.format(out))
    before = _tree(out)
    with pytest.raises(ConfigError, match="not made by this recipe in this store"):
        other.run(ROWS + OUT.format(out))
    assert _tree(out) == before


def test_a_copied_store_does_not_replace_what_its_original_went_on_to_export(
    project: Any, tmp_path: Path, projects: Callable[[], Any]
):
    copy = projects()
    recipe = ROWS + OUT.format(tmp_path / "out")
    _rows(project)
    project.run(recipe)
    shutil.copytree(project.recipe_dir / ".winnow", copy.recipe_dir / ".winnow")
    _rows(project, 6)
    project.run(recipe)
    before = _tree(tmp_path / "out")
    _rows(copy, 7)
    with pytest.raises(ConfigError, match="version 2"):
        copy.run(recipe)
    assert _tree(tmp_path / "out") == before


@pytest.mark.parametrize("what", ["file", "folder", "empty folder", "link", "arm"])
def test_what_a_user_has_where_the_version_would_be_stays(project: Any, what: str):
    _rows(project)
    out = project.recipe_dir / "out"
    place = out / ("random/v0001" if what == "arm" else "v0001")
    place.parent.mkdir(parents=True)
    if what == "file":
        place.write_text("mine")
    elif what == "link":
        place.symlink_to(out / "nowhere")
    else:
        place.mkdir()
        if what != "empty folder":
            (place / "thesis.txt").write_text("mine")
    before = _tree(out)
    with pytest.raises(ConfigError) as refusal:
        project.run(ROWS + OUT.format("out") + 'arms = ["recipe", "random"]\n')
    assert str(place) in str(refusal.value)
    if what in ("folder", "arm"):
        assert "thesis.txt" in str(refusal.value)
    assert _tree(out) == before


def test_what_a_killed_run_showed_is_replaced_by_the_next(
    project: Any, monkeypatch: pytest.MonkeyPatch
):
    _rows(project)

    def killed(name: str) -> None:
        if name == "export.shown":
            raise KeyboardInterrupt

    monkeypatch.setattr(commit, "failpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        project.run(ROWS + OUT.format("out"))
    monkeypatch.undo()
    _rows(project, 7)
    assert project.run(ROWS + OUT.format("out"))["version"] == 1
    folder = project.recipe_dir / "out/v0001"
    content = shards.manifest(folder)
    assert content is not None
    assert content["facts"]["records"] == 7
    assert shards.damaged(folder) == []


@pytest.mark.parametrize(
    "path", [".", "rows", "rows/out", "link/out", ".winnow", ".winnow/objects"]
)
def test_an_export_and_a_source_or_the_store_never_lie_in_each_other(project: Any, path: str):
    _rows(project)
    (project.recipe_dir / "link").symlink_to(project.recipe_dir / "rows")
    with pytest.raises(ConfigError, match=r"export\.path: .* lie in each other"):
        project.run(ROWS + OUT.format(path))
    assert not list((project.recipe_dir / "rows").glob("[!0]*"))
    assert tables.load_pool(project.store, "web") is None


def test_a_single_file_beside_the_export_is_no_source_that_holds_it(project: Any):
    project.texts("a text", "another")
    source = '[[source]]\npath = "texts.jsonl"\nid = "id"\n'
    assert project.run(source + OUT.format("out"))["kept"] == 2


def test_the_ref_of_a_run_names_every_file_of_its_exports(project: Any):
    _rows(project)
    result = project.run(
        ROWS + '[export]\nformat = ["webdataset", "uids"]\narms = ["recipe", "all"]\n'
    )
    ref = project.store.ref("run", "web")
    folders = {"recipe": Path(result["export"]), "all": Path(result["export"]).parent / "all/v0001"}
    assert set(ref["exports"]) == set(folders)
    for arm, folder in folders.items():
        there = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
        promised = {item["name"]: item for item in ref["exports"][arm]}
        assert set(promised) == set(there)
        for name, path in there.items():
            assert promised[name]["sha256"] == shards.file_sha256(path)
            assert promised[name]["size_bytes"] == path.stat().st_size


def test_the_exports_of_a_store_that_wrote_nothing_down_are_its_own(project: Any):
    # As stores of the first format are: no list of files in the ref, no note of what was shown.
    _rows(project)
    recipe = ROWS + OUT.format("out")
    project.run(recipe)
    shutil.rmtree(project.store.root / "refs/export")
    ref = project.store.ref("run", "web")
    del ref["exports"]
    (project.store.root / "refs/run/web/1.json").write_bytes(_sealed(ref))
    assert project.run(recipe)["changed"] is False
    _rows(project, 6)
    assert project.run(recipe)["version"] == 2


def test_a_dry_run_refuses_the_place_too(project: Any):
    _rows(project)
    recipe = runs.read_recipe(project.recipe(ROWS + OUT.format("rows/out")))
    with pytest.raises(ConfigError, match="lie in each other"):
        dry_run(recipe, project.store, Options(), 10)


def test_an_arm_that_is_gone_is_exported_anew(project: Any):
    _rows(project)
    recipe = ROWS + '[export]\narms = ["recipe", "all"]\n'
    folder = Path(project.run(recipe)["export"])
    shutil.rmtree(folder.parent / "all/v0001")
    assert (project.run(recipe)["version"], project.run(recipe)["changed"]) == (2, False)


def test_a_place_is_free_for_the_same_version_in_the_store_that_made_it_alone(
    project: Any, projects: Callable[[], Any]
):
    other = projects()
    for one in (project, other):
        _rows(one, 4 if one is other else 5)
        one.run(ROWS + OUT.format("out"))
    folder = project.recipe_dir / "out/v0001"
    content = shards.manifest(folder)
    assert content is not None
    facts = content["facts"]
    destination.refuse_foreign(project.store, folder, facts)
    others = [{"version": 2}, {"run": "other"}, {"arm": "all"}, {"pool": "other"}]
    for store, changed in [(other.store, {}), *[(project.store, one) for one in others]]:
        with pytest.raises(ConfigError, match="export of recipe 'web' version 1"):
            destination.refuse_foreign(store, folder, {**facts, **changed})
