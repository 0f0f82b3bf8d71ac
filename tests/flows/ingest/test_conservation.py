from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from contracts.errors import DataError
from flows.ingest.batch import Batch
from flows.ingest.ingest import _Ingest
from flows.ingest.ledger import Ledger
from storage.block import Span
from storage.parts import PartWriter
from storage.source import Rejected, Stretch, Unit
from tests.flows.ingest.reading import Given, Reader, record, row

Place = Callable[[_Ingest, Batch], None]


def _taking(rows: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Callable[[Place], Place]:
    """Return a fault in the way of records into the pool: of a batch these rows are taken."""

    def planted(place: Place) -> Place:
        def placing(ingest: _Ingest, batch: Batch) -> None:
            taken = rows(batch.records["place"].to_numpy())
            place(ingest, replace(batch, records=batch.records[taken], meta={}))

        return placing

    return planted


def _dropped(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(places % 5 != 4)


def _doubled(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(places)), np.where(places % 5 == 4, 2, 1))


def _dropped_and_doubled(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave every total as it was."""
    return np.repeat(np.arange(len(places)), np.select([places == 7, places == 8], [0, 2], 1))


@pytest.mark.parametrize(
    "fault",
    [_taking(_dropped), _taking(_doubled), _taking(_dropped_and_doubled)],
    ids=["dropped", "doubled", "dropped and doubled"],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_record_that_is_lost_or_doubled_on_the_way_is_refused_and_names_its_file(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Place], Place], broken: bool
):
    rows: list[Any] = [row(n) for n in range(12)]
    reader.lines("d/a.jsonl", row(99))
    reader.lines("d/b.jsonl", *([*rows, "{broken"] if broken else rows))
    monkeypatch.setattr(_Ingest, "_place", fault(_Ingest._place))
    with pytest.raises(DataError, match=r"b\.jsonl: position \d+ was lost or came twice"):
        reader.read("d")
    assert reader.store.names("pool") == []


def test_the_last_record_of_a_file_is_missed_too(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    fault = _taking(lambda places: np.flatnonzero(places != 1))
    monkeypatch.setattr(_Ingest, "_place", fault(_Ingest._place))
    reader.lines("a.jsonl", row(0), row(1))
    with pytest.raises(DataError, match=r"a\.jsonl: position 1 was lost"):
        reader.read("a.jsonl")


@pytest.mark.parametrize("again", [0, 2])
def test_a_record_that_is_counted_but_not_written_once_is_refused(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, again: int
):
    add = PartWriter.add

    def adding(writer: PartWriter, records: pl.DataFrame, *rest: Any) -> int:
        payloads, sizes, kind = rest
        at = records["source_id"].to_list().index("r3")
        for rows in (records[:at], *[records[at : at + 1]] * again, records[at + 1 :]):
            add(writer, rows, payloads, sizes[: len(rows)], kind)
        return len(records)

    monkeypatch.setattr(PartWriter, "add", adding)
    reader.lines("a.jsonl", *[row(n) for n in range(6)])
    with pytest.raises(DataError, match=r"6 records were read and [57] are written"):
        reader.read("a.jsonl")


def test_units_that_are_not_read_count_by_what_their_last_reading_gave(reader: Reader):
    reader.lines("d/a.jsonl", row(0), row(1), "{broken")
    reader.lines("d/b.jsonl", row(2), row(0))
    first = reader.read("d")
    assert (first["read"], first["accepted"], first["known"]) == (5, 3, 1)
    again = reader.read("d")
    assert (again["read"], again["accepted"], again["known"]) == (5, 0, 4)
    assert again["quarantined"] == first["quarantined"] == {"JSON_INVALID": 1}


def test_a_ledger_keeps_only_the_units_under_way():
    ledger = Ledger()
    for name in "abc":
        unit = Unit(name, Path(name), 0, "")
        ledger.settle(Span(unit, 0, 2, False), np.array([1, 0]))
        ledger.settle(Span(unit, 2, 1, True), np.array([2]))
    empty = Unit("empty", Path("empty"), 0, "")
    ledger.settle(Span(empty, 0, 0, True), np.array([], dtype=np.int64))
    assert (ledger.read, ledger._under_way) == (9, {})
    ledger.check()


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, [0, 1], True), (2, [2], True)], "position 0 "),
        ([(0, [0, 1], False), (3, [3], True)], "position 2 "),
        ([(0, [0, 1], False)], "position 2 "),
        ([(0, [0, 0], False)], "position 0 "),
    ],
    ids=["closed early", "a batch is lost", "not closed", "doubled"],
)
def test_a_ledger_tells_where_a_unit_broke(spans: Any, said: str):
    ledger, unit = Ledger(), Unit("a", Path("a"), 0, "")

    def settle_all() -> None:
        for first, positions, last in spans:
            ledger.settle(Span(unit, first, len(positions), last), np.array(positions))
        ledger.check()

    with pytest.raises(DataError, match=f"a: {said}"):
        settle_all()


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 0, 2), (1, 0, 1), (2, 0, 3)], None),
        ([(0, 0, 2), (2, 0, 3)], "position 2 "),
        ([(0, 0, 2), (0, 0, 2)], "position 2 "),
        ([(0, 0, 2), (1, 1, 1), (2, 0, 3)], "position 2 "),
        ([(0, 0, 2), (1, 0, 1)], "position 3 "),
        ([(1, 0, 1), (2, 0, 3)], "position 0 "),
    ],
    ids=["sound", "a stretch is lost", "doubled", "a batch is lost", "not closed", "begun late"],
)
def test_a_ledger_tells_which_stretch_of_a_unit_broke(spans: Any, said: str | None):
    ledger = Ledger()

    def settle_all() -> None:
        for index, first, count in spans:
            stretch = Stretch(index, 0, 0, 0, index == 2, (0, 0))
            span = Span(Unit("a", Path("a"), 0, "", stretch=stretch), first, count, index == 2)
            settled = ledger.settle(span, np.arange(first, first + count))
        ledger.check()
        assert (ledger.read, settled) == (6, 6)

    if said is None:
        settle_all()
        return
    with pytest.raises(DataError, match=f"a: {said}"):
        settle_all()


def test_a_unit_of_rejections_alone_is_conserved(reader: Reader):
    found = reader.given(
        Given({"a": [record(0)], "b": [Rejected("b#0", "X"), Rejected("b#1", "X")]})
    )
    assert (found["read"], found["accepted"], found["quarantined"]) == (3, 1, {"X": 2})
