from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.text_score import text_score
from curation.fit.text_classifier import text_classifier
from tests.curation.test__fasttext import made

GOOD = pl.DataFrame({"text": ["good", "fine good"]})
BAD = pl.DataFrame({"text": ["bad", "poor bad"]})


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def scores(texts: list[str | None], **parameters: object) -> list[float | None]:
    return text_score(table(texts), **parameters)["score"].to_list()


@pytest.fixture(scope="module")
def classifier() -> pl.DataFrame:
    return text_classifier(table([]), GOOD, BAD, l2=0.1)


def test_a_score_is_the_logistic_of_weights_of_counts_at_length_one(classifier: pl.DataFrame):
    weights = dict(classifier.drop_nulls("gram").select("gram", "weight").iter_rows())
    intercept = classifier["weight"][0]
    # good twice, fine once, and two pairs, of which the model knows one: 4 + 1 + 1 + 1.
    total = 2 * weights["good"] + weights["fine"] + weights["fine good"]
    logit = total / math.sqrt(7) + intercept
    found = scores(["Good fine, GOOD!", "bad", "fine bad"], classifier=classifier)
    assert found[0] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
    assert found[0] > 0.5 > found[1]
    assert found[1] < found[2]


def test_what_has_no_word_has_no_score_and_an_unknown_word_the_intercepts(classifier: pl.DataFrame):
    even = 1 / (1 + math.exp(-classifier["weight"][0]))
    found = scores(
        [None, "", "  ", "\u200b", "\u0301", "кошка", "كلب", "👩\u200d👧"], classifier=classifier
    )
    assert found[:4] == [None] * 4
    assert found[5:] == [pytest.approx(even)] * 3


def test_a_line_of_ten_megabytes_has_a_score(classifier: pl.DataFrame):
    assert scores(["good " + ("x" * 999 + " ") * 10_000], classifier=classifier)[0] > 0.5


@pytest.mark.parametrize("kind", ["softmax", "tree"])
def test_of_a_file_of_fasttext_it_is_the_probability_of_the_label(kind: str, tmp_path: Path):
    path = tmp_path / "made.bin"
    path.write_bytes(made(kind))
    texts = ["hello world", "hello\nworld", None]
    found = {
        label: scores(texts, weights=str(path), label=label)
        for label in ("one", "two", "three", "__label__four")
    }
    # The likeliest as fasttext-predict 0.9.2.4 has it; the others are what is left.
    assert found["two"][0] == pytest.approx({"softmax": 0.733792, "tree": 0.547728}[kind], abs=1e-4)
    assert sum(values[0] for values in found.values()) == pytest.approx(1, abs=2e-4)
    assert found["two"][1] == found["two"][0]
    assert found["two"][2] is None


def test_a_wrong_label_or_two_models_are_refused(classifier: pl.DataFrame, tmp_path: Path):
    path = tmp_path / "made.bin"
    path.write_bytes(made("softmax"))
    with pytest.raises(ConfigError, match="Nearest: two"):
        scores(["a"], weights=str(path), label="twoo")
    with pytest.raises(ConfigError, match="name by label"):
        scores(["a"], weights=str(path))
    for both in ({}, {"classifier": classifier, "weights": str(path)}):
        with pytest.raises(ConfigError, match="give either"):
            scores(["a"], **both)
