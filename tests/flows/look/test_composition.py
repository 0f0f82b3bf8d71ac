"""What the sets of a run are made of, against counts by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.answer.sets import random_arm
from flows.look.composition import GROUPS, Composition, compositions
from flows.look.examples import distinct, types_of
from flows.look.report import render
from tests.flows.look.page import Page

ROWS = """
[[source]]
path = "a.jsonl"
name = "a"
id = "id"
[[source]]
path = "b.jsonl"
name = "b"
id = "id"
[holdout]
where = "meta.n % 10 = 9"
[annotate.caption_stats]
[[select]]
where = "source = 'b' OR meta.n < 6"
[[select]]
by = "repeat"
repeats = "CASE WHEN source = 'b' THEN 3 ELSE 1 END"
"""


@pytest.fixture(scope="module")
def run(projects: Any) -> Any:
    """40 records of source a and 20 of b, of 1 to 20 words, 6 of them held out."""
    project = projects()
    for name, count in (("a", 40), ("b", 20)):
        rows = [
            {"id": f"{name}{n}", "n": n, "text": " ".join(["word"] * (n % 20 + 1))}
            for n in range(count)
        ]
        project.lines(f"{name}.jsonl", rows)
    project.run(ROWS)
    return project.last()


def _rounded(*shares: float) -> tuple[float, ...]:
    return tuple(round(share, 9) for share in shares)


def _by_hand(run: Any, seed: int, group: Any) -> dict[str, tuple[float, ...]]:
    """Return the shares of each set by a row's group, one row at a time."""
    paths = ["source", "meta.n", "caption_stats.words"]
    rows = run.runtime.frame(paths).rows(named=True)
    kept = dict(run.verdict.filter(pl.col("dropped_by").is_null()).select("uid", "repeats").rows())
    pool = {row["uid"]: 1 for row in rows if row["meta.n"] % 10 != 9}
    everyone = pl.Series("uid", list(pool), dtype=pl.UInt64)
    random = dict(random_arm(everyone, sum(kept.values()), seed).rows())
    shares = []
    for of_set in (kept, random, pool):
        counts: Counter[str] = Counter()
        for row in rows:
            counts[group(row)] += of_set.get(row["uid"], 0)
        shares.append({name: count / sum(counts.values()) for name, count in counts.items()})
    return {name: _rounded(*(of_set[name] for of_set in shares)) for name in shares[0]}


def _found(composition: Composition) -> dict[str, tuple[float, ...]]:
    return {g.label: _rounded(g.kept, g.random, g.pool) for g in composition.groups}


def _words(row: dict[str, Any]) -> str:
    bits = row["caption_stats.words"].bit_length() - 1
    return "1" if bits == 0 else f"{2**bits} to {2 ** (bits + 1) - 1}"


@pytest.mark.parametrize("seed", [0, 7])
def test_shares_are_those_of_draws_without_the_hold_out(run: Any, seed: int):
    by_column = {c.column: c for c in compositions(run, types_of(run), seed)}
    assert list(by_column) == ["source", "caption_stats.words", "caption_stats.characters"]
    source = _found(by_column["source"])
    assert source == _by_hand(run, seed, lambda row: row["source"])
    assert source["b"][0] == pytest.approx(54 / 60)
    assert source["b"][2] == pytest.approx(18 / 54)
    words = _found(by_column["caption_stats.words"])
    assert words == _by_hand(run, seed, _words)
    assert list(words) == ["1", "2 to 3", "4 to 7", "8 to 15", "16 to 31"]


def test_the_page_says_the_shares_and_the_seed_of_the_random_arm(run: Any):
    page = render(run)
    assert "the random arm of seed 0 " in page
    assert 'aria-label="kept 90.0%, random ' in page
    assert page.count('class="group"') == 2 + 5 + sum(
        len(c.groups) for c in compositions(run, types_of(run), 0)[2:]
    )


def test_what_is_one_group_is_left_out_and_many_are_counted_together(projects: Any):
    project = projects()
    (project.recipe_dir / "mine.py").write_text(
        "import polars as pl\nfrom winnow import Role, rowwise\n\n\n"
        '@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"name": pl.String})\n'
        'def named(rows):\n    """The text."""\n    return rows.select(name="text")\n'
    )
    project.lines("t.jsonl", [{"id": f"{n}", "text": f"t{n % 30}"} for n in range(90)])
    project.run(
        '[[source]]\npath = "t.jsonl"\nid = "id"\n[annotate.named]\nstep = "./mine.py:named"\n'
        '[[select]]\nwhere = "named.name IS NOT NULL"\n'
    )
    run = project.last()
    [found] = compositions(run, types_of(run), 0)
    assert found.column == "named.name"
    assert [g.label for g in found.groups][-1] == f"({30 - GROUPS} others)"
    assert sum(g.kept for g in found.groups) == pytest.approx(1)
    assert found.groups[-1].pool == pytest.approx((30 - GROUPS) / 30)


def test_a_null_is_no_label_that_a_value_has(projects: Any):
    project = projects()
    (project.recipe_dir / "mine.py").write_text(
        "import polars as pl\nfrom winnow import Role, rowwise\n\n\n"
        '@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"name": pl.String})\n'
        'def named(rows):\n    """The text, null or empty where it says so."""\n'
        '    texts = pl.col("text").replace(["nothing", "empty"], [None, ""])\n'
        "    return rows.select(name=texts)\n"
    )
    texts = [
        "nothing",
        "none",
        "none",
        "(null)",
        '"(null)"',
        "(2 others)",
        "null",
        "empty",
        "empty",
        " none",
    ]
    rows = [{"id": f"{n}", "text": text} for n, text in enumerate(texts * 2)]
    project.lines("t.jsonl", rows)
    project.run(
        '[[source]]\npath = "t.jsonl"\nid = "id"\n[annotate.named]\nstep = "./mine.py:named"\n'
        "[[select]]\nwhere = \"named.name IS NULL OR named.name <> 'x'\"\n"
    )
    run = project.last()
    named = {c.column: c for c in compositions(run, types_of(run), 0)}["named.name"]
    assert {g.label: round(g.pool, 9) for g in named.groups} == {
        "none": 0.2, '""': 0.2, "(null)": 0.1, '"(null)"': 0.1, '"\\"(null)\\""': 0.1,
        '"(2 others)"': 0.1, "null": 0.1, '" none"': 0.1,
    }  # fmt: skip
    page = Page(render(run))
    assert "(null)" in page.part("composition").text.split("\n")


def test_a_label_of_held_out_records_alone_is_left_out(projects: Any):
    project = projects()
    texts = ["one", "two words", "two words", "three words here now"]
    project.lines("t.jsonl", [{"id": f"{n}", "text": text} for n, text in enumerate(texts)])
    project.run(
        '[[source]]\npath = "t.jsonl"\nid = "id"\n[annotate.caption_stats]\n'
        "[holdout]\nwhere = \"text = 'one'\"\n"
    )
    run = project.last()
    words = {c.column: c for c in compositions(run, types_of(run), 0)}["caption_stats.words"]
    assert [(g.label, round(g.pool, 9)) for g in words.groups] == [
        ("2 to 3", round(2 / 3, 9)), ("4 to 7", round(1 / 3, 9)),
    ]  # fmt: skip


@given(st.lists(st.text(alphabet='(null)" \\none2') | st.text() | st.none(), unique=True))
def test_no_two_values_have_one_label(values: list[str | None]):
    assert len({distinct(value) for value in values}) == len(values)
