"""What a training that goes on keeps: it is measured on earlier pools, and what it shares said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contracts.errors import ConfigError, DataError
from curation import _shingles
from tests.flows.answer import small
from tests.flows.answer.test_continuing import FIRST, GOES_ON, NEXT
from tests.flows.answer.test_roles import _refused

KNN = '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\nk = 1\n'
BEFORE = KNN + 'name = "before"\npool = "web@1"\n'
OTHER = KNN + 'name = "other"\npool = "old"\n'
COMPARE = '[compare]\narms = ["recipe", "random", "untrained"]\nseeds = 1\nrandom_sets = 2\n'
GROUPS = 'ratio = 0.3\nby_group = "meta.motif"\n'
HIGH = 'where = "meta.number >= 30"\n'
OLD = 'name = "old"\n[[source]]\npath = "old"\n'


def _records() -> list[dict[str, Any]]:
    """Forty records, of which every fourth has a text of 13 words that its motif shares."""
    found = []
    for row in small.rows():
        long = f"here lies tile {row['motif']} of a long row of tiles that goes on and on"
        found.append({**row, "text": long if row["number"] % 4 == 0 else row["text"]})
    return found


def _write(project: Any, rows: list[dict[str, Any]], folder: str) -> None:
    project.pictures({row["id"]: row["image"] for row in rows}, folder)
    named = [
        {"file_name": row["id"], **{k: v for k, v in row.items() if k not in ("id", "image")}}
        for row in rows
    ]
    project.lines(f"{folder}/metadata.jsonl", named)


@pytest.fixture(scope="module")
def grown(projects: Callable[[], Any]) -> Any:
    """A pool that grew, a training on its first version, and another pool like it."""
    project, rows = projects(), _records()
    # Of the other pool every third picture is one of this pool, and every text.
    other = [
        {**row, "image": row["image"] if row["number"] % 3 == 0 else rows[-1 - i]["image"] + b"x"}
        for i, row in enumerate(rows[:20])
    ]
    _write(project, other, "old")
    project.run(OLD, "old", until="ingest")
    _write(project, rows[:24], "pictures")
    project.run(FIRST, "first", until="pretrain")
    _write(project, rows, "pictures")
    project.run(NEXT + GOES_ON + KNN + BEFORE + OTHER + COMPARE, "next", until="evaluate")
    return project


def _naive(project: Any, theirs: list[dict[str, Any]]) -> dict[str, int]:
    """Count by loops what the recipe's records share with others."""
    kept = project.last("next").kept().select("uid")
    mine = project.view.pool("web").frame("digest", "text").join(kept, on="uid").collect()
    grams = {g for row in theirs for g in _grams(row["text"])}
    return {
        "records": mine.height,
        "digest": sum(d in {row["digest"] for row in theirs} for d in mine["digest"]),
        "ngram": sum(bool(grams & _grams(text)) for text in mine["text"]),
    }


def _grams(text: str) -> set[str]:
    words = _shingles.tokens(text, "word")
    return {" ".join(words[i : i + 13]) for i in range(len(words) - 12)}


def test_a_training_that_went_on_is_measured_on_earlier_pools_and_what_is_shared_is_said(
    grown: Any,
):
    result = grown.last("next").result["evaluation"]
    pool, first = grown.view.pool("web"), grown.view.pool("web", version=1)
    held_out = pool.frame("meta.number").join(
        grown.last("next").kept().select("uid"), on="uid", how="anti"
    ).collect()  # fmt: skip
    before = held_out.filter(held_out["uid"].is_in(first.frame().collect()["uid"].implode()))
    assert 0 < before.height < held_out.height
    n = {
        name: result["metrics"][f"{name}.accuracy"]["within"]["recipe"]["n"]
        for name in ("knn", "before", "other")
    }
    # Half of the records are asked about, as near to it as groups allow.
    for name, of in (("knn", held_out.height), ("before", before.height), ("other", 20)):
        assert abs(n[name] - of / 2) <= 1, name
    old = grown.view.pool("old").frame("digest", "text").collect().to_dicts()
    own = pool.frame("digest", "text").collect()
    own = own.filter(own["uid"].is_in(before["uid"].implode())).to_dicts()
    shared = result["shared"]
    assert shared["old"]["recipe"] == _naive(grown, old)
    assert shared["web@1"]["recipe"] == _naive(grown, own)
    for what in ("digest", "ngram"):
        assert 0 < shared["old"]["recipe"][what] < shared["old"]["recipe"]["records"]
    assert result["answer"]["shared"] == shared
    of = shared["old"]["recipe"]
    assert (
        f"old shares by digest {of['digest']} and by 13 words in a row {of['ngram']} of the "
        f"{of['records']} of recipe, by digest" in result["answer"]["text"]
    )
    assert "web@1 shares by digest" in result["answer"]["text"]


def test_another_pool_may_be_all_that_is_evaluated_on(grown: Any):
    alone = NEXT.replace(GROUPS, 'pool = "old"\n').replace('"next"', '"alone"')
    result = grown.run(alone + OTHER, "alone", until="evaluate")
    assert set(result["evaluation"]["metrics"]) == {"other.accuracy"}
    assert result["kept"] == 40
    with pytest.raises(DataError, match="holds out no record"):
        grown.run(alone + OTHER + KNN, "alone", until="evaluate")


def test_a_pool_that_is_not_there_or_has_nothing_is_refused(grown: Any):
    problems = _refused(grown, NEXT + KNN + 'pool = "odl"\n')
    assert "there is no pool 'odl'" in problems["evaluate[0].pool"]
    problems = _refused(grown, NEXT + KNN + 'pool = "web@9"\n')
    assert "there is no pool 'web@9'" in problems["evaluate[0].pool"]
    far = NEXT.replace(GROUPS, HIGH) + BEFORE
    with pytest.raises(DataError, match="of web@1 there is nothing to read"):
        grown.run(far, "web", until="evaluate")


def test_a_pool_that_was_trained_on_before_is_not_evaluated_on(grown: Any):
    elsewhere = NEXT.replace('"next"', '"elsewhere"').replace('"web"', '"old"')
    recipe = elsewhere.replace('"pictures"', '"old"') + GOES_ON + OTHER.replace('"old"', '"web"')
    with pytest.raises(ConfigError, match=r"first@1 was trained on \d+ of the 40 records of the"):
        grown.run(recipe, "elsewhere", until="evaluate")
