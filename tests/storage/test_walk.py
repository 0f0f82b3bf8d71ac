from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import StorageError
from storage.source import Refused, find
from storage.walk import Tree


def _units(path, *suffixes: str) -> list[str]:
    found = find(path)
    return [unit.name for unit in Tree(found.root, found.paths).units(suffixes or (".txt",))]


def _code(tree: Tree, path: Path) -> str:
    with pytest.raises(Refused) as refused:
        tree.read(path)
    return refused.value.code


def _write(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def test_files_come_sorted_before_those_of_subfolders(tmp_path):
    names = ["b.txt", "a.txt", "a/z.txt", "a/b/c.txt", "B/x.txt", "no.csv", "C.TXT"]
    _write(tmp_path, *names)
    assert _units(tmp_path) == ["C.TXT", "a.txt", "b.txt", "B/x.txt", "a/z.txt", "a/b/c.txt"]
    by_os = {
        Path(folder, name).relative_to(tmp_path).as_posix()
        for folder, _, files in os.walk(tmp_path)
        for name in files
        if name.lower().endswith(".txt")
    }
    assert set(_units(tmp_path)) == by_os


def test_what_programs_leave_behind_is_passed_over(tmp_path):
    _write(tmp_path, "Thumbs.db", ".DS_Store", "._a.txt", "a.txt.part", ".git/a.txt", "a.txt")
    assert _units(tmp_path, ".txt", ".part", ".db") == ["a.txt"]


def test_a_glob_means_the_files_that_it_matches(tmp_path):
    _write(tmp_path, "a/1.txt", "a/2.txt", "a/1.jpg", "b/1.txt", "c/1.txt", "blob")
    assert _units(f"{tmp_path}/a/*") == ["1.txt", "2.txt"]
    assert _units(f"{tmp_path}/*/1.*") == ["a/1.txt", "b/1.txt", "c/1.txt"]
    assert _units(f"{tmp_path}/[bc]") == ["b/1.txt", "c/1.txt"]
    assert _units(tmp_path / "blob") == ["blob"]


def test_a_fingerprint_changes_with_size_and_time_alone(tmp_path):
    def mark() -> str:
        return next(Tree(tmp_path, [tmp_path]).units((".txt",))).fingerprint

    _write(tmp_path, "a.txt")
    os.utime(tmp_path / "a.txt", ns=(0, 10**18))
    before = mark()
    _write(tmp_path, "a.txt", data=b"y")
    os.utime(tmp_path / "a.txt", ns=(1, 10**18))
    assert mark() == before
    os.utime(tmp_path / "a.txt", ns=(1, 10**18 + 1))
    assert mark() != before


def test_links_are_reported_and_never_followed(tmp_path):
    root = tmp_path / "root"
    _write(tmp_path, "secret.txt", "outside/a.txt", data=b"secret")
    _write(root, "good.txt", "inside/b.txt")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to(tmp_path / "nothing")
    tree = Tree(root, [root])
    units = {unit.name: unit.path for unit in tree.units((".txt",))}
    assert sorted(units) == ["dangling", "folder", "good.txt", "inside/b.txt", "link.txt", "loop"]
    for name in ("link.txt", "folder", "loop", "dangling"):
        assert _code(tree, units[name]) == "SYMLINK"
    assert _code(tree, root / "folder" / "a.txt") == "SYMLINK"
    assert tree.read(units["inside/b.txt"]) == b"x"


def test_a_link_that_the_user_names_is_followed_one_that_a_glob_finds_is_not(tmp_path):
    _write(tmp_path, "blobs/1", "data/b.txt")
    (tmp_path / "data/a.txt").symlink_to(tmp_path / "blobs/1")
    (tmp_path / "other").symlink_to(tmp_path / "data")
    found = find(tmp_path / "data/a.txt")
    tree = Tree(found.root, found.paths)
    assert [tree.read(unit.path) for unit in tree.units((".txt",))] == [b"x"]
    assert _units(tmp_path / "other") == ["a.txt", "b.txt"]
    found = find(f"{tmp_path}/data/*.txt")
    assert _code(Tree(found.root, found.paths), found.paths[0]) == "SYMLINK"


def _hub(tmp_path: Path) -> Path:
    """Lay out a hub's cache: blobs, and a snapshot of links to them and to other places."""
    _write(tmp_path, "hub/blobs/1", "hub/blobs/d/c.txt", "outside/secret.txt", "hub/snap/own.txt")
    snap = tmp_path / "hub" / "snap"
    (snap / "a.txt").symlink_to("../blobs/1")
    (snap / "b").symlink_to("../blobs/d")
    (snap / "gone.txt").symlink_to("../blobs/2")
    (snap / "out.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (snap / "out").symlink_to(tmp_path / "outside")
    (snap / "round.txt").symlink_to("round.txt")
    return snap


def test_links_to_what_lies_below_a_named_folder_are_followed_and_no_others(tmp_path):
    snap = _hub(tmp_path)
    tree = Tree(snap, [snap], tmp_path / "hub")
    units = {unit.name: unit.path for unit in tree.units((".txt",))}
    good = {name: path for name, path in units.items() if name in ("a.txt", "own.txt", "b/c.txt")}
    assert [tree.read(path) for path in good.values()] == [b"x"] * 3
    assert {name: _code(tree, path) for name, path in units.items() if name not in good} == {
        "gone.txt": "SOURCE_GONE",
        "out": "SYMLINK",
        "out.txt": "SYMLINK",
        "round.txt": "SOURCE_GONE",
    }
    with pytest.raises(Refused, match=f"leads out of {tmp_path}/hub"):
        tree.read(units["out.txt"])


def test_a_glob_of_links_is_followed_likewise(tmp_path):
    snap = _hub(tmp_path)
    found = find(f"{snap}/[ab]*", tmp_path / "hub")
    tree = Tree(found.root, found.paths, found.follow_links)
    units = list(tree.units((".txt",)))
    assert [(unit.name, tree.read(unit.path)) for unit in units] == [
        ("a.txt", b"x"),
        ("b/c.txt", b"x"),
    ]


def test_the_fingerprint_of_a_followed_file_is_that_of_its_target(tmp_path):
    snap = _hub(tmp_path)

    def mark() -> str:
        return next(Tree(snap, [snap], tmp_path / "hub").units((".txt",))).fingerprint

    before = mark()
    (snap / "a.txt").unlink()
    (snap / "a.txt").symlink_to(tmp_path / "hub" / "blobs" / "1")
    assert mark() == before
    _write(tmp_path, "hub/blobs/1", data=b"longer")
    assert mark() != before


def test_a_folder_is_read_once_however_links_lead_to_it_so_loops_end(tmp_path):
    _write(tmp_path, "hub/snap/a/1.txt", "hub/more/2.txt", "hub/more/deep/3.txt")
    snap = tmp_path / "hub" / "snap"
    (snap / "a" / "up").symlink_to(snap)
    (snap / "b").symlink_to(tmp_path / "hub" / "more")
    (snap / "c").symlink_to(tmp_path / "hub" / "more" / "deep")
    (tmp_path / "hub" / "more" / "deep" / "back").symlink_to(tmp_path / "hub")
    (tmp_path / "hub" / "more" / "loop").symlink_to(tmp_path / "hub" / "more")
    tree = Tree(snap, [snap], tmp_path / "hub")
    names = [unit.name for unit in tree.units((".txt",))]
    assert names == ["a/1.txt", "b/2.txt", "b/deep/3.txt"]
    reason = "a link to a folder that is read already"
    assert [row[1:] for row in tree.passed_over.rows()] == [
        (reason, 5, ["a/up", "b/deep/back/more"]),
    ]


def test_a_link_put_in_the_place_of_a_target_is_not_followed(tmp_path, monkeypatch):
    snap, real = _hub(tmp_path), os.stat
    blob = tmp_path / "hub" / "blobs" / "1"

    def swapping(name, **options):
        if name == "1":
            blob.unlink()
            blob.symlink_to(tmp_path / "outside" / "secret.txt")
        return real(name, **options)

    tree = Tree(snap, [snap], tmp_path / "hub")
    monkeypatch.setattr(os, "stat", swapping)
    assert _code(tree, snap / "a.txt") == "SYMLINK"


def test_what_is_asked_for_and_not_taken_is_counted_once_with_two_examples(tmp_path):
    names = ["a.txt", "b.JPG", "c.jpg", "s/d.jpg", "s/README", "e.txt.part", ".git/x", "Thumbs.db"]
    _write(tmp_path, *names)
    tree = Tree(tmp_path, [tmp_path])
    for _ in range(2):
        assert [unit.name for unit in tree.units((".txt",))] == ["a.txt"]
    assert tree.passed_over.rows() == [
        (".jpg", "not read", 3, ["b.JPG", "c.jpg"]),
        (".part", "an unfinished download", 1, ["e.txt.part"]),
        ("no suffix", "not read", 1, ["s/README"]),
    ]
    glob = find(f"{tmp_path}/[abe].*")
    tree = Tree(glob.root, glob.paths)
    assert [unit.name for unit in tree.units((".txt",))] == ["a.txt"]
    assert tree.passed_over.rows() == [
        (".jpg", "not read", 1, ["b.JPG"]),
        (".part", "an unfinished download", 1, ["e.txt.part"]),
    ]


def test_however_many_suffixes_there_are_few_are_counted_apart(tmp_path):
    _write(tmp_path, *(f"part.{n:04d}" for n in range(300)))
    tree = Tree(tmp_path, [tmp_path])
    assert list(tree.units((".txt",))) == []
    rows = tree.passed_over.rows()
    assert rows[0] == ("other suffixes", "not read", 200, ["part.0100", "part.0101"])
    assert sum(count for _, _, count, _ in rows) == 300


def test_devices_fifos_and_sockets_are_reported_and_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.txt")
        tree = Tree(tmp_path, [tmp_path])
        units = list(tree.units((".txt",)))
        assert [unit.name for unit in units] == ["pipe.txt", "socket.txt"]
        assert {_code(tree, unit.path) for unit in units} == {"SPECIAL_FILE"}


def test_files_and_folders_that_cannot_be_read_are_reported(tmp_path, monkeypatch):
    _write(tmp_path, "a.txt", "b/c.txt", "d.txt")
    tree = Tree(tmp_path, [tmp_path])
    real_open, real_list = os.open, os.scandir

    def refuse(name):
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(
        os, "open", lambda p, *a, **k: refuse(p) if p == "a.txt" else real_open(p, *a, **k)
    )
    monkeypatch.setattr(os, "scandir", lambda p: refuse(p) if p.name == "b" else real_list(p))
    units = list(tree.units((".txt",)))
    assert [unit.name for unit in units] == ["a.txt", "d.txt", "b"]
    assert [_code(tree, units[i].path) for i in (0, 2)] == ["UNREADABLE"] * 2
    assert tree.read(units[1].path) == b"x"
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="cannot be listed: Permission denied"):
        list(tree.units((".txt",)))


def test_a_file_that_went_away_is_gone(tmp_path):
    _write(tmp_path, "a.txt")
    tree = Tree(tmp_path, [tmp_path])
    unit = next(tree.units((".txt",)))
    unit.path.unlink()
    assert _code(tree, unit.path) == "SOURCE_GONE"


def test_a_file_of_a_glob_that_went_away_is_gone_too(tmp_path):
    _write(tmp_path, "a.txt", "b.txt", ".c.txt")
    found = find(f"{tmp_path}/*.txt")
    tree = Tree(found.root, found.paths)
    (tmp_path / "a.txt").unlink()
    units = list(tree.units((".txt",)))
    assert [unit.name for unit in units] == ["a.txt", "b.txt"]
    assert _code(tree, units[0].path) == "SOURCE_GONE"


def test_a_large_file_is_refused_before_a_byte_is_read(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(300 << 30)
    tree = Tree(tmp_path, [tmp_path])
    assert _code(tree, tmp_path / "a.txt") == "TOO_LARGE"


@pytest.mark.parametrize("change", [b"more", b""])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "a.txt"
    _write(tmp_path, "a.txt", data=b"four")
    real, calls = os.fstat, []

    def changing(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:  # 1: is it a regular file, 2: before reading, 3: after
            path.write_bytes(b"four" + change if change else b"")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", changing)
    assert _code(Tree(tmp_path, [tmp_path]), path) == "CHANGED_WHILE_READING"


def test_names_that_are_not_utf8_are_percent_encoded(tmp_path):
    odd = [
        b"caf\xe9.txt",
        b"line\nbreak.txt",
        "e\u0301.txt".encode(),
        "é.txt".encode(),
        b"CON .txt",
    ]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    tree = Tree(tmp_path, [tmp_path])
    read = {unit.name: tree.read(unit.path) for unit in tree.units((".txt",))}
    assert read == {
        "caf%E9.txt": odd[0],
        "line%0Abreak.txt": odd[1],
        "e\u0301.txt": odd[2],
        "é.txt": odd[3],
        "CON .txt": odd[4],
    }


def test_a_deep_tree_is_walked_without_recursion(tmp_path):
    folders = [str(tmp_path / "d") + "/d" * depth for depth in range(1050)]
    for folder in folders:
        os.mkdir(folder)  # noqa: PTH102
    _write(tmp_path, "top.txt")
    file = Path(folders[-1], "a.txt")
    file.write_bytes(b"y")
    tree = Tree(tmp_path, [tmp_path])
    read = [tree.read(unit.path) for unit in tree.units((".txt",))]
    # The recursion of shutil.rmtree could not clean this up.
    file.unlink()
    for folder in reversed(folders):
        os.rmdir(folder)  # noqa: PTH106
    assert read == [b"x", b"y"]


def test_a_link_put_in_the_place_of_a_file_just_before_it_is_opened_is_not_followed(
    tmp_path, monkeypatch
):
    _write(tmp_path, "root/a.txt", data=b"public")
    _write(tmp_path, "secret.txt", data=b"secret")
    path, real = tmp_path / "root" / "a.txt", os.stat

    def swapping(name, **options):
        status = real(name, **options)
        if name == "a.txt":
            path.unlink()
            path.symlink_to(tmp_path / "secret.txt")
        return status

    tree = Tree(tmp_path / "root", [tmp_path / "root"])
    monkeypatch.setattr(os, "stat", swapping)
    assert _code(tree, path) == "SYMLINK"


_FLIP = """
import os, sys
target, secret = sys.argv[1:]
while True:
    os.rename(target, target + ".aside")
    os.symlink(secret, target)
    os.unlink(target)
    os.rename(target + ".aside", target)
"""


@pytest.mark.parametrize("part", ["folder", "folder/a.txt"])
def test_links_that_come_and_go_give_no_byte_of_the_secret(tmp_path, part):
    _write(tmp_path, "root/folder/a.txt", data=b"public")
    _write(tmp_path, "secret/folder/a.txt", data=b"secret")
    root = tmp_path / "root"
    command = [sys.executable, "-S", "-c", _FLIP, str(root / part), str(tmp_path / "secret" / part)]
    tree, seen = Tree(root, [root]), set()
    with subprocess.Popen(command) as flipping:
        for _ in range(10_000):
            try:
                seen.add(tree.read(root / "folder" / "a.txt"))
            except Refused as refused:
                seen.add(refused.code)
        flipping.kill()
    assert seen <= {b"public", "SYMLINK", "SOURCE_GONE", "CHANGED_WHILE_READING"}
    assert len(seen) > 1
