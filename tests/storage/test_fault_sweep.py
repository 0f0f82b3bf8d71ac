"""Kill, EIO and ENOSPC at every system call with which a store is written."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import commit
from storage.store import Store
from tests.storage import fault_program as program

CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link",
    "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate",
)  # fmt: skip
FAILING = ("write", "fsync", "rename", "link", "linkat", "mkdir")
MUTANTS = (
    "object written in place and trusted when it is there",
    "version before its objects",
    "version written in place",
    "temporary files are never removed",
    "manifest before its objects",
)
SOAK = bool(os.environ.get("WINNOW_SOAK"))

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def command(root: Path, *mutant: str) -> list[str]:
    # Without site and user folders the program starts three times as fast.
    return [sys.executable, "-S", "-E", "-B", program.__file__, str(root), *mutant]


def tree(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "lease"):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def calls(folder: Path, *mutant: str) -> dict[str, tuple[int, int]]:
    """Return for each call its first occurrence that is the store's, and its last."""
    trace, root = folder / "trace", folder / "traced"
    strace = ["strace", "-f", "-qq", "-e", f"trace={','.join(CALLS)}", "-o", str(trace)]
    subprocess.run([*strace, *command(root, *mutant)], check=True)
    count: collections.Counter[str] = collections.Counter()
    first: dict[str, int] = {}
    begun = False
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"\d+\s+(\w+)\(", line)
        if call is None:
            continue
        count[call[1]] += 1
        begun = begun or str(root) in line
        if begun:
            first.setdefault(call[1], count[call[1]])
    shutil.rmtree(root)
    return {name: (first[name], count[name]) for name in first}


def points(found: dict[str, tuple[int, int]], every: int) -> list[tuple[str, str, int]]:
    """Return every so manieth point at which a call is killed, and fails for either reason."""
    what = {"signal=SIGKILL": set(found)}
    what |= {f"error={error}": {*FAILING} & set(found) for error in ("EIO", "ENOSPC")}
    return [
        point
        for fault, names in what.items()
        for point in [
            (fault, name, k)
            for name, (a, b) in found.items()
            if name in names
            for k in range(a, b + 1)
        ][::every]
    ]


def survives(root: Path, point: tuple[str, str, int], want: str, *mutant: str) -> str | None:
    """Fail one call, look at what is visible, run again; return what went wrong."""
    what, call, k = point
    shutil.rmtree(root, ignore_errors=True)
    inject = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={k}"]
    broken = [*inject, "-o", "/dev/null", *command(root, *mutant)]
    subprocess.run(broken, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        program.check(root)
        subprocess.run(command(root, *mutant), check=True, stderr=subprocess.PIPE)
        program.check(root)
        if tree(root) != want:
            return f"{point}: the tree differs from an uninterrupted run's"
    except Exception as error:
        return f"{point}: {error}"
    return None


def sweep(folder: Path, wanted: list[tuple[str, str, int]], *mutant: str) -> Iterator[str]:
    """Return the faults of the points, one by one: who has enough stops the rest."""
    want_root = folder / "want"
    subprocess.run(command(want_root, *mutant), check=True)
    want = tree(want_root)

    def one(numbered: tuple[int, tuple[str, str, int]]) -> str | None:
        number, point = numbered
        root = folder / f"{number}" / "store"
        root.parent.mkdir()
        try:
            return survives(root, point, want, *mutant)
        finally:
            shutil.rmtree(root.parent, ignore_errors=True)

    pool = ThreadPoolExecutor(2)
    try:
        yield from (fault for fault in pool.map(one, enumerate(wanted)) if fault is not None)
    finally:
        pool.shutdown(cancel_futures=True)


@needs_strace
def test_a_store_survives_a_fault_at_its_system_calls(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    # Every one of them in soak.
    wanted = points(calls(tmp_path), every=1 if SOAK else 3)
    faults = list(sweep(tmp_path, wanted))
    record_property("says", f"{len(wanted) - len(faults)}/{len(wanted)} fault points survived")
    assert len(wanted) > 60
    assert not faults, "\n".join(faults)


@needs_strace
@pytest.mark.parametrize("mutant", MUTANTS if SOAK else MUTANTS[1::2])
def test_a_protocol_with_a_step_removed_is_caught(tmp_path: Path, mutant: str):
    kills = [p for p in points(calls(tmp_path, mutant), every=1) if p[0] == "signal=SIGKILL"]
    telling = [p for p in kills if p[1] in ("write", "rename", "fsync", "mkdir", "link")]
    assert next(sweep(tmp_path, telling, mutant), None)


class Disk:
    """What a power cut would leave: contents that were synced, entries of synced folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: set[int] = set()
        self.loose: dict[Path, int] = {}
        self.torn: list[Path] = []
        fsync, link, replace = os.fsync, os.link, Path.replace

        def synced(descriptor: int) -> None:
            fsync(descriptor)
            inode = os.fstat(descriptor).st_ino
            self.synced.add(inode)
            self.loose = {p: i for p, i in self.loose.items() if p.parent.stat().st_ino != inode}

        def named(source: Path, target: Path) -> None:
            inode = target.stat().st_ino
            if inode not in self.synced:
                self.torn.append(target)
            self.loose[target] = inode
            del source

        def linked(source: Path, target: Path) -> None:
            link(source, target)
            named(source, Path(target))

        def replaced(source: Path, target: Path) -> Path:
            moved = replace(source, target)
            named(source, Path(target))
            return moved

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "link", linked)
        monkeypatch.setattr(Path, "replace", replaced)


def test_what_was_reported_is_there_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(monkeypatch)
    program.work(Store(tmp_path / "store"))
    assert not disk.torn
    assert not disk.loose


def test_a_missing_sync_of_the_content_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    program.work(Store(tmp_path / "store"))
    assert disk.torn


def test_a_missing_sync_of_the_folder_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(monkeypatch)
    monkeypatch.setattr(commit, "sync_folder", lambda _folder: None)
    program.work(Store(tmp_path / "store"))
    assert disk.loose
