"""Trained encoders are listed, and those that no version needs can go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError, StorageError
from flows.upkeep.checkpoints import drop, listed
from flows.upkeep.verify import unknown, verify
from tests.flows.answer import small
from tests.flows.command import calling


def test_encoders_of_other_arms_go_and_the_answer_stays(projects: Callable[[], Any], watch: Any):
    project = projects()
    small.write(project)
    first = project.run(small.TEXTS, "web", until="evaluate")
    encoders = listed(project.store)
    own = [row for row in encoders if row["needed_by"]]
    assert [(row["what"], row["needed_by"]) for row in own] == [
        ("encoder", "web@1"), ("state", "web@1"),
    ]  # fmt: skip
    assert own[0]["path"] == first["checkpoint"]
    kept = [row["path"] for row in own]
    assert len(encoders) > 4
    before = {row["path"] for row in encoders}
    assert all(Path(path).stat().st_size == row["bytes"] for path, row in zip(
        [row["path"] for row in encoders], encoders, strict=True))  # fmt: skip
    dropped = drop(project.store)
    assert dropped["dropped"] == len(before) - 2
    assert [row["path"] for row in listed(project.store)] == kept
    assert sorted(path for path in before if Path(path).is_file()) == sorted(kept)
    assert verify(project.store, deep=True) == []
    assert unknown(project.store) == []
    watch.reset()
    again = project.run(small.TEXTS, "web", until="evaluate")
    assert not again["changed"]
    assert again["evaluation"]["answer"] == first["evaluation"]["answer"]
    assert drop(project.store) == {"dropped": 0, "bytes": 0}


def test_a_manifest_that_cannot_be_read_is_named(projects: Callable[[], Any]):
    project = projects()
    manifests = project.store.root / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "a.json").write_text("{")
    with pytest.raises(StorageError, match=r"a\.json: is damaged: winnow verify"):
        listed(project.store)


def test_forget_takes_a_source_or_checkpoints(
    projects: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    project = projects()
    small.write(project)
    project.run(small.TEXTS, "web", until="select")
    winnow = calling(monkeypatch, capsys)
    store = str(project.store.root)
    for words in (["--checkpoints", "--source", "a"], [], ["--checkpoints", "--pool", "web"]):
        code, _, said = winnow("forget", *words, "--store", store)
        assert code == ConfigError.exit_code
        assert "--source NAME, or --checkpoints alone" in said
    assert winnow("forget", "--checkpoints", "--store", store)[0] == 0
    assert winnow("ls", "--checkpoints", "--store", store)[0] == 0
