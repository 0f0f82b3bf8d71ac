from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import winnow
from contracts.errors import ConfigError
from contracts.uid import hex_uid
from flows.look import report
from flows.look.render import funnel_text
from tests.flows.look.small import row_uid as _u


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
    assert "caption_stats.words >= 2" in funnel_text(run.funnel().to_dicts())


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
    assert "pool  web         1       20" in repr(store)
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
