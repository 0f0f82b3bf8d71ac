"""Packaged recipes that balance concepts, each on a small pool."""

from __future__ import annotations

from typing import Any

import pytest

from flows.look.composition import named
from flows.look.examples import types_of
from flows.look.report import render
from flows.recipe.init import init

SMALL = ["fit.build_metadata.min_count=2", "select.0.cap=3"]


def run(project: Any, recipe: str, texts: list[str]) -> list[int]:
    uids: list[int] = project.texts(*texts)
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like=recipe)
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    project.run(text, until="select", set=["name=web", *SMALL])
    return uids


def test_metaclip_keeps_the_rare_concepts_and_thins_out_the_common(project: Any):
    texts = ["dog"] * 60 + ["dog, zebra"] * 2 + ["unheard"]
    uids = run(project, "metaclip", texts)
    kept = project.kept()
    assert set(uids[60:62]) <= kept
    assert uids[62] not in kept
    # Each of the sixty with probability 3/62.
    assert len(kept & set(uids[:60])) < 15
    run_of = project.last()
    [found] = named(run_of, types_of(run_of))
    assert [(name, pool) for name, pool, _ in found.rows] == [("dog", 62), ("zebra", 2)]
    assert found.rows[0][2] == len(kept)
    assert found.found.tail_ratio == pytest.approx((2 / 64, 2 / (len(kept) + 2)))
    assert "Concepts in <bdi>entry_matches.entries</bdi>" in render(run_of)


def test_metaclip2_gives_each_language_the_share_of_the_tail_of_english(project: Any):
    english = "The children are playing with their dog in the garden behind the old house"
    german = "Die Kinder spielen mit ihrem Hund in dem Garten hinter dem alten Haus"
    texts = [*[english] * 30, *[german] * 20, f"{english} zebra", f"{english} zebra"]
    uids = run(project, "metaclip2", texts)
    kept = project.kept()
    assert set(uids[50:]) <= kept
    # English words count 32 and 2, so that a small share of its matches is of the tail; in German
    # all counts are equal, and that share is closest to their lowest.
    assert set(uids[30:50]) <= kept
    assert len(kept & set(uids[:30])) < 30
