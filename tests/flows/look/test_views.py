from __future__ import annotations

import io
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

import winnow
from contracts.errors import ConfigError, DataError
from contracts.uid import hex_uid, uid_of
from flows import run as runs
from flows.look import report
from flows.look.views import funnel_text, listing, why, why_text
from flows.recipe import sections as recipes

ROWS = '[[source]]\npath = "rows.jsonl"\nid = "id"\n'
RECIPE = (
    ROWS
    + """
[holdout]
where = "meta.n = 0"
[annotate.d]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "d.digest"
[[select]]
name = "size"
where = "meta.n < 18 AND caption_stats.words >= 2 AND meta.n >= 2"
[[select]]
name = "one"
by = "one_per_cluster"
cluster = "same.cluster"
[[select]]
name = "some"
by = "random_sample"
budget = 4
[export]
shard_records = 3
"""
)


def _u(number: int) -> int:
    return uid_of("rows", f"r{number}")


@pytest.fixture(scope="module")
def rows(projects: Callable[[], Any]) -> Any:
    """Twenty records; 2i and 2i + 1 have one text; every fifth pair has a single word."""
    project = projects()
    project.lines(
        "rows.jsonl",
        [
            {"id": f"r{i}", "text": f"text number {i // 2}" if i // 2 % 5 else f"text{i // 2}",
             "n": i, "url": f"http://x/{i}"}
            for i in range(20)
        ],
    )  # fmt: skip
    project.run(RECIPE)
    return project


@pytest.fixture(scope="module")
def run(rows: Any) -> Any:
    return winnow.open(rows.store.root).run("web")


# ------------------------------------------------------------------ the funnel, kept, dropped


def test_the_funnel_goes_from_the_pool_to_what_is_kept(run: Any):
    funnel = run.funnel()
    assert funnel.columns == [
        "rule", "clause", "reached", "dropped", "unmeasured", "kept_ratio", "draws",
    ]  # fmt: skip
    rules = funnel.filter(pl.col("clause").is_null())
    # 0 is held out; 18 and 19 are too large; 1, 10, 11 have one word; the pairs leave 7.
    assert rules.select("rule", "reached", "dropped").rows() == [
        ("all records", 20, 0), ("holdout", 20, 1), ("size", 19, 5), ("one", 14, 7), ("some", 7, 3),
    ]  # fmt: skip
    assert rules["kept_ratio"].to_list() == pytest.approx([1, 0.95, 0.7, 0.35, 0.2])
    clauses = funnel.filter(pl.col("clause").is_not_null())
    assert clauses.select("clause", "dropped").rows() == [
        ("meta.n < 18", 2), ("caption_stats.words >= 2", 3), ("meta.n >= 2", 0),
    ]  # fmt: skip
    assert "caption_stats.words >= 2" in funnel_text(run)


def test_kept_and_dropped_part_the_pool(run: Any):
    kept = set(run.kept().collect()["uid"])
    dropped = set(run.dropped().collect()["uid"])
    assert len(kept) == 4
    assert kept | dropped == {_u(n) for n in range(20)}
    assert not kept & dropped
    by_rule = [set(run.dropped(r).collect()["uid"]) for r in ("holdout", "size", "one", "some")]
    assert sum(map(len, by_rule)) == len(dropped)


def test_a_rules_dropped_records_come_with_its_columns_and_its_evidence(run: Any):
    size = run.dropped("size").collect()
    assert set(size["uid"]) == {_u(n) for n in (18, 19, 1, 10, 11)}
    assert {"text", "meta.n", "caption_stats.words", "clause"} <= set(size.columns)
    assert dict(size.select("uid", "clause").iter_rows())[_u(18)] == "meta.n < 18"
    one = run.dropped("one").collect()
    assert {"same.cluster", "twin", "edge"} <= set(one.columns)
    twins = dict(one.select("uid", "twin").iter_rows())
    assert {frozenset(pair) for pair in twins.items()} == {
        frozenset((_u(n), _u(n + 1))) for n in range(2, 18, 2) if n != 10
    }
    with pytest.raises(ConfigError, match=r"no rule is called 'sizze'\. Nearest: size"):
        run.dropped("sizze")


def test_a_pool_gives_columns_as_a_frame(rows: Any):
    pool = winnow.open(rows.store.root).pool("web")
    assert (pool.name, pool.version, pool.records) == ("web", 1, 20)
    frame = pool.frame("text", "meta.url").collect()
    assert frame.columns == ["uid", "text", "meta.url"]
    assert {"text", "digest", "meta.n", "source_id"} <= set(pool.frame().collect().columns)
    assert "record" not in pool.frame().collect().columns
    with pytest.raises(ConfigError, match=r"no column 'txt'\. Nearest: text"):
        pool.frame("txt")


def test_views_show_themselves_readably_and_escape_what_they_show(rows: Any, run: Any):
    store = winnow.open(rows.store.root)
    assert "pool  web  1  20" in repr(store)
    assert "pool web@1: 20 records" in repr(store.pool("web"))
    assert "run web version 1 over pool web@1" in repr(run)
    page = run._repr_html_()
    assert "meta.n &lt; 18" in page
    assert "meta.n < 18" not in page
    assert "<table>" in store._repr_html_()


def test_an_unknown_pool_or_run_is_answered_with_the_nearest(rows: Any):
    store = winnow.open(rows.store.root)
    with pytest.raises(ConfigError, match="Nearest: web"):
        store.pool("wep")
    with pytest.raises(ConfigError, match="Nearest: web"):
        store.run("wep")
    assert store.run().name == "web"
    with pytest.raises(ConfigError):
        store.run("web", version=99)


# ------------------------------------------------------------------ recut


NEW = "meta.n < 14 AND caption_stats.words >= 1 AND meta.n >= 2"


def test_a_recut_equals_a_run_with_that_threshold(rows: Any, run: Any, projects: Callable[[], Any]):
    recut = run.recut({"size": NEW, "some": {"budget": 3}})
    other = projects()
    (other.recipe_dir / "rows.jsonl").write_bytes((rows.recipe_dir / "rows.jsonl").read_bytes())
    old = 'where = "meta.n < 18 AND caption_stats.words >= 2 AND meta.n >= 2"'
    other.run(RECIPE.replace(old, f'where = "{NEW}"').replace("budget = 4", "budget = 3"))
    assert recut.verdict.rows.equals(other.last().verdict)
    assert recut.funnel().equals(other.last().funnel())
    assert set(recut.kept()["uid"]) == other.kept()


def test_a_recut_writes_nothing_and_measures_nothing(rows: Any, run: Any, watch: Any):
    before = {(p, p.stat().st_mtime_ns) for p in rows.store.root.rglob("*")}
    run.recut({"size": NEW}).funnel()
    assert {(p, p.stat().st_mtime_ns) for p in rows.store.root.rglob("*")} == before
    assert watch.counts == {}


def test_a_recut_needs_a_rule_of_that_name_and_notes_that_are_there(run: Any):
    with pytest.raises(ConfigError, match=r"no rule is called 'sizze'\. Nearest: size"):
        run.recut({"sizze": "meta.n < 3"})
    with pytest.raises(ConfigError, match=r"annotate\.language was not measured"):
        run.recut({"size": "language.confidence > 0.5"})
    with pytest.raises(ConfigError, match="not an SQL expression"):
        run.recut({"size": "meta.n <"})


def test_a_diff_names_the_records_whose_fate_differs(run: Any):
    diff = run.recut({"size": "meta.n < 16 AND caption_stats.words >= 2"}).diff(run)
    fates = {uid: (before, after) for uid, before, after in diff.iter_rows()}
    assert {uid for uid, (_, after) in fates.items() if after == "size"} == {_u(16), _u(17)}
    assert all(before != after for before, after in fates.values())
    assert run.recut({}).diff(run).height == 0


@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_a_saved_recut_is_a_recipe_that_runs_to_the_same_verdict(
    rows: Any, run: Any, folder: str, tmp_path: Path
):
    target = (rows.recipe_dir if folder == "." else tmp_path) / "new.toml"
    recut = run.recut({"size": NEW})
    recut.save(target)
    assert tomllib.loads(target.read_text())["select"][0] == {"name": "size", "where": NEW}
    store = winnow.open(rows.store.root).store
    found = runs.run(recipes.read(target, ["name=saved"]), store)
    assert found["kept"] == recut.kept().height
    saved = winnow.open(rows.store.root).run("saved")
    assert saved.verdict.equals(recut.verdict.rows)
    assert saved.pool.version == run.pool.version


def test_a_rule_that_needed_a_target_pool_is_recut(project: Any):
    project.texts(*[f"word{i % 7} and number {i}" for i in range(20)])
    project.texts("word3 and number 3", "word5 and number 5", path="wanted.jsonl")
    winnow.ingest(project.recipe_dir / "wanted.jsonl", id="id", store=project.store.root)
    project.run(
        '[[source]]\npath = "texts.jsonl"\nid = "id"\n[embed.bag]\nencoder = "hashed_ngrams"\n'
        '[[select]]\nname = "core"\nby = "simcore"\ntarget = "pool:wanted"\nbudget = 2\n'
    )
    assert project.kept() == {uid_of("texts", "r3"), uid_of("texts", "r5")}
    recut = project.last().recut({"core": {"budget": 6}})
    assert recut.kept().height == 6
    assert project.kept() < set(recut.kept()["uid"])


# ------------------------------------------------------------------ why


def test_why_finds_a_record_by_uid_source_id_and_url(run: Any):
    for key, found_by in (
        (hex_uid(_u(4)), "uid"), (str(_u(4)), "uid"), ("r4", "source_id"),
        ("http://x/4", "meta.url"),
    ):  # fmt: skip
        answer = why(run, key)
        assert (answer["uid"], answer["found_by"]) == (hex_uid(_u(4)), found_by)
        assert answer["source"] == "rows:r4"
    with pytest.raises(DataError, match="no record of pool web@1") as refused:
        why(run, "nobody")
    assert refused.value.exit_code == 65


def test_why_evaluates_every_clause_of_every_rule_with_its_values(run: Any):
    answer = why(run, "r18")
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
    one = why(run, "r1")
    assert [r["passed"] for r in one["rules"][1:4]] == [True, False, False]
    held = why(run, "r0")
    assert held["dropped_by"] == "holdout"
    assert [r["passed"] for r in held["rules"]] == [False, True, False, False, None, None]


def test_why_names_the_kept_record_that_a_dropped_one_repeats(run: Any):
    for row in run.dropped("one").collect().iter_rows(named=True):
        answer = why(run, hex_uid(row["uid"]))
        kept = set(run.kept().collect()["uid"])
        twin = row["twin"] if row["twin"] in kept else None
        assert answer["duplicate_of"] == (None if twin is None else hex_uid(twin))
        assert answer["edge"] == (None if twin is None else "same")
    nothing = why(run, "r18")
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
    answer = why(project.last(), "r1")
    assert (answer["dropped_by"], answer["duplicate_of"], answer["edge"]) == (
        "a", hex_uid(_u(2)), "b",
    )  # fmt: skip


def test_why_names_shards_and_the_versions_that_kept_a_record(project: Any):
    project.lines("rows.jsonl", [{"id": f"r{i}", "text": f"text {i}", "n": i} for i in range(10)])
    rule = '[[select]]\nname = "n"\nwhere = "meta.n < {}"\n'
    export = '[export]\nshard_records = 2\nformat = ["webdataset", "parquet"]\n'
    for bound in (10, 5, 8):
        project.run(ROWS + rule.format(bound) + export)
    answer = why(project.last(), "r6")
    assert answer["versions"] == [1, 3]
    names = [Path(path).name for path in answer["shards"]]
    assert sorted(name.rpartition(".")[2] for name in names) == ["parquet", "tar"]
    (tar,) = (path for path in answer["shards"] if path.endswith(".tar"))
    assert hex_uid(_u(6)).encode() in Path(tar).read_bytes()
    assert why(project.last(), "r9")["shards"] == []


@pytest.fixture(scope="module")
def pictures(projects: Callable[[], Any], captioned: dict[str, bytes]) -> Any:
    project = projects()
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/")})
    project.run(
        '[[source]]\npath = "pictures"\n[[select]]\nwhere = "perceptual_hash.quality > 0.1"\n'
    )
    return project


def test_why_finds_a_picture_by_its_bytes_then_by_its_looks(
    pictures: Any, captioned: dict[str, bytes], tmp_path: Path
):
    path = tmp_path / "mine.png"
    path.write_bytes(captioned["0/03c.jpg"])
    answer = why(pictures.last(), str(path))
    assert (answer["found_by"], answer["source"]) == ("digest", "pictures:0/03c.jpg")
    darker = Image.open(io.BytesIO(captioned["0/03c.jpg"])).point(lambda level: level * 0.95)
    darker.save(path)
    answer = why(pictures.last(), str(path))
    assert answer["found_by"] == "perceptual hash"
    assert answer["source"].startswith("pictures:0/03")
    Image.effect_noise((64, 64), 90).save(path)
    with pytest.raises(DataError, match="uid, source id, URL or content"):
        why(pictures.last(), str(path))


# ------------------------------------------------------------------ listing, gallery


def test_a_store_lists_pools_and_runs_and_their_files(rows: Any):
    items = {(item["kind"], item["name"]): item for item in listing(rows.store)}
    assert items["pool", "web"]["records"] == 20
    assert items["run", "web"]["version"] == 1
    files = listing(rows.store, files=True)
    assert {"records", "annotate.caption_stats"} <= {item["table"] for item in files}
    for item in files:
        assert pl.read_parquet(item["path"]).height >= 0
        assert os.path.getsize(item["path"]) == item["bytes"]  # noqa: PTH202


def test_a_gallery_shows_pictures_and_escapes_captions(pictures: Any):
    store = winnow.open(pictures.store.root)
    shown = winnow.show(store.run("web").kept(), n=3)
    page = shown._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 3
    assert page.count("<code>") == 3


def test_the_pictures_of_a_pool_come_in_pool_order(pictures: Any, captioned: dict[str, bytes]):
    pool = winnow.open(pictures.store.root).pool("web")
    ids = pool.frame("source_id").collect()
    names = ids["source_id"].to_list()
    found = pool.images(ids["uid"].to_list()[::-1])
    assert found.equals(pool.images([hex_uid(uid) for uid in ids["uid"]]))
    assert found["uid"].to_list() == ids["uid"].to_list()
    assert found["image"].to_list() == [captioned[name] for name in names]


def test_a_picture_whose_file_is_gone_is_null_and_a_report_shows_the_rest(
    project: Any, captioned: dict[str, bytes]
):
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/0")})
    recipe = '[[source]]\npath = "pictures"\npayload = "reference"\n'
    project.run(recipe, until="select")
    (project.recipe_dir / "pictures/0/00a.png").unlink()
    pool = winnow.open(project.store.root).pool("web")
    found = pool.images(pool.frame("source_id").collect()["uid"].to_list())
    assert found["image"].null_count() == 1
    assert "data:image/jpeg" in report.render(project.last())
