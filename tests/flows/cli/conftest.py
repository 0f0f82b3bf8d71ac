from __future__ import annotations

from typing import Any

import pytest

from tests.flows.cli.small import RECIPE
from tests.flows.command import Command, calling


@pytest.fixture
def winnow(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Call the command in the project's folder; return exit code, output, errors."""
    monkeypatch.chdir(project.recipe_dir)
    return calling(monkeypatch, capsys)


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
