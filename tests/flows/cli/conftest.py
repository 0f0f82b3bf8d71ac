from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from flows.cli import app as cli
from tests.flows.cli.small import RECIPE, Command


@pytest.fixture
def winnow(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Call the command in the project's folder; return exit code, output, errors."""
    monkeypatch.chdir(project.recipe_dir)
    monkeypatch.delenv("WINNOW_STORE", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    # The command takes SIGTERM for itself; the test process keeps its own handler.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["winnow", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def rows(project: Any) -> Any:
    project.lines(
        "rows.jsonl",
        [{"id": f"r{i}", "text": "one" if i < 3 else f"two {i}", "n": i, "url": f"http://x/{i}"}
         for i in range(12)],
    )  # fmt: skip
    project.recipe(RECIPE, "winnow")
    return project


@pytest.fixture
def done(rows: Any, winnow: Command) -> Any:
    assert winnow("run", "--quiet")[0] == 0
    return rows
