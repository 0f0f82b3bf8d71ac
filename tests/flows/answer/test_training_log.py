"""The log of a training: what it says, what becomes of it, and that nothing is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows import run as runs
from flows.answer import pretrain, training_log
from flows.look import report, views
from flows.upkeep.verify import unknown, verify
from tests.flows.answer import small

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


def test_probes_stand_in_the_log_on_records_that_no_step_trains_on(measured: Callable[[str], Any]):
    project = measured(ALONE)
    recipe = ALONE.replace("batch = 8", "batch = 8\nvalidation_ratio = 0.3\nprobe_every = 10")
    first = project.run(recipe, until="pretrain")
    (path,) = logs(project)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    probes = {line["step"]: line["probe_loss"] for line in lines if "probe_loss" in line}
    assert list(probes) == [10, 20, 25]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 25]
    # How often is no part of a training, which records are is.
    again = project.run(recipe.replace("probe_every = 10", "probe_every = 5"), until="pretrain")
    assert again["checkpoint"] == first["checkpoint"]
    assert project.run(ALONE, until="pretrain")["checkpoint"] != first["checkpoint"]


def test_the_report_draws_the_training_and_python_reads_its_log(measured: Callable[[str], Any]):
    project = measured(ALONE)
    page = Path(project.run(ALONE, until="report")["report"]).read_text()
    assert page.count('class="curve"') == 4
    run = views.Winnow(project.store).run("web")
    assert run.training["step"].to_list() == [10, 20, 25]
    assert {"loss", "lr", "records_per_s", "waiting_ratio"} <= set(run.training.columns)
    # Nothing is made of the log: without it, or with another text in it, nothing is drawn.
    (path,) = logs(project)
    path.write_text('whatever\n[]\n{"step": "two"}\n')
    again = views.Winnow(project.store).run("web")
    assert again.training.is_empty()
    assert 'id="training"' not in report.render(again)


def test_each_arm_leaves_the_same_records_to_probes():
    section = runs.recipes.parsed(
        {"pretrain": {"objective": "clip", "validation_ratio": 0.25, "probe_every": 1}},
        recipe_dir=Path(), name="web",
    ).pretrain  # fmt: skip
    assert section is not None
    rows = pl.DataFrame({"uid": np.arange(400, dtype=np.uint64), "repeats": [1] * 400})
    train, apart = pretrain._parted(section, rows)
    assert apart is not None
    assert sorted([*train["uid"], *apart["uid"]]) == list(range(400))
    assert 60 < apart.height < 140
    half = pretrain._parted(section, rows[200:])
    assert half[1] is not None
    assert half[1].equals(apart.filter(pl.col("uid") >= 200))
    with pytest.raises(DataError, match=r"validation_ratio: of 1 records it takes [01]\."):
        pretrain._parted(section, rows[:1])
    alone = replace(section, probe_every=None)
    with pytest.raises(ConfigError, match=r"pretrain.validation_ratio: goes with probe_every"):
        pretrain.check(alone, Path())


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
