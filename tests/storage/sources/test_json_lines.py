from __future__ import annotations

import base64
import gzip
import json
import lzma
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from storage.source import Columns, Location, Record, Refused, Rejected, find
from storage.sources import _stream
from storage.sources._json import parse_object
from storage.sources.json_lines import JsonLines

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(60))
ALIASES = Columns()
GOOD = [json.dumps({"text": f"good {n}", "n": n}).encode() + b"\n" for n in range(20)]


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_bytes(b"".join(GOOD[:10]))
    (folder / "b.ndjson.zst").write_bytes(zstandard.compress(b"".join(GOOD)))


def read(
    folder: Path, content: bytes, name: str = "a.jsonl", columns: Columns = ALIASES
) -> list[Record | Rejected]:
    (folder / name).write_bytes(content)
    return read_all(folder, columns)


def read_all(path: Path, columns: Columns = ALIASES) -> list[Record | Rejected]:
    found = find(path)
    source = JsonLines(found.root, found.paths, columns)
    return [item for unit in source.units() for item in source.records(unit)]


def records(items: list[Record | Rejected]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def codes(items: list[Record | Rejected]) -> list[str]:
    return [item.code for item in items if isinstance(item, Rejected)]


def amid(bad: bytes) -> bytes:
    return b"".join([*GOOD[:10], bad, *GOOD[10:]])


def check_good(items: list[Record | Rejected], code: str, count: int = 1) -> None:
    """The 20 good rows are what they are without the bad one, which has its code."""
    found = [r for r in records(items) if r.text is not None and r.text.startswith("good")]
    assert [(r.text, r.meta, r.notes) for r in found] == [
        (f"good {n}", {"n": n}, ()) for n in range(20)
    ]
    assert codes(items) == [code] * count


# ------------------------------------------------------------------ what a row is


def test_a_row_is_a_record_of_its_text_and_its_other_columns(tmp_path: Path):
    line = b'{"caption": "a cat", "url": "http://x", "n": 1, "x": [1, {"y": null}], "z": null}\n'
    assert read(tmp_path, line) == [
        Record(
            "a.jsonl#0",
            "a.jsonl#0",
            text="a cat",
            meta={"url": "http://x", "n": 1, "x": [1, {"y": None}]},
        )
    ]


def test_ids_count_lines_from_0_bad_and_blank_ones_too_below_the_root(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    items = read(tmp_path, b'{"text": "a"}\n\n{bad\n \r\n{"text": "b"}', "sub/b.jsonl")
    assert [i.source_id for i in items] == [f"sub/b.jsonl#{n}" for n in (0, 2, 4)]
    assert codes(items) == ["JSON_INVALID"]


def test_the_id_is_the_columns_value(tmp_path: Path):
    lines = b'{"text": "a", "k": "x-1"}\n{"text": "b", "k": 7}\n{"text": "c"}\n'
    items = read(tmp_path, lines, columns=Columns(id="k"))
    assert [(i.source_id, getattr(i, "code", None)) for i in items] == [
        ("x-1", None),
        ("7", None),
        (None, "NO_ID"),
    ]


def test_a_column_that_no_row_has_is_an_error_of_the_recipe(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"'captoin'.*caption"):
        read(tmp_path, b'{"caption": "a"}\n', columns=Columns(text="captoin"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.ndjson.zst", "a.ndjson", "a.jsonl"])
def test_compressed_files_give_the_same_rows(tmp_path: Path, name: str):
    data = amid(b"{\n")
    packed = zstandard.compress(data) if name.endswith("zst") else gzip.compress(data)
    check_good(read(tmp_path, packed, name), "JSON_INVALID")


def test_json_files_are_read_where_there_is_nothing_else(tmp_path: Path):
    assert len(read(tmp_path, GOOD[0], "b.json")) == 1
    assert len(read(tmp_path, GOOD[1], "a.jsonl")) == 1


# ------------------------------------------------------------------ arrays and objects

MAILS: list[dict[str, Any]] = [
    {"text": f'"mail" {n}: 5" pipe]}} c\\', "to": [{"x": n}, "]}"], "n": n} for n in range(20)
]
LAYOUTS = {
    "an array in one line": json.dumps(MAILS),
    "an array, pretty-printed": json.dumps(MAILS, indent=2),
    "an array of a member a line": f"[{','.join(json.dumps(m) + chr(10) for m in MAILS)}]",
    "an array, pretty-printed with lone CRs": json.dumps(MAILS, indent=1).replace("\n", "\r"),
    "objects, pretty-printed": "\n".join(json.dumps(m, indent=2) for m in MAILS),
    "objects, beginning in one line": "\n".join(
        json.dumps(m).replace(', "', ',\n"') for m in MAILS
    ),
    "lines": "\n".join(json.dumps(m) for m in MAILS),
    "lines that end with a lone CR": "\r".join(json.dumps(m) for m in MAILS),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_each_object_of_a_file_is_a_record_however_it_is_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, chunk: int
):
    monkeypatch.setattr("storage.sources._stream.CHUNK_BYTES", chunk)
    items = read(tmp_path, b" \n" * (layout[0] != "l") + LAYOUTS[layout].encode(), "a.json")
    assert [(i.source_id, getattr(i, "text", i), i.meta) for i in items] == [
        (f"a.json#{n}", mail["text"], {"n": n, "to": mail["to"]}) for n, mail in enumerate(MAILS)
    ]


@pytest.mark.parametrize("name", ["a.json.gz", "a.json.zst", "a.jsonl"])
def test_an_array_is_read_compressed_and_under_any_name_of_json(tmp_path: Path, name: str):
    pack = {"gz": gzip.compress, "st": zstandard.compress}.get(name[-2:], bytes)
    content = LAYOUTS["an array, pretty-printed"].encode("utf-8-sig")
    assert len(records(read(tmp_path, pack(content), name))) == 20


def test_a_file_of_one_object_is_one_record(tmp_path: Path):
    for number, indent in enumerate((None, 4)):
        (tmp_path / f"{number}.json").write_text(json.dumps(MAILS[number], indent=indent))
    (tmp_path / "2.json").write_text('{"text": "x", "all": [\n{"n": 1},\n{"n": 2}\n]}\n')
    items = read_all(tmp_path)
    assert [i.source_id for i in records(items)] == ["0.json#0", "1.json#0", "2.json#0"]
    assert codes(items) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"a": 1, "a": 2}', "JSON_DUP_KEY"),
        (b'{"a": NaN}', "JSON_INVALID"),
        (b'{"a": 1 "b": 2}', "JSON_INVALID"),
        (b"", "JSON_INVALID"),
        (b"[1, 2]", "JSON_INVALID"),
        (b'{"a": 1} {"a": 1}', "JSON_INVALID"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "JSON_DEPTH"),
        (b'{"text": "caf\xe9"}', "CAPTION_NOT_UTF8"),
        (b'{"a": 1e400}', "VALUE_RANGE"),
    ],
)
def test_a_bad_member_of_an_array_costs_itself(tmp_path: Path, bad: bytes, code: str):
    members = [*GOOD[:10], bad, *GOOD[10:]]
    items = read(tmp_path, b"[" + b",".join(members) + b"]\n", "a.json")
    check_good(items, code)
    assert items[10].source_id == "a.json#10"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (b"", "JSON_TRUNCATED"),
        (b',{"text": "go', "JSON_TRUNCATED"),
        (b",", "JSON_TRUNCATED"),
        (b"]]", "JSON_INVALID"),
        (b'] {"text": "go"}', "JSON_INVALID"),
        (b",]", "JSON_INVALID"),
    ],
)
def test_an_array_that_ends_wrongly_keeps_its_members(tmp_path: Path, end: bytes, code: str):
    items = read(tmp_path, b"[" + b",".join(GOOD) + end, "a.json")
    check_good(items, code)
    assert items[20].where == "a.json#20"


def test_a_pretty_object_that_is_cut_or_wrong_is_one_rejection(tmp_path: Path):
    content = json.dumps(MAILS[0], indent=2).encode()
    assert codes(read(tmp_path, content[:-20], "a.json")) == ["JSON_TRUNCATED"]
    [wrong] = read(tmp_path, content.replace(b'"n": 0', b'"n" 0'), "a.json")
    assert isinstance(wrong, Rejected)
    assert (wrong.code, wrong.where) == ("JSON_INVALID", "a.json#0")
    assert wrong.detail.startswith("Expecting ':' delimiter at")


@pytest.mark.parametrize("bad", [b'{"a": 2\n', b"[1, 2]\n", b'{"text": "x\n', b"{,\n"])
def test_a_first_line_that_is_wrong_leaves_json_lines_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes
):
    check_good(read(tmp_path, bad + b"".join(GOOD)), "JSON_INVALID")
    # The same where the file is longer than the longest object.
    monkeypatch.setattr("storage.sources._json_file.LINE_BYTES", 100)
    check_good(read(tmp_path, bad + b"".join(GOOD)), "JSON_INVALID")


def test_a_file_of_which_nothing_is_json_counts_once_with_its_first_line(tmp_path: Path):
    (tmp_path / "b.json").write_bytes(b"Subject: hello\n\n" + b"caf\xe9\n" * 3000)
    [found] = read_all(tmp_path)
    assert found == Rejected(
        "b.json",
        "JSON_INVALID",
        "none of its 3,001 lines is JSON; first: 'Subject: hello\\n' (Expecting value at 0)",
    )
    [found] = read(tmp_path, b"[1, 2, 3]", "b.json")
    assert found.detail.startswith("none of its 3 members of an array is JSON; first: '1' (int")
    items = read(tmp_path, b"no\n" * 3000 + b"".join(GOOD), "b.json")
    check_good(items, "JSON_INVALID", 3000)


def test_a_member_above_64_mebibytes_costs_itself(tmp_path: Path):
    bad = b'{"text": "' + b"\\\\" * (33 << 20) + b'\\"]", "a": 1}'
    items = read(tmp_path, b"[" + b",".join([*GOOD[:10], bad, *GOOD[10:]]) + b"]", "a.json")
    check_good(items, "ROW_TOO_LARGE")
    assert items[10].source_id == "a.json#10"


# ------------------------------------------------------------------ images


def test_an_image_is_base64_or_a_path_below_the_files_folder(tmp_path: Path):
    (tmp_path / "img" / "x").mkdir(parents=True)
    (tmp_path / "img" / "x" / "a.png").write_bytes(PNG)
    packed = base64.b64encode(PNG).decode()
    values: list[Any] = [
        packed,
        f"data:image/png;base64,{packed}",
        "x/a.png",
        ["x/a.png"],
        {"bytes": None, "path": "x/a.png"},
        {"bytes": packed, "path": "other.png"},
    ]
    lines = [json.dumps({"text": "t", "image": value}) for value in values]
    items = read(tmp_path, "\n".join(lines).encode(), "img/a.jsonl")
    assert [(r.image, r.text, r.meta) for r in records(items)] == [(PNG, "t", {})] * 6
    places = [r.location for r in records(items)]
    here = Location(str(tmp_path / "img" / "x" / "a.png"), 0, len(PNG))
    assert places == [None, None, here, here, here, None]


def test_a_url_is_not_fetched_and_stays_in_meta(tmp_path: Path):
    [record] = read(tmp_path, b'{"text": "t", "image": "https://x/a.png"}')
    assert (record.image, record.meta) == (None, {"image": "https://x/a.png"})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret.png", "PATH_TRAVERSAL"),
        ("a/../../secret.png", "PATH_TRAVERSAL"),
        ("/etc/secret.png", "PATH_TRAVERSAL"),
        ("C:\\secret.png", "PATH_TRAVERSAL"),
        ("..\\secret.png", "PATH_TRAVERSAL"),
        ("a\0.png", "PATH_TRAVERSAL"),
        ("link.png", "SYMLINK"),
        ("folder/secret.png", "SYMLINK"),
        ("fifo.png", "SPECIAL_FILE"),
        ("gone.png", "SOURCE_GONE"),
        ("large.png", "TOO_LARGE"),
    ],
)
def test_a_path_never_leads_out_of_the_folder(tmp_path: Path, path: str, code: str):
    (tmp_path / "secret.png").write_bytes(PNG)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo.png")
    with (folder / "large.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    bad = json.dumps({"text": "t", "image": path}).encode() + b"\n"
    (folder / "a.jsonl").write_bytes(amid(bad))
    check_good(read_all(folder / "a.jsonl"), code)


# ------------------------------------------------------------------ D01 to D12


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"a": 2\n', "JSON_INVALID"),
        (b"{'a': 2}\n", "JSON_INVALID"),
        (b"[1, 2]\n", "JSON_INVALID"),
        (b'"text"\n', "JSON_INVALID"),
        (b'{"a": 1} {"b": 2}\n', "JSON_INVALID"),
        (b'{"a": NaN}\n', "JSON_INVALID"),
        (b'{"a": -Infinity}\n', "JSON_INVALID"),
        (b'{"a": 1, "a": 2}\n', "JSON_DUP_KEY"),
        (b'{"x": {"a": 1, "a": 1}}\n', "JSON_DUP_KEY"),
        (b"[" * 100_000 + b"\n", "JSON_DEPTH"),
        (b'{"a":' * 65 + b"1" + b"}" * 65 + b"\n", "JSON_DEPTH"),
        (b'{"a": 100000000000000000000000}\n', "VALUE_RANGE"),
        (b'{"a": 1e400}\n', "VALUE_RANGE"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "VALUE_RANGE"),
        (b'{"text": "caf\xe9"}\n', "CAPTION_NOT_UTF8"),
        (b'{"text": "\\ud800"}\n', "CAPTION_NOT_UTF8"),
        (b'{"text": "x", "m": {"k": ["\\uDC00"]}}\n', "CAPTION_NOT_UTF8"),
        (b'{"text": ""}\n', "CAPTION_EMPTY"),
    ],
)
def test_d01_to_d06_a_bad_row_costs_itself(tmp_path: Path, line: bytes, code: str):
    check_good(read(tmp_path, amid(line)), code)


def test_rows_at_the_limits_are_taken(tmp_path: Path):
    deep = b'{"a":' * 64 + b"1" + b"}" * 64
    numbers = b'{"text": "t", "a": 18446744073709551615, "b": -9223372036854775808, "c": 1e308}'
    pair = b'{"text": "\\ud83d\\ude00"}'
    items = read(tmp_path, deep + b"\n" + numbers + b"\n" + pair)
    assert codes(items) == []
    assert records(items)[1].meta == {"a": 2**64 - 1, "b": -(2**63), "c": 1e308}
    assert records(items)[2].text == "\U0001f600"


def test_d02_a_cut_last_line_is_told_from_a_bad_one(tmp_path: Path):
    check_good(read(tmp_path, b"".join(GOOD) + b'{"text": "go'), "JSON_TRUNCATED")
    check_good(read(tmp_path, b"".join(GOOD) + b'{"text": nil}'), "JSON_INVALID")


LINE = r'{"a": [1, -2.5e-3, true, false, null], "bé\n": {"c": "x\\yé"}, "d": "漢"}'.encode()


@given(st.integers(1, len(LINE) - 1))
def test_d02_every_beginning_of_a_row_is_a_cut_row(length: int):
    with pytest.raises(Refused) as caught:
        parse_object(LINE[:length], whole=False)
    assert caught.value.code == "JSON_TRUNCATED"


def test_d07_and_d08_rows_may_differ_in_types_and_columns(tmp_path: Path):
    items = read(tmp_path, b"".join(GOOD) + b'{"text": "t", "n": "x", "more": 1}\n')
    assert items[-1].meta == {"n": "x", "more": 1}


def test_d09_an_empty_file_has_no_rows(tmp_path: Path):
    assert read(tmp_path, b"") == []
    assert read(tmp_path, gzip.compress(b""), "b.jsonl.gz") == []


def test_d10_only_newlines_end_a_row(tmp_path: Path):
    text = "a\u2028b\u0085c\x0bd"
    lines = json.dumps({"text": text}, ensure_ascii=False).replace("\\u000b", "\x0b")
    items = read(tmp_path, lines.replace("\x0b", " ").encode() + b'\r\n{"text": "x"}\r\n')
    assert [r.text for r in records(items)] == ["a\nb\nc d", "x"]


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_c02_and_c03_a_mark_says_the_encoding(tmp_path: Path, encoding: str):
    text = b"".join(GOOD).decode() + '{"text": "é漢\U0001f600"}\n'
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    items = read(tmp_path, (mark + text).encode(encoding))
    assert [r.text for r in records(items)] == [*(f"good {n}" for n in range(20)), "é漢\U0001f600"]
    assert codes(items) == []


def test_half_a_pair_in_utf16_costs_its_row_and_half_a_unit_the_end(tmp_path: Path):
    bad = '{"text": "\ud800"}\n'.encode("utf-16-le", "surrogatepass")
    data = "".join(line.decode() for line in GOOD).encode("utf-16-le")
    items = read(tmp_path, b"\xff\xfe" + bad + data + b"x")
    assert codes(items) == ["CAPTION_NOT_UTF8", "SOURCE_TRUNCATED"]
    assert len(records(items)) == 20


def test_d11_a_row_above_64_mebibytes_costs_itself(tmp_path: Path):
    bad = b'{"text": "' + b"x" * (65 << 20) + b'"}\n'
    items = read(tmp_path, amid(bad))
    check_good(items, "ROW_TOO_LARGE")
    assert items[10].source_id == "a.jsonl#10"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("fault", ["tail", "cut"])
def test_d12_a_damaged_stream_keeps_the_rows_before(tmp_path: Path, name: str, fault: str):
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    long = b'{"text": "' + os.urandom(200_000).hex().encode() + b'"}\n'
    packed = {
        "tail": pack(b"".join(GOOD)) + b"other bytes",
        "cut": pack(b"".join(GOOD) + long)[:-20_000],
    }
    check_good(read(tmp_path, packed[fault], name), "SOURCE_TRUNCATED")


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_d12_a_stream_cut_in_its_checksum_or_header_is_cut(tmp_path: Path, cut: int):
    packed = gzip.compress(b"".join(GOOD))
    check_good(read(tmp_path, packed[:-cut]), "SOURCE_TRUNCATED")
    check_good(read(tmp_path, packed + packed[:cut]), "SOURCE_TRUNCATED")


def test_d12_streams_in_a_row_and_zero_padding_are_whole(tmp_path: Path):
    halves = [b"".join(GOOD[:7]) + GOOD[7][:5], GOOD[7][5:] + b"".join(GOOD[8:])]
    for pack, name in ((gzip.compress, "a.jsonl.gz"), (zstandard.compress, "a.jsonl.zst")):
        padding = bytes(600_000) if name.endswith("gz") else b""
        items = read(tmp_path, b"".join(map(pack, halves)) + padding, name)
        assert [r.text for r in records(items)] == [f"good {n}" for n in range(20)]
        assert codes(items) == []
        (tmp_path / name).unlink()


def skippable(size: int) -> bytes:
    return b"\x53\x2a\x4d\x18" + size.to_bytes(4, "little") + os.urandom(size)


def test_frames_of_zstd_that_decoders_pass_over_are_passed_over(tmp_path: Path):
    halves = [zstandard.compress(b"".join(part)) for part in (GOOD[:7], GOOD[7:])]
    packed = skippable(4) + halves[0] + skippable(600_000) + skippable(0) + halves[1] + skippable(9)
    items = read(tmp_path, packed, "a.jsonl.zst")
    assert ([r.text for r in records(items)], codes(items)) == (
        [f"good {n}" for n in range(20)],
        [],
    )
    check_good(read(tmp_path, packed[:-1], "a.jsonl.zst"), "SOURCE_TRUNCATED")
    check_good(read(tmp_path, packed + b"\x50\x2a\x4d\x18", "a.jsonl.zst"), "SOURCE_TRUNCATED")


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.ndjson.zst", "b.jsonl.ZST"])
@pytest.mark.parametrize("content", [b'{"text": "x"}', b"", lzma.compress(b"{}\n")])
def test_a_file_that_is_not_packed_as_its_name_says_is_refused(
    tmp_path: Path, name: str, content: bytes
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"its first bytes .* are not those of \.(gz|zst); rename"):
        read_all(tmp_path / name)
    check_good(read(tmp_path, b"".join(GOOD)), "SOURCE_UNREADABLE")
    other = {"gz": zstandard.compress, "zst": gzip.compress}[name.lower().rpartition(".")[2]]
    check_good(read(tmp_path, other(content), name), "SOURCE_UNREADABLE")


def test_d12_a_window_of_two_gibibytes_is_refused(tmp_path: Path):
    options = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    rest = packer.compress(b"x") + packer.flush()
    check_good(read(tmp_path, zstandard.compress(b"".join(GOOD)) + rest), "BOMB_WINDOW")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_stopped_by_the_bytes_that_it_unfolds_to(tmp_path: Path, pack: Any):
    check_good(read(tmp_path, pack(b"".join(GOOD) + bytes(160 << 20))), "BOMB_RATIO")


def test_a_link_in_a_folder_is_not_followed_but_one_that_is_named_is(tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jsonl").write_bytes(b"".join(GOOD))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.jsonl").symlink_to(other / "x.jsonl")
    check_good(read(folder, b"".join(GOOD)), "SYMLINK")
    assert len(records(read_all(folder / "b.jsonl"))) == 20


def test_a_file_that_grows_while_it_is_read_is_told(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(GOOD))
    source = JsonLines(tmp_path, [path], ALIASES)
    [unit] = source.units()
    items = source.records(unit)
    first = next(items)
    with path.open("ab") as file:
        file.write(b'{"text": "half')
    check_good([first, *items], "CHANGED_WHILE_READING")


# ------------------------------------------------------------------ memory

_MEASURED = r"""
import re, sys
from pathlib import Path
from storage.source import Columns
from storage.sources.json_lines import JsonLines
path = Path(sys.argv[1])
source = JsonLines(path.parent, [path], Columns())
count = sum(1 for unit in source.units() for _ in source.records(unit))
# ru_maxrss would count the parent's memory, from before the child's own program began.
print(count, re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize(("start", "between", "end"), [(b"", b"\n", b""), (b"[", b",", b"]")])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, start: bytes, between: bytes, end: bytes
):
    peaks = []
    for count in (5_000, 20_000):
        path = tmp_path / f"{count}.json"
        path.write_bytes(start + between.join([b'{"text": "' + b"x" * 2000 + b'"}'] * count) + end)
        run = [sys.executable, "-c", _MEASURED, str(path)]
        found, peak = map(int, subprocess.run(run, check=True, capture_output=True).stdout.split())
        assert found == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (4 << 10)  # kilobytes; the files have 10 and 40 MB


@pytest.mark.parametrize("cr", [False, True])
def test_lines_are_the_same_in_chunks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cr: bool
):
    rng = random.Random(0)
    ends = re.compile(rb"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+" if cr else rb"[^\n]*\n|[^\n]+")
    for size in (1, 2, 3, 7, 50):
        monkeypatch.setattr(_stream, "CHUNK_BYTES", size)
        data = bytes(rng.choices(b"ab\r\n", k=300))
        (tmp_path / "a").write_bytes(data)
        with (tmp_path / "a").open("rb") as file:
            found = list(_stream.lines(_stream.Stream(file), cr=cr))
        assert found == ends.findall(data)
