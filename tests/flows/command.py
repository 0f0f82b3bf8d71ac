"""Calls the command `winnow` in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from flows.cli import app as cli

Command = Callable[..., tuple[int, str, str]]


def calling(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what calls the command and returns exit code, output, errors."""
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
