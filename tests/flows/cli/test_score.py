from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.flows.command import Command


def test_answers_are_typed_or_come_by_file(
    done: Any, winnow: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\nn\n"))
    code, out, err = winnow("score", "caption_stats.words", "-n", "4")
    assert code == 0
    assert "2 of 4 answered" in out
    assert err.count("Is this record good? [y/n/s/q]") == 3
    done.lines("a.jsonl", [{"source_id": f"r{i}", "good": i >= 3} for i in range(12)])
    arguments = ("score", "caption_stats.words", "-n", "8", "--answers", "a.jsonl", "--json")
    code, out, _ = winnow(*arguments)
    card = json.loads(out)
    assert (code, card["answered"], card["open"]) == (0, 8, [])
    assert [cut["value"] for cut in card["cuts"]] == [1, 2]
    assert card["proposed"] == 2
    code, _, err = winnow("score", "caption_stats")
    assert code == 78
    assert "name one number: caption_stats.words" in err
