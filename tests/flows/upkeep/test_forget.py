from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import ConfigError
from flows.upkeep.forget import forget
from storage.source import Columns
from tests.flows.ingest.reading import Reader, row


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A pool `web` of two sources, of which each has two records and a broken line."""
    reader = Reader(tmp_path)
    for name, n in (("a", 0), ("b", 2)):
        reader.lines(f"{name}.jsonl", row(n, alt="x"), row(n + 1, alt="y"), "{broken")
        reader.read(f"{name}.jsonl")
    return reader


def test_a_forgotten_source_leaves_a_pool_as_if_it_had_not_been_read(
    reader: Reader, tmp_path: Path
):
    assert forget(reader.store, "a") == {"pool": "web", "version": 3, "source": "a", "forgotten": 2}
    other = Reader(tmp_path / "other")
    other.lines("b.jsonl", row(2, alt="x"), row(3, alt="y"), "{broken")
    other.read("b.jsonl")
    pool, expected = reader.stored(), other.stored()
    assert (pool.digest, pool.records) == (expected.digest, expected.records)
    assert list(pool.sources) == ["b"]
    assert reader.rows() == other.rows() == {"r2": "text 2", "r3": "text 3"}
    assert reader.pool().quarantine().equals(other.pool().quarantine())
    assert len(reader.pool(2).frame("uid").collect()) == 4
    # What stays known is not read again.
    assert reader.read("b.jsonl")["version"] == 3


def test_a_forgotten_source_is_read_anew_by_other_columns(reader: Reader):
    before = reader.pool().frame("uid").collect()
    with pytest.raises(
        ConfigError, match=r"text was not given, is 'alt'.*winnow forget --source a "
    ):
        reader.read("a.jsonl", columns=Columns(id="id", text="alt"))
    forget(reader.store, "a")
    found = reader.read("a.jsonl", columns=Columns(id="id", text="alt"))
    assert (found["accepted"], found["quarantined"]) == (2, {"JSON_INVALID": 1})
    assert reader.rows() == {"r2": "text 2", "r3": "text 3", "r0": "x", "r1": "y"}
    # The records are the same ones.
    assert set(reader.pool().frame("uid").collect()["uid"]) == set(before["uid"])
    assert reader.pool().records == 4


def test_a_source_is_forgotten_twice_and_again(reader: Reader):
    forget(reader.store, "a")
    with pytest.raises(ConfigError, match="no pool has a source 'a'"):
        forget(reader.store, "a")
    reader.read("a.jsonl")
    assert forget(reader.store, "a")["forgotten"] == 2
    forget(reader.store, "b")
    assert (reader.pool().records, reader.stored().digest) == (0, "0" * 32)


def test_what_cannot_be_forgotten_is_named(reader: Reader):
    reader.read("a.jsonl", pool="other")
    with pytest.raises(
        ConfigError, match=r"several pools have a source 'a': other, web\. Give --pool"
    ):
        forget(reader.store, "a")
    assert forget(reader.store, "a", "other")["forgotten"] == 2
    with pytest.raises(ConfigError, match="Nearest: web"):
        forget(reader.store, "a", "wbe")
    with pytest.raises(ConfigError, match=r"no pool has a source 'c'\. There is: a, b"):
        forget(reader.store, "c")
