from __future__ import annotations

import os
from pathlib import Path

import pytest

from contracts.errors import ConfigError
from storage.source import Columns, Record, Rejected, find
from storage.sources.text_folder import TextFolder


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    (folder / "b").mkdir(parents=True)
    for name, text in {"1.txt": "one", "2.md": "# two", "b/3.txt": "漢字", "b/4.txt": "4"}.items():
        (folder / name).write_text(text)


def _read(path, **columns) -> list[Record | Rejected]:
    found = find(path)
    source = TextFolder(found.root, found.paths, Columns(**columns))
    return [item for unit in source.units() for item in source.records(unit)]


def test_each_text_file_is_a_record_named_by_its_path(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b" / "c.md").write_text("# three")
    (tmp_path / "b" / "d.html").write_text("no")
    assert _read(tmp_path) == [
        Record("a.txt", "a.txt", text="one\ntwo\n"),
        Record("b/c.md", "b/c.md", text="# three"),
    ]


BAD = {
    "latin.txt": (b"caf\xe9", "CAPTION_NOT_UTF8"),
    "empty.txt": (b"", "CAPTION_EMPTY"),
    "blank.txt": ("\u200b \n".encode(), "CAPTION_EMPTY"),
    "long.txt": (b"a" * ((16 << 20) + 1), "CAPTION_TOO_LONG"),
    "larger.txt": (None, "TOO_LARGE"),
    "link.txt": (None, "SYMLINK"),
    "pipe.txt": (None, "SPECIAL_FILE"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_rejected_with_its_reason_and_leaves_the_good_ones_alone(tmp_path, name):
    for number in range(20):
        (tmp_path / f"{number:02d}.txt").write_text(f"good {number}")
    good = _read(tmp_path)
    data, code = BAD[name]
    if name == "link.txt":
        (tmp_path / name).symlink_to("/etc/passwd")
    elif name == "pipe.txt":
        os.mkfifo(tmp_path / name)
    elif data is None:
        with (tmp_path / name).open("wb") as file:
            file.truncate((64 << 20) + 1)
    else:
        (tmp_path / name).write_bytes(data)
    items = _read(tmp_path)
    assert [item for item in items if isinstance(item, Record)] == good
    bad = [(b.where, b.code, b.source_id) for b in items if isinstance(b, Rejected)]
    assert bad == [(name, code, name)]


def test_what_was_mended_is_noted(tmp_path):
    (tmp_path / "a.txt").write_bytes("x\x00y".encode("utf-16"))
    (record,) = _read(tmp_path)
    assert (record.text, record.notes) == ("xy", ("CONTROL_CHARS",))


def test_a_folder_of_texts_has_no_columns_to_name(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"source\.id: a folder of texts has no column 'uid'"):
        _read(tmp_path, id="uid")
