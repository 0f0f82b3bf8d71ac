"""The command `winnow replay` on what a recipe's training leaves of a step that was not finite."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from contracts.errors import DivergedError
from contracts.uid import hex_uid, uid_of
from flows.upkeep.verify import unknown, verify
from tests.flows.answer import small
from tests.flows.command import calling

MINE = '''
from pretraining.objective import Column, Encoder, Objective


class Weighted(Objective):
    """Every record has its own weight."""

    columns = {"weight": Column("number")}

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch, moment):
        size_B = self.encoder(batch["image"]).square().mean(1)
        return {"loss": (batch["weight"] * size_B).mean(), "size": size_B.detach().mean()}
'''
RECIPE = (
    'name = "web"\n[[source]]\npath = "pictures"\n[pretrain]\nobjective = "./own.py:Weighted"\n'
    "steps = 5\nbatch = 8\nencoder = { width = 4, side_px = 16 }\n[pretrain.columns]\n"
    'weight = "CASE WHEN meta.number = 7 THEN EXTREME ELSE 1.0 END"\n'
)


def test_the_error_names_the_command_that_finds_the_record(
    projects: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    project = projects()
    small.write(project)
    (project.recipe_dir / "own.py").write_text(MINE)
    with pytest.raises(DivergedError, match="the loss is inf at step") as caught:
        project.run(RECIPE.replace("EXTREME", "1e300"), "web", until="pretrain")
    [kept] = (project.store.root / "training").glob("*.step.safetensors")
    command = shlex.split(str(caught.value).partition("winnow ")[2])
    assert command == ["replay", str(kept)]

    monkeypatch.chdir(project.recipe_dir)
    winnow = calling(monkeypatch, capsys)
    assert winnow(*command)[0] == 65  # The objective is one's own code: it is allowed by name.
    allow = ["--allow", "./own.py:Weighted"]
    code, out, err = winnow(*command, *allow, "--json")
    assert (code, err) == (0, "")
    seen = json.loads(out)
    assert seen["scalars"]["loss"] == "inf"
    assert len(seen["records"]) == 8
    [row] = seen["inputs"]["weight"]
    assert seen["records"][row] == hex_uid(uid_of("pictures", "07.png"))
    _, said, _ = winnow(*command, *allow)
    lines = said.splitlines()
    assert lines[0].startswith(f"step {seen['step']} of 5: the loss is inf at step")
    assert f"not finite in weight: {seen['records'][row]}" in lines

    # With other data it is another training, and what it left stays for who wants to look.
    project.run(RECIPE.replace("EXTREME", "2.0"), "web", until="pretrain")
    assert list(kept.parent.glob("*.safetensors")) == [kept]
    assert (verify(project.store, deep=True), unknown(project.store)) == ([], [])
    kept.write_bytes(kept.read_bytes()[:-200])
    assert winnow(*command)[0] == 65
