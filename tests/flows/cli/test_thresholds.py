from __future__ import annotations

import json
from typing import Any

from tests.flows.command import Command


def test_the_cuts_of_a_column_are_lines_and_json(done: Any, winnow: Command):
    code, out, _ = winnow("thresholds", "caption_stats.words", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["run"], found["version"]) == ("winnow", 1)
    [table] = found["signals"]
    assert (table["signal"], table["rules"]) == ("caption_stats.words", ["words"])
    assert [c["at_least"] for c in table["cuts"]] == [1.0] * 5 + [0.75] * 15
    assert "caption_stats.characters" in found["others"]
    code, out, _ = winnow("thresholds", "winnow", "--signal", "meta.n * 2")
    assert code == 0
    assert "   95%            22        8.3%      100.0%  rows:r11  two 11" in out
    assert winnow("thresholds", "caption_stat")[0] == 78
