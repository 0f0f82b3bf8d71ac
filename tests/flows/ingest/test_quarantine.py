from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

import winnow
from contracts.errors import DataError
from flows import run as runs
from flows.ingest import quarantine
from flows.options import Options
from flows.recipe.sections import read as read_recipe
from storage import tables
from storage.parts import QUARANTINE
from storage.source import Rejected
from storage.store import Object
from tests.flows.ingest.reading import Given, Reader, record, row

BROKEN = "{broken"


def _bad(number: int, code: str = "JSON_INVALID") -> Rejected:
    return Rejected(f"here#{number}", code, "cut")


# ------------------------------------------------------------------ what is out of the pool now


def test_a_mended_record_is_no_longer_listed(reader: Reader):
    reader.lines("d/a.jsonl", row(0), BROKEN)
    reader.lines("d/b.jsonl", row(1), BROKEN)
    reader.read("d")
    reader.lines("d/a.jsonl", row(0), row(2))
    found = reader.read("d")
    assert (found["accepted"], found["known"], found["quarantined"]) == (1, 2, {"JSON_INVALID": 1})
    assert reader.pool().quarantine()["where"].to_list() == ["b.jsonl#1"]
    # The earlier version lists what was out of it.
    assert reader.pool(1).quarantine()["where"].to_list() == ["a.jsonl#1", "b.jsonl#1"]


def test_the_quarantine_of_another_source_stays(reader: Reader):
    for name in ("a", "b"):
        reader.lines(f"{name}/x.jsonl", row(0), BROKEN)
        reader.read(name)
    reader.lines("a/x.jsonl", row(0), row(1))
    assert reader.read("a")["quarantined"] == {}
    assert reader.pool().quarantine()["source"].to_list() == ["b"]


@pytest.mark.parametrize("rehash", [False, True])
def test_every_ingest_reports_what_is_out_and_one_that_changes_nothing_makes_no_version(
    reader: Reader, rehash: bool
):
    reader.lines("a.jsonl", row(0), BROKEN, row(0, text="twice"))
    first = reader.read("a.jsonl")
    again = reader.read("a.jsonl", rehash=rehash)
    assert again["quarantined"] == first["quarantined"] == {"DUP_ID": 1, "JSON_INVALID": 1}
    assert again["left_out"] == first["left_out"]
    assert (again["accepted"], again["known"], again["version"]) == (0, 1, 1)


def test_a_table_of_an_earlier_store_lists_what_was_not_read_again_since(reader: Reader):
    def put(table: str, version: int, **columns: list[Any]) -> Object:
        frame = pl.DataFrame(columns)
        part = f"v{version:05d}"
        return tables.put(reader.store, frame, pool="web", table=table, part=part)

    def rows(*where: str) -> dict[str, list[Any]]:
        old = {c: [None] * len(where) for c in QUARANTINE if c != "unit"}
        return {**old, "source": ["s"] * len(where), "where": list(where), "code": list(where)}

    pool = tables.Pool(
        "web",
        quarantine=(
            put("quarantine", 1, **rows("a.tar@512", "b.csv#3", "c#1.png")),
            put("quarantine", 2, **rows("a.tar@1024")),
        ),
        files=(
            put("files", 1, source=["s"] * 3, unit=["a.tar", "b.csv", "c#1.png"]),
            put("files", 2, source=["s", "t"], unit=["a.tar", "b.csv"]),
        ),
    )
    listed = quarantine.listed(reader.store, pool, "s")
    assert listed["where"].to_list() == ["b.csv#3", "c#1.png", "a.tar@1024"]
    assert listed["unit"].to_list() == ["b.csv", "c", "a.tar"]


# ------------------------------------------------------------------ failures that may pass


@pytest.mark.parametrize(
    "code", ["SOURCE_GONE", "UNREADABLE", "DECODE_TIMEOUT", "CHANGED_WHILE_READING"]
)
def test_what_fails_for_a_reason_that_may_pass_is_tried_again(reader: Reader, code: str):
    source = Given({"a": [record(0)], "b": [_bad(0, code)], "c": [_bad(0), record(1)]})
    first = reader.given(source)
    assert (first["accepted"], first["quarantined"]) == (2, {code: 1, "JSON_INVALID": 1})
    # As long as it fails it is told, and nothing is new.
    again = reader.given(source)
    assert (again["accepted"], again["known"], again["version"]) == (0, 2, 1)
    assert again["quarantined"] == first["quarantined"]
    # What has failed for good is not tried again while it stays as it is.
    source.of = {"a": [], "b": [record(2)], "c": []}
    later = reader.given(source)
    assert (later["accepted"], later["known"]) == (1, 2)
    assert later["quarantined"] == {"JSON_INVALID": 1}
    assert reader.given(source)["known"] == 3


# ------------------------------------------------------------------ too little can be used


def test_an_ingest_of_which_too_much_cannot_be_used_is_held(reader: Reader):
    good = [record(n) for n in range(100)]
    reader.given(Given({"first": good}))
    bad = [_bad(n) for n in range(20)] + [_bad(20, "ROW_TOO_LARGE")]
    source = Given({"first": good, "b": [*bad, *[record(n) for n in range(100, 179)]]})
    with pytest.raises(DataError) as held:
        reader.given(source)
    said = str(held.value)
    assert "21 of 100 new records cannot be used, 21.0%, more than 20.0%" in said
    assert "20 JSON_INVALID, as here#0: cut; 1 ROW_TOO_LARGE, as here#20: cut." in said
    assert "--accept" in said
    assert "--max-quarantined 0.21 " in said
    # Nothing is visible, and all of what was held is there to be read.
    assert (reader.pool().version, reader.pool().records) == (1, 100)
    path = quarantine.held(reader.store, "web", "given")
    assert str(path) in said
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["where"] for line in lines] == [f"here#{n}" for n in range(21)]
    # The limit that the message names lets it through, and is not needed again.
    found = reader.given(source, max_quarantined_ratio=0.21)
    assert (found["accepted"], found["version"]) == (79, 2)
    assert not path.exists()
    assert reader.given(source)["version"] == 2


@pytest.mark.parametrize(
    ("bad", "good", "limit", "is_held"),
    [
        (20, 80, None, False),
        (21, 79, None, True),
        (21, 78, None, False),  # below 100 records nothing is held
        (50, 50, 1.0, False),
        (2, 8, 0.1, True),  # but by a limit that was given
        (1, 9, 0.1, False),
        (1, 9, 0.0, True),
    ],
)
def test_the_share_of_new_records_decides(
    reader: Reader, bad: int, good: int, limit: float | None, is_held: bool
):
    source = Given({"a": [*[_bad(n) for n in range(bad)], *[record(n) for n in range(good)]]})
    if is_held:
        with pytest.raises(DataError, match="cannot be used"):
            reader.given(source, max_quarantined_ratio=limit)
    else:
        assert reader.given(source, max_quarantined_ratio=limit)["accepted"] == good


def test_known_and_changed_records_and_repeated_ids_are_not_held(reader: Reader):
    rows = [row(n) for n in range(60)]
    reader.lines("d/a.jsonl", *rows, *[BROKEN] * 60)
    reader.read("d", max_quarantined_ratio=1.0)
    changed = [row(n, text="changed") for n in range(50)]
    repeated = [row(60 + n, text="twice") for n in range(50)]
    reader.lines(
        "d/a.jsonl",
        *changed,
        *rows[50:],
        *[BROKEN] * 60,
        *[row(60 + n) for n in range(50)],
        *repeated,
    )
    found = reader.read("d")
    assert found["accepted"] == 50
    # The broken lines lie where they lay, and are told again.
    assert found["quarantined"] == {"CHANGED": 50, "DUP_ID": 50, "JSON_INVALID": 60}


@pytest.mark.parametrize("accept", [None, 1.0])
def test_a_source_of_which_nothing_can_be_used_is_bad_data(reader: Reader, accept: float | None):
    reader.lines("a.jsonl", {"id": "x"}, {"id": "y"})
    with pytest.raises(DataError, match=r"nothing of it can be used.*2 NO_CONTENT, as a\.jsonl#0"):
        reader.read("a.jsonl", max_quarantined_ratio=accept)
    assert reader.store.names("pool") == []


def test_a_source_whose_files_all_wait_is_no_error(reader: Reader):
    reader.lines("a.jsonl", row(0))
    found = reader.read("a.jsonl", settle_s=3600.0)
    assert (found["read"], found["accepted"], found["waiting"]) == (0, 0, 1)


def test_a_source_of_links_that_are_not_followed_is_bad_data(reader: Reader):
    reader.lines("blobs/a", row(0))
    (reader.folder / "snap").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (reader.folder / "snap" / name).symlink_to(reader.folder / "blobs/a")
    with pytest.raises(DataError, match=r"nothing of it can .*2 SYMLINK, as a\.jsonl.*--follow-l"):
        reader.read("snap/*.jsonl")
    assert reader.store.names("pool") == []
    store, blobs = reader.store.root, reader.folder / "blobs"
    found = winnow.ingest(reader.folder / "snap", id="id", store=store, follow_links=blobs)
    assert (found["accepted"], found["known"]) == (1, 1)


def test_what_a_source_passes_over_is_told_and_listed(reader: Reader):
    reader.lines("d/a.jsonl", row(0), BROKEN)
    for name in ("a.xmp", "b.xmp", "c.xmp", "x.jsonl.part"):
        (reader.folder / "d" / name).touch()
    groups = [
        {"suffix": ".xmp", "reason": "not read", "count": 3, "examples": ["a.xmp", "b.xmp"]},
        {"suffix": ".part", "reason": "an unfinished download", "count": 1,
         "examples": ["x.jsonl.part"]},
    ]  # fmt: skip
    assert reader.read("d")["left_out"][1:] == reader.read("d")["left_out"][1:] == groups
    assert reader.pool().passed_over() == groups


def test_a_source_of_which_everything_is_passed_over_says_so(reader: Reader):
    reader.lines("d/a.jsonl.part", row(0))
    with pytest.raises(DataError, match=r"nothing to read .* 1 \.part \(an unfinished download\)"):
        reader.read("d", kind="json_lines")


def test_members_of_a_range_that_are_missing_are_named_and_on_demand_gone_without(reader: Reader):
    reader.lines("d/1.jsonl", row(1))
    (reader.folder / "web.toml").write_text('[[source]]\npath = "d/{0..3}.jsonl"\nid = "id"\n')
    recipe = read_recipe(reader.folder / "web.toml")
    with pytest.raises(DataError, match=r"3 of 4 are missing: .*0\.jsonl"):
        runs.run(recipe, reader.store, Options(until="ingest"))
    found = runs.run(recipe, reader.store, Options(until="ingest", allow_missing=True))
    assert found["records"] == 1
    (group,) = reader.pool().passed_over()
    assert (group["suffix"], group["reason"], group["count"]) == (".jsonl", "missing", 3)
    path = reader.folder / "d/{0..3}.jsonl"
    again = winnow.ingest(path, id="id", pool="web", store=reader.store.root, allow_missing=True)
    assert (again["known"], again["left_out"]) == (1, [group])
