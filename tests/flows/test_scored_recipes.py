"""Packaged recipes that draw by a score, each on a small pool."""

from __future__ import annotations

import random
from typing import Any

from flows.recipe.init import init

SEA = "the ship sails on the cold grey sea with a crew of twenty and a captain"
CODE = "this function returns an integer and raises an error when its argument is null"


def of_words(sentence: str, count: int, start: int) -> str:
    words = sentence.split()
    return " ".join(words[(start + n * (1 + start % 3)) % len(words)] for n in range(count))


def test_dsir_draws_the_long_texts_that_are_like_the_target(project: Any):
    texts = [of_words(SEA, 100, n) for n in range(2)]
    texts += [of_words(SEA, 99, 3), *(of_words(CODE, 120, n) for n in range(17))]
    uids = project.texts(*texts)
    (project.recipe_dir / "target").mkdir()
    (project.recipe_dir / "target" / "sea.txt").write_text(of_words(SEA, 300, 5))
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like="dsir")
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    project.run(text, until="select", set=["name=web", "select.1.temperature=0.01"])
    # A tenth of the nineteen that are long enough, rounded down.
    assert project.last().dropped("long enough").collect()["uid"].to_list() == [uids[2]]
    assert project.kept() < set(uids[:2])
    assert len(project.kept()) == 1


def test_nemotron_keeps_what_either_classifier_ranks_in_its_better_buckets(project: Any):
    words = f"{SEA} {CODE}".split()
    texts = [" ".join(random.Random(n).sample(words, len(words))) for n in range(9)]
    texts += [texts[8], "Die alte Mühle steht am Ende der Gasse und niemand weiß genau warum."]
    second = [9.0, *[0.0] * 9, 1.0]
    rows = [
        {"id": f"r{n}", "text": text, "first": n, "second": score}
        for n, (text, score) in enumerate(zip(texts, second, strict=True))
    ]
    project.lines("texts.jsonl", rows)
    target = project.recipe_dir / "web.toml"
    init([str(project.recipe_dir / "texts.jsonl")], target, like="nemotron")
    text = target.read_text(encoding="utf-8").replace("[[source]]", '[[source]]\nid = "id"')
    project.run(text, until="select", set=["name=web"])
    last = project.last()
    assert last.dropped("english").collect()["source_id"].to_list() == ["r10"]
    assert last.dropped("one of each near-duplicate").collect().height == 1
    # Ranks of the first count all eleven: floor(20 * (n + 0.5) / 11) is 11 for r6 and 13 for r7.
    below = last.dropped("better buckets").collect()["source_id"].sort().to_list()
    assert below == ["r1", "r2", "r3", "r4", "r5", "r6"]
