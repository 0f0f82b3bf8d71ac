"""What holds of every format of storage/sources, tried on the small source that its test makes.

`make_source(folder)` of `test_<format>.py` writes a source that holds several records and nothing
that is refused.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from contracts import methods
from contracts.errors import DataError
from storage.block import blocks
from storage.source import (
    SUFFIXES,
    WEAK_SUFFIXES,
    Columns,
    Found,
    Record,
    Rejected,
    Source,
    Unit,
    detect,
    find,
    open_source,
)

FORMATS = methods.names("storage.sources")
PAGE = Path(__file__).parents[3] / "docs" / "reasons.md"
REASONS = frozenset(re.findall(r"^\| ([A-Z0-9_]+) \|", PAGE.read_text().split("## Notes")[0], re.M))
every_format = pytest.mark.parametrize("name", FORMATS)
# Each unit of a source with what it gave.
Read = list[tuple[Unit, list[Record | Rejected]]]


def files(name: str) -> list[str]:
    """Return a name of a file with each suffix that is of the format."""
    return [f"a{s}" for table in (SUFFIXES, WEAK_SUFFIXES) for s in table.get(name, ())]


def sample(name: str, folder: Path) -> list[Path]:
    """Write the format's sample; return its files."""
    try:
        make = importlib.import_module(f"tests.storage.sources.test_{name}").make_source
    except (ImportError, AttributeError):
        pytest.fail(f"{name}: tests/storage/sources/test_{name}.py has no make_source(folder)")
    make(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def opened(name: str, found: Found) -> Source:
    return open_source(found, Columns(slices=name == "volumes"), name)


def read(source: Source) -> Read:
    return [(unit, list(source.records(unit))) for unit in source.units()]


def items_of(source: Source) -> list[Record | Rejected]:
    return [item for _, items in read(source) for item in items]


def open_files() -> list[tuple[str, int]]:
    """Return what the process has open: number and inode of each."""
    found = []
    for entry in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the list's own is closed by now
            found.append((entry.name, os.fstat(int(entry.name)).st_ino))
    return sorted(found)


# Every way to damage a file of so many bytes, by its name.
def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "garbage", rng.bytes(len(data))
    yield "doubled", data + data
    yield "a tail of garbage", data + rng.bytes(100)
    for cut in sorted({1, len(data) - 1, *rng.integers(0, len(data), 6).tolist()}):
        yield f"cut at {cut}", data[:cut]
    for at in rng.integers(0, len(data), 6).tolist():
        yield f"other bytes at {at}", data[:at] + rng.bytes(4) + data[at + 4 :]


# ------------------------------------------------------------------ what is found


def test_every_format_is_known_by_the_names_of_its_files():
    assert set(SUFFIXES) | set(WEAK_SUFFIXES) == set(FORMATS)


@every_format
def test_a_sample_is_recognised_and_every_item_of_it_is_a_record(name: str, tmp_path: Path):
    sample(name, tmp_path)
    assert detect(find(tmp_path)) == name
    items = items_of(opened(name, find(tmp_path)))
    assert len(items) > 3
    for item in items:
        assert isinstance(item, Record), item
        assert item.payload is not None or item.text is not None


# ------------------------------------------------------------------ what every source promises


@every_format
def test_units_come_sorted_and_are_told_without_opening_a_file_of_records(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sample(name, tmp_path)
    source = opened(name, find(tmp_path))
    given = [unit.path for unit in source.units()]
    real = os.open

    def watching(path, flags, *args, **options):
        assert flags & os.O_DIRECTORY, f"{path} was opened"
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", watching)
    units = list(source.units())
    monkeypatch.undo()
    assert [unit.path for unit in units] == given
    assert len({unit.name for unit in units}) == len(units)
    folders = [unit.path.parent for unit in units]
    assert folders == sorted(folders)
    for folder in folders:
        here = [unit.path for unit in units if unit.path.parent == folder]
        assert here == sorted(here)


@every_format
def test_each_item_has_a_place_and_each_record_an_id_of_its_own(name: str, tmp_path: Path):
    sample(name, tmp_path)
    records = items_of(opened(name, find(tmp_path)))
    assert len({record.where for record in records}) == len(records)
    assert len({record.source_id for record in records}) == len(records)
    series: dict[str, list[int | None]] = {}
    for record in records:
        if record.series is not None:
            series.setdefault(record.series, []).append(record.position)
    for positions in series.values():
        assert positions == list(range(len(positions)))


@every_format
def test_a_location_finds_the_bytes_of_its_payload(name: str, tmp_path: Path):
    sample(name, tmp_path)
    for record in items_of(opened(name, find(tmp_path))):
        place = record.location
        if place is not None:
            data = Path(place.path).read_bytes()
            assert data[place.offset : place.offset + place.length] == record.payload[1]


@every_format
def test_reading_again_gives_the_same_items_in_the_same_places(name: str, tmp_path: Path):
    sample(name, tmp_path)
    source = opened(name, find(tmp_path))
    first = read(source)
    assert read(source) == first
    assert read(opened(name, find(tmp_path))) == first
    # One that resumes reads the later units alone.
    later = opened(name, find(tmp_path))
    units = list(later.units())
    half = len(units) // 2
    assert [(unit, list(later.records(unit))) for unit in units[half:]] == first[half:]


@every_format
def test_the_positions_of_each_unit_are_counted_from_0_and_end_once(name: str, tmp_path: Path):
    sample(name, tmp_path)
    (tmp_path / f"empty{files(name)[0][1:]}").write_bytes(b"")
    source = opened(name, find(tmp_path))
    expected = read(source)
    found: dict[str, list[Record | Rejected]] = {}
    ended: list[Unit] = []
    for block, spans in blocks(source, source.units()):
        items = list(block.each())
        assert block.count == len(items) == sum(span.count for span in spans)
        for span in spans:
            so_far = found.setdefault(span.unit.name, [])
            assert span.first == len(so_far)
            so_far += [items.pop(0) for _ in range(span.count)]
            ended += [span.unit] * span.last
    assert ended == [unit for unit, _ in expected]
    assert found == {unit.name: items for unit, items in expected}


@every_format
def test_files_are_closed_at_the_end_and_where_reading_stops_before(name: str, tmp_path: Path):
    sample(name, tmp_path)
    # What a library opens once and keeps is no file of the source.
    read(opened(name, find(tmp_path)))
    before = open_files()
    source = opened(name, find(tmp_path))
    read(source)
    assert open_files() == before
    for unit in source.units():
        records = source.records(unit)
        next(records)
        records.close()
        assert open_files() == before


@every_format
def test_a_damaged_file_costs_its_own_unit_and_ends_in_records_or_reasons(
    name: str, tmp_path: Path
):
    damaged = sample(name, tmp_path / "damaged")
    sample(name, tmp_path / "sound")
    whole = read(opened(name, find(tmp_path)))
    for path in damaged:
        data = path.read_bytes()
        for what, broken in damages(data):
            path.write_bytes(broken)
            os.utime(path, ns=(0, 0))
            before, told = open_files(), f"{path.name}, {what}"
            found = read(opened(name, find(tmp_path)))
            assert open_files() == before, told
            assert read(opened(name, find(tmp_path))) == found, told
            assert [pair for pair in found if pair[0].name.startswith("sound")] == [
                pair for pair in whole if pair[0].name.startswith("sound")
            ], told
            units = [unit for unit, _ in whole]
            assert all(pair in whole for pair in found if pair[0] in units), told
            for _, items in found:
                check_items(items, told)
        path.write_bytes(data)


@every_format
def test_a_source_that_is_one_damaged_file_ends_in_items_or_in_an_error_that_names_it(
    name: str, tmp_path: Path
):
    made = methods.load("storage.sources", name)
    said = (made, made.records, getattr(made, "blocks", None))
    declared = any("DataError: " in (of.__doc__ or "") for of in said)
    for path in sample(name, tmp_path):
        for what, broken in damages(path.read_bytes()):
            path.write_bytes(broken)
            before, told = open_files(), f"{path.name}, {what}"
            error = ""
            try:
                check_items(items_of(opened(name, find(path))), told)
            except DataError as raised:
                error = str(raised)
            assert not error or (path.name in error and declared), told
            assert open_files() == before, told


def check_items(items: list[Record | Rejected], told: str) -> None:
    """Each is a record, or a rejection with a reason of the page."""
    for item in items:
        assert isinstance(item, Record | Rejected), told
        assert isinstance(item, Record) or item.code in REASONS, f"{told}: {item}"


# ------------------------------------------------------------------ files that one does not trust


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
def test_a_disk_that_does_not_answer_is_told_from_damage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # pyarrow asks for the size first, zero here; test_parquet.py has it fail where it reads.
    real = os.open
    for file in files(name):
        path = tmp_path / file
        path.write_bytes(b"x")
        source = opened(name, find(tmp_path))
        units = list(source.units())

        def failing(place, *args, file=file, **options):
            # Its first byte cannot be read: a true EIO.
            return real("/proc/self/mem" if place == file else place, *args, **options)

        monkeypatch.setattr(os, "open", failing)
        items = [item for unit in units for item in source.records(unit)]
        monkeypatch.setattr(os, "open", real)
        assert [(i.code, i.detail) for i in items] == [("UNREADABLE", "Input/output error")], file
        path.unlink()


@every_format
def test_a_link_below_the_named_folder_is_followed_and_another_is_called_one(
    name: str, tmp_path: Path
):
    for folder in ("hub", "plain", "snap"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hub/blob").write_text("text\na cat\n")

    def codes(folder: str, follow_links: Path | None = None) -> list[str]:
        items = items_of(opened(name, find(tmp_path / folder, follow_links)))
        return [getattr(item, "code", "a record") for item in items]

    for file in files(name):
        plain, link = tmp_path / "plain" / file, tmp_path / "snap" / file
        plain.write_text("text\na cat\n")
        link.symlink_to("../hub/blob")
        assert codes("snap") == ["SYMLINK"], file
        assert codes("snap", tmp_path / "plain") == ["SYMLINK"], file
        assert codes("snap", tmp_path / "hub") == codes("plain") != ["SYMLINK"], file
        plain.unlink()
        link.unlink()


@every_format
def test_a_pipe_is_refused_unread_and_a_file_of_another_kind_is_counted(name: str, tmp_path: Path):
    (tmp_path / "b.xyz").write_bytes(b"x")
    for file in files(name):
        os.mkfifo(tmp_path / file)
        source = opened(name, find(tmp_path))
        assert [item.code for item in items_of(source)] == ["SPECIAL_FILE"], file
        assert source.passed_over.rows() == [(".xyz", "not read", 1, ["b.xyz"])], file
        (tmp_path / file).unlink()
