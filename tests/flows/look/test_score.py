"""A score card on records whose truth is known."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import uid_of
from flows.look.score import Session, strata, text
from flows.upkeep.verify import unknown, verify
from storage import answers

SOURCE = '[[source]]\npath = "t.jsonl"\nid = "id"\n'
RECORDS = 200


@pytest.fixture
def scored(project: Any) -> Any:
    """Two hundred records; of 100 on `n` is good; `rest` falls as n rises."""
    project.lines(
        "t.jsonl",
        [{"id": str(i), "text": f"text {i}", "n": i, "rest": -i, "half": i % 2}
         for i in range(RECORDS)],
    )  # fmt: skip
    project.run(SOURCE + '[[select]]\nname = "n"\nwhere = "meta.n >= 0"\n', until="select")
    return project


def _truth(project: Any, name: str = "a.csv") -> Any:
    path = project.recipe_dir / name
    rows = {"source_id": [str(i) for i in range(RECORDS)], "good": ["n", "y"] * 0}
    rows["good"] = ["y" if i >= 100 else "n" for i in range(RECORDS)]
    pl.DataFrame(rows).write_csv(path)
    return path


def test_every_beginning_of_the_order_is_a_sample_by_strata():
    rows = pl.DataFrame(
        {"uid": [uid_of("t", str(i)) for i in range(100)],
         "value": [None if i < 20 else i for i in range(100)],
         "group": ["a"] * 90 + ["b"] * 10},
        schema={"uid": pl.UInt64, "value": pl.Int64, "group": pl.String},
    )  # fmt: skip
    drawn = strata(rows, 22)
    assert drawn.sizes.sum(axis=1).tolist() == [20] + [8] * 10
    assert drawn.sizes[:, 1].tolist() == [0] * 9 + [2, 8]
    assert drawn.edges == tuple(range(20, 100, 8))
    first = drawn.rows[:12]
    assert first.select("level", "group").n_unique() == 12


def test_so_many_groups_are_strata_that_each_stratum_has_an_answer():
    count = 2_000
    rows = pl.DataFrame(
        {"uid": [uid_of("t", str(i)) for i in range(count)],
         "value": [i % 97 for i in range(count)],
         "group": ["big" if i < 1_000 else str(i % 40) for i in range(count)]},
        schema={"uid": pl.UInt64, "value": pl.Int64, "group": pl.String},
    )  # fmt: skip
    drawn = strata(rows, 50)
    assert drawn.sizes.shape == (11, 5)
    assert drawn.sizes.sum(axis=0).tolist() == [1_000, 25, 25, 25, 925]
    assert drawn.rows[:50].select("level", "group").n_unique() == 50


def test_answers_from_a_file_give_precision_recall_and_a_threshold(scored: Any):
    session = Session(scored.last(), "meta.n")
    assert session.take(_truth(scored)) == (RECORDS, 0)
    card = session.card()
    assert (card["answered"], card["open"], card["passed_over"]) == (50, [], 0)
    assert [cut["value"] for cut in card["cuts"]] == list(range(0, 200, 20))
    assert card["proposed"] == 100
    fifth = card["cuts"][5]
    assert (fifth["precision"]["value"], fifth["recall"]["value"]) == (1, 1)
    assert card["cuts"][0]["precision"]["value"] == pytest.approx(0.5)
    assert ">= 100   50.0%  100.0% [" in text(card)
    assert (verify(scored.store), unknown(scored.store)) == ([], [])
    low = Session(scored.last(), "meta.rest", low=True)
    assert (low.card()["answered"], low.card()["proposed"]) == (50, -100)


def test_what_is_typed_is_kept_and_the_next_call_goes_on(scored: Any):
    asked: list[str] = []

    def answering(words: list[str]) -> Any:
        rest = iter(words)

        def answer(question: str) -> str:
            asked.append(question)
            return next(rest, "")

        return answer

    run = scored.last()
    Session(run, "meta.n", n=6).ask(answering(["y\n", "what?\n", "s\n", "n\n", "q\n"]))
    known = answers.load(scored.store, "web")
    assert sorted(known["good"].to_list(), key=str) == [False, None, True]
    assert asked[1] == asked[2]
    card = Session(run, "meta.n", n=6).card()
    assert (card["answered"], card["passed_over"], len(card["open"])) == (2, 1, 4)
    Session(run, "meta.n", n=6).ask(answering(["y\n"] * 9))
    card = Session(run, "meta.n", n=6).card()
    assert (card["answered"], card["passed_over"], card["open"]) == (6, 1, [])
    assert len(asked) == len(set(asked)) + 2
    other = Session(run, "meta.n", n=6, question="Is it art?").card()
    assert (other["answered"], len(other["open"]), other["cuts"]) == (0, 6, [])
    # Draws do not depend on the signal: an answer is of use to another one.
    assert Session(run, "meta.rest", n=6).card()["answered"] > 0


def test_a_file_without_answers_is_refused(scored: Any):
    session = Session(scored.last(), "meta.n", group="meta.half")
    path = scored.lines("a.jsonl", [{"source_id": "1", "good": "maybe"}])
    with pytest.raises(ConfigError, match="'maybe' is no answer"):
        session.take(path)
    with pytest.raises(ConfigError, match="has no column 'good'"):
        session.take(scored.lines("a.jsonl", [{"uid": "1"}]))
    with pytest.raises(DataError, match="none of its 1 records"):
        session.take(scored.lines("a.jsonl", [{"source_id": "x", "good": True}]))


def test_answers_to_keys_with_zeros_ahead_are_found_and_those_to_no_record_counted(project: Any):
    project.lines("t.jsonl", [{"id": f"00{i}", "text": "t", "n": i} for i in range(3)])
    project.run(SOURCE + '[[select]]\nname = "n"\nwhere = "meta.n >= 0"\n', until="select")
    path = project.recipe_dir / "a.csv"
    path.write_text("source_id,good\n000,y\n001,n\n9,y\n")
    assert Session(project.last(), "meta.n").take(path) == (2, 1)
