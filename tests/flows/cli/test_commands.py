from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from contracts.uid import hex_uid, uid_of
from tests.flows.cli.small import RECIPE
from tests.flows.command import Command


def png() -> bytes:
    """A picture of 8 by 8 pixels."""
    buffer = io.BytesIO()
    Image.effect_noise((8, 8), 60).save(buffer, "PNG")
    return buffer.getvalue()


def _json(answer: tuple[int, str, str]) -> Any:
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


# ------------------------------------------------------------------ every command's JSON


def test_run_prints_what_was_kept_and_where(rows: Any, winnow: Command):
    found = _json(winnow("run", "--json"))
    assert set(found) >= {"pool", "version", "changed", "records", "kept", "dropped", "shards"}
    assert (found["records"], found["kept"], found["dropped"]) == (12, 5, {"words": 3, "some": 4})
    assert all(Path(shard["path"]).is_absolute() for shard in found["shards"])
    assert [set(shard) for shard in found["shards"]] == [{"path", "records", "sha256"}] * 2
    again = _json(winnow("run", "winnow.toml", "--json"))
    assert again == {**found, "changed": False}


def test_ingest_prints_what_was_read(rows: Any, winnow: Command):
    with (rows.recipe_dir / "rows.jsonl").open("a") as file:
        file.write("{broken\n")
    found = _json(winnow("ingest", "rows.jsonl", "--id", "id", "--json"))
    assert found == {
        "pool": "rows", "version": 1, "read": 13, "accepted": 12, "known": 0,
        "quarantined": {"JSON_INVALID": 1}, "waiting": 0,
        "left_out": [
            {"suffix": ".jsonl", "reason": "JSON_INVALID", "count": 1,
             "examples": ["rows.jsonl#12"]},
        ],
    }  # fmt: skip
    many = _json(
        winnow("ingest", "rows.jsonl", "rows.jsonl", "--id", "id", "--pool", "p", "--json")
    )
    assert [one["accepted"] for one in many] == [12, 0]


def test_what_is_left_out_is_said_once_and_listed_by_the_command_that_is_named(
    rows: Any, winnow: Command, monkeypatch: pytest.MonkeyPatch
):
    with (rows.recipe_dir / "rows.jsonl").open("a") as file:
        file.write('{broken\n{broken\n{"id": "x"}\n')
    code, out, _ = winnow("ingest", "rows.jsonl", "--id", "id")
    assert code == 0
    assert out.splitlines() == [
        "rows version 1: 15 read, 12 new, 0 known, 3 quarantined (2 JSON_INVALID, 1 NO_CONTENT)",
        "  2 .jsonl JSON_INVALID: rows.jsonl#12, rows.jsonl#13",
        "  1 .jsonl NO_CONTENT: rows.jsonl#14",
        "  listed by: winnow show rows --quarantined",
    ]
    groups = _json(winnow("show", "rows", "--quarantined", "--json"))
    assert [(group["reason"], group["count"]) for group in groups] == [
        ("JSON_INVALID", 2), ("NO_CONTENT", 1),
    ]  # fmt: skip
    _, listed, _ = winnow("show", "rows", "--quarantined")
    assert "reason=JSON_INVALID  count=2  examples=['rows.jsonl#12', 'rows.jsonl#13']" in listed
    named = _json(winnow("show", "--quarantined", "NO_CONTENT", "--json"))
    assert [row["where"] for row in named] == ["rows.jsonl#14"]
    assert winnow("show", "--quarantined", "DUP_ID")[1] == "nothing is quarantined as DUP_ID.\n"
    # More than one in a hundred is said in colour, where there is a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = winnow("ingest", "rows.jsonl", "--id", "id")
    assert "\x1b[1;31mrows version 1: 15 read" in out.splitlines()[0]
    rows.lines("fine.jsonl", [{"id": f"r{i}", "text": "fine"} for i in range(3)])
    assert "\x1b" not in winnow("ingest", "fine.jsonl", "--id", "id")[1]


def test_a_run_that_reads_too_much_that_cannot_be_used_is_held_until_it_is_let_through(
    rows: Any, winnow: Command
):
    with (rows.recipe_dir / "rows.jsonl").open("a") as file:
        file.write("{broken\n" * 100)
    code, _, err = winnow("run", "--until", "ingest")
    assert code == 65
    assert "100 of 112 new records cannot be used" in err
    assert rows.store.names("pool") == []
    rows.recipe(RECIPE + "[guard]\nmax_quarantined_ratio = 0.9\n", "winnow")
    assert _json(winnow("run", "--until", "ingest", "--json"))["records"] == 12
    rows.recipe(RECIPE + "[guard]\nmax_quarantined_ratio = 0.0\n", "winnow")
    with (rows.recipe_dir / "rows.jsonl").open("a") as file:
        file.write("{broken\n")
    assert winnow("run", "--until", "ingest")[0] == 65
    assert winnow("run", "--until", "ingest", "--accept")[0] == 0
    rows.recipe(RECIPE + "[guard]\nmax_quarantined = 0.9\n", "winnow")
    code, _, err = winnow("run", "--until", "ingest")
    assert code == 78
    assert "guard.max_quarantined" in err
    assert "Nearest: max_quarantined_ratio" in err


def test_a_source_of_a_recipe_lets_young_files_wait(rows: Any, winnow: Command):
    rows.recipe(RECIPE.replace("[[select]]", "settle = 3600\n[[select]]", 1), "winnow")
    code, _, err = winnow("run", "--until", "ingest")
    assert code == 0
    assert "1 files wait" in err
    code, _, err = winnow("run", "--set", "source.0.settle=-1")
    assert code == 78
    assert "source[0].settle" in err


def test_a_forgotten_source_is_read_anew(done: Any, winnow: Command):
    code, _, err = winnow("run", "--set", "source.0.text=url")
    assert code == 78
    assert "text was not given, is 'url'" in err
    assert "winnow forget --source rows --pool winnow" in err
    code, out, _ = winnow("forget", "--source", "rows", "--pool", "winnow")
    assert code == 0
    assert out.startswith("winnow version 2: 12 records of source rows are forgotten")
    again = _json(winnow("ingest", "rows.jsonl", "--pool", "winnow", "--id", "id", "--json"))
    assert (again["version"], again["accepted"]) == (3, 12)


def test_why_prints_the_fate_of_each_key(done: Any, winnow: Command):
    found = _json(winnow("why", "r0", "--json"))
    assert set(found) >= {
        "uid", "kept", "dropped_by", "rules", "duplicate_of", "edge", "distance", "source",
        "versions", "shards",
    }  # fmt: skip
    assert (found["uid"], found["dropped_by"]) == (hex_uid(uid_of("rows", "r0")), "words")
    assert [set(rule) for rule in found["rules"]] == [{"rule", "clause", "value", "passed"}] * 2
    assert len(_json(winnow("why", "r0", "http://x/4", "--json"))) == 2


def test_ls_lists_pools_and_runs_and_files(done: Any, winnow: Command):
    found = _json(winnow("ls", "--json"))
    assert {(item["kind"], item["name"], item["version"]) for item in found} == {
        ("pool", "winnow", 1), ("run", "winnow", 1),
    }  # fmt: skip
    head, pool, run = winnow("ls")[1].splitlines()
    assert head.split() == ["kind", "name", "version", "records", "bytes"]
    assert [line.split()[:4] for line in (pool, run)] == [
        ["pool", "winnow", "1", "12"], ["run", "winnow", "1", "5"],
    ]  # fmt: skip
    assert winnow("ls", "--files")[1].splitlines()[0].split() == ["pool", "table", "bytes", "path"]
    assert winnow("ls", "--store", "none")[1] == f"nothing to list in {done.recipe_dir / 'none'}\n"
    files = _json(winnow("ls", "--files", "--json"))
    assert all(Path(item["path"]).is_absolute() for item in files)
    assert all(pl.read_parquet(item["path"]).width for item in files)


def test_verify_lists_what_is_damaged(done: Any, winnow: Command):
    assert _json(winnow("verify", "--deep", "--json")) == {"damaged": [], "unknown": []}
    (path,) = done.store.root.glob("objects/winnow/records/*.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert _json(winnow("verify", "--json")) == {"damaged": [], "unknown": []}
    code, out, _ = winnow("verify", "--deep", "--json")
    assert code == 65
    (line,) = json.loads(out)["damaged"]
    assert str(path) in line
    path.unlink()
    code, out, _ = winnow("verify")
    assert code == 65
    assert out.splitlines() == [
        f"{path}: is missing. It cannot be made again from the store: put back a copy of it."
    ]


def test_methods_lists_and_describes(winnow: Command, project: Any):
    found = _json(winnow("methods", "--json"))
    assert {"folder", "name", "does"} == set(found[0])
    assert {("curation.annotate", "caption_stats"), ("evaluation.protocols", "knn")} <= {
        (item["folder"], item["name"]) for item in found
    }
    schema = _json(winnow("methods", "random_sample", "--json-schema"))
    assert set(schema["properties"]) >= {"budget", "budget_ratio", "seed"}
    assert "budget_ratio  number" in winnow("methods", "random_sample")[1]
    assert _json(winnow("methods", "sources.parquet", "--json"))["kind"] == "source"


def test_a_function_without_a_contract_is_told_what_to_add(winnow: Command, project: Any):
    (project.recipe_dir / "mine.py").write_text("def marks(rows):\n    return rows\n")
    project.texts("a", "b")
    project.recipe(
        '[[source]]\npath = "texts.jsonl"\n[annotate.m]\nstep = "./mine.py:marks"\n', "winnow"
    )
    for arguments in (("methods", "--check", "./mine.py:marks"), ("run",)):
        code, _, err = winnow(*arguments)
        assert code == 78
        assert "./mine.py:marks is a function without a contract: write @rowwise(" in err


def test_show_prints_records(done: Any, winnow: Command):
    assert {row["uid"] for row in _json(winnow("show", "winnow", "--json"))} == {
        hex_uid(uid) for uid in done.kept("winnow")
    }
    dropped = _json(winnow("show", "--dropped", "words", "--json"))
    assert {row["source_id"] for row in dropped} == {"r0", "r1", "r2"}


def test_show_takes_a_key_and_says_where_nothing_is_hit(done: Any, winnow: Command):
    for key in ("r1", "rows:r1", hex_uid(uid_of("rows", "r1")), str(uid_of("rows", "r1"))):
        (row,) = _json(winnow("show", key, "--json"))
        assert (row["source_id"], row["dropped_by"]) == ("r1", "words")
    assert len(winnow("show", "-n", "2")[1].splitlines()) == 2
    where = "meta.n > 8 AND caption_stats.words = 2 AND text IS NOT NULL"
    shown = _json(winnow("show", "winnow", "--where", where, "--json"))
    some = _json(winnow("show", "winnow", "--json"))
    assert [row["uid"] for row in shown] == [
        row["uid"] for row in some if row["source_id"] in ("r9", "r10", "r11")
    ]
    assert all(row["meta.n"] > 8 for row in shown)
    assert winnow("show", "--where", "meta.n > 99")[1] == "no hits: meta.n > 99 holds of none.\n"
    assert winnow("show", "--dropped", "some", "--where", "meta.n < 0")[1].startswith("no hits")
    for arguments, message in (
        (("show", "rr1"), "there is no run, pool or record 'rr1'"),
        (("show", "--where", "meta.m > 1"), "there is no column 'meta.m'. Nearest: meta.n"),
    ):
        code, _, err = winnow(*arguments)
        assert code == 78
        assert message in err


def test_of_several_runs_the_last_is_asked_and_named(done: Any, winnow: Command):
    done.recipe('pool = "winnow"\n[[select]]\nname = "later"\nwhere = "meta.n > 1"\n', "a")
    assert winnow("run", "a.toml", "--quiet")[0] == 0
    said = "run a version 1, the last that was made"
    _, out, err = winnow("why", "r1")
    assert err == f"{said}; --run names another\n"
    assert "dropped by later" in out
    for arguments, more in (
        (("show", "r1"), ""),
        (("show", "--dropped", "later"), "; winnow show RUN takes another"),
    ):
        _, out, err = winnow(*arguments)
        assert err == f"{said}{more}\n"
        assert "source_id=r1" in out
    for arguments in (("why", "r1", "--run", "winnow"), ("show", "winnow")):
        assert winnow(*arguments)[2] == ""


def test_a_uid_as_it_is_shown_is_compared_with_the_column(done: Any, winnow: Command):
    (uid, *_) = done.kept("winnow")
    (row,) = _json(winnow("show", "--where", f"uid = '{hex_uid(uid)}'", "--json"))
    assert row["uid"] == hex_uid(uid)


def test_a_file_that_was_quarantined_is_shown_and_answered_before_any_run(
    rows: Any, winnow: Command
):
    rows.pictures({"a/broken.png": b"no picture"})
    assert winnow("ingest", "pictures")[0] == 65
    rows.pictures({"fine.png": png()})
    assert winnow("ingest", "pictures", "--quiet")[0] == 0
    code, out, _ = winnow("why", "broken.png")
    assert code == 0
    assert out.startswith("pictures:a/broken.png: quarantined as NOT_AN_IMAGE: ")
    (row,) = _json(winnow("show", "broken.png", "--json"))
    assert row["code"] == "NOT_AN_IMAGE"
    assert winnow("why", "fine.png")[0] == 78


def test_records_of_one_content_are_answered_together(rows: Any, winnow: Command):
    rows.pictures(dict.fromkeys(("a.png", "b.png"), png()))
    rows.recipe('[[source]]\npath = "pictures"\n', "winnow")
    assert winnow("run", "--quiet", "--until", "select")[0] == 0
    _, out, _ = winnow("why", "pictures/a.png")
    assert out.splitlines()[0] == "pictures/a.png: 2 records have this content"
    named = [line.split()[1] for line in out.splitlines()[1:]]
    assert named == ["pictures:a.png:", "pictures:b.png:"]


def test_report_says_where_it_was_written(done: Any, winnow: Command):
    found = _json(winnow("report", "--to", "page.html", "--json"))
    assert found == {"report": str(done.recipe_dir / "page.html")}
    assert (done.recipe_dir / "page.html").read_text().startswith("<!")


def test_init_writes_a_recipe_that_run_takes(rows: Any, winnow: Command):
    (rows.recipe_dir / "winnow.toml").unlink()
    found = _json(winnow("init", "rows.jsonl", "--json"))
    assert set(found) >= {"recipe", "found"}
    assert _json(winnow("run", "--json"))["records"] == 12


def test_a_dry_run_writes_nothing(rows: Any, winnow: Command):
    assert _json(winnow("run", "--dry-run", "--json"))
    assert not (rows.recipe_dir / ".winnow").exists()


# ------------------------------------------------------------------ for people


def test_without_a_command_it_says_what_to_do_next(rows: Any, winnow: Command):
    code, out, _ = winnow()
    assert code == 0
    assert "winnow init" in out
    winnow("run", "--quiet")
    code, out, _ = winnow()
    assert code == 0
    assert "words" in out
    assert "winnow why" in out


def test_a_run_says_on_stderr_what_it_does_and_on_stdout_what_came_of_it(
    rows: Any, winnow: Command
):
    code, out, err = winnow("run")
    assert code == 0
    assert "annotate.caption_stats: 0 found, 12 to measure\n" in err
    assert "12 read, 12 new, 0 known, 0 quarantined" in err
    assert "winnow version 1: 5 of 12 records kept" in out
    code, out, err = winnow("run", "--quiet")
    assert err == ""
    assert "nothing new: everything was found" in out


def test_a_run_counts_what_a_file_of_values_and_the_pool_have_alone(rows: Any, winnow: Command):
    scores = "source_id,score\nr1,0.5\nr2,0.7\nunknown,0.9\n"
    (rows.recipe_dir / "scores.csv").write_text(scores)
    brought = '[annotate.s]\nfile = "scores.csv"\nkey = "source_id"\n'
    rows.recipe(RECIPE + brought, "winnow")
    _, _, err = winnow("run")
    assert (
        "annotate.s: 0 found, 12 to measure; 10 records without a row, 1 rows without a record"
        in err
    )


def test_set_until_at_and_store_reach_the_run(rows: Any, winnow: Command):
    found = _json(
        winnow("run", "--set", "select.1.budget=2", "--until", "select", "--store", "s", "--json")
    )
    assert (found["kept"], "shards" in found) == (2, False)
    assert (rows.recipe_dir / "s/refs/run/winnow/1.json").is_file()
    assert _json(winnow("run", "--at", "1", "--store", "s", "--json"))["kept"] == 5


def test_the_store_may_be_named_by_the_environment(
    rows: Any, winnow: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WINNOW_STORE", str(rows.recipe_dir / "env"))
    winnow("run", "--quiet")
    assert (rows.recipe_dir / "env/refs").is_dir()
    assert not (rows.recipe_dir / ".winnow").exists()
