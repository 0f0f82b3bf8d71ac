"""Every byte that must outlive a crash is written here: temporary file, fsync, sha256, rename.

No library writer does this by itself: Parquet, tar and safetensors writers never fsync, and
leave a partial file under its final name on a full disk. A reader therefore sees a whole file
or none, and after a kill at any point a rerun ends with the same bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from contracts.errors import BusyError, StorageError

_ZEROS = 1 << 20
_hits: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Die here by SIGKILL when WINNOW_FAILPOINT is `name` or `name@n` and this is the n-th pass.

    With WINNOW_FAILPOINT_LOG every pass is written to that file, which lists the points.
    """
    wanted, log = os.environ.get("WINNOW_FAILPOINT"), os.environ.get("WINNOW_FAILPOINT_LOG")
    if wanted is None and log is None:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if log is not None:
        with Path(log).open("a") as lines:
            lines.write(f"{name}@{_hits[name]}\n")
    if wanted in (name, f"{name}@{_hits[name]}"):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def reporting(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the path, and the space where it is short."""
    try:
        yield
    except OSError as error:
        raise StorageError(_explained(path, error, needed)) from error


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds a path, which need not exist yet."""
    folder = next(p for p in (path, *path.parents) if p.exists())
    return shutil.disk_usage(folder).free


def _explained(path: Path, error: OSError, needed: int) -> str:
    # polars raises an OSError that says its number in its text alone.
    said = re.search(r"os error (\d+)", str(error)) if error.errno is None else None
    number = int(said[1]) if said else error.errno
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path}: {error.strerror or error}."
    return (
        f"{path}: {os.strerror(number)}: {needed:,} bytes needed so far, {free_bytes(path):,} "
        "free. Free some space and run again: it resumes."
    )


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each entry durable."""
    if folder.is_dir():
        return
    with reporting(folder):
        make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Make a file or folder durable."""
    # On macOS fsync leaves it in the disk's own cache, which loses it with the power.
    if hasattr(fcntl, "F_FULLFSYNC"):
        with suppress(OSError):  # a file system that knows only fsync
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def reserve(file: IO[bytes], size_bytes: int) -> None:
    """Give an empty file its size and its place on the disk.

    A file that is mapped has no other way to say that the disk is full: the process would die.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size_bytes)
        return
    for start in range(0, size_bytes, _ZEROS):
        file.write(bytes(min(_ZEROS, size_bytes - start)))
    file.flush()


class Staged:
    """A file being written in a temporary folder; `publish` shows it whole, nothing else does.

    It is a binary file object for writers that only append. As a context manager it discards
    what was not published, so an exception never blesses a partial file.

    Attributes:
        size_bytes: written so far.
    """

    def __init__(self, folder: Path, *, beside: str | None = None) -> None:
        """Open it under a name of its own.

        Args:
            folder: on the same file system as the file's final place.
            beside: the final name, where the folder is not ours to empty: the temporary name says
                what it belongs to, and a lock says that its writer lives.
        """
        make_folder(folder)
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self.closed = False
        with reporting(folder):
            self.path, self._file = _opened(folder, beside)
        failpoint("staged.open")

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> int:
        """Append; the sha256 goes along, so that nothing is read back to be hashed."""
        size = memoryview(data).nbytes
        with reporting(self.path, self.size_bytes + size):
            self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += size
        return size

    def tell(self) -> int:
        """Return the position, which is the size."""
        return self.size_bytes

    def flush(self) -> None:
        """Do nothing: `finish` flushes and syncs once."""

    def close(self) -> None:
        """Do nothing: a writer that closes its file may not decide when it is durable."""

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of what was written so far."""
        return self._sha256.hexdigest()

    def publish(self, final: Path) -> None:
        """Make the content durable and give it its final name, replacing what is there."""
        with reporting(final, self.size_bytes):
            self._file.flush()
            _sync(self._file.fileno())
            self._file.close()
            failpoint("staged.synced")
            make_folder(final.parent)
            self.path.replace(final)
            failpoint("staged.renamed")
            sync_folder(final.parent)
        self.closed = True
        failpoint("staged.published")

    def discard(self) -> None:
        """Remove the temporary file, unless it was published."""
        if not self.closed:
            # On a full disk closing fails too, on what is still in its buffer.
            with suppress(OSError):
                self._file.close()
            self.path.unlink(missing_ok=True)
            self.closed = True


def _opened(folder: Path, beside: str | None) -> tuple[Path, IO[bytes]]:
    while True:
        token = secrets.token_hex(8)
        path = folder / (token if beside is None else f".{_mark(beside)}.{token}.writing")
        file = path.open("xb")
        if beside is None:
            return path, file
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        # Another writer took it for a leftover, before it was locked.
        file.close()


def _mark(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()


def write(path: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Write a small file whole, replacing what is there.

    Without a temporary folder it is staged beside its place, under a name of its own; what a
    killed writer of the same file left there is removed, what another still writes is not.
    """
    if temporary is None:
        _remove_leftovers(path)
    with Staged(temporary or path.parent, beside=None if temporary else path.name) as staged:
        staged.write(data)
        staged.publish(path)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of a path whose writers are dead: nobody holds their lock."""
    names = re.compile(rf"\.{_mark(path.name)}\.[0-9a-f]{{16}}\.writing")
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        if not names.fullmatch(left.name):
            continue
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def create(path: Path, data: bytes, *, temporary: Path) -> bool:
    """Write a file only where there is none; False when the name is taken.

    `link` either makes the name or fails, so of two writers exactly one wins.
    """
    with Staged(temporary) as staged, reporting(path, len(data)):
        staged.write(data)
        staged._file.flush()
        _sync(staged._file.fileno())
        make_folder(path.parent)
        failpoint("create.synced")
        try:
            os.link(staged.path, path)
        except FileExistsError:
            return False
        failpoint("create.linked")
        sync_folder(path.parent)
    failpoint("create.done")
    return True


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold a store for writing; the kernel gives it back when the process dies, however.

    Raises:
        BusyError: another process holds it.
    """
    make_folder(path.parent)
    with reporting(path):
        file = path.open("a+b")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(64).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"{path.parent}: another run holds the store (process {holder}). "
                "Wait for it, or stop it."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield
    finally:
        file.close()


def empty(folder: Path) -> None:
    """Remove what a killed run left in a temporary folder; only under the lease."""
    if folder.is_dir():
        with reporting(folder):
            shutil.rmtree(folder)
            sync_folder(folder.parent)
