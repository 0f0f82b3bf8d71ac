"""What the guard finds, by hand, and what holding a version means."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows.look import render, report
from flows.recipe.sections import GroupsSection
from flows.select.guard import compared
from flows.upkeep.verify import unknown, verify
from tests.flows.look.page import Page

HEAD = '[[source]]\npath = "t.jsonl"\nid = "id"\n'
RULES = """
[[select]]
name = "odd"
where = "meta.n >= 40"
[[select]]
name = "bad"
where = "NOT meta.bad"
"""
GUARD = '[guard.groups]\nby = ["meta.lang"]\nmax_gap = 0.2\n'


def _write(project: Any, bad: dict[str | None, int], of: int = 100) -> None:
    """Of each language so many records, the first of them bad; rule `odd` drops the first 40."""
    rows = [
        {"id": f"{lang}{i}", "text": "t", "lang": lang, "bad": i < count, "n": 99}
        for lang, count in bad.items()
        for i in range(of)
    ]
    for i, row in enumerate(rows[-40:]):
        row["n"] = i
    project.lines("t.jsonl", rows)


def test_the_drop_rate_of_each_rule_is_compared_group_by_group(project: Any):
    _write(project, {"de": 80, "en": 20, None: 30})
    found = project.run(HEAD + GUARD.replace("0.2", "0.9") + RULES, until="select")
    by = {(g["rule"], g["group"]): g for g in found["guard"]["groups"]}
    assert len(by) == 6
    # Of de 100 reached the second rule and 80 are bad; of the others 160 and 20 + 30.
    german = by["bad", "de"]
    assert (german["reached"], german["dropped"]) == (100, 80)
    assert (german["rate"], german["others"]) == (0.8, 50 / 160)
    assert german["gap"] == pytest.approx(0.8 - 50 / 160)
    assert german["low"] < german["gap"] < german["high"]
    assert (by["odd", None]["dropped"], by["odd", None]["others"]) == (40, 0.0)
    assert by["bad", None]["reached"] == 60
    assert "accepted" not in found["guard"]


def test_a_version_beyond_the_gap_is_held_until_it_is_accepted(project: Any):
    _write(project, {"de": 20, "en": 20})
    rules = RULES.replace(">= 40", ">= 0")
    first = project.run(HEAD + GUARD + rules, until="select")
    assert first["version"] == 1
    _write(project, {"fr": 90, "it": 20})
    project.lines("u.jsonl", [])
    recipe = HEAD + GUARD + rules
    with pytest.raises(DataError, match=r"web version 2 is held.*'bad' drops 90\.0% of 100.*'fr'"):
        project.run(recipe, until="report")
    store = project.store
    assert store.versions("run", "web") == [1]
    assert project.last().version == 1
    held = project.view.run("web", 2)
    assert held.result["kept"] == 250
    assert "'fr'" in held.ref["held"][0]
    page = Page(report.render(held)).part("guard")
    assert [row[-1] for row in page.rows()[1:3]] == ["yes", ""]
    [item] = [i for i in render.listing(store) if i["kind"] == "held"]
    assert (item["name"], item["version"], item["records"]) == ("web", 2, 250)
    assert "'fr'" in item["why"]
    assert item["since"].startswith("20")
    # It stays one, however often it is run; nothing is damaged or unnamed.
    with pytest.raises(DataError, match="version 2 is held"):
        project.run(recipe, until="report")
    assert store.versions("held", "web") == [1]
    assert (verify(store), unknown(store)) == ([], [])
    found = project.run(recipe, until="report", accept=True)
    assert (found["version"], found["changed"]) == (2, True)
    assert "'fr'" in found["guard"]["accepted"][0]
    assert project.last().version == 2
    assert [i for i in render.listing(store) if i["kind"] == "held"] == []
    assert project.run(recipe, until="report")["changed"] is False


def test_a_version_that_keeps_too_little_is_held(project: Any):
    _write(project, {"de": 50, "en": 50})
    # 40 are dropped as odd, and 100 of the 160 left as bad: 60 of 200 are kept.
    assert (
        project.run(HEAD + "[guard]\nmin_kept_ratio = 0.3\n" + RULES, until="select")["kept"] == 60
    )
    with pytest.raises(
        DataError, match=r"it keeps 30\.0% of 200 records, where min_kept_ratio is 30\.1%"
    ):
        project.run(HEAD + "[guard]\nmin_kept_ratio = 0.301\n" + RULES, until="select")


def test_a_version_whose_rule_drops_another_share_than_before_is_held(project: Any):
    rules = RULES.replace(">= 40", ">= 0")
    recipe = HEAD.replace("t.jsonl", "*.jsonl") + "[guard]\nmax_change_ratio = 0.1\n" + rules
    _write(project, {"de": 20}, of=100)
    assert project.run(recipe, until="select")["version"] == 1
    rows = [{"id": f"x{i}", "text": "t", "lang": "de", "bad": i < 80, "n": 99} for i in range(100)]
    project.lines("u.jsonl", rows[:25] + rows[80:])
    # 45 of 145, and then 100 of 200.
    with pytest.raises(DataError, match=r"'bad' drops 31\.0% of 145 records, 20\.0% in the last"):
        project.run(recipe, until="report")
    held = Page(report.render(project.view.run("web", 2))).part("guard")
    assert "Held: rule 'bad' drops 31.0% of 145 records" in held.text
    assert project.run(recipe, until="select", accept=True)["version"] == 2
    project.lines("u.jsonl", rows[:35] + rows[80:])
    assert project.run(recipe, until="select")["version"] == 3
    project.lines("u.jsonl", rows)
    with pytest.raises(DataError, match=r"'bad' drops 50\.0% of 200 records, 35\.5% in the last"):
        project.run(recipe, until="select")


def test_another_held_version_takes_the_place_of_the_last(project: Any):
    _write(project, {"de": 90, "en": 20})
    for gap in ("0.2", "0.3"):
        with pytest.raises(DataError, match="web version 1 is held"):
            project.run(HEAD + GUARD.replace("0.2", gap) + RULES, until="select")
    assert project.store.versions("held", "web") == [1, 2]
    assert "max_gap is 30.0%" in project.view.run("web", 1).ref["held"][0]


def test_a_rule_that_is_meant_to_and_a_small_group_hold_nothing(project: Any):
    _write(project, {"de": 49, "en": 0}, of=49)
    assert project.run(HEAD + GUARD + RULES, until="select")["guard"] == {"groups": []}
    _write(project, {"de": 50, "en": 0, "x": 0}, of=50)
    intended = GUARD + 'intended = ["bad", "odd"]\n'
    assert project.run(HEAD + intended + RULES, until="select")["guard"] == {"groups": []}


def test_keys_that_are_wrong_are_said(project: Any):
    with pytest.raises(ConfigError) as found:
        project.run(
            HEAD + '[guard.groups]\nby = ["languag.label"]\nintended = ["bat"]\nmax_gp = 1\n'
            + RULES,
            until="select",
        )  # fmt: skip
    said = str(found.value)
    assert "guard.groups.max_gp: unknown key" in said
    assert "guard.groups.by: nothing is called 'languag'" in said
    assert "guard.groups.intended: no rule is 'bat'. Nearest: bad." in said


def test_groups_too_small_to_compare_count_among_the_others():
    fates = pl.DataFrame(
        {
            "dropped_by": ["a", None, "b", "holdout", None, None],
            "group": ["x", "x", "x", "x", *"yz"],
        }
    )
    section = GroupsSection(by=["g"], min_records=2)
    found = compared({"g": fates}, ["a", "b"], section)
    assert [(g.rule, g.group, g.reached, g.dropped, g.others) for g in found] == [
        ("b", "x", 2, 1, 0.0), ("a", "x", 3, 1, 0.0)
    ]  # fmt: skip
