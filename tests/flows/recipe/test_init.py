"""A first recipe: what `winnow init` writes is carried to shards without an edit."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import winnow
from contracts.errors import ConfigError, DataError
from flows import run as runs
from flows.recipe.init import init, packaged_recipes
from flows.recipe.sections import PACKAGED
from storage.store import Store


def carried(folder: Path, source: str) -> dict[str, object]:
    """Write a recipe for a source and run it as it is."""
    recipe = folder / "winnow.toml"
    init([source], recipe)
    return runs.run(runs.read_recipe(recipe), Store(folder / ".winnow"))


def img2dataset(captioned: dict[str, bytes], path: Path) -> None:
    """Write a tar of jpg, txt and json with the Parquet that img2dataset lays beside it."""
    keys = []
    with tarfile.open(path, "w") as tar:
        for i, (name, data) in enumerate(captioned.items()):
            if not name.endswith((".png", ".jpg")):
                continue
            key = f"00000{i:04d}"
            caption = captioned.get(f"{name.rpartition('.')[0]}.txt", b"no caption at all")
            row = {"key": key, "url": f"https://example.org/{i}", "status": "success"}
            keys.append({**row, "caption": caption.decode()})
            members = {"jpg": data, "txt": caption, "json": json.dumps(row).encode()}
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    pl.DataFrame(keys).write_parquet(path.with_suffix(".parquet"))


def test_a_folder_of_pictures_with_captions(project, captioned, tmp_path: Path):
    project.pictures(captioned)
    result = carried(tmp_path, str(tmp_path / "pictures"))
    assert result["records"] == 120
    # One of each picture leaves 90; the motifs are flat, so that looks drop none.
    assert result["dropped"]["one of each picture"] == 30
    assert set(result["dropped"]) == {"one of each picture", "has a caption"}
    assert result["shards"]


def test_tars_of_img2dataset(captioned, tmp_path: Path):
    (tmp_path / "shards").mkdir()
    img2dataset(captioned, tmp_path / "shards" / "00000.tar")
    result = carried(tmp_path, str(tmp_path / "shards"))
    assert result["records"] == 120
    assert result["shards"]


def test_a_file_of_json_lines(project, tmp_path: Path):
    texts = [" ".join(f"word{i // 2}x{k}" for k in range(12)) for i in range(40)]
    project.texts(*texts)
    result = carried(tmp_path, str(tmp_path / "texts.jsonl"))
    assert (result["records"], result["kept"]) == (40, 20)
    assert result["shards"]
    # The column is proposed, not taken: whether it names each record once only the whole shows.
    recipe = (tmp_path / "winnow.toml").read_text(encoding="utf-8")
    assert '\n# id = "id" ' in recipe


def test_a_table_whose_text_is_called_otherwise_says_which_columns_it_may_be(tmp_path: Path):
    pl.DataFrame({"question": ["Who?"], "n": [1], "answer": ["Me."]}).write_csv(tmp_path / "q.csv")
    init([str(tmp_path / "q.csv")], tmp_path / "winnow.toml")
    recipe = (tmp_path / "winnow.toml").read_text(encoding="utf-8")
    assert '\n# text = "answer"   # the column of the text, of answer, question\n' in recipe
    with pytest.raises(DataError, match=r"1 NO_CONTENT.* name it: --text COLUMN"):
        winnow.ingest(tmp_path / "q.csv", store=tmp_path / "store")


def test_a_parquet_file_with_hugging_face_s_image_struct(captioned, tmp_path: Path):
    pictures = [data for name, data in captioned.items() if name.endswith(".png")]
    frame = pl.DataFrame(
        {
            "image": [{"bytes": data, "path": None} for data in pictures],
            "caption": [f"picture number {i}" for i in range(len(pictures))],
        }
    )
    frame.write_parquet(tmp_path / "pictures.parquet")
    result = carried(tmp_path, str(tmp_path / "pictures.parquet"))
    assert result["records"] == len(pictures)
    assert result["shards"]


def test_a_recipe_that_is_there_is_not_replaced(project, tmp_path: Path):
    project.texts("one", "two")
    project.recipe("name = 'mine'", "winnow")
    with pytest.raises(ConfigError, match="exists"):
        init([str(tmp_path / "texts.jsonl")], tmp_path / "winnow.toml")


def test_a_source_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere"):
        init([str(tmp_path / "nowhere")], tmp_path / "winnow.toml")


def test_the_rules_of_a_packaged_recipe_can_be_taken(project, tmp_path: Path):
    project.texts("one", "two")
    with pytest.raises(ConfigError, match="Nearest: demo"):
        init([str(tmp_path / "texts.jsonl")], tmp_path / "a.toml", like="demmo")
    init([str(tmp_path / "texts.jsonl")], tmp_path / "b.toml", like="demo")
    assert "[annotate.semantic]" in (tmp_path / "b.toml").read_text()


def test_a_packaged_recipe_comes_with_its_comments(project, tmp_path: Path):
    project.texts("one", "two")
    init([str(tmp_path / "texts.jsonl")], tmp_path / "a.toml", like="gopher")
    copied = (tmp_path / "a.toml").read_text()
    assert "# The document rules of Gopher" in copied
    assert "# Departures: words are text_quality's own" in copied
    assert tomllib.loads(copied)["source"] == [{"path": "texts.jsonl"}]
    init([str(tmp_path / "texts.jsonl")], tmp_path / "b.toml", like="demo")
    assert "# One concept in five is evaluated" in (tmp_path / "b.toml").read_text()
    # Without a source it is what is packaged.
    init([], tmp_path / "c.toml", like="gopher")
    assert (tmp_path / "c.toml").read_text() == (PACKAGED / "gopher.toml").read_text()
    assert packaged_recipes()["gopher"].startswith("The document rules of Gopher")


def _blocks(i: int, *, noise: int = 0, shift: int = 0) -> bytes:
    """A picture of large plain areas, or with so much noise."""
    rng = np.random.default_rng(i)
    grid = rng.integers(0, 256, (4, 4, 3)).repeat(16, 0).repeat(16, 1)
    pixels = (grid + rng.integers(-noise, noise + 1, grid.shape) + shift).clip(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _written(folder: Path, source: str) -> tuple[str, dict[str, Any]]:
    (folder / "winnow.toml").unlink(missing_ok=True)
    found = init([str(folder / source)], folder / "winnow.toml")
    return (folder / "winnow.toml").read_text(encoding="utf-8"), found["found"][0]["alike"]


def test_a_rule_of_looks_says_what_it_merges_of_the_pictures_that_were_looked_at(
    project, tmp_path: Path
):
    files = {f"{i}.png": _blocks(i, noise=20) for i in range(5)}
    project.pictures(
        files | {"brighter.png": _blocks(3, noise=20, shift=6), "same.png": files["0.png"]}
    )
    text, alike = _written(tmp_path, "pictures")
    assert alike == {
        "of": 6, "merged": 2, "into": 1, "example": ("3.png", "brighter.png"), "flat": False,
    }  # fmt: skip
    said = " ".join(text.replace("\n# ", " ").split())
    assert "Of 6 that were looked at it merges 2 into 1, such as 3.png and brighter.png." in said
    rules = tomllib.loads(text)["select"]
    assert [rule["name"] for rule in rules] == ["one of each picture", "one of each look"]
    result = runs.run(runs.read_recipe(tmp_path / "winnow.toml"), Store(tmp_path / ".winnow"))
    assert result["dropped"] == {"one of each picture": 1, "one of each look": 1}


def test_a_rule_of_looks_is_switched_off_for_flat_pictures(project, tmp_path: Path):
    project.pictures({f"{i}.png": _blocks(i) for i in range(5)} | {"b.png": _blocks(3, shift=6)})
    text, alike = _written(tmp_path, "pictures")
    assert alike["flat"] is True
    said = " ".join(text.replace("\n# ", " ").split())
    assert "Switched off: most of these pictures are flat, as icons, logos and drawings" in said
    assert "Of 6 that were looked at it merges 2 into 1, such as 3.png and b.png." in said
    assert [rule["name"] for rule in tomllib.loads(text)["select"]] == ["one of each picture"]
    # What is switched off is the whole rule, and a rule.
    on = text[text.index("# [annotate.look]") : text.index("[export]")].replace("# ", "")
    assert set(tomllib.loads(on)["annotate"]) == {"look", "alike"}


def test_a_folder_of_volumes_is_thinned_within_each_volume(tmp_path: Path):
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for name in "ab":
        one, other = rng.integers(0, 200, (2, 4, 4)).repeat(8, 1).repeat(8, 2)
        # Two looks, each in three slices of one brightness more.
        slices = [one, one + 1, one + 2, other, other + 1, other + 2]
        voxels = np.stack(slices, axis=2).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "scans" / f"{name}.nii.gz")
    text, alike = _written(tmp_path, "scans")
    assert (alike["of"], alike["merged"], alike["into"]) == (12, 12, 4)
    recipe = tomllib.loads(text)
    assert recipe["annotate"]["redundant"] == {"step": "group_redundancy"}
    assert "look" not in recipe["annotate"]
    result = runs.run(runs.read_recipe(tmp_path / "winnow.toml"), Store(tmp_path / ".winnow"))
    assert (result["records"], result["kept"]) == (12, 4)
