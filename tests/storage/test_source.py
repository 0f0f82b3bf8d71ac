from __future__ import annotations

import codecs
import os
import socket
from pathlib import Path

import pytest

from contracts.errors import ConfigError, DataError, StorageError
from storage.source import (
    CAPTION_BYTES,
    BadText,
    Columns,
    Rejected,
    clean_text,
    detect,
    find,
    image_kind,
    open_source,
    probe,
)


def _tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("value", "text", "notes"),
    [
        (None, None, ()),
        ("a cat", "a cat", ()),
        ("café".encode(), "café", ()),
        ("x é 😀".encode("utf-16"), "x é 😀", ()),
        (codecs.BOM_UTF16_BE + "x".encode("utf-16-be"), "x", ()),
        ("x 😀".encode("utf-32"), "x 😀", ()),
        (b"\xef\xbb\xbfx", "x", ()),
        ("\ufeffx", "x", ()),
        ("a\x00b\x1b[31m\x80c", "ab[31mc", ("CONTROL_CHARS",)),
        ("end of page\x0cStart", "end of page\nStart", ("CONTROL_CHARS",)),
        ("tab\tline\n", "tab\tline\n", ()),
        ("a\r\nb\rc", "a\nb\nc", ()),
        ("", None, ("CAPTION_EMPTY",)),
        (b" \n\t", None, ("CAPTION_EMPTY",)),
        ("\u200b\u00ad\ufe0f", None, ("CAPTION_EMPTY",)),
        ("\x00", None, ("CONTROL_CHARS", "CAPTION_EMPTY")),
        ("a\u200bb\u202e", "a\u200bb\u202e", ()),
        ("e\u0301", "e\u0301", ()),
        ("NA", "NA", ()),
    ],
)
def test_a_text_is_decoded_and_mended_and_says_so(value, text, notes):
    assert clean_text(value, limit=CAPTION_BYTES) == (text, notes)


def test_no_white_space_vanishes_and_glues_two_words():
    white = [c for c in map(chr, range(0x110000)) if c.isspace()]
    assert len(white) == 29
    for c in white:
        text, notes = clean_text(f"one{c}two", limit=CAPTION_BYTES)
        assert text.split() == ["one", "two"]
        line_end = len(f"one{c}two".splitlines()) == 2
        assert text == ("one\ntwo" if line_end else "one two" if c == "\x1f" else f"one{c}two")
        assert bool(notes) == (text != f"one{c}two" and c != "\r")


@pytest.mark.parametrize("value", [b"caf\xe9", "\ud800", b"\xed\xa0\x80", b"\xff\xfe\x00\xd8"])
def test_bytes_that_are_no_characters_are_refused(value):
    with pytest.raises(BadText) as refused:
        clean_text(value, limit=CAPTION_BYTES)
    assert refused.value.code == "CAPTION_NOT_UTF8"


def test_the_limit_counts_bytes_of_utf8():
    assert clean_text("é" * 5, limit=10) == ("é" * 5, ())
    with pytest.raises(BadText, match="CAPTION_TOO_LONG"):
        clean_text("é" * 5 + "x", limit=10)
    with pytest.raises(BadText, match="CAPTION_TOO_LONG"):
        clean_text(b"a" * 10**7, limit=CAPTION_BYTES)


def test_a_rejection_escapes_what_would_command_a_terminal_and_keeps_500_characters():
    assert Rejected("x", "C", "a\x1b[31m\nb\u202e").detail == "a\\x1b[31m\\nb\\u202e"
    assert len(Rejected("x", "C", "\x1b" * 1000).detail) == 500


# ------------------------------------------------------------------ where it lies


@pytest.fixture
def here(tmp_path, monkeypatch):
    _tree(
        tmp_path, "web/00000.tar", "web/00001.tar", "web/00002.tar", "web/notes.txt", "a.b.csv.gz"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_its_own_root_and_name(here):
    found = find("web")
    assert (found.root, found.paths, found.name) == (Path("web"), [Path("web")], "web")
    assert find(here / "web").name == find("./web/").name == find("web/../web").name == "web"


def test_a_single_file_is_named_after_its_stem(here):
    found = find("web/00001.tar")
    assert (found.root, found.paths, found.name) == (Path("web"), [Path("web/00001.tar")], "00001")
    assert find("a.b.csv.gz").name == "a.b"


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("web/*.tar", [0, 1, 2]),
        ("web/0000[12].tar", [1, 2]),
        ("web/{00000..00001}.tar", [0, 1]),
        ("./web/{00002,00000}.tar", [0, 2]),
        ("w*/0000?.tar", [0, 1, 2]),
    ],
)
def test_globs_and_brace_ranges_give_sorted_files(here, pattern, numbers):
    for prefix in ("", f"{here}/"):
        found = find(prefix + pattern)
        assert [path.name for path in found.paths] == [f"{n:05d}.tar" for n in numbers]
        assert all(path.relative_to(found.root) for path in found.paths)
        assert found.name == (here.name if pattern.startswith("w*") else "web")


def test_a_wild_card_after_the_first_letters_of_a_name_keeps_the_folder(here):
    assert find("./we*").root == Path()
    assert find("web/000*").root == Path("web")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(here):
    _tree(here, "odd[1].csv")
    assert find("odd[1].csv").paths == [Path("odd[1].csv")]


@pytest.mark.parametrize("path", ["nowhere", "web/*.zip", "web/{7..9}.tar", "web/{a,b}.tar"])
def test_nothing_there_is_an_error_of_the_data_that_names_the_path(here, path):
    with pytest.raises(DataError) as error:
        find(path)
    assert path in str(error.value)
    assert error.value.exit_code == 65


def test_members_of_a_range_or_list_that_are_missing_are_named(here):
    with pytest.raises(DataError) as error:
        find("web/{00001..00009}.tar")
    assert str(error.value) == (
        "web/{00001..00009}.tar: 7 of 9 are missing: web/00003.tar, web/00004.tar, web/00005.tar, "
        "web/00006.tar, web/00007.tar and 2 more. Fetch them, or go on without them: "
        "--allow-missing."
    )
    assert error.value.exit_code == 65
    with pytest.raises(DataError, match=r"1 of 2 are missing: other/\*\.tar\. Fetch"):
        find("{web,other}/*.tar")


def test_missing_members_are_told_where_they_are_allowed(here):
    found = find("web/{00003..00001}.tar", allow_missing=True)
    assert [path.name for path in found.paths] == ["00001.tar", "00002.tar"]
    assert found.missing == ("web/00003.tar",)
    assert find("web/{00000..00002}.tar").missing == find("web").missing == ()
    with pytest.raises(DataError, match="no file matches"):
        find("web/{7..9}.tar", allow_missing=True)


def test_a_range_of_more_names_than_there_can_be_files_is_refused_at_once(here):
    with pytest.raises(DataError, match="means more than 1,000,000 names"):
        find("web/{0..999999999}{0..999999999}.tar")


@pytest.mark.parametrize(("kind", "said"), [("pipe", "a pipe"), ("sock", "a socket")])
def test_a_pipe_or_a_socket_that_is_named_is_refused_and_never_opened(here, kind, said):
    if kind == "pipe":
        os.mkfifo("pipe")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("sock")
    for path in (kind, f"{here}/{kind}"):
        with pytest.raises(DataError, match=f"{kind}: is {said}, which is never read"):
            find(path)


def test_a_device_and_a_link_to_nothing_are_named_as_what_they_are(here):
    with pytest.raises(DataError, match="/dev/null: is a device, which is never read"):
        find("/dev/null")
    (here / "link").symlink_to("gone")
    with pytest.raises(DataError, match="link: is a link that leads nowhere"):
        find("link")


def test_a_path_that_cannot_be_read_is_an_error_of_the_storage(here, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="web: cannot be read: Permission denied") as error:
        find("web")
    assert error.value.exit_code == 74


# ------------------------------------------------------------------ what kind it is


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["0.tar", "0.parquet", "0_stats.json", "1.parquet"], "webdataset"),
        (["0.tar.gz"], "webdataset"),
        (["a.jpg", "metadata.csv"], "image_folder"),
        (["a.jpg", "a.txt", "a.json", "b.txt", "c.txt"], "image_folder"),
        (["deep/er/A.PNG"], "image_folder"),
        (["a.jpg", "b.jpg", "backup.tar"], "image_folder"),
        (["a.heic", "b.txt"], "image_folder"),
        (["a.avif", "a.txt", "a.json", "b.avif", "b.TXT", "README.md"], "image_folder"),
        (["a.jfif", "b.txt", "c.txt"], "image_folder"),
        (["data/0.parquet", "data/1.parquet", "logo.png", "README.md"], "parquet"),
        (["a.jsonl", "README.md"], "json_lines"),
        (["a.ndjson.zst"], "json_lines"),
        (["a.json"], "json_lines"),
        (["a.csv"], "csv_text"),
        (["a.tsv.gz"], "csv_text"),
        (["a.txt", "b.md"], "text_folder"),
        ([".hidden.tar", "a.txt"], "text_folder"),
    ],
)
def test_names_tell_the_kind(tmp_path, names, kind):
    assert detect(find(_tree(tmp_path, *names))) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PAR1", "parquet"),
        (bytes(257) + b"ustar\x0000", "webdataset"),
        (b"\xff\xd8\xff\xe0", "image_folder"),
        (b' {"text": "a"}', "json_lines"),
        (b'[\n  {\n  "text": "a"', "json_lines"),
    ],
)
def test_where_no_name_tells_the_first_bytes_do(tmp_path, head, kind):
    (tmp_path / "blob").write_bytes(head)
    assert detect(find(tmp_path / "blob")) == kind


def test_what_nothing_recognises_is_said(tmp_path):
    found = find(_tree(tmp_path, "a.npz", "b.npz", "c.pkl"))
    with pytest.raises(DataError, match=r"seen: 2 \.npz, 1 \.pkl"):
        detect(found)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="seen: no file"):
        detect(find(tmp_path / "empty"))


def test_a_folder_of_links_says_that_none_is_followed_and_reads_them_where_it_may(tmp_path):
    _tree(tmp_path, "hub/blobs/0", "hub/blobs/1", "hub/snap/README")
    for number in range(2):
        (tmp_path / f"hub/snap/train-{number}.parquet").symlink_to(f"../blobs/{number}")
    with pytest.raises(DataError, match=r"2 links, none followed.*--follow-links ROOT"):
        detect(find(tmp_path / "hub" / "snap"))
    found = find(tmp_path / "hub" / "snap", follow_links=tmp_path / "hub")
    assert detect(found) == "parquet"
    names = [unit.name for unit in open_source(found, Columns()).units()]
    assert names == ["train-0.parquet", "train-1.parquet"]
    with pytest.raises(ConfigError, match=r"follow_links: .* is no folder"):
        find(tmp_path, follow_links=tmp_path / "none")


def test_a_path_that_is_a_pipe_or_a_dead_link_is_said_to_be_one(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nothing")
    with pytest.raises(DataError, match=r"pipe\.jpg: is a pipe"):
        find(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"link\.jpg: is a link that leads nowhere"):
        find(tmp_path / "link.jpg")


def test_a_failure_that_may_pass_is_told_from_what_the_content_is():
    codes = ["SOURCE_GONE", "UNREADABLE", "CHANGED_WHILE_READING", "DECODE_TIMEOUT"]
    assert all(Rejected("a", code).passing for code in codes)
    assert not any(Rejected("a", code).passing for code in ("TRUNCATED", "SYMLINK", "TOO_LARGE"))


def test_a_huge_folder_is_not_walked_whole(tmp_path, monkeypatch):
    listed = []
    scandir = os.scandir
    _tree(tmp_path, *(f"{i:03d}/a.jpg" for i in range(100)))
    monkeypatch.setattr(os, "scandir", lambda p: listed.append(p) or scandir(p))
    assert detect(find(tmp_path)) == "image_folder"
    assert len(listed) < 30


def test_a_fifo_is_never_opened_to_look_at_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no file"):
        detect(find(f"{tmp_path}/p*"))


def test_a_probe_gives_the_first_records_only(tmp_path):
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text(f"text {number}")
    (tmp_path / "a.xyz").write_text("left aside")
    records, passed_over = probe(find(tmp_path), Columns(), limit=7)
    assert [record.text for record in records] == [f"text {n}" for n in range(7)]
    assert passed_over.rows() == [(".xyz", "not read", 1, ["a.xyz"])]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "webp"),
        (b"\x00\x00\x00\x18ftypheic", "heif"),
        (b"BM\x36\x00\x00\x00\x00\x00\x00\x00", "bmp"),
        (b"BMW is a car maker", None),
        (b"GIF is a format", None),
        (b"", None),
    ],
)
def test_first_bytes_tell_an_image_from_a_text(head, kind):
    assert image_kind(head[:16]) == kind
