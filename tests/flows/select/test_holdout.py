from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.uid import uid_of, uniform
from flows.answer.sets import arm_records

HEAD = """
[[source]]
path = "rows.jsonl"
id = "id"
"""
# Steps that write down whom they see.
SPIES = """
import polars as pl
from pathlib import Path
from curation.step import Role, fit, groupwise, poolwise, rowwise, selector

def _note(name, frame):
    with (Path(__file__).parent / f"{name}.txt").open("a") as file:
        file.write(" ".join(map(str, sorted(frame["uid"]))) + "\\n")

READS = {"n": Role(pl.Int64)}

@rowwise(version=1, reads=READS, writes={"x": pl.Int64})
def every(rows):
    _note("rowwise", rows)
    return rows.select(x="n")

@groupwise(version=1, by="n", reads=READS, writes={"x": pl.Int64})
def grouped(groups):
    _note("groupwise", groups)
    return groups.select(x="n")

@poolwise(version=1, reads=READS, writes={"x": pl.Int64})
def pooled(rows):
    _note("poolwise", rows)
    return rows.select(x="n")

@fit(version=1, reads=READS, writes={"x": pl.Int64})
def fitted(rows):
    _note("fit", rows)
    return rows.select(x=pl.col("n").sum())

@selector(version=1, reads=READS)
def chosen(candidates):
    _note("selector", candidates)
    return candidates.select("uid")
"""
ALL_SPIES = """
[annotate.every]
step = "./spies.py:every"
n = "meta.n"
[annotate.grouped]
step = "./spies.py:grouped"
n = "meta.n"
[annotate.pooled]
step = "./spies.py:pooled"
n = "meta.n"
[fit.fitted]
step = "./spies.py:fitted"
n = "meta.n"
[[select]]
name = "chosen"
by = "./spies.py:chosen"
n = "meta.n"
"""
CLUSTERS = """
[annotate.d]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "d.digest"
"""


@pytest.fixture
def rows(project: Any) -> Any:
    """Thirty records: five groups of six, two of each in one cluster of equal texts."""
    (project.recipe_dir / "spies.py").write_text(SPIES)
    project.lines(
        "rows.jsonl",
        [{"id": f"r{i}", "text": f"text {i // 2}", "n": i, "g": f"g{i % 5}"} for i in range(30)],
    )
    return project


def _held(project: Any) -> set[int]:
    verdict = project.last().verdict
    return {_number(uid) for uid in verdict.filter(pl.col("dropped_by") == "holdout")["uid"]}


NUMBERS = {uid_of("rows", f"r{i}"): i for i in range(40)}


def _number(uid: int) -> int:
    return NUMBERS[uid]


def _seen(project: Any, name: str) -> set[int]:
    path = Path(project.recipe_dir / f"{name}.txt")
    return {_number(int(uid)) for line in path.read_text().splitlines() for uid in line.split()}


def test_where_picks_records_and_a_null_is_not_picked(rows: Any):
    found = rows.run(HEAD + '[holdout]\nwhere = "meta.n < 4"\n')
    assert _held(rows) == {0, 1, 2, 3}
    assert found["dropped"] == {"holdout": 4}
    assert found["records"] == found["kept"] + 4


def test_by_group_widens_the_pick_to_whole_groups(rows: Any):
    rows.run(HEAD + '[holdout]\nwhere = "meta.n = 7"\nby_group = "meta.g"\n')
    assert _held(rows) == {2, 7, 12, 17, 22, 27}


def test_a_record_without_a_group_is_a_group_of_one(rows: Any):
    rows.lines("rows.jsonl", [{"id": f"r{i}", "text": "t", "n": i, "g": None if i < 4 else "g"}
                              for i in range(8)])  # fmt: skip
    rows.run(HEAD + '[holdout]\nwhere = "meta.n = 2"\nby_group = "meta.g"\n')
    assert _held(rows) == {2}


def test_a_ratio_picks_records_by_their_draws(rows: Any):
    rows.run(HEAD + "[holdout]\nratio = 0.3\nseed = 5\n")
    uids = np.array([uid_of("rows", f"r{i}") for i in range(30)], dtype=np.uint64)
    assert _held(rows) == set(np.flatnonzero(uniform(uids, 5, "holdout") < 0.3).tolist())
    assert 0 < len(_held(rows)) < 30


def test_a_ratio_picks_whole_groups_by_the_draw_of_their_name(rows: Any):
    rows.run(HEAD + '[holdout]\nratio = 0.5\nby_group = "meta.g"\n')
    keys = np.array([uid_of("group", f"g{g}") for g in range(5)], dtype=np.uint64)
    groups = np.flatnonzero(uniform(keys, 0, "holdout") < 0.5)
    assert 0 < len(groups) < 5
    assert _held(rows) == {i for i in range(30) if i % 5 in groups}


def test_a_larger_ratio_only_adds(rows: Any):
    picks = []
    for ratio in (0.1, 0.3, 0.6):
        rows.run(HEAD + f"[holdout]\nratio = {ratio}\n")
        picks.append(_held(rows))
    assert picks[0] <= picks[1] <= picks[2]
    assert picks[0] != picks[2]


def test_a_hold_out_stays_while_the_pool_grows(rows: Any):
    text = HEAD + '[holdout]\nratio = 0.4\nby_group = "meta.g"\n'
    rows.run(text)
    before = _held(rows)
    more = [{"id": f"r{i}", "text": f"text {i // 2}", "n": i, "g": f"g{i % 5}"} for i in range(40)]
    rows.lines("rows.jsonl", more)
    rows.run(text)
    assert {i for i in _held(rows) if i < 30} == before
    assert {i % 5 for i in _held(rows)} == {i % 5 for i in before}


def test_near_takes_out_whoever_shares_a_cluster_with_a_held_out_record(rows: Any):
    rows.run(HEAD + CLUSTERS + '[holdout]\nwhere = "meta.n = 7 OR meta.n = 10"\nnear = "same"\n')
    assert _held(rows) == {6, 7, 10, 11}


def test_near_is_computed_over_all_records_and_the_rules_table_without_the_hold_out(rows: Any):
    rows.run(
        HEAD + CLUSTERS + '[holdout]\nwhere = "meta.n = 7"\nnear = "same"\n'
        '[[select]]\nname = "pairs"\nwhere = "same.size = 2"\n'
    )
    assert _held(rows) == {6, 7}
    sizes = rows.last().runtime.frame(["same.size"])
    alone = sizes.filter(pl.col("uid").is_in([uid_of("rows", f"r{i}") for i in (6, 7)]))
    assert alone["same.size"].to_list() == [None, None]


def test_rowwise_sees_everyone_and_no_other_kind_sees_the_hold_out(rows: Any):
    rows.run(HEAD + '[holdout]\nwhere = "meta.n < 12"\n' + ALL_SPIES)
    assert _seen(rows, "rowwise") == set(range(30))
    for kind in ("groupwise", "poolwise", "fit", "selector"):
        assert _seen(rows, kind) == set(range(12, 30)), kind


def test_another_hold_out_is_another_fit(rows: Any, watch: Any):
    text = HEAD + '[holdout]\nwhere = "meta.n < {}"\n' + ALL_SPIES
    rows.run(text.format(12))
    watch.reset()
    rows.run(text.format(11))
    assert {"annotate.grouped", "annotate.pooled", "fit.fitted"} <= watch.computed
    assert "annotate.every" not in watch.computed


def test_the_arms_of_a_comparison_hold_out_the_same_records(rows: Any):
    rows.run(
        HEAD + '[holdout]\nwhere = "meta.n < 12"\n[[select]]\nby = "random_sample"\nbudget = 6\n'
    )
    run = rows.last()
    kept = run.kept().select("uid", "repeats").collect()
    for arm, count in (("all", 18), ("random", 6)):
        found = {_number(uid) for uid in arm_records(run.runtime, kept, arm, 0)["uid"]}
        assert len(found) == count
        assert not found & set(range(12))
