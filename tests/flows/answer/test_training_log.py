"""The log of a training: what it says, what becomes of it, and that nothing is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.answer import pretrain, training_log
from flows.upkeep.verify import unknown, verify
from tests.flows.answer import small

pytestmark = pytest.mark.xdist_group("answer")
# One training, of the kept records.
ALONE = small.IMAGES.partition("[compare]")[0].replace("steps = 2", "steps = 25")


def logs(project: Any) -> list[Path]:
    return sorted((project.store.root / "training").glob("*"))


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_training_leaves_its_log_and_nothing_changes_without_it(
    measured: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    project = measured(ALONE)
    first = project.run(ALONE, until="pretrain")
    (path,) = logs(project)
    assert (project.store.root / "manifests" / f"{path.stem}.json").is_file()
    assert steps_in(path) == [10, 20, 25]
    line = json.loads(path.read_text().splitlines()[0])
    assert set(line) == {
        "step", "loss", "lr", "gradient_norm", "records_per_s", "waiting_ratio",
        "peak_memory_bytes",
    }  # fmt: skip
    assert 0 <= line["waiting_ratio"] <= 1
    assert line["records_per_s"] > 0
    assert verify(project.store, deep=True) == []
    assert unknown(project.store) == []
    path.write_text("whatever\n")
    assert verify(project.store, deep=True) == []
    path.unlink()
    assert verify(project.store, deep=True) == []
    assert project.run(ALONE, until="pretrain")["checkpoint"] == first["checkpoint"]
    assert logs(project) == []


def test_a_training_that_was_stopped_goes_on_in_its_log(
    measured: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    class Stopped(Exception):
        pass

    save, saved = pretrain._save, []

    def once(*given: Any) -> None:
        save(*given)
        saved.append(given)
        raise Stopped

    project = measured(ALONE)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 10)
    monkeypatch.setattr(pretrain, "_save", once)
    with pytest.raises(Stopped):
        project.run(ALONE, until="pretrain")
    path, state = logs(project)
    # What a kill leaves: lines of steps that the state does not have, the last one cut.
    with path.open("a") as file:
        file.write('{"step": 20}\n{"step": 2')
    assert unknown(project.store) == []
    monkeypatch.setattr(pretrain, "_save", save)
    project.run(ALONE, until="pretrain")
    assert not state.exists()
    assert steps_in(path) == [10, 20, 25]
    assert "lr" in json.loads(path.read_text().splitlines()[1])


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b'{"step": 1}\n{"step": 3}\n{"step": 4}\n', b'{"step": 1}\n{"step": 3}\n'),
        (b'{"step": 1}\n{"step": 3}', b'{"step": 1}\n'),
        (b'{"step": 1}\n[]\n{"stop": 2}\n\xff\n', b'{"step": 1}\n'),
    ],
)
def test_only_whole_lines_up_to_the_state_are_kept(tmp_path: Path, before: bytes, kept: bytes):
    path = tmp_path / "training" / "log.jsonl"
    path.parent.mkdir()
    path.write_bytes(before)
    with training_log.opened(path, 3) as write:
        assert path.read_bytes() == kept
        write("new\n")
        assert path.read_bytes() == kept + b"new\n"
