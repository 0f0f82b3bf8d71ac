from __future__ import annotations

import base64
import csv
import gzip
import io
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from storage.source import Columns, Record, Rejected, find
from storage.sources._stream import CHUNK_BYTES, Stream
from storage.sources.csv_text import CsvText, rows

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(60))
ALIASES = Columns()
HEADER = b"text,n\n"
GOOD = [b"good %d,%d\n" % (n, n) for n in range(20)]
QUOTED = [b'"good %d","%d"\n' % (n, n) for n in range(20)]


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.csv").write_bytes(b"".join([HEADER, *GOOD[:10], b'"two\nlines, ""quoted""",7\n']))
    packed = gzip.compress(b"".join([HEADER, *QUOTED]).replace(b",", b"\t"), mtime=0)
    (folder / "b.tsv.gz").write_bytes(packed)


def read(
    folder: Path, content: bytes, name: str = "a.csv", columns: Columns = ALIASES
) -> list[Record | Rejected]:
    (folder / name).write_bytes(content)
    return read_all(folder, columns)


def read_all(path: Path, columns: Columns = ALIASES) -> list[Record | Rejected]:
    found = find(path)
    source = CsvText(found.root, found.paths, columns)
    return [item for unit in source.units() for item in source.records(unit)]


def records(items: list[Record | Rejected]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def codes(items: list[Record | Rejected]) -> list[str]:
    return [item.code for item in items if isinstance(item, Rejected)]


def check_good(items: list[Record | Rejected], code: str, count: int = 1) -> None:
    """The 20 good rows are what they are without the bad one, which has its code."""
    found = [r for r in records(items) if r.text is not None and r.text.startswith("good")]
    assert [(r.text, r.meta, r.notes) for r in found] == [
        (f"good {n}", {"n": n}, ()) for n in range(20)
    ]
    assert codes(items) == [code] * count


def amid(bad: bytes, good: list[bytes] = GOOD) -> bytes:
    return b"".join([HEADER, *good[:10], bad, *good[10:]])


def column(folder: Path, values: list[str]) -> list[object]:
    content = "text,v\n" + "".join(f"t,{value}\n" for value in values)
    return [r.meta.get("v") for r in records(read(folder, content.encode()))]


# ------------------------------------------------------------------ what a row is


def test_a_row_is_a_record_of_its_text_and_its_other_columns(tmp_path: Path):
    content = b'url,caption,n\nhttp://x,"a ""cat"", two\nlines",4\nhttp://y,5" pipe,\n'
    assert read(tmp_path, content) == [
        Record("a.csv#0", "a.csv#0", text='a "cat", two\nlines', meta={"url": "http://x", "n": 4}),
        Record("a.csv#1", "a.csv#1", text='5" pipe', meta={"url": "http://y"}),
    ]


def test_ids_count_rows_from_0_bad_and_blank_ones_too(tmp_path: Path):
    items = read(tmp_path, b"text,n\n\na,1\nb\n\r\nc,3\n")
    assert [i.source_id for i in items] == ["a.csv#1", "a.csv#2", "a.csv#4"]


def test_the_id_is_the_columns_value_as_it_stands(tmp_path: Path):
    items = read(tmp_path, b"text,k\na,007\nb,0.50\nc,\n", columns=Columns(id="k"))
    assert [i.source_id for i in items] == ["007", "0.50", None]
    assert codes(items) == ["NO_ID"]


def test_tabs_separate_a_tsv_and_semicolons_a_csv_without_a_comma_in_its_header(tmp_path: Path):
    for name, content in (("a.tsv", b"text\tn\na,b\t1\n"), ("b.csv", b"text;n\na,b;1\n")):
        (tmp_path / name).write_bytes(content)
        assert [(r.text, r.meta) for r in records(read_all(tmp_path / name))] == [("a,b", {"n": 1})]


def test_a_column_that_the_header_lacks_is_an_error_of_the_recipe(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"'captoin'.*caption"):
        read(tmp_path, b"caption\na\n", columns=Columns(text="captoin"))


def test_an_image_is_base64_or_a_path_below_the_files_folder(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(PNG)
    packed = base64.b64encode(PNG)
    items = read(tmp_path, b"image,text\na.png,x\n" + packed + b",y\n../a.png,z\nno.png,w\n")
    assert [(r.image, r.text) for r in records(items)] == [(PNG, "x"), (PNG, "y")]
    assert codes(items) == ["PATH_TRAVERSAL", "SOURCE_GONE"]


# ------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", "", "0"], [1, -2, None, 0]),
        (["1", "2.5"], [1.0, 2.5]),
        (["0.5", "1e-07"], [0.5, 1e-07]),
        (["0.50", "0.25"], [0.5, 0.25]),
        (["007", "1"], ["007", "1"]),
        (["-0"], ["-0"]),
        (["+1"], ["+1"]),
        (["1_000"], ["1_000"]),
        (["1e5"], ["1e5"]),
        (["nan", "1.5"], ["nan", "1.5"]),
        (["inf"], ["inf"]),
        (["1.10", "1.1"], ["1.10", "1.1"]),
        (["9223372036854775807"], [2**63 - 1]),
        (["9223372036854775808"], ["9223372036854775808"]),
        (["12345678901234567890.5"], ["12345678901234567890.5"]),
        (["NA", "null", "None", "", "true"], ["NA", "null", "None", None, "true"]),
        (["2024-01-01"], ["2024-01-01"]),
        (["\u0661"], ["\u0661"]),
    ],
)
def test_d15_and_c16_values_are_text_but_numbers_that_come_back_the_same(
    tmp_path: Path, values: list[str], expected: list[object]
):
    found = column(tmp_path, values)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_a_type_is_settled_by_the_first_1000_rows_and_a_later_misfit_stays_text(tmp_path: Path):
    found = column(tmp_path, [*map(str, range(1000)), "007", "5"])
    assert found == [*range(1000), "007", 5]
    assert column(tmp_path, [*map(str, range(999)), "x", "5"])[-2:] == ["x", "5"]


def test_a_text_of_digits_stays_text(tmp_path: Path):
    assert [r.text for r in records(read(tmp_path, b"text\n1\n22\n"))] == ["1", "22"]


# ------------------------------------------------------------------ bad rows


@pytest.mark.parametrize("bad", [b"1,2,3\n", b"6\n", b'"a,b"\n', b'x,"y\nz",w\n'])
@pytest.mark.parametrize("good", [GOOD, QUOTED])
def test_d13_a_row_of_another_width_costs_itself(tmp_path: Path, bad: bytes, good: list[bytes]):
    check_good(read(tmp_path, amid(bad, good)), "CSV_RAGGED")


@pytest.mark.parametrize("bad", [b'"x,1\n', b'"x"y,1\n', b'x,"1\n', b'"x""\n', b'"x" ,1\n'])
@pytest.mark.parametrize("good", [GOOD, QUOTED])
def test_d14_a_bad_quote_costs_its_line(tmp_path: Path, bad: bytes, good: list[bytes]):
    items = read(tmp_path, amid(bad, good))
    check_good(items, "CSV_QUOTE")
    assert items[10].source_id == "a.csv#10"


def test_d14_a_quote_that_is_open_at_the_end_costs_its_line(tmp_path: Path):
    check_good(read(tmp_path, b"".join([HEADER, *GOOD, b'"x,1'])), "CSV_QUOTE")


def test_many_open_quotes_take_linear_time(tmp_path: Path):
    bad = b'"x,1\n' * 2000 + b'x""y,2\n' * 2000
    items = read(tmp_path, amid(bad))
    assert codes(items) == ["CSV_QUOTE"] * 2000
    assert len(records(items)) == 2020


@pytest.mark.parametrize("many", [False, True])
def test_d16_a_header_that_names_a_column_twice_is_an_error(tmp_path: Path, many: bool):
    if many:
        (tmp_path / "b.csv").write_bytes(HEADER)
    with pytest.raises(DataError, match=r"a\.csv: CSV_DUP_HEADER: the column 'a'"):
        read(tmp_path, b"a,b,a\n1,2,3\n")


def test_d17_a_nul_is_removed_and_noted(tmp_path: Path):
    items = read(tmp_path, amid(b"x\0y,z\0\n"))
    assert (items[10].text, items[10].meta, items[10].notes) == (
        "xy",
        {"n": "z"},
        ("CONTROL_CHARS",),
    )
    assert sum(bool(r.notes) for r in records(items)) == 1


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"caf\xe9,1\n", "CAPTION_NOT_UTF8"),
        (b'"caf\xe9\nx",1\n', "CAPTION_NOT_UTF8"),
        (b",1\n", "CAPTION_EMPTY"),
        (b"\xe2\x80\x8b,1\n", "CAPTION_EMPTY"),
    ],
)
def test_a_text_that_cannot_be_taken_costs_its_row(tmp_path: Path, bad: bytes, code: str):
    check_good(read(tmp_path, amid(bad)), code)


def test_d11_a_row_above_64_mebibytes_costs_itself(tmp_path: Path):
    check_good(read(tmp_path, amid(b"x" * (65 << 20) + b",1\n")), "ROW_TOO_LARGE")
    lines = b'"' + b"x" * (40 << 20) + b"\n" + b"y" * (40 << 20) + b",1\n"
    items = read(tmp_path, amid(lines))
    assert codes(items) == ["CSV_QUOTE", "CAPTION_TOO_LONG"]


def test_d09_an_empty_file_has_no_rows_nor_has_a_header_alone(tmp_path: Path):
    assert read(tmp_path, b"") == []
    assert read(tmp_path, HEADER) == []


def test_a_header_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'"text,n\nx,1\n')
    with pytest.raises(DataError, match=r"a\.csv: no header: a quote is not closed"):
        read_all(tmp_path / "a.csv")
    check_good(read(tmp_path, b"".join([HEADER, *GOOD]), "b.csv"), "SOURCE_UNREADABLE")


def test_d10_where_lines_end_with_newline_or_crlf_a_lone_cr_is_text(tmp_path: Path):
    items = read(tmp_path, b'text,n\r\n"a\r\nb",1\r\nc\rd,2\r\n')
    assert [(r.text, r.meta) for r in records(items)] == [("a\nb", {"n": 1}), ("c\nd", {"n": 2})]


CR = b'text,n\rhello,1\r"two\rlines",2\r\r"a ""b""\n",3\r\nend,4'


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.tsv", "a.tsv.gz"])
def test_d10_where_the_header_ends_with_a_lone_cr_each_row_may(tmp_path: Path, name: str):
    content = CR.replace(b",", b"\t") if "tsv" in name else CR
    pack = {"gz": gzip.compress, "st": zstandard.compress}.get(name[-2:], bytes)
    items = read(tmp_path, pack(content), name)
    assert [(r.source_id, r.text, r.meta["n"]) for r in records(items)] == [
        (f"{name}#0", "hello", 1),
        (f"{name}#1", "two\nlines", 2),
        (f"{name}#3", 'a "b"\n', 3),
        (f"{name}#4", "end", 4),
    ]
    assert codes(items) == []


def test_d10_a_cr_in_a_quoted_value_stays_and_one_between_two_reads_ends_one_line(tmp_path: Path):
    content = b'text,note\rx,"a\rb\r\nc"\r'
    padding = b"p" * (CHUNK_BYTES - len(content) - 4) + b",1"
    items = read(tmp_path, content + padding + b"\r\r\ny,2\r")
    assert records(items)[0].meta == {"note": "a\rb\r\nc"}
    # Row 2 is blank; its end, a carriage return and a newline, lies across two reads.
    assert [r.source_id for r in records(items)] == ["a.csv#0", "a.csv#1", "a.csv#3"]


def test_d10_utf16_with_lone_crs_is_read(tmp_path: Path):
    items = read(tmp_path, CR.decode().encode("utf-16"))
    assert [r.meta["n"] for r in records(items)] == [1, 2, 3, 4]


def test_a_table_of_20_000_columns_takes_time_linear_in_its_cells(tmp_path: Path):
    def seconds(columns: int) -> float:
        names = ",".join(["text", *(f"c{n}" for n in range(columns))])
        row = ",".join(["x", *(str(n) for n in range(columns))])
        started = time.process_time()
        [record] = records(read(tmp_path, f"{names}\n{row}\n".encode()))
        assert record.meta[f"c{columns - 1}"] == columns - 1
        return time.process_time() - started

    # Where time was quadratic, ten times the columns took a hundred times as long.
    few, many = (min(seconds(columns) for _ in range(3)) for columns in (2_000, 20_000))
    assert many < 30 * few


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_c02_and_c03_a_mark_says_the_encoding(tmp_path: Path, encoding: str):
    data = b"".join([HEADER, *GOOD]).decode() + "é漢,1\n"
    items = read(tmp_path, data.encode(encoding))
    assert [r.text for r in records(items)] == [*(f"good {n}" for n in range(20)), "é漢"]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.zst"])
def test_d12_compressed_files_and_their_damage(tmp_path: Path, name: str):
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    data = b"".join([HEADER, *GOOD])
    data = data.replace(b",", b"\t") if "tsv" in name else data
    items = read(tmp_path, pack(data), name)
    assert (len(records(items)), codes(items)) == (20, [])
    check_good(read(tmp_path, pack(data) + b"tail", name), "SOURCE_TRUNCATED")


# ------------------------------------------------------------------ the parser against another


def parsed(data: bytes, folder: Path) -> list[list[str]]:
    path = folder / "x.csv"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = [row.fields for row in rows(Stream(file), ",")]
    assert all(isinstance(fields, list) for fields in found)
    return found


field = st.text(st.sampled_from('ab,"\n\r é'), max_size=6)


@settings(max_examples=300)
@given(st.lists(st.lists(field, min_size=2, max_size=4), max_size=5), st.booleans())
@example([["\r", ""], ['"', ","]], False)
def test_what_pythons_csv_writes_reads_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], all_quoted: bool
):
    file = io.StringIO(newline="")
    # Where lines end with a newline alone, Python leaves a final carriage return unquoted.
    options = (csv.QUOTE_ALL, "\n") if all_quoted else (csv.QUOTE_MINIMAL, "\r\n")
    csv.writer(file, quoting=options[0], lineterminator=options[1]).writerows(table)
    folder = tmp_path_factory.getbasetemp()
    assert parsed(file.getvalue().encode(), folder) == table


@settings(max_examples=300)
@given(st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r\n", b"\xc3\xa9"]), max_size=40))
def test_any_bytes_are_rows_and_every_line_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
):
    data = b"".join(pieces)
    path = tmp_path_factory.getbasetemp() / "y.csv"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = list(rows(Stream(file), ","))
    blank = [line for line in data.splitlines(keepends=True) if not line.strip(b"\r\n")]
    covered = b"".join(row.raw for row in found)
    assert len(covered) + sum(map(len, blank)) >= len(data)
    assert [row.number for row in found] == sorted({row.number for row in found})
