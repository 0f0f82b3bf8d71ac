from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contracts.errors import DataError
from contracts.uid import hex_uid
from flows.look.why import why, why_text
from tests.flows.look.small import ROWS
from tests.flows.look.small import row_uid as _u


def test_why_finds_a_record_by_uid_source_id_and_url(run: Any):
    for key, found_by in (
        (hex_uid(_u(4)), "uid"), (str(_u(4)), "uid"), ("r4", "source id"),
        ("rows:r4", "source:id"), ("http://x/4", "URL"),
    ):  # fmt: skip
        (answer,) = why(run, key)
        assert (answer["uid"], answer["found_by"]) == (hex_uid(_u(4)), found_by)
        assert answer["source"] == "rows:r4"
        assert run.why(key) == [answer]
    assert run.why(_u(4))[0]["source"] == "rows:r4"
    with pytest.raises(DataError, match="no record of pool web@1") as refused:
        why(run, "nobody")
    assert refused.value.exit_code == 65


def test_why_evaluates_every_clause_of_every_rule_with_its_values(run: Any):
    (answer,) = why(run, "r18")
    assert (answer["kept"], answer["dropped_by"]) == (False, "size")
    rules = answer["rules"]
    assert [(r["rule"], r["clause"], r["passed"]) for r in rules] == [
        ("holdout", None, True),
        ("size", "meta.n < 18", False),
        ("size", "caption_stats.words >= 2", True),
        ("size", "meta.n >= 2", True),
        ("one", "by one_per_cluster", None),
        ("some", "by random_sample", None),
    ]
    assert [r["value"] for r in rules[1:]] == [
        {"meta.n": 18}, {"caption_stats.words": 3}, {"meta.n": 18}, "not_reached", "not_reached",
    ]  # fmt: skip
    text = why_text(answer)
    assert "dropped by size" in text
    assert "FAILED" in text
    assert "not reached" in text


def test_why_shows_clauses_after_the_first_that_failed_and_rules_after_the_hold_out(run: Any):
    (one,) = why(run, "r1")
    assert [r["passed"] for r in one["rules"][1:4]] == [True, False, False]
    (held,) = why(run, "r0")
    assert held["dropped_by"] == "holdout"
    assert [r["passed"] for r in held["rules"]] == [False, True, False, False, None, None]


def test_why_names_the_kept_record_that_a_dropped_one_repeats(run: Any):
    for row in run.dropped("one").collect().iter_rows(named=True):
        (answer,) = why(run, hex_uid(row["uid"]))
        kept = set(run.kept().collect()["uid"])
        twin = row["twin"] if row["twin"] in kept else None
        assert answer["duplicate_of"] == (None if twin is None else hex_uid(twin))
        assert answer["edge"] == (None if twin is None else "same")
    (nothing,) = why(run, "r18")
    assert (nothing["duplicate_of"], nothing["edge"], nothing["distance"]) == (None, None, None)


def test_why_follows_a_twin_that_a_later_rule_dropped_as_a_duplicate(project: Any):
    project.lines(
        "rows.jsonl",
        [{"id": f"r{i}", "text": f"text {i}", "a": "x" if i < 2 else f"{i}", "n": -i,
          "b": "y" if i in (0, 2) else f"{i}"} for i in range(4)],
    )  # fmt: skip
    one = '[annotate.{0}]\nstep = "exact_clusters"\ndigest = "meta.{0}"\n'
    rule = (
        '[[select]]\nname = "{0}"\nby = "one_per_cluster"\ncluster = "{0}.cluster"\nscore = "{1}"\n'
    )
    project.run(
        ROWS + one.format("a") + one.format("b") + rule.format("a", "meta.n")
        + rule.format("b", "0 - meta.n")
    )  # fmt: skip
    # 1 repeats 0, and 0 repeats 2.
    assert project.kept() == {_u(2), _u(3)}
    (answer,) = why(project.last(), "r1")
    assert (answer["dropped_by"], answer["duplicate_of"], answer["edge"]) == (
        "a", hex_uid(_u(2)), "b",
    )  # fmt: skip


def test_why_names_shards_and_the_versions_that_kept_a_record(project: Any):
    project.lines("rows.jsonl", [{"id": f"r{i}", "text": f"text {i}", "n": i} for i in range(10)])
    rule = '[[select]]\nname = "n"\nwhere = "meta.n < {}"\n'
    export = '[export]\nshard_records = 2\nformat = ["webdataset", "parquet"]\n'
    for bound in (10, 5, 8):
        project.run(ROWS + rule.format(bound) + export)
    (answer,) = why(project.last(), "r6")
    assert answer["versions"] == [1, 3]
    names = [Path(path).name for path in answer["shards"]]
    assert sorted(name.rpartition(".")[2] for name in names) == ["parquet", "tar"]
    (tar,) = (path for path in answer["shards"] if path.endswith(".tar"))
    assert hex_uid(_u(6)).encode() in Path(tar).read_bytes()
    assert why(project.last(), "r9")[0]["shards"] == []


def test_why_finds_a_picture_by_its_bytes_then_by_its_looks(
    pictures: Any, captioned: dict[str, bytes], tmp_path: Path
):
    path = tmp_path / "mine.png"
    path.write_bytes(captioned["0/03c.jpg"])
    (answer,) = why(pictures.last(), str(path))
    assert (answer["found_by"], answer["source"]) == ("content", "pictures:0/03c.jpg")
    assert "found by its looks" not in why_text(answer)
    darker = Image.open(io.BytesIO(captioned["0/03c.jpg"])).point(lambda level: level * 0.95)
    darker.save(path)
    answer, *_ = why(pictures.last(), str(path))
    assert answer["found_by"] == "perceptual hash"
    assert answer["source"].startswith("pictures:0/03")
    assert 0 <= answer["bits_apart"] <= 6
    said = f"the perceptual hashes differ in {answer['bits_apart']} of 64 bits, the bytes differ"
    assert said in why_text(answer)
    Image.effect_noise((64, 64), 90).save(path)
    with pytest.raises(DataError, match="file name or content"):
        why(pictures.last(), str(path))


def test_why_answers_for_every_record_of_the_same_bytes(
    pictures: Any, captioned: dict[str, bytes], tmp_path: Path
):
    path = tmp_path / "copy.png"
    path.write_bytes(captioned["0/03a.png"])
    answers = why(pictures.last(), str(path))
    assert [a["source"] for a in answers] == ["pictures:0/03a.png", "pictures:0/03b.png"]


def test_why_takes_the_name_of_a_file_and_a_path_that_leads_to_it(pictures: Any):
    for key, way in (
        ("03c.jpg", "file name"), ("0/03c.jpg", "source id"), ("pictures:0/03c.jpg", "source:id"),
        ("pictures/0/03c.jpg", "path"), ("/somewhere/pictures/0/03c.jpg", "path"),
    ):  # fmt: skip
        (answer,) = why(pictures.last(), key)
        assert (answer["source"], answer["found_by"]) == ("pictures:0/03c.jpg", way)
    with pytest.raises(DataError):
        why(pictures.last(), "3c.jpg")


def test_a_name_of_many_records_is_not_answered_for_each(project: Any, captioned: dict[str, bytes]):
    data = captioned["0/00a.png"]
    project.pictures({f"{n:02d}/same.png": data for n in range(21)})
    project.run('[[source]]\npath = "pictures"\n')
    with pytest.raises(DataError, match=r"names 21 records \(by file name\), such as pictures:00/"):
        why(project.last(), "same.png")


@pytest.mark.parametrize("key", ["broken.png", "a/broken.png", "pictures:a/broken.png", "file"])
def test_why_says_that_a_file_was_quarantined_and_for_what(
    key: str, project: Any, captioned: dict[str, bytes]
):
    fine = captioned["0/00a.png"]
    project.pictures({"a/broken.png": b"<html>gone</html>", "fine.png": fine, "x.docx": b"x"})
    project.run('[[source]]\npath = "pictures"\n')
    path = project.recipe_dir / "pictures/a/broken.png"
    (answer,) = why(project.last(), str(path) if key == "file" else key)
    assert (answer["kept"], answer["dropped_by"], answer["rules"]) == (False, None, [])
    assert answer["quarantined"]["code"] == "NOT_AN_IMAGE"
    assert why_text(answer).startswith("pictures:a/broken.png: quarantined as NOT_AN_IMAGE: ")
    (accepted,) = why(project.last(), "fine.png")
    assert accepted["quarantined"] is None
    with pytest.raises(DataError, match=r"1 \.docx files were passed over: not read\."):
        why(project.last(), "x.docx")


def test_why_names_what_shares_the_id_of_an_accepted_record(project: Any):
    project.lines("rows.jsonl", [{"id": "r0", "text": "one"}, {"id": "r0", "text": "two"}])
    project.run(ROWS)
    accepted, twice = why(project.last(), "r0")
    assert accepted["kept"] is True
    assert (twice["quarantined"]["code"], twice["quarantined"]["where"]) == (
        "DUP_ID",
        "rows.jsonl#1",
    )
    said = "rows:r0: quarantined as DUP_ID at rows.jsonl#1: the id occurs twice in this source"
    assert why_text(twice).startswith(said)


def test_why_looks_for_what_was_quarantined_after_the_run_and_says_what_was_not_judged(
    project: Any,
):
    project.lines("rows.jsonl", [{"id": "r0", "text": "one"}])
    project.run(ROWS)
    project.lines("rows.jsonl", [{"id": "r0", "text": "one"}, {"id": "r1", "text": "two"},
                                 {"id": "r2"}])  # fmt: skip
    project.run(ROWS, until="ingest")
    (answer,) = why(project.last(), "r2")
    assert answer["quarantined"]["code"] == "NO_CONTENT"
    with pytest.raises(DataError, match="The run judged version 1, the last is 2"):
        why(project.last(), "r1")
    unusable = r"What is quarantined \(1\) is found by file or source id, not by URL"
    with pytest.raises(DataError, match=unusable):
        why(project.last(), "https://texts.example/2")


def test_why_marks_where_the_text_of_a_duplicate_differs(project: Any):
    fox = "the quick brown fox jumps over the lazy dog while the old farmer sleeps in the barn"
    project.texts(fox, fox.replace("quick", "slow") + " tonight", "another text of other words")
    project.run(
        '[[source]]\npath = "texts.jsonl"\nid = "id"\n'
        "[annotate.minhash_clusters]\nthreshold = 0.4\n"
        '[[select]]\nname = "one"\nby = "one_per_cluster"\ncluster = "minhash_clusters.cluster"\n'
    )
    (row,) = project.last().dropped("one").collect().to_dicts()
    (answer,) = why(project.last(), hex_uid(row["uid"]))
    here, there = ("quick", "slow") if row["text"] == fox else ("slow", "quick")
    assert f"the [-{here}-] {{+{there}+}} brown fox jumps …" in answer["difference"]
    assert answer["difference"] in why_text(answer)
