"""What each cut of a number keeps, against counts by hand."""

from __future__ import annotations

from typing import Any

import pytest

import winnow
from contracts.errors import ConfigError
from contracts.uid import hex_uid
from flows.look import report
from flows.look import thresholds as cuts
from tests.flows.look.page import Page
from tests.flows.look.small import row_uid

SOURCE = '[[source]]\npath = "t.jsonl"\nid = "id"\n'


@pytest.fixture(scope="module")
def forty(projects: Any) -> Any:
    """Forty records: n counts them, even and odd; t has one value thrice and is null elsewhere."""
    project = projects()
    project.lines(
        "t.jsonl",
        [{"id": str(i), "text": f"text {i}", "n": i, "f": float(i), "t": 7 if i < 3 else None}
         for i in range(40)],
    )  # fmt: skip
    project.run(SOURCE + '[[select]]\nname = "big"\nwhere = "meta.n >= 10"\n', until="select")
    return project.last()


def test_a_cut_keeps_what_lies_on_either_side_of_it_with_the_records_there(forty: Any):
    [table] = cuts.thresholds(forty, signal="meta.n")
    assert (table.records, table.unmeasured, table.rules) == (40, 0, ("big",))
    assert [c.value for c in table.cuts] == list(range(0, 40, 2))
    assert [c.quantile for c in table.cuts] == [i / 20 for i in range(20)]
    fifth = table.cuts[5]
    assert (fifth.value, fifth.at_least, fifth.at_most) == (10, 30 / 40, 11 / 40)
    assert [(e.source, e.text, e.value) for e in fifth.examples] == [
        (f"t:{i}", f"text {i}", i) for i in (10, 11, 12)
    ]
    assert [e.value for e in table.cuts[-1].examples] == [38, 39]


def test_equal_values_are_kept_together_and_nulls_by_no_cut(forty: Any):
    [table] = cuts.thresholds(forty, signal="meta.t")
    assert (table.records, table.unmeasured, len(table.cuts)) == (40, 37, 20)
    assert {(c.value, c.at_least, c.at_most) for c in table.cuts} == {(7, 3 / 40, 3 / 40)}


def test_an_infinite_value_is_json_and_what_is_no_number_is_unmeasured(forty: Any):
    [table] = cuts.thresholds(forty, signal="1e308 * 10 * (meta.n - 20.5)")
    assert table.unmeasured == 0
    found = cuts.described(forty, [table])
    assert found["signals"][0]["cuts"][0]["value"] == "-inf"
    assert "-inf" in cuts.text(found)
    [table] = cuts.thresholds(forty, signal="meta.f / meta.f")
    assert (table.unmeasured, table.cuts[0].value) == (1, 1.0)


def test_rules_come_first_and_an_alias_or_a_column_is_asked_alone(run: Any):
    known = cuts.signals(run)
    assert list(known)[:2] == ["meta.n", "caption_stats.words"]
    assert known["caption_stats.words"] == ("size",)
    assert "same.size" in known
    assert not {"same.cluster", "same.nearest", "text"} & known.keys()
    assert [t.signal for t in cuts.thresholds(run)] == ["meta.n", "caption_stats.words"]
    assert [t.signal for t in cuts.thresholds(run, "same")] == ["same.size"]
    view = winnow.open(run.store.root)
    assert cuts.asked(view, "same", None, None)[1] == "same"
    found, alias = cuts.asked(view, "web", None, 1)
    assert (found.name, found.version, alias) == ("web", 1, None)
    with pytest.raises(ConfigError, match=r"Nearest: same\.size"):
        cuts.asked(view, "same.sise", None, None)


def test_from_python_a_cut_is_a_row(forty: Any):
    found = winnow.thresholds(forty)
    assert found["signal"].unique().to_list() == ["meta.n"]
    assert found.select("quantile", "value", "at_least", "at_most").row(19) == (
        0.95, 38.0, 2 / 40, 39 / 40
    )  # fmt: skip
    assert found["examples"][19][1]["source"] == "t:39"


def test_held_out_records_are_in_no_table(run: Any):
    [table] = cuts.thresholds(run, signal="meta.n")
    assert table.records == 19
    assert hex_uid(row_uid(0)) not in {e.uid for c in table.cuts for e in c.examples}


def test_a_signal_is_a_number_of_known_columns(run: Any):
    with pytest.raises(ConfigError, match=r"Nearest: meta\.n"):
        cuts.thresholds(run, signal="meta.nn")
    with pytest.raises(ConfigError, match="no number to cut"):
        cuts.thresholds(run, signal="text")


def test_the_report_has_the_tables_of_the_rules_folded_in(run: Any):
    page = Page(report.render(run)).part("thresholds")
    assert [dict(a) for t, a in page.tags if t == "details"] == [{}] * len(cuts.signals(run))
    rows = page.rows()
    assert rows[1][:4] == ["0%", "1", "100.0%", "5.3%"]
