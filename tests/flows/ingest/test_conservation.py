from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contracts.errors import DataError
from flows.ingest.ingest import _Ingest
from flows.ingest.item import Item
from flows.ingest.ledger import Ledger
from storage.parts import PartWriter
from storage.source import Rejected
from tests.flows.ingest.reading import Given, Reader, record, row

Take = Callable[[_Ingest, Item], None]


def _every_fifth(what: str) -> Callable[[Take], Take]:
    """Return a fault in the loop over what was read."""

    def planted(take: Take) -> Take:
        numbers = iter(range(1000))

        def taking(ingest: _Ingest, item: Item) -> None:
            fifth = next(numbers) % 5 == 4
            if fifth and what == "dropped":
                return
            take(ingest, item)
            if fifth and what == "doubled":
                take(ingest, item)

        return taking

    return planted


def _dropped_and_doubled(take: Take) -> Take:
    """Return a fault that leaves every total as it was."""

    def taking(ingest: _Ingest, item: Item) -> None:
        if item.position != 7:
            take(ingest, item)
        if item.position == 8:
            take(ingest, item)

    return taking


@pytest.mark.parametrize(
    "fault",
    [_every_fifth("dropped"), _every_fifth("doubled"), _dropped_and_doubled],
    ids=["dropped", "doubled", "dropped and doubled"],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_record_that_is_lost_or_doubled_on_the_way_is_refused_and_names_its_file(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Take], Take], broken: bool
):
    rows: list[Any] = [row(n) for n in range(12)]
    reader.lines("d/a.jsonl", row(99))
    reader.lines("d/b.jsonl", *([*rows, "{broken"] if broken else rows))
    monkeypatch.setattr(_Ingest, "_take", fault(_Ingest._take))
    with pytest.raises(DataError, match=r"b\.jsonl: position \d+ was lost or came twice"):
        reader.read("d")
    assert reader.store.names("pool") == []


def test_the_last_record_of_a_file_is_missed_too(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    take = _Ingest._take
    monkeypatch.setattr(_Ingest, "_take", lambda i, item: item.position != 1 and take(i, item))
    reader.lines("a.jsonl", row(0), row(1))
    with pytest.raises(DataError, match=r"a\.jsonl: position 1 was lost"):
        reader.read("a.jsonl")


@pytest.mark.parametrize("again", [0, 2])
def test_a_record_that_is_counted_but_not_written_once_is_refused(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, again: int
):
    add = PartWriter.add

    def adding(writer: PartWriter, columns: dict[str, Any], found: Any) -> None:
        for _ in range(again if columns["source_id"] == "r3" else 1):
            add(writer, columns, found)

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
        unit = ledger.open(name)
        ledger.settle(unit, 0)
        ledger.close(unit, 1)
    empty = ledger.open("empty")
    ledger.close(empty, 0)
    assert (ledger.read, ledger._settled, ledger._names) == (3, {}, {})
    ledger.check()


def test_a_unit_of_rejections_alone_is_conserved(reader: Reader):
    found = reader.given(
        Given({"a": [record(0)], "b": [Rejected("b#0", "X"), Rejected("b#1", "X")]})
    )
    assert (found["read"], found["accepted"], found["quarantined"]) == (3, 1, {"X": 2})
