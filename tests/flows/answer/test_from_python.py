"""Training on exported shards without a recipe, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import winnow
from contracts.errors import ConfigError, DataError
from flows.answer import pretrain
from pretraining.codecs import column
from tests.flows.answer import small

RECIPE = (
    'name = "web"\n[[source]]\npath = "pictures"\n[[select]]\nwhere = "meta.number < 27"\n'
    '[export]\nformat = ["webdataset"]\n[pretrain]\nobjective = "clip"\ndim = 8\nsteps = 3\n'
    f"batch = 8\n{small.TINY_CNN}\n{small.TINY_WORDS}\n"
)
SECTION = {
    "objective": "clip", "dim": 8, "batch": 8, "encoder": {"width": 4, "side_px": 16},
    "text_encoder": small.WORDS,
}  # fmt: skip


@pytest.fixture
def ran(projects: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    project = projects()
    small.write(project)
    return project, project.run(RECIPE, "web", until="pretrain")


def test_the_weights_are_those_of_the_recipe_that_exported_the_shards(
    ran: tuple[Any, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found, out = ran[1], tmp_path / "clip.safetensors"
    done = winnow.pretrain(found["export"], out, steps=3, **SECTION)
    assert done["path"] == str(out)
    assert len(done["losses"]) == 3
    for tower in ("image", "text"):
        ours, theirs = (
            winnow.load_encoder(path, tower=tower) for path in (out, found["checkpoint"])
        )
        assert ours.codec == theirs.codec
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".jsonl", ".safetensors"]
    texts = winnow.load_encoder(out, tower="text")
    assert texts(column(texts.codec, ["a red tile", "nothing"])).shape == (2, texts.dim)

    class Killed(Exception):
        pass

    def once(*given: Any) -> None:
        save(*given)
        raise Killed

    save = pretrain._save
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    monkeypatch.setattr(pretrain, "_save", once)
    again = tmp_path / "again.safetensors"
    with pytest.raises(Killed):
        winnow.pretrain(found["export"], again, steps=3, **SECTION)
    monkeypatch.setattr(pretrain, "_save", save)
    assert winnow.pretrain(found["export"], again, steps=3, **SECTION)["losses"] == done["losses"]
    assert again.read_bytes() == out.read_bytes()


def test_what_cannot_be_trained_so_is_refused(ran: tuple[Any, dict[str, Any]], tmp_path: Path):
    shards, out = ran[1]["export"], tmp_path / "x.safetensors"
    with pytest.raises(DataError, match="is no export"):
        winnow.pretrain(tmp_path, out, **SECTION)
    with pytest.raises(ConfigError, match=r"pretrain\.dim"):
        winnow.pretrain(shards, out, **{**SECTION, "dim": 0})
    for more in ({"columns": {"weight": "1"}}, {"teacher": {"weights": "file:a.safetensors"}}):
        given = {"objective": "distillation", "teacher": {"name": "vector", "of": "a.b"}, **more}
        with pytest.raises(ConfigError, match=r"use winnow\.run"):
            winnow.pretrain(shards, out, **given)
    with pytest.raises(ConfigError, match='give tower="image" or tower="text"'):
        winnow.load_encoder(ran[1]["checkpoint"])
    with pytest.raises(ConfigError, match="has no tower 'sound'"):
        winnow.load_encoder(ran[1]["checkpoint"], tower="sound")
    assert not list(tmp_path.iterdir())
