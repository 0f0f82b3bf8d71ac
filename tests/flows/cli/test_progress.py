from __future__ import annotations

import sys

import pytest

from flows.cli import progress


def test_an_ingest_says_what_it_needs_and_what_is_free(capsys: pytest.CaptureFixture[str]):
    said: list[str] = []
    with progress.ingest_bar(said.append, "web") as shown:
        assert shown.plan is not None
        shown.plan(10, 1_234_567, 9_000_000)
        shown.show(5, 3)
    assert said == ["  web: 1,234,567 bytes needed, 9,000,000 free"]
    assert capsys.readouterr() == ("", "")


def test_bars_are_drawn_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.ingest_bar(lambda _line: None, "web") as shown:
        assert shown.plan is not None
        shown.plan(10, 20, 30)
        shown.show(5, 1234)
    with progress.bar("annotate.caption_stats", 10) as advance:
        advance(7)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading web: 1,234" in err
    assert "7/10" in err


def test_no_bar_is_drawn_elsewhere(capsys: pytest.CaptureFixture[str]):
    with progress.bar("annotate.caption_stats", 10) as advance:
        advance(7)
    assert capsys.readouterr() == ("", "")
