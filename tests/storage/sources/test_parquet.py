from __future__ import annotations

import subprocess
import sys
import time as clock
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import ConfigError, DataError
from storage import walk
from storage.source import Columns, Record, Refused, Rejected, find
from storage.sources import parquet
from storage.sources.parquet import Parquet

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    image = pa.array([{"bytes": PNG, "path": f"{n}.png"} for n in range(9)], IMAGE)
    columns = {"image": image, "text": [f"text {n}" for n in range(9)], "n": list(range(9))}
    _write(folder / "a.parquet", columns, write_page_checksum=True)
    _write(folder / "b.parquet", columns | {"x": [[0.5, None]] * 9}, row_group_size=4)


def _read(path: Path | str, **columns) -> list[Record | Rejected]:
    found = find(path)
    source = Parquet(found.root, found.paths, Columns(**columns))
    return [item for unit in source.units() for item in source.records(unit)]


def _write(path: Path, columns: dict, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def _codes(items: list[Record | Rejected]) -> list[tuple[str, str]]:
    return [(item.where, item.code) for item in items if isinstance(item, Rejected)]


def test_a_row_is_a_record_named_by_file_and_row(tmp_path):
    _write(tmp_path / "data/0.parquet", {"text": ["a", "b"], "n": [1, None]})
    _write(tmp_path / "data/sub/1.parquet", {"text": ["c"], "n": [3]})
    assert _read(tmp_path / "data") == [
        Record("0.parquet#0", "0.parquet#0", text="a", meta={"n": 1}),
        Record("0.parquet#1", "0.parquet#1", text="b"),
        Record("sub/1.parquet#0", "sub/1.parquet#0", text="c", meta={"n": 3}),
    ]


def test_a_unit_is_a_file(tmp_path):
    _write(tmp_path / "0.parquet", {"text": ["a"]})
    (unit,) = Parquet(tmp_path, [tmp_path], Columns()).units()
    assert (unit.name, unit.size_bytes) == ("0.parquet", (tmp_path / "0.parquet").stat().st_size)


def test_ids_come_from_the_column_that_is_named(tmp_path):
    _write(tmp_path / "a.parquet", {"uid": ["x", None, "z"], "text": ["1", "2", "3"]})
    items = _read(tmp_path, id="uid")
    assert [item.source_id for item in items] == ["x", None, "z"]
    assert _codes(items) == [("a.parquet#1", "NO_ID")]
    assert items[0].meta == {}


def test_images_come_as_the_struct_of_hugging_face_or_as_bytes(tmp_path):
    struct = pa.array([{"bytes": PNG, "path": "a.jpg"}, {"bytes": None, "path": "b.png"}], IMAGE)
    _write(tmp_path / "hf/0.parquet", {"image": struct, "caption": ["one", "two"]})
    first, second = _read(tmp_path / "hf")
    assert (first.image, first.text, first.notes) == (PNG, "one", ("EXT_MISMATCH",))
    assert second.code == "NO_IMAGE"
    _write(tmp_path / "raw/0.parquet", {"jpg": pa.array([PNG, b""]), "txt": ["one", None]})
    assert [(r.image, r.text) for r in _read(tmp_path / "raw")] == [(PNG, "one"), (b"", None)]


def test_every_type_arrives_as_a_value_of_python(tmp_path):
    time = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    nanos = pa.array([int(time.timestamp()) * 10**9 + 678901234], pa.timestamp("ns", "Asia/Tokyo"))
    columns = {
        "text": pa.array(["a"]).dictionary_encode(),
        "label": pa.array(["cat"]).dictionary_encode(),
        "large": pa.array(["x"], pa.large_string()),
        "view": pa.array(["x"], pa.string_view()),
        "nanos": nanos,
        "day": pa.array([20000], pa.date32()),
        "wait": pa.array([1_500_000_001], pa.duration("ns")),
        "price": pa.array([Decimal("1.25")], pa.decimal128(9, 2)),
        "count": pa.array([2**63], pa.uint64()),
        "half": pa.array([np.float16(0.5)], pa.float16()),
        "nested": pa.array([{"a": [None, {"b": 1}]}]),
        "none": pa.nulls(1),
        "pairs": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "code": pa.array([bytes(16)], pa.uuid()),
    }
    _write(tmp_path / "a.parquet", columns)
    (record,) = _read(tmp_path)
    assert record.text == "a"
    assert record.notes == ("NANOSECONDS_CUT",)
    assert record.meta == {
        "label": "cat",
        "large": "x",
        "view": "x",
        "nanos": time.replace(tzinfo=None),
        "day": datetime(2024, 10, 4).date(),
        "wait": 1.5,
        "price": 1.25,
        "count": 2**63,
        "half": 0.5,
        "nested": {"a": [None, {"b": 1}]},
        "pairs": [["k", 1]],
        "code": "00000000-0000-0000-0000-000000000000",
    }


def test_types_widen_over_the_files(tmp_path):
    _write(tmp_path / "0.parquet", {"text": ["a"], "n": [1], "m": pa.nulls(1)})
    _write(
        tmp_path / "1.parquet",
        {"m": ["x"], "n": [1.5], "text": pa.array(["b"]).cast("large_string")},
    )
    first, second = _read(tmp_path)
    assert (first.meta, second.meta) == ({"n": 1.0}, {"n": 1.5, "m": "x"})
    assert isinstance(first.meta["n"], float)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (
            {"text": ["b"], "n": ["1"]},
            "1.parquet: the column 'n' is string, in .*0.parquet it is int64",
        ),
        (
            {"text": ["b"], "n": [[1]]},
            r"1.parquet: the column 'n' is list<element: int64>, in .*0.parquet it is int64",
        ),
    ],
)
def test_types_that_nothing_unites_are_an_error_before_the_first_record(tmp_path, columns, found):
    _write(tmp_path / "0.parquet", {"text": ["a"], "n": [1]})
    _write(tmp_path / "1.parquet", columns)
    source = Parquet(tmp_path, [tmp_path], Columns())
    with pytest.raises(ConfigError, match=found) as error:
        next(source.records(next(source.units())))
    assert error.value.exit_code == 78


def test_a_type_that_nothing_unites_names_the_two_files_it_stands_in(tmp_path):
    for number, values in enumerate((pa.nulls(1), [{"x": [1]}], [{"y": 1}], [{"x": ["a"]}])):
        _write(tmp_path / f"{number}.parquet", {"text": ["a"], "n": values})
    with pytest.raises(ConfigError, match=r"3\.parquet: the column 'n' .*1\.parquet it is struct"):
        _read(tmp_path)


def test_a_column_that_a_file_lacks_is_null_there(tmp_path):
    _write(tmp_path / "0.parquet", {"text": ["a"], "url": ["u"]})
    _write(tmp_path / "1.parquet", {"n": [1], "caption": ["b"]})
    _write(tmp_path / "2.parquet", {"n": [2.5], "text": ["c"]})
    assert [(r.text, r.meta) for r in _read(tmp_path)] == [
        ("a", {"url": "u"}),
        ("b", {"n": 1.0}),
        ("c", {"n": 2.5}),
    ]
    with pytest.raises(ConfigError, match=r"source\.id: .*1\.parquet has no column 'url'"):
        _read(tmp_path, id="url")


UINT64 = pa.array([2**64 - 1], pa.uint64())
INT64 = pa.array([-7], pa.int64())


def _nested(values: pa.Array) -> dict[str, pa.Array]:
    structs = pa.StructArray.from_arrays([values], names=["k"])
    return {
        "plain": values,
        "list": pa.ListArray.from_arrays([0, 1], values),
        "struct": pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1], structs)], ["in"]),
        "map": pa.MapArray.from_arrays([0, 1], pa.array(["k"]), values),
        "dictionary": values.dictionary_encode(),
    }


def _held(value) -> dict:
    held = {"list": [value], "struct": {"in": [{"k": value}]}, "map": [["k", value]]}
    return {"plain": value, **held, "dictionary": value}


@pytest.mark.parametrize("first", ["uint64", "int64"])
def test_no_integer_wraps_where_files_differ_in_their_sign_at_any_depth(tmp_path, first):
    arrays = [UINT64, INT64] if first == "uint64" else [INT64, UINT64]
    for number, values in enumerate(arrays):
        _write(tmp_path / f"{number}.parquet", {"text": ["x"], **_nested(values)})
    assert [r.meta for r in _read(tmp_path)] == [_held(values[0].as_py()) for values in arrays]
    assert [r.source_id for r in _read(tmp_path, id="plain")] == [str(v[0]) for v in arrays]


@pytest.mark.parametrize("depth", ["plain", "list", "struct", "map", "dictionary"])
def test_an_integer_that_no_double_holds_is_an_error_beside_doubles(tmp_path, depth):
    for number, value in enumerate((2**53, 0.5, 2**53 + 1)):
        column = _nested(pa.array([value]))[depth]
        _write(tmp_path / f"{number}.parquet", {"text": ["x"], "v": column})
    source = Parquet(tmp_path, [tmp_path], Columns())
    *units, last = source.units()
    held = [[r.meta["v"] for r in source.records(unit)] for unit in units]
    assert held == [[_held(2.0**53)[depth]], [_held(0.5)[depth]]]
    message = r"2\.parquet: the column 'v' holds .*9007199254740993.*1\.parquet it is .*double"
    with pytest.raises(ConfigError, match=message):
        list(source.records(last))


def test_ids_of_integers_stay_exact_and_separate_beside_a_file_of_floats(tmp_path):
    _write(tmp_path / "a.parquet", {"text": ["a", "c"], "v": [2**53, 2**53 + 1]})
    _write(tmp_path / "b.parquet", {"text": ["b", "d", "e"], "v": [7.0, 0.5, 2.0**53]})
    items = _read(tmp_path, id="v")
    assert [i.source_id for i in items] == [str(2**53), str(2**53 + 1), "7", None, None]
    assert _codes(items) == [("b.parquet#1", "NO_ID"), ("b.parquet#2", "NO_ID")]


def test_a_column_of_a_list_that_is_empty_in_one_file_unites_with_any_list(tmp_path):
    _write(tmp_path / "0.parquet", {"text": ["a"], "v": pa.array([[]], pa.list_(pa.null()))})
    _write(tmp_path / "1.parquet", {"text": ["b"], "v": [[{"k": None}]]})
    _write(tmp_path / "2.parquet", {"text": ["c"], "v": pa.array([[{"k": [1.5]}]])})
    held = [r.meta["v"] for r in _read(tmp_path)]
    assert held == [[], [{"k": None}], [{"k": [1.5]}]]


def test_a_column_that_the_recipe_names_and_no_file_has_is_an_error(tmp_path):
    _write(tmp_path / "0.parquet", {"captoin": ["a"]})
    with pytest.raises(ConfigError, match=r"source\.text: .* 'caption'\. Nearest: captoin"):
        _read(tmp_path, text="caption")


def test_a_column_name_that_occurs_twice_is_an_error_that_names_it(tmp_path):
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: the column 'text' occurs twice") as error:
        _read(tmp_path)
    assert error.value.exit_code == 65


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _torn(data: bytes) -> bytes:
    at = data.index(b"good 7")
    return data[: at - 200] + b"\xff" * 400 + data[at + 200 :]


DAMAGED = {
    "cut": _cut,
    "zero bytes": lambda _: b"",
    "wrong magic": lambda data: b"XXXX" + data[4:-4] + b"XXXX",
    "zeros": lambda data: bytes(len(data)),
    "header only": lambda _: b"PAR1",
    "torn page": _torn,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_rejected_among_many_and_an_error_alone(tmp_path, kind):
    texts = {"text": [f"good {i}" for i in range(20)]}
    plain = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    good = _write(tmp_path / "0.parquet", texts, **plain)
    expected = _read(good)
    (tmp_path / "1.parquet").write_bytes(DAMAGED[kind](good.read_bytes()))
    items = _read(tmp_path)
    assert [item for item in items if isinstance(item, Record)] == expected
    assert _codes(items) == [("1.parquet", "SOURCE_UNREADABLE")]
    with pytest.raises(DataError, match=r"1\.parquet: is no sound Parquet file") as error:
        _read(tmp_path / "1.parquet")
    assert error.value.exit_code == 65


def test_a_disk_that_fails_under_pyarrow_is_no_damage_of_its_file(tmp_path, monkeypatch):
    _write(tmp_path / "a.parquet", {"text": ["a", "b"]})
    source = Parquet(tmp_path, [tmp_path], Columns())

    def failing(*_):
        raise Refused("UNREADABLE", "Input/output error")

    monkeypatch.setattr(walk._File, "readinto", failing)
    [item] = (item for unit in source.units() for item in source.records(unit))
    assert (item.code, item.passing) == ("UNREADABLE", True)


def test_a_flipped_bit_is_found_where_pages_have_checksums(tmp_path):
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    path = _write(tmp_path / "a.parquet", {"text": ["a needle here"]}, **options)
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle"))
    with pytest.raises(DataError, match="no sound"):
        _read(path)


def test_an_empty_table_has_no_records(tmp_path):
    _write(tmp_path / "a.parquet", {"text": pa.array([], pa.string())})
    assert _read(tmp_path) == []


BAD_ROWS = {
    "not utf-8": (pa.array([b"caf\xe9"]).cast(pa.string(), safe=False), "CAPTION_NOT_UTF8"),
    "no utf-8, binary": (pa.array([b"caf\xe9"]), "CAPTION_NOT_UTF8"),
    "empty": (pa.array(["\u200b"]), "CAPTION_EMPTY"),
    "too long": (pa.array(["x" * ((16 << 20) + 1)]), "CAPTION_TOO_LONG"),
    "too large": (pa.array(["x" * ((64 << 20) + 1)]), "ROW_TOO_LARGE"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_rejected_and_leaves_the_others_alone(tmp_path, kind):
    value, code = BAD_ROWS[kind]
    texts = pa.array([f"good {i}" for i in range(20)]).cast(value.type)
    table = pa.concat_arrays([texts[:10], value, texts[10:]])
    _write(tmp_path / "a.parquet", {"text": table})
    items = _read(tmp_path)
    assert [item.text for item in items if isinstance(item, Record)] == texts.cast(
        "string"
    ).to_pylist()
    assert _codes(items) == [("a.parquet#10", code)]


def test_a_time_that_no_calendar_has_costs_its_row(tmp_path):
    times = pa.array([0, 2**62, 1], pa.timestamp("us"))
    _write(tmp_path / "a.parquet", {"text": ["a", "b", "c"], "t": times})
    items = _read(tmp_path)
    assert _codes(items) == [("a.parquet#1", "VALUE_RANGE")]
    assert items[2].meta == {"t": datetime(1970, 1, 1) + timedelta(microseconds=1)}


END = 2**63 - 1


@pytest.mark.parametrize("unit", [pa.timestamp("ms"), pa.timestamp("ms", "UTC"), pa.duration("s")])
@pytest.mark.parametrize("depth", ["plain", "list", "struct", "map"])
def test_a_time_that_64_bits_of_microseconds_do_not_hold_costs_its_row(tmp_path, unit, depth):
    values = [10**9, END, -END - 1, None, 10**9]
    columns = [_nested(pa.array([value], unit))[depth] for value in values]
    texts = [f"row {n}" for n in range(5)]
    _write(tmp_path / "a.parquet", {"text": texts, "v": pa.concat_arrays(columns)})
    items = _read(tmp_path)
    assert _codes(items) == [("a.parquet#1", "VALUE_RANGE"), ("a.parquet#2", "VALUE_RANGE")]
    assert items[0].meta == items[4].meta != {}
    assert [r.notes for r in items if isinstance(r, Record)] == [()] * 3


def test_a_time_is_cut_to_microseconds_with_a_note_on_its_row_alone(tmp_path):
    times = pa.array([1_000, 1_001, 2_000], pa.timestamp("ns"))
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], times)
    _write(tmp_path / "a.parquet", {"text": ["a", "b", "c"], "t": times, "l": lists})
    items = _read(tmp_path)
    assert [r.notes for r in items] == [(), ("NANOSECONDS_CUT",), ()]
    assert items[1].meta == {
        "t": datetime(1970, 1, 1, 0, 0, 0, 1),
        "l": ["1970-01-01T00:00:00.000001"],
    }


def test_a_decimal_of_more_digits_than_a_double_holds_costs_its_row(tmp_path):
    digits = ["1.250000000000000000", "0.123456789012345678", "0.1"]
    values = pa.array([Decimal(d) for d in digits], pa.decimal128(38, 18))
    _write(tmp_path / "a.parquet", {"text": ["a", "b", "c"], "d": values})
    items = _read(tmp_path)
    assert _codes(items) == [("a.parquet#1", "VALUE_RANGE")]
    assert [items[0].meta["d"], items[2].meta["d"]] == [1.25, 0.1]


def test_a_table_of_5_000_columns_takes_time_linear_in_its_cells(tmp_path):
    def seconds(columns: int) -> float:
        path = tmp_path / f"{columns}.parquet"
        _write(path, {"text": ["x"], **{f"c{n}": [n] for n in range(columns)}})
        started = clock.process_time()
        (record,) = _read(path)
        assert record.meta[f"c{columns - 1}"] == columns - 1
        return clock.process_time() - started

    # Where time was quadratic, ten times the columns took a hundred times as long.
    assert seconds(5_000) < 30 * seconds(500)


def test_a_column_that_unfolds_without_measure_is_rejected_before_its_first_row(tmp_path):
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), ["x" * 1000])
    path = _write(tmp_path / "bomb.parquet", {"text": values}, store_schema=False)
    assert path.stat().st_size < 110_000
    _write(tmp_path / "good.parquet", {"text": ["a"]})
    items = _read(tmp_path)
    assert _codes(items) == [("bomb.parquet", "BOMB_ROWS")]
    assert len(items) == 2


def test_a_bomb_behind_small_rows_is_stopped_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FREE_BYTES", 1 << 20)
    values = pa.DictionaryArray.from_arrays(
        pa.array([0] * 1000 + [1] * 10**5, pa.int32()), ["short", "x" * 1000]
    )
    path = _write(tmp_path / "bomb.parquet", {"text": values}, store_schema=False)
    items = _read(f"{path.parent}/*")
    assert _codes(items[-1:]) == [("bomb.parquet", "BOMB_ROWS")]
    cap = max(1 << 20, 1000 * path.stat().st_size)
    assert sum(len(item.text) for item in items[:-1]) <= cap


def test_a_file_that_changes_while_it_is_read_says_so(tmp_path):
    path = _write(tmp_path / "a.parquet", {"text": [f"{i}" for i in range(3000)]})
    source = Parquet(tmp_path, [tmp_path], Columns())
    records = source.records(next(source.units()))
    first = next(records)
    with path.open("ab") as file:
        file.write(b"more")
    rest = list(records)
    assert first.text == "0"
    assert _codes(rest) == [("a.parquet", "CHANGED_WHILE_READING")]


_PEAK = """
import sys
from pathlib import Path
from storage.source import Columns
from storage.sources.parquet import Parquet
path = Path(sys.argv[1])
source = Parquet(path.parent, [path], Columns())
count = sum(len(r.image) for u in source.units() for r in source.records(u))
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(count, peak)
"""


def test_memory_stays_flat_for_a_file_ten_times_as_large(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    peaks = []
    for rows in (2_000, 20_000):
        path = tmp_path / f"{rows}.parquet"
        images = [noise[i * 37 : i * 37 + 5_000] for i in range(rows)]
        # One row group, of 10 MB and of 100 MB.
        pq.write_table(pa.table({"image": images}), path, row_group_size=rows, compression="none")
        command = [sys.executable, "-c", _PEAK, str(path)]
        run = subprocess.run(command, capture_output=True, check=True, text=True)
        size, peak = map(int, run.stdout.split())
        assert size == rows * 5_000
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20_000, "KiB"


@pytest.mark.data
def test_the_emoji_are_read_whole(data):
    path = data / "emoji" / "emoji.parquet"
    items = _read(path)
    theirs = pq.read_table(path).to_pylist()
    assert len(items) == len(theirs) == 12_565
    for number, (record, row) in enumerate(zip(items, theirs, strict=True)):
        assert record.source_id == f"emoji.parquet#{number}"
        assert record.image == row.pop("image")["bytes"]
        assert record.text == row.pop("caption")
        assert record.licence == row.pop("licence")
        assert record.meta == {name: value for name, value in row.items() if value is not None}
        assert record.notes == ()
