from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, ContractError, DataError
from contracts.uid import hex_uid, uid_of, uniform
from flows.select.verdict import Verdict

HEAD = """
[[source]]
path = "rows.jsonl"
id = "id"
"""
# Selectors and steps of one's own: a spy that writes down whom it sees, and repeats.
OWN = """
import polars as pl
from pathlib import Path
from contracts.params import Count
from curation.step import Role, selector

def _note(name, frame):
    with (Path(__file__).parent / f"{name}.txt").open("a") as file:
        file.write(" ".join(map(str, frame["uid"])) + "\\n")

@selector(version=1, reads={"n": Role(pl.Int64)})
def spy(candidates):
    _note("spy", candidates)
    return candidates.filter(pl.col("n") % 2 == 0).select("uid")

@selector(version=1, reads={"n": Role(pl.Int64)}, evidence={"repeats": pl.UInt16})
def again(candidates, *, times: Count = 3):
    return candidates.select("uid", repeats=pl.lit(times, dtype=pl.UInt16))

@selector(version=1, reads={"n": Role(pl.Int64)}, evidence={"repeats": pl.UInt16})
def by_number(candidates):
    return candidates.filter(pl.col("n") > 0).select("uid", repeats=pl.col("n").cast(pl.UInt16))

@selector(version=1, reads={"n": Role(pl.Int64)})
def stranger(candidates):
    return candidates.select(pl.col("uid") + 1)
"""


def rule(name: str, **keys: Any) -> str:
    lines = "".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in keys.items())
    return f'[[select]]\nname = "{name}"\n{lines}'


@pytest.fixture
def rows(project: Any) -> Any:
    """Twenty records: n counts, words from 1 to 5, x null for every fourth."""
    (project.recipe_dir / "mine.py").write_text(OWN)
    project.lines(
        "rows.jsonl",
        [
            {"id": f"r{i}", "text": "word " * (i % 5 + 1), "n": i}
            | ({"x": i / 10} if i % 4 else {})
            for i in range(20)
        ],
    )
    return project


def _ids(project: Any) -> dict[str, Any]:
    """Return source id to the rule that dropped it."""
    runtime = project.last().runtime
    names = runtime.frame(["source_id"]).join(project.last().verdict, on="uid")
    return dict(names.select("source_id", "dropped_by").iter_rows())


def _kept(project: Any) -> set[int]:
    return {int(key[1:]) for key, fate in _ids(project).items() if fate is None}


def _seen(project: Any, name: str = "spy") -> list[set[int]]:
    known = {str(uid_of("rows", f"r{i}")): i for i in range(20)}
    text = (project.recipe_dir / f"{name}.txt").read_text()
    return [{known[uid] for uid in line.split()} for line in text.splitlines()]


# ------------------------------------------------------------------ conservation and charging


def test_every_record_is_kept_or_dropped_by_one_rule(rows: Any):
    found = rows.run(
        HEAD + rule("words", where="caption_stats.words >= 2") + rule("x", where="meta.x < 1.5")
        + rule("some", by="random_sample", budget=5)
    )  # fmt: skip
    fates = _ids(rows)
    by_hand = {}
    for i in range(20):
        if i % 5 + 1 < 2:
            by_hand[f"r{i}"] = "words"
        elif i % 4 == 0 or i / 10 >= 1.5:
            by_hand[f"r{i}"] = "x"
    assert {key: fate for key, fate in fates.items() if fate in ("words", "x")} == by_hand
    assert found["dropped"] == {"words": 4, "x": 7, "some": 4}
    assert found["records"] == found["kept"] + sum(found["dropped"].values()) == len(fates) == 20
    assert found["kept"] == 5


def test_a_verdict_that_loses_or_doubles_a_record_is_refused():
    rows = pl.DataFrame(
        {"uid": [1, 2], "dropped_by": [None, None], "repeats": [1, 1]},
        schema_overrides={"uid": pl.UInt64, "dropped_by": pl.String},
    )
    Verdict(rows, []).check(2)
    with pytest.raises(DataError, match="covers 2 of 3 records"):
        Verdict(rows, []).check(3)
    with pytest.raises(DataError, match="covers"):
        Verdict(pl.concat([rows.head(1), rows.head(1)]), []).check(2)


def test_the_first_clause_that_fails_is_charged(rows: Any):
    rows.run(HEAD + rule("both", where="meta.n >= 5 AND caption_stats.words >= 3 AND meta.n < 18"))
    funnel = rows.last().funnel().filter(pl.col("clause").is_not_null())
    # 0-4 fail the first; of 5-19 words are 1 or 2 for 5, 6, 10, 11, 15, 16; 18 and 19 are left.
    assert funnel.select("clause", "dropped").rows() == [
        ("meta.n >= 5", 5), ("caption_stats.words >= 3", 6), ("meta.n < 18", 2),
    ]  # fmt: skip
    clauses = dict(rows.last().verdict.select("uid", "clause").iter_rows())
    assert clauses[uid_of("rows", "r0")] == "meta.n >= 5"
    assert clauses[uid_of("rows", "r19")] == "meta.n < 18"
    assert clauses[uid_of("rows", "r7")] is None


def test_a_null_drops_and_is_counted_as_unmeasured(rows: Any):
    rows.run(HEAD + rule("x", where="meta.n >= 2 AND meta.x < 1.5"))
    whole, first, second = rows.last().funnel().filter(pl.col("rule") == "x").to_dicts()
    # 0 and 1 fail the first clause; 4, 8, 12, 16 have no x; 15, 17, 18, 19 have too much.
    assert (first["dropped"], first["unmeasured"]) == (2, 0)
    assert (second["dropped"], second["unmeasured"]) == (8, 4)
    assert (whole["dropped"], whole["unmeasured"]) == (10, 4)


def test_a_number_that_is_none_is_unmeasured_for_rules_and_selectors(project: Any):
    scores = {"score": [0.9, float("nan"), 0.1, None], "text": list("abcd")}
    pl.DataFrame(scores).write_parquet(project.recipe_dir / "rows.parquet")
    source = '[[source]]\npath = "rows.parquet"\n'
    project.run(source + rule("high", where="meta.score > 0.5"))
    assert project.view.run("web").funnel().row(1, named=True)["unmeasured"] == 2
    assert project.kept() == {uid_of("rows", "rows.parquet#0")}
    project.run(source + rule("best", by="top", score="meta.score", budget=4))
    assert project.kept() == {uid_of("rows", f"rows.parquet#{i}") for i in (0, 2)}


def test_a_rule_of_more_clauses_than_32_is_judged(rows: Any):
    where = " AND ".join(f"meta.n <> {i}" for i in range(40))
    with pytest.raises(DataError, match="no record is kept"):
        rows.run(HEAD + rule("many", where=where))
    rows.run(HEAD + rule("many", where=where.replace(" AND meta.n <> 7", "")))
    assert _kept(rows) == {7}


def test_a_rule_without_a_column_holds_for_all(rows: Any):
    assert rows.run(HEAD + rule("all", where="1 = 1"))["kept"] == 20


def test_a_recipe_without_rules_keeps_everything(rows: Any):
    assert rows.run(HEAD)["kept"] == 20


def test_a_run_that_keeps_nothing_says_which_rule_drops_the_most(rows: Any):
    with pytest.raises(DataError, match=r"no record is kept\. none: 20 of 20"):
        rows.run(HEAD + rule("none", where="meta.n > 100"))
    assert rows.view.store.names("run") == []


# ------------------------------------------------------------------ selectors


def test_a_selector_sees_the_survivors_of_the_rules_before_it(rows: Any):
    rows.run(HEAD + rule("n", where="meta.n >= 10") + rule("spy", by="./mine.py:spy", n="meta.n"))
    assert _seen(rows) == [set(range(10, 20))]
    assert _kept(rows) == {10, 12, 14, 16, 18}


def test_a_where_rule_after_a_selector_judges_what_is_left(rows: Any):
    found = rows.run(
        HEAD + rule("spy", by="./mine.py:spy", n="meta.n") + rule("n", where="meta.n < 5")
    )
    assert found["dropped"] == {"spy": 10, "n": 7}
    assert _kept(rows) == {0, 2, 4}


def test_a_selector_never_sees_a_record_that_is_held_out(rows: Any):
    text = HEAD + '[holdout]\nwhere = "meta.n < 7"\n'
    found = rows.run(text + rule("spy", by="./mine.py:spy", n="meta.n"))
    assert _seen(rows) == [set(range(7, 20))]
    assert found["dropped"] == {"holdout": 7, "spy": 7}


def test_a_selector_that_breaks_its_promise_ends_the_run(rows: Any):
    with pytest.raises(ContractError, match="20 uids that it was not given"):
        rows.run(HEAD + rule("bad", by="./mine.py:stranger", n="meta.n"))
    assert rows.view.store.names("run") == []


def test_a_share_is_of_the_candidates_that_reach_the_rule(rows: Any):
    text = HEAD + '[holdout]\nwhere = "meta.n < 4"\n' + rule("n", where="meta.n >= 10")
    assert rows.run(text + rule("half", by="random_sample", budget_ratio=0.55))["kept"] == 5


def test_of_pool_takes_the_share_of_the_pool_without_the_hold_out(rows: Any):
    text = HEAD + '[holdout]\nwhere = "meta.n < 4"\n' + rule("n", where="meta.n >= 8")
    share = '[[select]]\nname = "half"\nby = "random_sample"\nbudget_ratio = 0.5\nof_pool = true\n'
    assert rows.run(text + share)["kept"] == 8


def test_two_random_rules_do_not_share_their_draws(rows: Any):
    rows.run(
        HEAD + rule("a", by="random_sample", budget=10) + rule("b", by="random_sample", budget=5)
    )
    uids = np.array([uid_of("rows", f"r{i}") for i in range(20)], dtype=np.uint64)
    first = np.argsort(uniform(uids, 0, "random_sample"))[:10]
    second = uniform(uids, 0, "random_sample#2")
    assert _kept(rows) == set(first[np.argsort(second[first])[:5]].tolist())
    assert _kept(rows) != set(first[:5].tolist())


# ------------------------------------------------------------------ repeats


def test_repeats_are_kept_and_counted_in_the_funnel(rows: Any):
    rows.run(HEAD + rule("again", by="./mine.py:by_number", n="meta.n"))
    kept = rows.last().kept().select("source_id", "repeats").collect()
    assert dict(kept.iter_rows()) == {f"r{i}": i for i in range(1, 20)}
    assert rows.last().ref["funnel"][0]["repeats"] == sum(range(20))


def test_a_later_budget_counts_draws(rows: Any):
    text = HEAD + rule("again", by="./mine.py:again", n="meta.n")
    assert rows.run(text + rule("some", by="random_sample", budget=20))["kept"] == 6
    assert rows.run(text + rule("some", by="random_sample", budget=18))["kept"] == 6
    # 60 draws, a half of them is 30, ten records.
    assert rows.run(text + rule("some", by="random_sample", budget_ratio=0.5))["kept"] == 10
    top = text + rule("top", by="top", score="meta.n", budget=7)
    assert rows.run(top)["kept"] == 2
    assert _kept(rows) == {18, 19}


def test_a_budget_smaller_than_one_records_repeats_keeps_none(rows: Any):
    text = HEAD + rule("again", by="./mine.py:again", n="meta.n", times=9)
    with pytest.raises(DataError, match="no record is kept"):
        rows.run(text + rule("some", by="top", score="meta.n", budget=5))


def test_a_later_selectors_repeats_replace_the_earlier(rows: Any):
    rows.run(
        HEAD + rule("again", by="./mine.py:again", n="meta.n")
        + rule("numbers", by="./mine.py:by_number", n="meta.n")
        + rule("few", where="meta.n < 3")
    )  # fmt: skip
    kept = rows.last().kept().select("source_id", "repeats").collect()
    assert dict(kept.iter_rows()) == {"r1": 1, "r2": 2}


# ------------------------------------------------------------------ evidence


def _twins(project: Any) -> None:
    project.lines(
        "rows.jsonl", [{"id": f"r{i}", "text": f"text {i // 2}", "n": i} for i in range(6)]
    )


def test_a_selector_explains_what_it_dropped(rows: Any):
    _twins(rows)
    found = rows.run(
        HEAD + '[annotate.d]\nstep = "content_hash"\npayload = "text"\n'
        '[annotate.same]\nstep = "exact_clusters"\ndigest = "d.digest"\n'
        + rule("one", by="one_per_cluster", cluster="same.cluster", score="meta.n")
    )  # fmt: skip
    assert found["kept"] == 3
    uids = [uid_of("rows", f"r{i}") for i in range(6)]
    dropped = rows.last().dropped("one").collect()
    assert dict(dropped.select("uid", "twin").iter_rows()) == {
        uids[i]: uids[i + 1] for i in (0, 2, 4)
    }
    assert set(dropped["edge"]) == {"same"}
    assert set(dropped["distance"]) == {0.0}


def test_a_twin_has_the_distance_that_its_clusters_method_stated(rows: Any):
    texts = [
        "a b c d e f g h",
        "a b c d e f g h",
        "a b c d e f g x",
        "quite another one of eight words",
    ]
    rows.lines("rows.jsonl", [{"id": f"r{i}", "text": t} for i, t in enumerate(texts)])
    rows.run(
        HEAD + '[annotate.minhash_signature]\nngram = 1\nnum_perm = 64\n'
        '[annotate.near]\nstep = "minhash_clusters"\nthreshold = 0.5\n'
        + rule("one", by="one_per_cluster", cluster="near.cluster")
    )  # fmt: skip
    run = rows.last()
    near = dict(run.runtime.frame(["near.similarity"]).iter_rows())
    dropped = run.dropped("one").collect()
    assert dropped.height == 2
    assert set(dropped["edge"]) == {"near"}
    for uid, distance in dropped.select("uid", "distance").iter_rows():
        assert distance == pytest.approx(1 - near[uid])
    assert 0.0 in dropped["distance"]


def test_the_evidence_of_a_selector_is_kept_by_its_rules_name(rows: Any):
    rows.run(HEAD + rule("again", by="./mine.py:by_number", n="meta.n"))
    evidence = rows.last().evidence("again")
    assert evidence.columns == ["uid", "repeats"]
    assert evidence.height == 19
    assert rows.last().evidence("none") is None


def test_rules_are_judged_in_the_order_of_the_recipe(rows: Any):
    first = rule("n", where="meta.n >= 10")
    second = rule("words", where="caption_stats.words >= 3")
    one = rows.run(HEAD + first + second)
    kept = _kept(rows)
    other = rows.run(HEAD + second + first)
    assert _kept(rows) == kept
    assert list(one["dropped"]) == ["n", "words"]
    assert list(other["dropped"]) == ["words", "n"]
    assert one["dropped"] != other["dropped"]


def test_an_id_list_selects_by_source_id_or_uid(rows: Any):
    uids = "".join(f"{hex_uid(uid_of('rows', f'r{i}'))}\n" for i in (3, 5, 99))
    for name, text in (
        ("ids.csv", "source_id\nr3\nr5\nr99\n"), ("ids.txt", "r3\nr5\nr99\n"), ("uids.txt", uids),
    ):  # fmt: skip
        Path(rows.recipe_dir / name).write_text(text)
        rows.run(HEAD + rule("listed", by="uid_list", ids=f"file:{name}"))
        assert _kept(rows) == {3, 5}


def test_both_a_budget_and_a_share_are_refused(rows: Any):
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        rows.run(HEAD + rule("x", by="random_sample", budget=3, budget_ratio=0.5))
