"""The histograms of what rules look at, against counts by hand."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.look import distributions, drawing, report
from flows.look.distributions import Distribution, Histogram
from flows.look.examples import types_of
from flows.look.views import RunView
from storage import parts
from tests.flows.look.page import Page

ROWS = '[[source]]\npath = "t.jsonl"\nid = "id"\n'


def _where(*rules: str) -> str:
    """Rules of SQL, called by their numbers."""
    return "".join(f"[[select]]\nname = '{i}'\nwhere = '{sql}'\n" for i, sql in enumerate(rules))


def _run(project: Any, rows: list[dict[str, Any]], recipe: str) -> RunView:
    project.lines("t.jsonl", [{"id": str(i), "text": "t", **row} for i, row in enumerate(rows)])
    project.run(ROWS + recipe, until="select")
    return project.last()


def _all(run: RunView) -> list[Distribution]:
    return [distributions.distribution(run, c) for c in distributions.criteria(run, types_of(run))]


def _bars(found: Distribution) -> list[tuple[float, int, int, int]]:
    assert found.histogram is not None
    return [(b.low + 0.5, b.kept, b.here, b.elsewhere) for b in found.histogram.bins]


def test_a_clause_has_a_histogram_of_the_records_that_reached_its_rule(project: Any):
    rows: list[dict[str, Any]] = [{"n": i, "m": i % 2} for i in range(8)]
    rows.append({"n": None, "m": 0})
    run = _run(project, rows, _where("meta.n <> 7", "meta.m = 0 AND meta.n >= 3", "meta.n < 6"))
    first, parity, least, most = _all(run)
    assert [(d.criterion.rule, d.criterion.clause, d.criterion.column) for d in _all(run)] == [
        ("0", "meta.n <> 7", "meta.n"),
        ("1", "meta.m = 0", "meta.m"),
        ("1", "meta.n >= 3", "meta.n"),
        ("2", "meta.n < 6", "meta.n"),
    ]
    assert (first.reached, first.failed, first.unmeasured) == (9, 2, 1)
    assert (parity.reached, parity.failed, parity.unmeasured) == (7, 3, 0)
    assert _bars(parity) == [(0, 1, 0, 3), (1, 0, 3, 0)]
    assert (least.reached, least.failed, least.unmeasured) == (7, 2, 0)
    assert _bars(least) == [
        (0, 0, 1, 0), (1, 0, 0, 1), (2, 0, 1, 0), (3, 0, 0, 1), (4, 1, 0, 0), (5, 0, 0, 1),
        (6, 0, 0, 1),
    ]  # fmt: skip
    assert _bars(most) == [(4, 1, 0, 0), (5, 0, 0, 0), (6, 0, 1, 0)]
    assert [d.histogram and d.histogram.marks for d in _all(run)] == [
        (7.0,), (0.0,), (2.5,), (5.5,),
    ]  # fmt: skip


def test_what_reached_and_failed_is_what_the_funnel_says(run: RunView):
    funnel = run.funnel()
    rules = dict(funnel.filter(pl.col("clause").is_null()).select("rule", "reached").iter_rows())
    failed = dict(funnel.drop_nulls("clause").select("clause", "dropped").iter_rows())
    found = {d.criterion.clause: d for d in _all(run)}
    assert list(found) == ["meta.n < 18", "caption_stats.words >= 2", "meta.n >= 2"]
    assert {clause: d.failed for clause, d in found.items()} == failed
    # Record 0 is held out.
    assert {d.reached for d in found.values()} == {rules["size"]} == {19}


def test_two_clauses_on_one_column_have_their_own_histogram_and_threshold(project: Any):
    run = _run(project, [{"n": n} for n in range(10)], _where("meta.n >= 3 AND meta.n < 8"))
    assert [(d.criterion.clause, d.failed, d.histogram and d.histogram.marks) for d in _all(run)] \
        == [("meta.n >= 3", 3, (2.5,)), ("meta.n < 8", 2, (7.5,))]  # fmt: skip
    panels = report.render(run).split('<div class="panel"><h3>')[1:]
    assert len(panels) == 2
    for panel, clause in zip(panels, ("meta.n &gt;= 3", "meta.n &lt; 8"), strict=True):
        assert panel.startswith(f'<bdi dir="ltr">{clause}</bdi>')
        assert panel.count('class="mark"') == 1


def test_the_page_says_of_each_histogram_what_reached_passed_and_is_not_drawn(project: Any):
    rows: list[dict[str, Any]] = [{"x": i / 10} for i in range(8)]
    run = _run(project, [*rows, {"x": None}], _where("meta.x >= 0.3 AND meta.x < 900"))
    text = Page(report.render(run)).part("distributions").text
    assert "A clause of rule 0. 9 reached the rule: 55.6% pass here, 44.4% (4) fail here" in text
    assert "1 unmeasured." in text
    assert text.count("A threshold lies") == text.count("A threshold lies right of the axis.") == 1


def test_a_threshold_is_drawn_off_the_bars_but_not_where_it_would_squeeze_them(project: Any):
    where = "meta.n >= 2 AND meta.n > 1 AND meta.n < 5 AND meta.n < 6"
    run = _run(project, [{"n": 3}], _where(where))
    found = [d.histogram for d in _all(run)]
    assert [(h.marks, h.off_axis) for h in found if h] == [
        ((1.5,), ()), ((1.5,), ()), ((4.5,), ()), ((), (5.5,)),
    ]  # fmt: skip
    assert found[0] is not None
    assert (found[0].x.low, found[0].x.high) == (1.5, 3.5)


def test_a_long_name_stands_below_its_axis_where_it_wraps(project: Any):
    name = "n" * 70
    run = _run(project, [{name: 1}, {name: 2}], _where(f"meta.{name} > 1"))
    panel = Page(report.render(run)).part("distributions").html
    assert f'<p class="label"><bdi>meta.{name}</bdi></p>' in panel
    assert "nn" not in "".join(re.findall("<text.*?</text>", panel))


def test_the_page_says_how_many_numbers_it_does_not_draw(
    run: RunView, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "HISTOGRAMS", 2)
    part = Page(report.render(run)).part("distributions")
    assert "The first 2 are drawn, 1 is not." in part.text
    assert [tag for tag, _ in part.tags].count("svg") == 2


def test_a_rule_that_no_number_reached_says_so_and_has_no_axis(project: Any):
    rows = [{"n": 1, "m": None}, {"n": 2, "m": None}, {"n": 3, "m": 5}]
    run = _run(project, rows, _where("meta.n < 3", "meta.m IS NULL OR meta.m > 7"))
    assert [(d.reached, d.failed, d.unmeasured) for d in _all(run)] == [(3, 1, 0), (2, 0, 2)]
    part = Page(report.render(run)).part("distributions")
    assert part.text.count("There is no number to draw.") == 1
    assert [tag for tag, _ in part.tags].count("svg") == 1


def test_held_out_records_are_in_no_distribution(project: Any):
    rows = [{"n": i} for i in range(10)]
    run = _run(project, rows, "[holdout]\nwhere = 'meta.n < 4'\n" + _where("meta.n < 8"))
    (n,) = _all(run)
    assert sum(kept + here + elsewhere for _, kept, here, elsewhere in _bars(n)) == n.reached == 6
    assert "Held out 4 of 4" in Page(report.render(run)).text


def test_bars_are_the_same_however_the_records_lie_in_parts(
    projects: Any, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [{"x": x, "n": round(x)} for x in rng.normal(0, 9, 300)]
    rows[1] = {"x": 1e6, "n": 10**6}
    found = []
    monkeypatch.setattr(distributions, "SAMPLE", 40)
    for part_rows in (7, 300):
        monkeypatch.setattr(parts, "PART_ROWS", part_rows)
        run = _run(projects(), [*rows, {"x": None}], _where("meta.x > -9 AND meta.n < 9"))
        found.append(_all(run))
    assert found[0] == found[1]
    # The long tail lies off the axis.
    assert all(d.histogram and d.histogram.below + d.histogram.above for d in found[0])


def test_memory_does_not_grow_with_the_pool(projects: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributions, "SAMPLE", 100)
    monkeypatch.setattr(parts, "PART_ROWS", 3_000)

    def peak(records: int) -> int:
        run = _run(projects(), [{"x": i / 7} for i in range(records)], _where("meta.x > 3"))
        (criterion,) = distributions.criteria(run, types_of(run))
        distributions.distribution(run, criterion)
        tracemalloc.start()
        try:
            distributions.distribution(run, criterion)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(6_000), peak(24_000)
    assert large < 1.5 * small


@pytest.mark.parametrize(
    ("clause", "whole", "marks"),
    [
        ("a.b >= 3", True, [2.5]),
        ("a.b > 3", True, [3.5]),
        ("a.b < 3", True, [2.5]),
        ("a.b <= 3", True, [3.5]),
        ("3 <= a.b", True, [2.5]),
        ("3 > a.b", True, [2.5]),
        ("a.b = 3", True, [3]),
        ("a.b >= 2.5", True, [2.5]),
        ("a.b >= 3", False, [3]),
        ("a.b > -0.25", False, [-0.25]),
        ("(a.b BETWEEN 2 AND 5)", True, [1.5, 5.5]),
        ("(a.b >= 3 OR a.b IS NULL)", True, [2.5]),
        ("a.b < 2 OR a.c > 9 OR (a.b > 5)", False, [2, 5]),
        ("a.b + 1 > 3", False, []),
        ("a.b > a.c", False, []),
        ("a.c > 3", False, []),
        ("a.b IN (1, 2)", False, []),
        ("a.b = 'x'", False, []),
        ("NOT a.b > 3", False, []),
        ("a.b IS NOT NULL", False, []),
    ],
)
def test_a_threshold_is_drawn_where_a_clause_compares_its_column_with_a_number(
    clause, whole, marks
):
    assert distributions._thresholds(clause, "a.b", whole) == marks


def test_the_threshold_of_a_selector_is_drawn_over_what_reached_it(project: Any):
    texts = [f"a text about {word} number {i}" for i in range(6) for word in ("cats", "planes")]
    recipe = """
[embed.grams]
encoder = "hashed_ngrams"
[fit.kmeans]
num_clusters = 2
[annotate.semantic]
step = "semantic_duplicates"
[[select]]
name = "cats"
where = "text LIKE '%cats%'"
[[select]]
name = "far"
by = "one_per_neighbourhood"
threshold = 0.83
nearest = "semantic.nearest"
cosine = "semantic.max_cosine"
score = "caption_stats.words"
"""
    run = _run(project, [{"text": text} for text in texts], recipe)
    cosine, score = sorted(_all(run), key=lambda d: d.criterion.column, reverse=True)
    assert cosine.criterion.column == "semantic.max_cosine"
    assert cosine.histogram is not None
    assert cosine.histogram.marks == (0.83,)
    assert (cosine.reached, cosine.failed) == (6, run.funnel()["dropped"][-1])
    assert cosine.failed > 0
    # A score says who is looked at first: the threshold does not cut it.
    assert (score.criterion.column, score.criterion.threshold) == ("caption_stats.words", None)
    text = Page(report.render(run)).part("distributions").text
    assert "Rule far, threshold 0.83. 6 reached the rule" in text


def _edges(values: Any, whole: bool, marks: list[float]) -> np.ndarray[Any, Any]:
    span = distributions._Span()
    uids = np.arange(len(values), dtype=np.uint64)
    span.add(pl.DataFrame({"uid": uids, "value": np.asarray(values, dtype=np.float64)}))
    return distributions._edges(span, whole, marks)


def test_a_bar_never_straddles_the_threshold():
    edges = _edges(np.linspace(0, 1, 1001), False, [0.333])
    assert 0.333 in edges
    assert edges[0] <= 0
    assert edges[-1] >= 1
    assert np.allclose(np.diff(edges)[1:-1], 1 / 40)
    # A whole number that is equalled or excluded stands in the middle of its bar.
    assert _edges(range(4), True, [2.0]).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]


def test_a_long_tail_is_left_out_and_a_constant_has_one_bar():
    tail = np.append(np.arange(1000) / 1000, 1e6)
    assert _edges(tail, False, [])[-1] < 2
    assert _edges(np.full(3, 7.0), True, []).tolist() == [6.5, 7.5]
    assert _edges(np.zeros(3), False, []).tolist() == [-0.5, 0.5]


@given(st.lists(st.floats(-1e299, 1e299, allow_subnormal=True), min_size=1, max_size=20))
def test_any_finite_values_have_bins_and_an_axis(values: list[float]):
    array = np.array(values)
    edges = _edges(array, False, [])
    assert 2 <= len(edges) <= 43
    assert np.all(np.diff(edges) >= 0)
    axis = drawing.Axis(float(edges[0]), float(edges[-1]), 0, 100)
    assert len(axis.ticks) <= 7
    assert all(-1 <= axis.at(tick) <= 101 for tick in axis.ticks)
    inside = (array >= edges[0]) & (array <= edges[-1])
    assert np.histogram(array, edges)[0].sum() == inside.sum()


def test_numbers_beyond_all_bounds_do_not_break_the_page(project: Any):
    values = [1e308, -1e308, 0.0, 5e-324, 1e16]
    wholes = [2**62, 2**62 + 1, -(2**62), 2**62, 2**62]
    rows = [{"x": x, "k": k} for x, k in zip(values, wholes, strict=True)]
    run = _run(project, rows, _where("meta.x < 1e300 AND meta.k > -1e18"))
    x = _all(run)[0].histogram
    assert isinstance(x, Histogram)
    assert (x.below, x.above) == (1, 1)
    assert "1 left of the axis. 1 right of the axis." in Page(report.render(run)).text


def test_uids_and_hashes_have_no_distribution(run: RunView):
    assert "same.cluster" in {path for _, node in run.plan.rules if node for path in node.paths}
    columns = {c.column for c in distributions.criteria(run, types_of(run))}
    assert columns == {"meta.n", "caption_stats.words"}
