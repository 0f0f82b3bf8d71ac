from __future__ import annotations

import io
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contracts.errors import ConfigError, CurationError, DataError, StorageError
from contracts.uid import digest_of, uid_of
from flows import workers as working
from flows.ingest import ingest as ingesting
from flows.ingest import reading
from flows.ingest.ingest import SourceSpec, ingest
from storage import block, parts, tables
from storage.source import Columns, Found, PassedOver, Record, Rejected, Unit, find
from storage.sources import _stream
from storage.store import Object, Store
from tests.flows.ingest.reading import Given, Reader, record, row


def _picture(level: int, size: tuple[int, int] = (4, 3), format_: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, 0, 255 - level)).save(buffer, format_)
    return buffer.getvalue()


def _objects(store: Store) -> set[str]:
    return {str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()}


# ------------------------------------------------------------------ conservation, growth


def test_what_is_read_is_accepted_known_or_quarantined(reader: Reader):
    reader.lines("a.jsonl", row(0), row(1), "{broken", row(1), row(2), {"id": "x"}, "")
    found = reader.read("a.jsonl")
    assert found == {
        "pool": "web", "version": 1, "read": 6, "accepted": 3, "known": 1,
        "quarantined": {"JSON_INVALID": 1, "NO_CONTENT": 1}, "waiting": 0,
        "left_out": [
            {"suffix": ".jsonl", "reason": "JSON_INVALID", "count": 1, "examples": ["a.jsonl#2"]},
            {"suffix": ".jsonl", "reason": "NO_CONTENT", "count": 1, "examples": ["a.jsonl#5"]},
        ],
    }  # fmt: skip
    assert found["read"] == found["accepted"] + found["known"] + sum(found["quarantined"].values())
    assert reader.rows() == {"r0": "text 0", "r1": "text 1", "r2": "text 2"}
    uids = set(reader.pool().frame().collect()["uid"])
    assert uids == {uid_of("a", f"r{n}") for n in range(3)}


def test_the_same_source_again_adds_nothing_and_makes_no_version(reader: Reader):
    reader.lines("a.jsonl", row(0), row(1), "{broken")
    reader.read("a.jsonl")
    before = _objects(reader.store)
    again = reader.read("a.jsonl")
    assert (again["version"], again["read"], again["accepted"], again["known"]) == (1, 3, 0, 2)
    assert again["quarantined"] == {"JSON_INVALID": 1}
    assert _objects(reader.store) == before


def test_a_touched_file_is_read_again_and_adds_nothing(reader: Reader):
    path = reader.lines("a.jsonl", row(0), row(1))
    reader.read("a.jsonl")
    os.utime(path, ns=(1, 1))
    again = reader.read("a.jsonl")
    assert (again["accepted"], again["known"]) == (0, 2)
    assert reader.pool().records == 2


def test_new_files_add_only_their_records_and_leave_the_parts_before(reader: Reader):
    reader.lines("d/a.jsonl", row(0), row(1))
    reader.read("d")
    first = tables.load_pool(reader.store, "web")
    reader.lines("d/b.jsonl", row(2), row(1))
    again = reader.read("d")
    assert (again["accepted"], again["known"]) == (1, 3)
    second = tables.load_pool(reader.store, "web")
    assert first is not None
    assert second is not None
    assert second.parts[: len(first.parts)] == first.parts
    assert second.parts[-1].rows == 1


def test_growing_gives_the_digest_of_one_ingest(reader: Reader, tmp_path: Path):
    reader.lines("d/a.jsonl", row(0), row(1))
    reader.read("d")
    reader.lines("d/b.jsonl", row(2))
    reader.read("d")
    whole = Reader(tmp_path / "whole")
    whole.lines("d/b.jsonl", row(2))
    whole.lines("d/a.jsonl", row(0), row(1))
    whole.read("d")
    digests = [tables.load_pool(r.store, "web").digest for r in (reader, whole)]  # type: ignore[union-attr]
    assert digests[0] == digests[1] != "0" * 32


def test_a_file_that_is_too_young_waits_for_the_next_run(reader: Reader):
    path = reader.lines("d/a.jsonl", row(0))
    os.utime(path, (0, 0))
    reader.lines("d/b.jsonl", row(1))
    assert reader.read("d", settle_s=3600.0)["accepted"] == 1
    assert reader.read("d")["accepted"] == 1


def test_two_sources_share_a_pool(reader: Reader):
    reader.lines("a.jsonl", row(0, score=1))
    reader.lines("b.jsonl", row(0, other="x"))
    reader.read("a.jsonl")
    reader.read("b.jsonl")
    frame = reader.pool().frame("source", "meta.score", "meta.other").collect()
    assert frame.select("source", "meta.score", "meta.other").rows() == [
        ("a", 1, None), ("b", None, "x"),
    ]  # fmt: skip


# ------------------------------------------------------------------ identity


@pytest.fixture
def moved(reader: Reader) -> Reader:
    reader.lines("one/a.jsonl", row(0), row(1))
    reader.read("one", name="web")
    return reader


def test_the_same_ids_under_another_root_are_refused_and_nothing_is_visible(moved: Reader):
    moved.lines("two/a.jsonl", row(7), row(0, text="another collection"))
    before = moved.pool().version
    with pytest.raises(ConfigError, match="--source web-2") as refused:
        moved.read("two", name="web")
    assert refused.value.exit_code == 78
    assert str(moved.folder / "one") in str(refused.value)
    assert moved.pool().version == before
    assert set(moved.rows()) == {"r0", "r1"}
    assert moved.read("two", name="web-2")["accepted"] == 2


def test_a_copy_under_another_root_is_known(moved: Reader):
    moved.lines("two/a.jsonl", row(0), row(1), row(2))
    found = moved.read("two", name="web")
    assert (found["accepted"], found["known"]) == (1, 2)


def test_a_file_of_the_same_name_size_and_date_under_another_root_is_read(moved: Reader):
    path = moved.lines("two/a.jsonl", row(0), row(9))
    stat = (moved.folder / "one/a.jsonl").stat()
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert moved.read("two", name="web")["accepted"] == 1
    assert moved.read("two", name="web")["known"] == 2


def test_other_content_under_a_known_id_is_quarantined_as_changed(moved: Reader):
    moved.lines("one/a.jsonl", row(0), row(1, text="changed"))
    found = moved.read("one", name="web")
    assert found["quarantined"] == {"CHANGED": 1}
    assert moved.rows() == {"r0": "text 0", "r1": "text 1"}
    assert moved.codes() == [("r1", "CHANGED")]
    assert moved.read("one", name="web")["version"] == found["version"]


def test_a_new_caption_on_the_same_picture_is_a_change(reader: Reader):
    (reader.folder / "p").mkdir()
    (reader.folder / "p/a.png").write_bytes(_picture(1))
    (reader.folder / "p/a.txt").write_text("one")
    reader.read("p", columns=Columns())
    (reader.folder / "p/a.txt").write_text("two")
    assert reader.read("p", columns=Columns())["quarantined"] == {"CHANGED": 1}


@pytest.mark.parametrize("seen_before", [True, False])
def test_an_update_replaces_the_record_and_only_the_new_one_is_seen(
    moved: Reader, seen_before: bool
):
    moved.lines("one/a.jsonl", row(0), row(1, text="changed"))
    if seen_before:
        moved.read("one", name="web")
    found = moved.read("one", name="web", update=True)
    assert (found["accepted"], found["known"], found["quarantined"]) == (1, 1, {})
    assert moved.rows() == {"r0": "text 0", "r1": "changed"}
    assert moved.pool().records == 2
    pool = tables.load_pool(moved.store, "web")
    assert pool is not None
    assert pool.removed is not None
    removed = tables.read(moved.store, pool.removed)
    assert removed.rows() == [(uid_of("web", "r1"), "00000", "updated")]
    # The old version still shows the old record.
    assert moved.pool(1).frame("text").collect()["text"].to_list() == ["text 0", "text 1"]
    again = moved.read("one", name="web", update=True)
    assert (again["version"], again["known"]) == (found["version"], 2)


def test_an_updated_pool_has_the_digest_of_a_fresh_one(moved: Reader, tmp_path: Path):
    moved.lines("one/a.jsonl", row(0), row(1, text="changed"))
    moved.read("one", name="web", update=True)
    fresh = Reader(tmp_path / "fresh")
    fresh.lines("one/a.jsonl", row(0), row(1, text="changed"))
    fresh.read("one", name="web")
    pools = [tables.load_pool(r.store, "web") for r in (moved, fresh)]
    assert pools[0] is not None
    assert pools[1] is not None
    assert pools[0].digest == pools[1].digest


def test_a_picture_that_was_updated_is_shown_anew(reader: Reader):
    (reader.folder / "p").mkdir()
    for level in (1, 2):
        (reader.folder / "p/a.png").write_bytes(_picture(level))
        reader.read("p", columns=Columns(), update=True)
    found = reader.pool().images([uid_of("p", "a.png")])
    assert found["image"].to_list() == [_picture(2)]


def test_an_id_that_occurs_twice_with_other_content_is_quarantined(reader: Reader):
    reader.lines("a.jsonl", row(0), row(0, text="again"), row(1))
    assert reader.read("a.jsonl")["quarantined"] == {"DUP_ID": 1}
    assert reader.rows() == {"r0": "text 0", "r1": "text 1"}
    # Nor does an update let one of the two replace the other.
    again = reader.read("a.jsonl", update=True, rehash=True)
    assert (again["accepted"], again["known"], again["quarantined"]) == (0, 2, {"DUP_ID": 1})
    assert reader.rows()["r0"] == "text 0"


@pytest.mark.parametrize("together", [True, False])
def test_two_ids_with_one_uid_are_a_collision_that_costs_the_second(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, together: bool
):
    monkeypatch.setattr(reading, "uid_of", lambda *_: 42)
    monkeypatch.setattr(reading, "uids_of", lambda _, ids: np.full(len(ids), 42, dtype=np.uint64))
    files = ("d/a.jsonl", "d/a.jsonl") if together else ("d/a.jsonl", "d/b.jsonl")
    if together:
        reader.lines("d/a.jsonl", row(0), row(1))
        found = reader.read("d")
    else:
        for n, path in enumerate(files):
            reader.lines(path, row(n))
            found = reader.read("d")
    assert found["quarantined"] == {"UID_COLLISION": 1}
    assert reader.rows() == {"r0": "text 0"}
    assert reader.codes() == [("r1", "UID_COLLISION")]


# ------------------------------------------------------------------ meta and its types


def test_meta_keeps_every_other_column_typed(reader: Reader):
    reader.lines("a.jsonl", row(0, n=1, x=1, ok=True, tags=["a"], url="u"), row(1, n=2, x=2.5))
    reader.read("a.jsonl")
    frame = reader.pool().frame("meta.n", "meta.x", "meta.ok", "meta.tags", "meta.url").collect()
    assert frame.drop("uid").rows() == [(1, 1.0, True, '["a"]', "u"), (2, 2.5, None, None, None)]
    assert frame.schema["meta.n"] == pl.Int64
    assert frame.schema["meta.x"] == pl.Float64
    assert frame.schema["meta.ok"] == pl.Boolean


def test_two_sources_with_another_type_of_one_column_are_refused_and_nothing_is_visible(
    reader: Reader,
):
    reader.lines("a.jsonl", row(0, n=1))
    reader.lines("b.jsonl", row(0, n="x"))
    reader.read("a.jsonl")
    with pytest.raises(ConfigError, match=r"meta\.n is text here and integer in source 'a'"):
        reader.read("b.jsonl")
    assert reader.pool().version == 1
    assert reader.pool().records == 1


# ------------------------------------------------------------------ parts and payload


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("series", ["ssssssst", "sssstttt", "ssttuuvv"])
def test_a_part_that_is_full_at_the_end_of_a_block_ends_with_its_series(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, series: str
):
    monkeypatch.setattr(block, "BLOCK_RECORDS", 4)
    items = [replace(record(n), series=name) for n, name in enumerate(series)]
    reader.given(Given({"a": items}))
    pool = reader.stored()
    assert sum(part.rows for part in pool.parts) == 8
    ends = list(itertools.accumulate(part.rows for part in pool.parts))
    assert ends == [{"s": 7}.get(series[4], 4), 8]


@pytest.mark.usefixtures("small_parts")
def test_a_part_closes_when_it_is_full(reader: Reader):
    reader.lines("a.jsonl", *[row(n) for n in range(10)])
    reader.read("a.jsonl")
    pool = tables.load_pool(reader.store, "web")
    assert pool is not None
    assert [part.rows for part in pool.parts] == [4, 4, 2]
    assert [part.name for part in pool.parts] == ["00000", "00001", "00002"]
    assert list(reader.rows()) == [f"r{n}" for n in range(10)]


@pytest.mark.usefixtures("small_parts")
def test_a_part_closes_at_the_boundary_of_a_series_only(reader: Reader):
    series = ["a"] * 3 + ["b"] * 6 + ["c"] + [None] * 3
    reader.lines("a.jsonl", *[row(n, s=s, p=n) for n, s in enumerate(series)])
    reader.read("a.jsonl", columns=Columns(id="id", series="s", position="p"))
    pool = tables.load_pool(reader.store, "web")
    assert pool is not None
    assert [part.rows for part in pool.parts] == [9, 4]
    frame = reader.pool().frame("series", "position").collect()
    assert frame["series"].to_list() == series
    assert frame["position"].to_list() == list(range(13))


def _folder(reader: Reader, count: int = 5) -> dict[str, bytes]:
    files = {f"{n}.png": _picture(n * 10) for n in range(count)}
    for name, data in files.items():
        path = reader.folder / "p" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return files


def _images(reader: Reader) -> dict[str, bytes]:
    ids = reader.pool().frame("source_id").collect()
    found = ids.join(reader.pool().images(ids["uid"].to_list()), on="uid", maintain_order="left")
    return dict(found.select("source_id", "image").iter_rows())


@pytest.mark.parametrize("payload", ["copy", "reference"])
def test_a_payload_is_kept_as_it_came(reader: Reader, payload: str):
    files = _folder(reader)
    reader.read("p", columns=Columns(), payload=payload)
    assert _images(reader) == files
    frame = reader.pool().frame("digest", "width", "height").collect()
    assert set(frame["digest"]) == {digest_of(data) for data in files.values()}
    assert frame.select("width", "height").row(0) == (4, 3)
    payload_bytes = sum(
        p.stat().st_size for p in (reader.store.root / "objects/web/payload").iterdir()
    )
    holds = any(
        data in p.read_bytes()
        for data in files.values()
        for p in (reader.store.root / "objects/web/payload").iterdir()
    )
    assert payload_bytes > 0
    if payload == "reference":
        assert not holds


def test_both_kinds_of_payload_give_the_same_pool_digest(reader: Reader, tmp_path: Path):
    _folder(reader)
    reader.read("p", columns=Columns(), payload="copy")
    other = Reader(tmp_path / "other")
    other.folder.mkdir()
    shutil.copytree(reader.folder / "p", other.folder / "p")
    other.read("p", columns=Columns(), payload="reference")
    pools = [tables.load_pool(r.store, "web") for r in (reader, other)]
    assert pools[0] is not None
    assert pools[1] is not None
    assert pools[0].digest == pools[1].digest


def test_a_referenced_file_that_is_lost_or_changed_is_told_when_it_is_read(reader: Reader):
    _folder(reader)
    reader.read("p", columns=Columns(), payload="reference")
    (reader.folder / "p/1.png").write_bytes(_picture(99))
    with pytest.raises(DataError, match="not what was ingested"):
        _images(reader)
    (reader.folder / "p/1.png").unlink()
    # A view shows what is left; whoever measures or exports is told.
    assert list(_images(reader).values()).count(None) == 1
    pool = reader.pool()._pool
    with pytest.raises(DataError, match=r"SOURCE_GONE: .*1\.png"):
        list(tables.payloads(reader.store, pool.parts[0]))


def test_a_picture_among_texts_makes_a_payload_with_nulls_before_it(reader: Reader):
    _folder(reader, 1)
    shutil.copy(reader.folder / "p/0.png", reader.folder / "0.png")
    reader.lines("a.jsonl", row(0), row(1), row(2, image="0.png"), row(3))
    assert reader.read("a.jsonl")["accepted"] == 4
    found = reader.pool().images(reader.pool().frame().collect()["uid"].to_list())
    assert found["image"].to_list() == [None, None, _picture(0), None]


def test_an_undecodable_picture_is_quarantined_with_its_reason_and_digest(reader: Reader):
    _folder(reader, 2)
    cut = _picture(7)[:40]
    (reader.folder / "p/cut.png").write_bytes(cut)
    found = reader.read("p", columns=Columns())
    assert found["accepted"] == 2
    assert sum(found["quarantined"].values()) == 1
    row = reader.pool().quarantine().row(0, named=True)
    assert (row["source_id"], row["digest"]) == ("cut.png", digest_of(cut))


def test_what_a_picture_was_normalised_from_is_noted(reader: Reader):
    _folder(reader, 1)
    frame_of = reader.read("p", columns=Columns())
    assert frame_of["accepted"] == 1
    assert "CONSTANT_IMAGE" in reader.pool().frame("normalised").collect()["normalised"][0]


# ------------------------------------------------------------------ a decoder that dies or hangs


class Poison(bytes):
    """Bytes that kill the worker process that unpickles them."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


class Sleeper(bytes):
    """Bytes that hang the worker process that unpickles them."""

    def __reduce__(self) -> Any:
        return time.sleep, (3600,)


class Poisoned:
    """A source of pictures, one of which ends its worker."""

    poison: Any = Poison

    def __init__(self, root: Path, *_: Any) -> None:
        self._root = root
        self.passed_over = PassedOver()

    def units(self) -> Iterator[Unit]:
        yield Unit("all", self._root, 1, "once")

    def records(self, _unit: Unit) -> Iterator[Record | Rejected]:
        for n in range(6):
            data = _picture(n)
            yield Record(f"r{n}", f"all#{n}", image=self.poison(data) if n == 3 else data)


@pytest.mark.parametrize(
    ("poison", "code"),
    [
        (Poison, "DECODE_CRASH"),
        pytest.param(Sleeper, "DECODE_TIMEOUT", marks=pytest.mark.slow),
    ],
)
def test_a_decoder_that_dies_or_hangs_costs_one_record(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, poison: Any, code: str
):
    monkeypatch.setattr(working, "ITEM_S", 1.0)
    monkeypatch.setattr(Poisoned, "poison", poison)
    monkeypatch.setattr(ingesting, "open_source", lambda found, *_: Poisoned(found.root))
    spec = SourceSpec(Found(reader.folder, [reader.folder], "hostile"), "hostile", kind="poisoned")
    with reader.store.lease():
        found = ingest(reader.store, "web", spec)
    assert (found["accepted"], found["quarantined"]) == (5, {code: 1})
    row = reader.pool().quarantine().row(0, named=True)
    assert (row["source_id"], row["digest"]) == ("r3", digest_of(_picture(3)))


# ------------------------------------------------------------------ sources that are not there


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("nowhere", DataError, 65),
        ("no*.jsonl", DataError, 65),
        ("empty", DataError, 65),
        ("empty.jsonl", DataError, 65),
        ("odd", DataError, 65),
    ],
)
def test_a_missing_or_empty_source_is_bad_data(
    reader: Reader, path: str, kind: type[CurationError], code: int
):
    (reader.folder / "empty").mkdir()
    (reader.folder / "empty.jsonl").touch()
    (reader.folder / "odd").mkdir()
    (reader.folder / "odd/x.xyz").write_bytes(b"?")
    with pytest.raises(kind) as refused:
        reader.read(path)
    assert refused.value.exit_code == code
    assert tables.load_pool(reader.store, "web") is None


def test_an_unreadable_source_is_a_storage_error(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    path = reader.lines("a.jsonl", row(0))

    def refuse(self: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied") as refused:
        find(path)
    assert refused.value.exit_code == 74


@pytest.mark.parametrize(("pool", "name"), [("../x", "a"), ("web", "a b"), ("", "a")])
def test_a_pool_or_a_source_with_an_unsafe_name_is_refused(reader: Reader, pool: str, name: str):
    reader.lines("a.jsonl", row(0))
    with pytest.raises(ConfigError, match="use letters"):
        reader.read("a.jsonl", pool, name=name)


def test_every_later_stage_sees_live_records_only(moved: Reader):
    moved.lines("one/a.jsonl", row(0), row(1, text="changed"))
    moved.read("one", name="web", update=True)
    pool_reader = moved.pool().reader
    assert [mask.tolist() for mask in pool_reader.live] == [[True, False], [True]]
    assert pool_reader.frame(["text"])["text"].to_list() == ["text 0", "changed"]


@pytest.mark.parametrize("chunk_bytes", [30, 100, 1 << 20])
def test_repeats_are_told_whether_or_not_they_come_in_one_block(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
):
    monkeypatch.setattr(_stream, "CHUNK_BYTES", chunk_bytes)
    rows = [{"id": f"r{i}", "text": f"text {i}"} for i in range(40)]
    again = [rows[n] for n in (0, 5, 17, 39)]
    other = [{"id": f"r{n}", "text": "another"} for n in (1, 2, 30)]
    reader.lines("a.jsonl", *rows, *again, *other)
    found = reader.read("a.jsonl")
    assert (found["accepted"], found["known"], found["quarantined"]) == (40, 4, {"DUP_ID": 3})
    assert reader.pool().quarantine()["source_id"].to_list() == ["r1", "r2", "r30"]
    reader.lines("b.jsonl", *rows[:20], {"id": "r50", "text": "new"})
    found = reader.read("b.jsonl", name="a")
    assert (found["accepted"], found["known"]) == (1, 20)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"columns": Columns(id="key")}, "id was 'id', is 'key'"),
        ({"columns": Columns()}, "id was 'id', is not given"),
        ({"columns": Columns(id="id", text="alt")}, "text was not given, is 'alt'"),
        ({"columns": Columns(id="id", image="image")}, "image was not given, is 'image'"),
        ({"columns": Columns(id="id", series="s", position="p")}, "series was .*, position was "),
        ({"columns": Columns(id="id", slices=True)}, "slices was False, is True"),
        ({"payload": "reference"}, "payload was 'copy', is 'reference'"),
    ],
)
@pytest.mark.parametrize("rehash", [False, True])
def test_a_known_source_is_not_read_by_other_columns(
    reader: Reader, changed: dict[str, Any], said: str, rehash: bool
):
    more = {"key": "k", "alt": "x", "s": "s", "p": 1}
    reader.lines("a.jsonl", row(0, **more), row(1, **more | {"key": "l"}))
    reader.read("a.jsonl")
    with pytest.raises(
        ConfigError, match=f"{said}.*winnow forget --source a --pool web"
    ) as refused:
        reader.read("a.jsonl", rehash=rehash, **changed)
    assert refused.value.exit_code == 78
    assert (reader.pool().version, reader.pool().records) == (1, 2)
    assert reader.read("a.jsonl", rehash=rehash)["known"] == 2


def test_a_pool_that_does_not_know_its_columns_learns_them_with_the_next_ingest(reader: Reader):
    reader.lines("a.jsonl", row(0, alt="x"))
    reader.read("a.jsonl")
    pool = reader.stored()
    entry = {k: v for k, v in pool.sources["a"].items() if k not in ("read_by", "values")}
    tables.commit_pool(reader.store, replace(pool, version=2, sources={"a": entry}))
    assert reader.read("a.jsonl")["version"] == 3
    with pytest.raises(ConfigError, match="text was not given, is 'alt'"):
        reader.read("a.jsonl", columns=Columns(id="id", text="alt"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"payload": "cpoy"}, "payload 'cpoy': is copy or reference. Nearest: copy."),
        ({"settle_s": -1.0}, "settle -1.0: is a number of seconds"),
        ({"settle_s": float("nan")}, "settle nan: is a number of seconds"),
        ({"max_quarantined_ratio": 20.0}, "max_quarantined_ratio 20.0: is a share"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_anything_is_read(
    reader: Reader, changed: dict[str, Any], said: str
):
    reader.lines("a.jsonl", row(0))
    with pytest.raises(ConfigError) as refused:
        reader.read("a.jsonl", **changed)
    assert str(refused.value).startswith(said)
    assert not reader.store.root.exists()


@pytest.mark.usefixtures("small_parts")
def test_an_update_reads_each_part_a_fixed_number_of_times(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    rows = [row(n) for n in range(40)]
    reader.lines("a.jsonl", *rows)
    reader.read("a.jsonl")
    opened: list[str] = []
    path = Store.path

    def opening(store: Store, item: Object) -> Any:
        opened.append(item.path)
        return path(store, item)

    monkeypatch.setattr(Store, "path", opening)
    counts = []
    for changed in (1, 30):
        reader.lines(
            "a.jsonl", *[row(n, text=f"other {changed}") for n in range(changed)], *rows[changed:]
        )
        opened.clear()
        assert reader.read("a.jsonl", update=True)["accepted"] == changed
        records = [name for name in opened if "/records/" in name]
        counts.append(len(records) / len(set(records)))
    assert counts[0] == counts[1] == 2
    assert list(reader.rows().values()).count("other 30") == 30
    assert reader.pool().records == 40
