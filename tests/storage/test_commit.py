"""A small file is written whole beside what others have there."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from storage import commit


def test_what_another_has_beside_a_file_stays(tmp_path: Path):
    """A folder of the name that once was emptied, and a file that another writer still writes."""
    theirs = tmp_path / ".writing"
    theirs.mkdir()
    (theirs / "mine").write_bytes(b"!")
    with commit.Staged(tmp_path, beside="latest.json") as other:
        other.write(b"another's")
        commit.write(tmp_path / "latest.json", b"ours")
        assert (tmp_path / "latest.json").read_bytes() == b"ours"
        other.publish(tmp_path / "latest.json")
    assert (tmp_path / "latest.json").read_bytes() == b"another's"
    assert (theirs / "mine").read_bytes() == b"!"
    assert {p.name for p in tmp_path.iterdir()} == {".writing", "latest.json"}


def test_what_a_killed_writer_left_beside_a_file_is_removed_by_the_next(tmp_path: Path):
    staged = commit.Staged(tmp_path, beside="latest.json")
    staged._file.close()
    left = [staged.path, tmp_path / ".0123456789abcdef.0123456789abcdef.writing"]
    left[1].touch()
    commit.write(tmp_path / "latest.json", b"ours")
    assert [p.exists() for p in left] == [False, True]


def test_a_name_of_any_length_has_room_for_its_temporary_file(tmp_path: Path):
    commit.write(tmp_path / ("n" * 255), b"!")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"!"


def test_a_file_taken_for_a_leftover_before_it_is_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock, taken = commit.fcntl.flock, []

    def late(file: object, how: int) -> None:
        if not taken:
            (path,) = tmp_path.iterdir()
            path.unlink()
            taken.append(path)
        lock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(commit.fcntl, "flock", late)
    with commit.Staged(tmp_path, beside="latest.json") as staged:
        staged.write(b"!")
        staged.publish(tmp_path / "latest.json")
    assert taken
    assert (tmp_path / "latest.json").read_bytes() == b"!"


# ------------------------------------------------------------------ systems other than Linux


@pytest.mark.parametrize("known", [True, False])
def test_where_the_system_has_a_fuller_sync_it_is_asked_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
):
    """macOS; a file system there may know only fsync."""
    asked: list[str] = []

    def full(descriptor: int, command: int) -> None:
        asked.append("full")
        if not known:
            raise OSError(errno.ENOTSUP, "Operation not supported")

    real = os.fsync
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append("fsync") or real(descriptor))
    commit.write(tmp_path / "a", b"content")
    once = ["full"] if known else ["full", "fsync"]
    # The file, then its folder.
    assert asked == once * 2
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize("size", [1, (3 << 20) + 5])
@pytest.mark.parametrize("linux", [True, False])
def test_a_reserved_file_has_its_size_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, linux: bool
):
    if not linux:
        monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "a").open("w+b") as file:
        commit.reserve(file, size)
        status: Any = os.fstat(file.fileno())
        assert status.st_size == size
        # Not a hole, which a full disk would tell of by a signal.
        assert status.st_blocks * 512 >= size
        assert not file.read().strip(b"\0")
