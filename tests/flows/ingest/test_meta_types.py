from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import winnow
from contracts.errors import ConfigError
from flows import run as runs
from flows.ingest import meta_types
from flows.ingest.batch import cells_of
from flows.options import Options
from flows.recipe.sections import read as read_recipe
from storage import rows, tables
from tests.flows.ingest.reading import Given, Reader, record, row

MIXED: list[dict[str, Any]] = [
    {"n": 1}, {"n": 2, "late": "cc0"}, {"n": None}, {"n": 2.0}, {"n": 2**53}, {"n": -0.5},
    {"n": 1e300}, {"n": True}, {"n": "many", "later": 7}, {"n": [1, None]}, {"n": math.nan},
    {"n": date(2024, 5, 6)}, {"n": datetime(2024, 5, 6, 7, 8, 9, 10)}, {"n": 2**63},
]  # fmt: skip


def _whole(reader: Reader) -> None:
    reader.given(Given({"0": [record(n, **meta) for n, meta in enumerate(MIXED)]}))


@pytest.mark.parametrize("size", [1, 2, 5, len(MIXED)])
def test_a_column_has_the_same_values_in_however_many_ingests(
    reader: Reader, tmp_path: Path, size: int
):
    units: dict[str, list[Any]] = {}
    for start in range(0, len(MIXED), size):
        rows = enumerate(MIXED[start : start + size], start)
        units[f"{start:02d}"] = [record(n, **meta) for n, meta in rows]
        reader.given(Given(units))
    assert reader.values("meta.n") == [
        "1", "2", None, "2", "9007199254740992", "-0.5", "1e+300", "true", "many", "[1,null]",
        "nan", "2024-05-06", "2024-05-06T07:08:09.000010", "9223372036854775808",
    ]  # fmt: skip
    whole = Reader(tmp_path / "whole")
    _whole(whole)
    for column in ("meta.n", "meta.late", "meta.later"):
        assert reader.values(column) == whole.values(column)
    assert reader.stored().digest == whole.stored().digest
    for key in ("meta", "values"):
        assert reader.stored().sources["given"][key] == whole.stored().sources["given"][key]


def test_integers_that_no_number_holds_exactly_become_text_beside_a_number(reader: Reader):
    reader.given(Given({"a": [record(0, n=2**53 + 1)]}))
    reader.given(Given({"a": [record(0, n=2**53 + 1)], "b": [record(1, n=0.5)]}))
    assert reader.values("meta.n") == ["9007199254740993", "0.5"]


def test_an_earlier_version_keeps_the_types_that_it_had(reader: Reader):
    reader.lines("d/a.jsonl", row(0, n=1))
    reader.read("d")
    reader.lines("d/b.jsonl", row(1, n="many"))
    reader.read("d")
    assert reader.values("meta.n") == ["1", "many"]
    assert reader.pool(1).frame("meta.n").collect()["meta.n"].to_list() == [1]


def test_a_column_first_seen_late_is_added_with_null_before(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meta_types, "TYPING_VALUES", 3)
    reader.lines("src/a.jsonl", *[row(n, n=n) for n in range(4)])
    reader.lines("src/b.jsonl", row(4, n=4, note="cc0"))
    found = reader.read("src")
    assert (found["accepted"], found["quarantined"]) == (5, {})
    assert reader.values("meta.note") == [None, None, None, None, "cc0"]


def test_a_value_that_does_not_fit_a_fixed_column_costs_its_record(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meta_types, "TYPING_VALUES", 3)
    reader.lines("d/a.jsonl", *[row(n, n=n) for n in range(2)])
    reader.read("d")
    # The third value, in another ingest, fixes the type; a file that is read again counts once.
    (reader.folder / "d/a.jsonl").touch()
    reader.lines("d/b.jsonl", row(2, n=2), row(3, n="x"), row(4, new=1), row(5, n=5), row(6))
    assert reader.read("d")["quarantined"] == {"MISFIT_TYPE": 1}
    assert set(reader.rows()) == {f"r{n}" for n in (0, 1, 2, 4, 5, 6)}
    details = reader.pool().quarantine()["detail"].to_list()
    assert details == ["meta.n: 'x' is text, the column is integer"]
    assert reader.stored().sources["d"]["values"] == {"n": 3, "new": 1}


def test_columns_of_a_pool_that_counted_no_values_are_fixed(reader: Reader):
    pool = tables.Pool("web", sources={"d": {"meta": {"n": "integer"}}})
    types = meta_types.MetaTypes(pool.sources["d"], pool, "d")
    meta = cells_of([{"n": 1, "m": "x"}, {"n": "x"}])
    assert types.misfits(meta) == {1: "meta.n: 'x' is text, the column is integer"}


def test_a_type_that_differs_from_another_sources_is_refused_once_it_is_fixed(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meta_types, "TYPING_VALUES", 2)
    reader.lines("a.jsonl", row(0, n=1))
    reader.lines("b.jsonl", row(0, n="x"), row(1, n="y"), *["{broken"] * 200)
    reader.read("a.jsonl")
    with pytest.raises(ConfigError, match=r"meta\.n is text here and integer in source 'a'"):
        reader.read("b.jsonl")


def test_a_part_without_a_column_gives_nulls_of_its_type(reader: Reader):
    reader.lines("d/a.jsonl", row(0))
    reader.read("d")
    reader.lines("d/b.jsonl", row(1, note="cc0"))
    reader.read("d")
    first = tables.glued(reader.store, reader.stored().parts[0], {}, ["meta.note"])
    assert first["meta.note"].dtype == pl.String
    assert first["meta.note"].to_list() == [None]


@pytest.mark.parametrize(
    "rule",
    [
        "meta.note LIKE 'cc%'",
        "LENGTH(meta.note) > 2",
        "meta.note = 'cc0' AND meta.score > 0.5",
        "COALESCE(meta.note, 'none') <> 'none'",
        "UPPER(meta.note) IN ('CC0', 'BY')",
    ],
)
def test_a_rule_sees_null_in_parts_that_lack_its_column(reader: Reader, rule: str):
    reader.lines("d/a.jsonl", row(0), row(1))
    reader.read("d")
    reader.lines("d/b.jsonl", row(2, note="cc0", score=1), row(3, note="x", score=0.25))
    reader.read("d")
    recipe = reader.folder / "web.toml"
    recipe.write_text(f'pool = "web"\n[[select]]\nname = "late"\nwhere = "{rule}"\n')
    found = runs.run(read_recipe(recipe), reader.store, Options(until="select"))
    assert (found["records"], found["kept"]) == (4, 2 if "COALESCE" in rule else 1)


def test_a_measurement_of_a_column_that_widened_is_made_again(project: Any, watch: Any):
    text = """
[[source]]
path = "d"
id = "id"
[annotate.stats]
step = "caption_stats"
text = "CAST(meta.n AS VARCHAR)"
[[select]]
where = "stats.characters >= 1"
"""
    project.lines("d/a.jsonl", [row(0, n=1), row(1, n=22)])
    assert project.run(text, until="select")["kept"] == 2
    watch.reset()
    project.lines("d/b.jsonl", [row(2, n=2.5)])
    assert project.run(text, until="select")["kept"] == 3
    assert watch.counts["annotate.stats"] == (0, 3)
    assert project.last().pool.frame("meta.n").collect().schema["meta.n"] == pl.Float64


def test_columns_beyond_the_first_thousand_become_one_json_text(project, monkeypatch):
    monkeypatch.setattr(rows, "META_COLUMNS", 3)
    lines = [{"id": f"r{i}", "text": f"text {i}", "a": i, f"k{i}": i} for i in range(4)]
    path = project.lines("a.jsonl", lines)
    result = winnow.ingest(path, pool="web", id="id", store=project.store.root)
    found = project.view.pool("web").frame().collect()
    assert found["meta.a"].to_list() == [0, 1, 2, 3]
    assert found["meta.k1"].to_list() == [None, 1, None, None]
    assert found["meta.rest"].to_list() == [None, None, '{"k2":2}', '{"k3":3}']
    said = [group for group in result["left_out"] if "meta.rest" in group["reason"]]
    assert [(group["count"], group["examples"]) for group in said] == [(2, ["a.jsonl", "a.jsonl"])]
    project.lines("a.jsonl", [*lines, {"id": "r4", "text": "text 4", "k2": 5, "a": 6}])
    again = winnow.ingest(path, pool="web", id="id", store=project.store.root)
    assert (again["accepted"], again["known"]) == (1, 4)
    assert project.view.pool("web").frame("meta.rest").collect()["meta.rest"][4] == '{"k2":5}'
