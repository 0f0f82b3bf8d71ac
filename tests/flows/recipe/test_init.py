"""A first recipe: what `winnow init` writes is carried to shards without an edit."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows import run as runs
from flows.recipe.init import init
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
    assert 20 <= result["kept"] <= 60
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
