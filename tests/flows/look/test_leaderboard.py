from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flows.look import leaderboard
from tests.flows.answer import small

RECIPE = small.TEXTS.replace(small.ALL, small.TWO).replace("seeds = 2", "seeds = 1")


@pytest.fixture(scope="module")
def project(projects: Callable[[], Any]) -> Any:
    """A store in which two recipes were answered over one pool, and one was only cut."""
    made = projects()
    small.write(made)
    made.run(RECIPE, until="evaluate")
    less = RECIPE.replace('name = "web"', 'name = "less"\npool = "web"')
    made.run(less.replace("meta.number < 27", "meta.number < 9"), "less", until="evaluate")
    made.run(less.replace('"less"', '"cut"').partition("[pretrain]")[0], "cut", until="select")
    return made


def cells(page: str) -> list[list[str]]:
    return [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]


def test_each_recipe_stands_above_its_random_sets_and_the_best_comes_first(project: Any):
    page = project.view.leaderboard()
    assert page.startswith(
        f"# Leaderboard\n\n{leaderboard.READ}\n\n## web: look.up (more is better)"
    )
    head, _, *rows = cells(page.partition("by the share")[0])
    assert head == list(leaderboard.HEAD)
    scores = {}
    for name, (own, random) in zip((rows[0][0], rows[2][0]), (rows[:2], rows[2:]), strict=True):
        result = project.last(name).result
        evaluation, answer = result["evaluation"], result["evaluation"]["answer"]
        values = evaluation["metrics"]["look.up"]["values"]
        scores[name] = np.mean(values["recipe"])
        sizes = evaluation["arms"]
        assert own == [
            name, str(result["kept"]), str(sizes["recipe"]["draws"]), "2", own[4],
            f"{scores[name]:.4g}",
            f"{answer['difference']:+.3g} [{answer['low']:+.3g}, {answer['high']:+.3g}]",
            answer["verdict"], "",
        ]  # fmt: skip
        assert random == [
            "2 random sets of equal size", str(sizes["random"]["records"]),
            str(sizes["recipe"]["draws"]), "2", "", f"{np.mean(values['random']):.4g}", "", "", "",
        ]  # fmt: skip
    assert set(scores) == {"web", "less"}
    assert list(scores) == sorted(scores, key=lambda name: -scores[name])


def test_the_score_is_told_by_the_share_of_records_that_are_kept(project: Any):
    _, _, *rows = cells(project.view.leaderboard().partition("by the share")[2])
    results = [project.last(name).result for name in ("less", "web")]
    visible = results[0]["records"] - results[0]["dropped"]["holdout"]
    assert [row[:2] for row in rows] == [
        [f"{result['kept'] / visible:.0%}", str(result["kept"])] for result in results
    ]


def test_only_trainings_of_the_same_steps_are_compared_by_share(project: Any):
    for entry in (found := leaderboard.entries(project.store)):
        assert entry.steps == 2
    [one, two] = found
    longer = replace(two, evaluation={**two.evaluation, "steps": 8})
    assert len(cells(leaderboard.text([one, longer]))) == len(cells(leaderboard.text(found))) - 4


def test_the_seconds_are_those_of_the_training_s_log(project: Any):
    [entry] = [of for of in leaderboard.entries(project.store) if of.recipe == "less"]
    key = leaderboard._keys(project.store)[project.last("less").ref["checkpoint"]["path"]]
    log = project.store.root / "training" / f"{key}.jsonl"
    [line] = log.read_text().splitlines()
    assert entry.seconds == pytest.approx(2 * 8 / json.loads(line)["records_per_s"])
    log.unlink()
    again = [of for of in leaderboard.entries(project.store) if of.recipe == "less"]
    assert again == [replace(entry, seconds=None)]


def test_steps_saved_are_told_where_they_are_known(project: Any):
    [entry, _] = leaderboard.entries(project.store)
    answer = {**entry.answer, "steps_saved": {"high": "> 4", "low": 0.75, "value": 1.5}}
    known = replace(entry, evaluation={**entry.evaluation, "answer": answer})
    assert leaderboard._rows(known)[0][-1] == "1.50 [0.75, > 4]"
    assert leaderboard._rows(entry)[0][-1] == ""
