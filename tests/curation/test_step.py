from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, ContractError
from contracts.params import Count, Scorer, Seed
from contracts.uid import uniform
from curation.step import (
    Role,
    Step,
    Table,
    budget_of,
    fit,
    groupwise,
    in_order,
    null_type,
    poolwise,
    rowwise,
    selector,
)

Function = Callable[..., pl.DataFrame]
# Not in the order of the uids: what a step sorts, it must put back.
TABLE = pl.DataFrame(
    {
        "uid": pl.Series([5, 3, 9, 1, 7, 2], dtype=pl.UInt64),
        "label": ["a", "b", "a", None, "b", None],
        "score": [0.5, 0.1, None, 0.9, 0.1, 0.3],
    }
)


@rowwise(version=3, reads={"score": Role(pl.Float64)}, writes={"twice": pl.Float64})
def doubled(rows: pl.DataFrame, *, factor: float = 2.0) -> pl.DataFrame:
    """Double the score."""
    return rows.select(twice=pl.col("score") * factor)


@groupwise(
    version=1,
    by="label",
    order=("score",),
    reads={"label": Role(pl.String), "score": Role(pl.Float64)},
    writes={"first": pl.UInt64, "rows": pl.UInt32},
)
def grouped(groups: pl.DataFrame) -> pl.DataFrame:
    return groups.select(
        first=pl.col("uid").first().over("group"), rows=pl.len().over("group").cast(pl.UInt32)
    )


@selector(version=1, reads={"score": Role(pl.Float64)}, evidence={"rank": pl.UInt32})
def best(candidates: pl.DataFrame, *, budget: Count) -> pl.DataFrame:
    kept = candidates.sort("score", descending=True, nulls_last=True).head(budget)
    return kept.select("uid", rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32))


@fit(
    version=1,
    reads={"score": Role(pl.Float64)},
    writes={"mean": pl.Float64, "rows": pl.UInt32},
    plan=lambda rows, parameters: (parameters["size"] or rows // 2, parameters),
)
def mean(rows: pl.DataFrame, *, size: int | None = None, seed: Seed = 0) -> pl.DataFrame:
    return rows.select(mean=pl.col("score").mean(), rows=pl.len().cast(pl.UInt32))


def _returning(kind: Callable[..., Any], found: Function, **options: Any) -> Step:
    def method(rows: pl.DataFrame) -> pl.DataFrame:
        return found(rows)

    options = {"reads": {"score": Role(pl.Float64)}, "writes": {"x": pl.Float64}} | options
    step: Step = kind(version=1, **options)(method)
    return step


def _halves(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("uid", x=pl.col("score") / 2)


@pytest.mark.parametrize("kind", [rowwise, poolwise])
def test_an_annotation_has_one_row_for_each_input_row_in_input_order(kind: Callable[..., Any]):
    found = _returning(kind, _halves)(TABLE)
    assert found.columns == ["uid", "x"]
    assert found["uid"].to_list() == TABLE["uid"].to_list()
    assert found["x"].to_list() == [0.25, 0.05, None, 0.45, 0.05, 0.15]
    assert _returning(kind, _halves)(TABLE.lazy()).equals(found)


def test_a_groupwise_method_gets_whole_groups_in_its_order_and_answers_in_input_order():
    found = grouped(TABLE)
    assert found["uid"].to_list() == TABLE["uid"].to_list()
    # Within "a": 5 (0.5) then 9 (null last); within "b": the tie at 0.1 goes to the smaller uid.
    assert found["first"].to_list() == [5, 3, 5, 1, 3, 2]


def test_null_keys_are_groups_of_one():
    assert grouped(TABLE)["rows"].to_list() == [2, 2, 2, 1, 2, 1]


def test_a_group_is_numbered_from_one_without_gaps():
    seen: list[list[int]] = []

    def look(groups: pl.DataFrame) -> pl.DataFrame:
        seen.append(groups["group"].to_list())
        return groups.select(x="score")

    _returning(groupwise, look, by="label", reads=grouped.reads)(TABLE)
    assert seen == [[1, 1, 2, 2, 3, 4]]


@pytest.mark.parametrize("buckets", [1, 2, 3, 7])
def test_groups_in_several_buckets_give_what_one_bucket_gives(buckets: int):
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "uid": pl.Series(rng.permutation(500), dtype=pl.UInt64),
            "label": pl.Series(rng.integers(0, 40, 500)).cast(pl.String),
            "score": rng.integers(0, 5, 500).astype(float),
        }
    ).with_columns(label=pl.when(pl.col("uid") % 11 == 0).then(None).otherwise("label"))
    rows = grouped.select(table)
    home = pl.col("key").fill_null(pl.col("row").cast(pl.String)).hash(0) % buckets
    partials = [
        grouped.run_groups(rows, keyed.drop("bucket"))
        for keyed in grouped.scatter(rows).with_columns(bucket=home).partition_by("bucket")
    ]
    assert len(partials) == buckets
    assert grouped.gather(table["uid"], partials).equals(grouped(table))


@pytest.mark.parametrize("block_bytes", [1, 200, 2000])
def test_groups_reach_the_function_whole_and_in_bounded_blocks(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(1)
    label = pl.Series(rng.integers(0, 12, 300)).cast(pl.String)
    table = pl.DataFrame(
        {"uid": pl.Series(np.arange(300), dtype=pl.UInt64), "label": label, "score": 1.0}
    )
    expected = grouped(table)
    seen: list[set[str]] = []

    def look(groups: pl.DataFrame) -> pl.DataFrame:
        seen.append(set(groups["label"]))
        return groups.select(x="score")

    monkeypatch.setattr("curation._groups.BLOCK_BYTES", block_bytes)
    assert grouped(table).equals(expected)
    _returning(groupwise, look, by="label", reads=grouped.reads)(table)
    assert sorted(name for names in seen for name in names) == sorted(set(label))
    assert len(seen) == 12 if block_bytes < 2000 else 1 < len(seen) < 12


def test_an_empty_table_gives_an_empty_table_of_the_declared_types():
    for step in (doubled, grouped, _returning(poolwise, _halves)):
        found = step(TABLE.clear())
        assert found.height == 0
        assert dict(found.schema) == {"uid": pl.UInt64, **step.writes}


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop("score"), r"needs the columns \['score'\]; the table has"),
        (TABLE.drop("uid"), r"needs the columns \['uid'\]"),
        (TABLE.with_columns(pl.col("uid").cast(pl.Int64)), "uid is Int64; it must be UInt64"),
        (TABLE.with_columns(pl.col("score").cast(pl.Float32)), "score is Float32, not Float64"),
        (pl.concat([TABLE, TABLE.head(1)]), "uid has nulls or repeats"),
        (TABLE.with_columns(uid=pl.lit(None, dtype=pl.UInt64)), "uid has nulls or repeats"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: pl.DataFrame, message: str):
    with pytest.raises(ConfigError, match=message):
        doubled(table)


def test_a_column_of_nulls_takes_the_type_of_its_role():
    found = doubled(TABLE.with_columns(score=pl.lit(None)))
    assert found["twice"].to_list() == [None] * 6


def test_one_of_several_types_will_do():
    step = _returning(rowwise, lambda rows: rows.select(x=pl.col("score").cast(pl.Float64)),
                      reads={"score": Role((pl.Float32, pl.Float64))})  # fmt: skip
    assert step(TABLE.with_columns(pl.col("score").cast(pl.Float32)))["x"][0] == 0.5
    with pytest.raises(ConfigError, match="not Float32 or Float64"):
        step(TABLE.with_columns(score=pl.lit("x")))


def test_an_optional_role_may_be_absent():
    seen: list[list[str]] = []

    def look(rows: pl.DataFrame) -> pl.DataFrame:
        seen.append(rows.columns)
        return rows.select(x="score")

    reads = {"score": Role(pl.Float64), "weight": Role(optional=True)}
    step = _returning(rowwise, look, reads=reads)
    step(TABLE)
    step(TABLE.with_columns(weight=1, other=2))
    assert seen == [["uid", "score"], ["uid", "score", "weight"]]


@pytest.mark.parametrize("kind", [rowwise, poolwise, groupwise])
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda rows: _halves(rows).head(2), "returned 2 rows for 6 records"),
        (lambda rows: pl.concat([_halves(rows), _halves(rows)]), "returned 12 rows for 6"),
        (lambda rows: _halves(rows).reverse(), "another order"),
        (lambda rows: _halves(rows).with_columns(uid=pl.col("uid") + 1), "another order"),
        (lambda rows: rows.select(y="score"), r"declares x, but returned no such column"),
        (lambda rows: rows.select(x=pl.col("score").cast(pl.Int64)), "x is Int64; it is declared"),
        (lambda rows: rows.select(x="score", y="score"), r"\['y'\], which it does not declare"),
    ],
)
def test_an_annotation_that_breaks_its_promise_is_refused(
    kind: Callable[..., Any], found: Function, message: str
):
    options: dict[str, Any] = {}
    if kind is groupwise:
        options = {"by": "label", "reads": grouped.reads}
    with pytest.raises(ContractError, match=message):
        _returning(kind, found, **options)(TABLE)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda rows: rows.select("score"), "A selector returns `uid: UInt64` first"),
        (lambda rows: rows.select("score", "uid"), "A selector returns `uid: UInt64` first"),
        (lambda rows: pl.concat([rows, rows.head(1)]).select("uid", "score"), "a uid twice"),
        (lambda rows: rows.select(pl.col("uid") + 100, "score"), "6 uids that it was not given"),
        (lambda rows: rows.select("uid"), "declares score: Float64 as evidence"),
        (lambda rows: rows.select("uid", pl.col("score").cast(pl.String)), "as evidence"),
        (lambda rows: rows.select("uid", "score", repeats=pl.lit(0)), "repeats out of 1 to 65535"),
        (lambda rows: rows.select("uid", "score", repeats=pl.lit(70_000)), "repeats out of 1"),
    ],
)
def test_a_selector_that_breaks_its_promise_is_refused(found: Function, message: str):
    def method(candidates: pl.DataFrame) -> pl.DataFrame:
        return found(candidates)

    step = selector(version=1, reads={"score": Role(pl.Float64)}, evidence={"score": pl.Float64})
    with pytest.raises(ContractError, match=message):
        step(method)(TABLE)


def test_a_fit_that_lacks_a_column_is_refused():
    with pytest.raises(ContractError, match=r"a model table without \['x'\]"):
        _returning(fit, lambda rows: rows.select(y=pl.col("score").sum()))(TABLE)


def test_a_selector_gets_and_gives_its_rows_by_uid():
    seen: list[list[int]] = []

    def all_of(candidates: pl.DataFrame) -> pl.DataFrame:
        seen.append(candidates["uid"].to_list())
        return candidates.select("uid").reverse()

    kept = selector(version=1, reads={"score": Role(pl.Float64)})(all_of)(TABLE)
    assert seen == [[1, 2, 3, 5, 7, 9]]
    assert kept["uid"].to_list() == [1, 2, 3, 5, 7, 9]
    assert best(TABLE, budget=2).to_dict(as_series=False) == {"uid": [1, 5], "rank": [1, 2]}


# ------------------------------------------------------------------ edges and partial rows


def _edges(weight: str, rows: list[tuple[int, int, float]], **types: Any) -> Step:
    def method(groups: pl.DataFrame) -> pl.DataFrame:
        dtype = pl.UInt16 if weight == "distance" else pl.Float32
        return pl.DataFrame(
            rows, schema={"a": pl.UInt64, "b": pl.UInt64, weight: dtype}, orient="row"
        )

    writes = {"cluster": pl.UInt64, "size": pl.UInt32, "nearest": pl.UInt64,
              weight: pl.UInt16 if weight == "distance" else pl.Float32}  # fmt: skip
    return groupwise(
        version=1, by="label", edges=weight, reads={"label": Role(pl.String)}, writes=writes
    )(method)


ONE_GROUP = TABLE.with_columns(label=pl.lit("a"))


def test_edges_make_clusters_named_by_their_smallest_uid():
    found = _edges("similarity", [(9, 5, 0.5), (5, 2, 0.75), (7, 3, 0.5)])(ONE_GROUP)
    rows = {row["uid"]: row for row in found.to_dicts()}
    assert found["uid"].to_list() == TABLE["uid"].to_list()
    assert {u: r["cluster"] for u, r in rows.items()} == {5: 2, 9: 2, 2: 2, 3: 3, 7: 3, 1: 1}
    assert {u: r["size"] for u, r in rows.items()} == {5: 3, 9: 3, 2: 3, 3: 2, 7: 2, 1: 1}
    assert {u: r["nearest"] for u, r in rows.items()} == {5: 2, 9: 5, 2: 5, 3: 7, 7: 3, 1: None}
    assert rows[5]["similarity"] == 0.75
    assert rows[1]["similarity"] is None


def test_the_best_edge_wins_and_ties_go_to_the_smaller_uid():
    found = _edges("similarity", [(5, 9, 0.5), (5, 3, 0.5), (5, 9, 0.25), (5, 7, 0.25)])(ONE_GROUP)
    assert found.filter(pl.col("uid") == 5).select("nearest", "similarity").row(0) == (3, 0.5)


def test_the_smallest_distance_wins():
    found = _edges("distance", [(5, 9, 4), (5, 3, 1), (5, 7, 6)])(ONE_GROUP)
    assert found.filter(pl.col("uid") == 5).select("nearest", "distance").row(0) == (3, 1)
    assert found.filter(pl.col("uid") == 7).select("nearest", "distance").row(0) == (5, 6)


@pytest.mark.parametrize("weight", ["similarity", "distance"])
def test_without_an_edge_every_record_is_a_cluster_of_its_own(weight: str):
    found = _edges(weight, [])(ONE_GROUP)
    assert found["cluster"].to_list() == TABLE["uid"].to_list()
    assert found["size"].to_list() == [1] * 6
    assert found["nearest"].null_count() == 6


def test_rows_that_have_no_key_at_all_get_nulls():
    step = _returning(
        groupwise, lambda g: g.select("uid", x="score"), 
        keys=lambda rows: pl.Series("k", [None] * rows.height, dtype=pl.List(pl.String)),
        merge=lambda partials, **_: partials, reads=grouped.reads,
    )  # fmt: skip
    assert step.scatter(step.select(TABLE)).height == 0
    assert step.gather(TABLE["uid"], [])["x"].null_count() == TABLE.height


def test_edges_of_several_buckets_fold_as_those_of_one():
    edges = [(1, 2, 0.5), (2, 3, 0.75), (5, 7, 0.5), (7, 1, 0.25)]
    step = _edges("similarity", [])
    schema = {"a": pl.UInt64, "b": pl.UInt64, "similarity": pl.Float32}
    frames = [pl.DataFrame([edge], schema=schema, orient="row") for edge in edges]
    whole = step.gather(TABLE["uid"], [pl.concat(frames)])
    assert step.gather(TABLE["uid"], frames[::-1]).equals(whole)
    assert whole.sort("uid")["cluster"].to_list() == [1, 1, 1, 1, 1, 9]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([(5, 4, 0.5)], "an edge to a uid that is not in the bucket")],
)
def test_an_edge_to_a_stranger_is_refused(rows: list[tuple[int, int, float]], message: str):
    with pytest.raises(ContractError, match=message):
        _edges("similarity", rows)(ONE_GROUP)


def test_edges_without_their_weight_are_refused():
    step = _returning(
        groupwise, lambda rows: rows.select(a="uid", b="uid"), by="label", edges="similarity",
        reads={"label": Role(pl.String)},
    )  # fmt: skip
    with pytest.raises(ContractError, match="not a, b, similarity"):
        step(TABLE)


def _letters(rows: pl.DataFrame) -> pl.Series:
    return rows["label"].str.extract_all(".").list.unique(maintain_order=True)


def _shared(groups: pl.DataFrame) -> pl.DataFrame:
    alone = pl.len().over("group") == 1
    return groups.select("uid", shared=pl.when(alone).then(0).otherwise(1).cast(pl.UInt32))


def _total(partials: pl.DataFrame) -> pl.DataFrame:
    return partials.group_by("uid").agg(pl.col("shared").sum())


def _by_letters(merge: Function) -> Step:
    return groupwise(
        version=1, keys=_letters, merge=merge, reads={"label": Role(pl.String)},
        writes={"shared": pl.UInt32},
    )(_shared)  # fmt: skip


def test_a_row_with_several_keys_is_in_several_groups_and_its_answers_are_merged():
    table = TABLE.with_columns(label=pl.Series(["ab", "bc", "a", "d", "", None]))
    found = _by_letters(_total)(table)
    # ab shares a and b; bc shares b; a shares a; d stands alone; no letter, no answer.
    assert found["shared"].to_list() == [2, 1, 1, 0, None, None]


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (lambda partials: partials, "a uid twice"),
        (lambda partials: _total(partials).with_columns(pl.col("uid") + 50), "not given"),
    ],
)
def test_a_merge_that_does_not_fold_is_refused(merge: Function, message: str):
    table = TABLE.with_columns(label=pl.lit("ab"))
    with pytest.raises(ContractError, match=message):
        _by_letters(merge)(table)


# ------------------------------------------------------------------ fits


def test_a_fit_looks_at_a_bounded_sample_that_is_a_function_of_uid_and_seed():
    table = pl.DataFrame({"uid": pl.Series(range(100), dtype=pl.UInt64), "score": np.arange(100.0)})
    found = mean(table, size=10)
    draws = uniform(table["uid"].to_numpy(), 0, "fit.mean")
    chosen = np.sort(np.argsort(draws)[:10])
    assert found.row(0) == (float(chosen.mean()), 10)
    assert mean(table.sample(fraction=1, shuffle=True, seed=1), size=10).equals(found)
    assert not mean(table, size=10, seed=1).equals(found)


def test_a_plan_may_say_how_many_records_a_fit_looks_at():
    assert mean(TABLE)["rows"][0] == 3
    assert mean(TABLE, size=100)["rows"][0] == 6


def test_a_larger_sample_holds_the_smaller_one():
    uids = pl.Series(range(100), dtype=pl.UInt64)
    small, _ = mean.bind(size=10).drawn(uids)
    large, _ = mean.bind(size=30).drawn(uids)
    assert set(uids.filter(small)) < set(uids.filter(large))
    given, _ = mean.bind(size=10).drawn(uids, sample=30)
    assert given.equals(large)


def test_a_fit_with_a_merge_folds_the_tables_of_parts():
    step = fit(
        version=1, reads={"label": Role(pl.String)}, writes={"label": pl.String, "n": pl.UInt32},
        merge=lambda t: t.group_by("label").agg(pl.col("n").sum()).sort("label", nulls_last=True),
    )(lambda rows: rows.group_by("label").agg(n=pl.len().cast(pl.UInt32)))  # fmt: skip
    parts = [step(TABLE.head(2)), step(TABLE.tail(4))]
    assert step.fold(parts).rows() == [("a", 2), ("b", 2), (None, 2)]


# ------------------------------------------------------------------ parameters, tables, slots


def test_parameters_are_checked_on_every_call():
    assert doubled(TABLE, factor=3)["twice"][0] == 1.5
    with pytest.raises(ConfigError, match=r"doubled\.factr: unknown key\. Nearest: factor"):
        doubled(TABLE, factr=3)
    with pytest.raises(ConfigError, match=r"best\.budget: is required"):
        best(TABLE)


def test_a_step_describes_itself():
    assert (doubled.kind, doubled.version, doubled.name) == ("rowwise", 3, "doubled")
    assert doubled.__doc__ == "Double the score."
    assert doubled.parameters["properties"]["factor"]["default"] == 2.0
    assert best.parameters["required"] == ["budget"]
    assert repr(doubled) == "<rowwise doubled version 3>"


SPAN = pl.Struct({"start": pl.UInt32, "end": pl.UInt32})


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (pl.Int8, pl.Int8),
        (None, pl.Null),
        ((pl.Array, pl.List), pl.List(pl.Float32)),
        ((pl.String, pl.Int64), pl.String),
        (pl.List, pl.List(pl.UInt64)),
        (pl.List(pl.UInt32), pl.List(pl.UInt32)),
        (pl.List(pl.List), pl.List(pl.List(pl.UInt64))),
        (pl.List(SPAN), pl.List(SPAN)),
        (pl.List(pl.Struct({"spans": pl.List})), pl.List(pl.Struct({"spans": pl.List(pl.UInt64)}))),
        (pl.Struct({"x": pl.Array, "y": SPAN}), pl.Struct({"x": pl.List(pl.Float32), "y": SPAN})),
        (pl.Array(pl.Float16, 3), pl.Array(pl.Float16, 3)),
        (pl.Array(pl.List, 2), pl.Array(pl.List(pl.UInt64), 2)),
        (pl.Array(pl.Float32, (2, 3)), pl.Array(pl.Float32, (2, 3))),
    ],
    ids=str,
)
def test_a_column_of_nulls_has_the_declared_type_at_every_depth(declared, expected):
    found = null_type(declared)
    # A type equals its class: only their texts tell List from List(UInt64).
    assert str(found) == str(expected)
    assert str(pl.Series([None]).cast(found).dtype) == str(expected)


def test_a_bound_step_has_concrete_reads_and_writes():
    @rowwise(
        version=1,
        reads=lambda p: {"image" if p["mode"] == "hash" else "vector": Role()},
        writes=lambda p: {"distance" if p["mode"] == "hash" else "cosine": pl.Float32},
    )
    def either(rows: pl.DataFrame, *, mode: str = "hash") -> pl.DataFrame:
        return rows

    assert (list(either.reads), list(either.writes)) == (["image"], ["distance"])
    bound = either.bind(mode="vectors")
    assert (list(bound.reads), list(bound.writes)) == (["vector"], ["cosine"])
    assert bound.bound == {"mode": "vectors"}
    assert either.bound == {}


def test_a_bound_parameter_may_be_given_anew():
    step = doubled.bind(factor=3)
    assert step(TABLE)["twice"][0] == 1.5
    assert step(TABLE, factor=4)["twice"][0] == 2.0


@rowwise(
    version=1,
    reads={"score": Role(pl.Float64)},
    writes={"x": pl.Float64},
    tables={
        "weights": Table(columns=("label", "weight")),
        "extra": Table(optional=True),
    },
)
def weighed(
    rows: pl.DataFrame,
    weights: pl.DataFrame,
    extra: pl.DataFrame | None,
    scorer: Scorer,
    *,
    scale: float = 1.0,
) -> pl.DataFrame:
    total = weights["weight"].sum() * scale + (0 if extra is None else extra.height)
    scores = pl.Series(scorer(rows["score"].to_list()), dtype=pl.Float64)
    return rows.select(x=scores * total)


class Counting:
    fingerprint = "counting"

    def __call__(self, values: Any) -> Any:
        return np.array([0.0 if v is None else 1.0 for v in values], dtype=np.float32)


WEIGHTS = pl.DataFrame({"label": ["a"], "weight": [2.0]})


def test_tables_and_slots_come_after_the_table_in_order_or_by_name():
    assert list(weighed.tables) == ["weights", "extra"]
    assert weighed.slots == ["scorer"]
    by_place = weighed(TABLE, WEIGHTS, None, Counting(), scale=3)
    assert by_place["x"].to_list() == [6, 6, 0, 6, 6, 6]
    by_name = weighed(TABLE, weights=WEIGHTS.lazy(), scorer=Counting(), scale=3)
    assert by_name.equals(by_place)
    with_extra = weighed(TABLE, WEIGHTS, extra=WEIGHTS, scorer=Counting())
    assert with_extra["x"][0] == 3


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ((), "needs weights after the table"),
        ((WEIGHTS, None), "needs scorer after the table"),
        ((WEIGHTS.drop("weight"), None, Counting()), r"the table weights has no \['weight'\]"),
        ((WEIGHTS, None, Counting(), 1), r"takes \['weights', 'extra', 'scorer'\]"),
    ],
)
def test_a_missing_table_or_slot_is_asked_for(others: tuple[Any, ...], message: str):
    with pytest.raises(ConfigError, match=message):
        weighed(TABLE, *others)


def test_a_step_is_pickled_by_name_with_its_parameters():
    from curation.annotate.content_hash import content_hash

    assert pickle.loads(pickle.dumps(content_hash)) is content_hash
    bound = content_hash.bind(mode="text")
    again = pickle.loads(pickle.dumps(bound))
    assert again == bound
    assert again.bound == {"mode": "text"}
    assert len(pickle.dumps(bound)) < 300


def test_in_order_fills_what_is_missing_with_nulls():
    found = pl.DataFrame({"uid": pl.Series([1, 5], dtype=pl.UInt64), "x": ["one", "five"]})
    assert in_order(TABLE["uid"], found)["x"].to_list() == ["five", None, None, "one", None, None]


def test_a_budget_is_a_number_or_a_share_rounded_down():
    assert budget_of(10, 3, None) == 3
    assert budget_of(10, 30, None) == 10
    assert budget_of(10, None, 0.39) == 3
    # 0.29 * 100 is 28.999999999999996 in floating point.
    assert budget_of(100, None, 0.29) == 29
    for both in ((3, 0.5), (None, None)):
        with pytest.raises(ConfigError, match="either budget or budget_ratio"):
            budget_of(10, *both)
