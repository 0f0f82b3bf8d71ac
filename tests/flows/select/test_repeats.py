"""Rehydration end to end: from a cluster's size to the draws of a training."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from flows.look.render import funnel_text

RECIPE = """
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.content]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "content.digest"
[annotate.often]
step = "cluster_repeats"
size = "same.size"
curve = "fineweb2"
[[select]]
name = "one of each"
by = "one_per_cluster"
cluster = "same.cluster"
[[select]]
name = "rehydrate"
by = "repeat"
repeats = "often.repeats"
"""
EXPORT = '[export]\nformat = ["webdataset", "uids"]\n'
COPIES = {"a": 1, "b": 2, "c": 3, "d": 7, "e": 1, "f": 2}


def _write(project: Any) -> None:
    texts = [text for text, count in COPIES.items() for _ in range(count)]
    rows = [{"id": f"r{i}", "text": f"the text {t}"} for i, t in enumerate(texts)]
    project.lines("texts.jsonl", rows)


def test_a_record_is_held_once_and_listed_as_often_as_its_cluster_says(project: Any):
    _write(project)
    found = project.run(RECIPE + EXPORT)
    assert (found["kept"], found["dropped"]["one of each"]) == (6, 10)
    kept = project.last().kept().select("text", "often.repeats").collect()
    assert dict(kept.iter_rows()) == {
        "the text a": 1, "the text b": 2, "the text c": 3, "the text d": 5, "the text e": 1,
        "the text f": 2,
    }  # fmt: skip
    (listed,) = (s for s in found["shards"] if s["path"].endswith(".parquet"))
    assert sum(s["records"] for s in found["shards"] if s["path"].endswith(".tar")) == 6
    often = Counter(pl.read_parquet(listed["path"])["uid"])
    assert sorted(often.values()) == [1, 1, 2, 2, 3, 5]


def test_a_later_budget_counts_draws(project: Any):
    _write(project)
    project.run(RECIPE + '[[select]]\nname = "some"\nby = "random_sample"\nbudget = 9\n')
    run = project.last()
    draws = run.kept().select("often.repeats").collect()["often.repeats"].sum()
    assert 5 <= draws <= 9
    assert run.funnel().filter(pl.col("rule") == "rehydrate")["draws"].to_list() == [14]
    assert "(14 draws)" in funnel_text(run.funnel().to_dicts())
