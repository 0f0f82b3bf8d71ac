from __future__ import annotations

import json
from typing import Any

import pytest

from flows.look import stability
from tests.flows.command import calling

HEAD = """
[[source]]
path = "t.jsonl"
id = "id"
[holdout]
where = "meta.n < 100"
[[select]]
name = "large"
where = "meta.n >= 200"
"""
DRAWN = '[[select]]\nname = "drawn"\nby = "random_sample"\nbudget = 300\n'


def test_another_seed_draws_others_and_a_hundredth_less_hardly_any(project: Any):
    project.lines("t.jsonl", [{"id": f"{n}", "text": "t", "n": n} for n in range(1000)])
    project.run(HEAD + DRAWN, until="select")
    seed, fewer = stability.stability(project.last())
    assert (seed.change, seed.kept) == ("another seed", 300)
    # 300 of 800 are drawn twice: of the first 300 some 112 are drawn again.
    assert seed.ratio == pytest.approx(1 - 300 / 800, abs=0.08)
    # Whoever was drawn before is drawn still: the budget is filled up by others.
    assert (fewer.lost, 295 <= fewer.kept < 300) == (0, True)
    assert "another seed 6" in stability.text([seed, fewer])


def test_rules_alone_have_no_seed_and_no_churn(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(project.recipe_dir)
    project.lines("t.jsonl", [{"id": f"{n}", "text": "t", "n": n} for n in range(300)])
    path = project.recipe(HEAD)
    code, out, error = calling(monkeypatch, capsys)(
        "run", str(path), "--until", "select", "--stability", "--json"
    )
    assert code == 0, error
    [fewer] = json.loads(out)["stability"]
    assert (fewer["change"], fewer["ratio"]) == ("1% of the records less", 0)
