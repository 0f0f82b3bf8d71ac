"""Packaged recipes of document rules: each threshold on both sides, each recipe on a small pool."""

from __future__ import annotations

import math
import re
import textwrap
import tomllib
from typing import Any

import polars as pl
import pytest

from contracts.uid import uniform
from flows.recipe.init import init
from flows.recipe.sections import PACKAGED
from flows.reporter import Reporter

GOOD = """\
The old mill stands at the end of the lane, and its wheel has not turned for many years.
People who live near it say that you can hear water at night. Nobody knows why that is!
A family with three children came to stay there one summer, to be out of the noisy city.
They swam in the pond, picked apples from the trees, and wrote letters home every week.
When autumn came they left with heavy hearts. Did they ever come back? We have not heard."""
GERMAN = """\
Die alte Mühle steht am Ende der Gasse, und das Rad hat sich seit Jahren nicht mehr gedreht.
Wer in der Nähe wohnt, erzählt von Wasser, das man nachts hört, und niemand weiß genau warum.
Eine Familie mit drei Kindern kam in einem Sommer zu Besuch, um dem Lärm der Stadt zu entgehen.
Sie badeten im Teich, pflückten Äpfel von den Bäumen und schrieben jede Woche Briefe an Freunde."""
SHORT = "The end of the lane. It was a day. They left it. We did not. So it goes. And that is that."
BRACKET = GOOD.replace("apples", "{apples}")
REPEATED = GOOD + "\n" + GOOD.split("\n")[0] + "\n" + GOOD.split("\n")[2]
PIECES = textwrap.fill(GOOD, 30)


@pytest.mark.parametrize(
    ("recipe", "good", "kept", "dropped"),
    [
        ("gopher", GOOD, 2, {SHORT: "gopher quality", REPEATED: "gopher repetition"}),
        ("c4", GOOD, 2, {BRACKET: "c4", GOOD.replace(".", ""): "c4"}),
        (
            "fineweb",
            GOOD,
            1,
            {
                GERMAN: "english",
                SHORT: "gopher quality",
                REPEATED: "gopher repetition",
                BRACKET: "c4",
                PIECES: "fineweb quality",
            },
        ),
        ("fineweb2", GERMAN, 1, {GOOD: "german", GERMAN[:200]: "gopher quality"}),
    ],
)
def test_a_recipe_keeps_a_good_document_and_drops_others_by_name(
    project: Any, recipe: str, good: str, kept: int, dropped: dict[str, str]
):
    uids = project.texts(good, good.lower(), *dropped)
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like=recipe)
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    project.run(text, until="select", set=["name=web"])
    for uid, rule in zip(uids[2:], dropped.values(), strict=True):
        assert uid in set(project.last().dropped(rule).collect()["uid"]), rule
    assert project.kept() <= set(uids[:2])
    assert len(project.kept()) == kept


@pytest.mark.parametrize("recipe", ["dclm", "gpt3"])
def test_a_recipe_of_a_classifier_keeps_what_is_like_the_good_examples(project: Any, recipe: str):
    words = f"{GOOD} {GERMAN}".split()
    uids = project.texts(*[" ".join(words[i : i + 12]) for i in range(len(words) - 12)])
    project.texts(*GOOD.splitlines(), path="good/good.jsonl")
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like=recipe)
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    project.run(text, until="select", set=["name=web"])
    scored = project.last().runtime.frame(["text_score.score"])
    score = pl.col("text_score.score")
    if recipe == "dclm":
        best = scored.top_k(len(uids) // 10, by=score)["uid"]
        assert set(best) == project.kept() < set(uids[: len(GOOD.split()) - 6])
    else:
        draws = pl.Series(uniform(scored["uid"].to_numpy(), 0, "random_sample"))
        assert set(scored.filter(draws < (2 - score) ** -9)["uid"]) == project.kept() != set()


SHOUTS = """
import numpy as np

class Shouts:
    version, fingerprint, reads, writes = 1, "shouts", {"text": "text"}, {}

    def __init__(self, device=None):
        pass

    def __call__(self, values):
        return np.array([sum(map(str.isupper, v)) / len(v) for v in values], dtype=np.float32)
"""


def test_pretrainers_guide_cuts_by_age_then_toxicity_then_quality(project: Any):
    words = GOOD.split()
    lines = [" ".join(words[i : i + 12]) for i in range(20)]
    dated = [f"{line} (12 May 2019)" for line in lines]
    late, undated, loud = f"{lines[0]} (12 May 2020)", lines[0], dated[0].upper()
    worst = "zzz qqq xxx jjj (12 May 2019)"
    uids = project.texts(late, undated, loud, worst, *dated)
    project.texts(*lines, path="good/good.jsonl")
    (project.recipe_dir / "shouts.py").write_text(SHOUTS)
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like="pretrainers_guide")
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    text = text.replace('"profanity_check"', '"./shouts.py:Shouts"').replace("< 0.7", "< 0.5")
    project.run(text, until="select", set=["name=web"])

    def dropped(rule: str) -> set[int]:
        return set(project.last().dropped(rule).collect()["uid"])

    assert dropped("of its time") == set(uids[:2])
    assert dropped("not toxic") == {uids[2]}
    # Of 21 texts that are left nine tenths are 18.
    assert uids[3] in dropped("best nine tenths")
    assert len(project.kept()) == 18


# At the threshold a document is kept; beyond, by the least that a column can be, it is dropped.
GOPHER_REPETITION = {
    "duplicate_line_ratio": 0.3, "duplicate_line_character_ratio": 0.2,
    "duplicate_paragraph_ratio": 0.3, "duplicate_paragraph_character_ratio": 0.2,
    "top_2_gram_per_character": 0.2, "top_3_gram_per_character": 0.18,
    "top_4_gram_per_character": 0.16, "duplicate_5_gram_ratio": 0.15,
    "duplicate_6_gram_ratio": 0.14, "duplicate_7_gram_ratio": 0.13,
    "duplicate_8_gram_ratio": 0.12, "duplicate_9_gram_ratio": 0.11, "duplicate_10_gram_ratio": 0.1,
}  # fmt: skip
GOPHER_QUALITY = {
    "words": (50, 100_000), "mean_word_length": (3.0, 10.0), "hashes_per_token": 0.1,
    "ellipses_per_token": 0.1, "bullet_line_ratio": 0.9, "ellipsis_line_ratio": 0.3,
    "letter_token_ratio": (0.8, None), "stop_words": (2, None),
}  # fmt: skip
C4 = {"lorem_ipsum_lines": 0, "curly_bracket_lines": 0, "sentences": (5, None)}
FINEWEB = {
    "terminal_line_ratio": (0.12, None), "short_line_ratio": 0.67,
    "duplicate_character_ratio": 0.01, "newlines_per_token": 0.3,
}  # fmt: skip
GERMAN_REPETITION = {
    "duplicate_line_ratio": 0.263, "top_2_gram_per_character": 0.169,
    "top_3_gram_per_character": 0.153, "top_4_gram_per_character": 0.137,
    "duplicate_5_gram_ratio": 0.141, "duplicate_6_gram_ratio": 0.134,
    "duplicate_7_gram_ratio": 0.126, "duplicate_8_gram_ratio": 0.117,
    "duplicate_9_gram_ratio": 0.108, "duplicate_10_gram_ratio": 0.098,
}  # fmt: skip
GERMAN_QUALITY = GOPHER_QUALITY | {"mean_word_length": 15.0, "letter_token_ratio": (0.774, None)}
GERMAN_FINEWEB = {"duplicate_character_ratio": 0.1, "newlines_per_token": 0.152}
RULES = [
    *[(r, "gopher repetition", GOPHER_REPETITION) for r in ("gopher", "fineweb")],
    *[(r, "gopher quality", GOPHER_QUALITY) for r in ("gopher", "fineweb")],
    *[(r, "c4", C4) for r in ("c4", "fineweb")],
    ("fineweb", "fineweb quality", FINEWEB),
    ("fineweb2", "gopher repetition", GERMAN_REPETITION),
    ("fineweb2", "fineweb quality", GERMAN_FINEWEB),
    ("fineweb2", "gopher quality", GERMAN_QUALITY),
]


@pytest.mark.parametrize(("recipe", "rule", "limits"), RULES)
def test_each_threshold_keeps_what_is_at_it_and_drops_what_is_beyond(
    recipe: str, rule: str, limits: dict[str, Any]
):
    raw = tomllib.loads((PACKAGED / f"{recipe}.toml").read_text(encoding="utf-8"))
    where = next(one["where"] for one in raw["select"] if one["name"] == rule)
    where = re.sub(r"\b[a-z]\w*\.(?=[a-z])", "", where)
    bounds = {c: b if isinstance(b, tuple) else (None, b) for c, b in limits.items()}
    inside = {c: low if high is None else high for c, (low, high) in bounds.items()}
    cases = [(inside, True)]
    for column, (low, high) in bounds.items():
        for limit, way in ((low, -1), (high, 1)):
            if limit is not None:
                cases += [(inside | {column: limit}, True)]
                cases += [(inside | {column: beyond(limit, way)}, False)]
    table = pl.DataFrame([case for case, _ in cases], infer_schema_length=None).cast(
        {pl.Float64: pl.Float32}
    )
    kept = table.select(kept=pl.sql_expr(where))["kept"]
    assert kept.to_list() == [keeps for _, keeps in cases]
    assert set(pl.sql_expr(where).meta.root_names()) == set(bounds)


def beyond(limit: float, way: int) -> float:
    """Return the next count, or a share a millionth further."""
    return limit + way if isinstance(limit, int) else limit + math.copysign(1e-6, way)


def test_published_annotations_are_joined_by_key_and_what_does_not_match_is_counted(project: Any):
    project.texts("a", "b", "c", "d", "e")
    pl.DataFrame(
        {
            "id": ["r3", "r0", "r1", "r2", "gone"],
            "content_quality": ["excellent", "good", "good", "poor", "good"],
            "educational_value": ["high", "moderate", "minimal", "high", "high"],
            "time_sensitivity": ["evergreen"] * 5,
        }
    ).write_parquet(project.recipe_dir / "annotations.parquet")
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like="annotated")
    told: dict[str, Any] = {}
    reporter = Reporter(table=told.__setitem__)
    project.run(
        target.read_text(encoding="utf-8"), until="select", set=["name=web"], reporter=reporter
    )
    by_id = dict(project.last().runtime.frame(["meta.id", "uid"]).select("meta.id", "uid").rows())
    assert project.kept() == {by_id["r0"], by_id["r3"]}
    assert set(project.last().dropped("annotated").collect()["uid"]) == {by_id["r4"]}
    count = told["annotate.propella"]
    assert (count.without, count.unused) == (1, 1)
