"""Walk folders and open files that one does not trust: no links, no devices, nothing outside."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contracts.errors import StorageError
from storage.source import Refused, Unit, special_kind

FILE_BYTES = 64 << 20
_IGNORED = re.compile(
    r"\..*|Thumbs\.db|desktop\.ini|.*\.(part|crdownload)", re.IGNORECASE | re.DOTALL
)
# A link in the place of a folder is ENOTDIR, in that of a file ELOOP.
_CODES = {
    errno.ELOOP: "SYMLINK",
    errno.ENOTDIR: "SYMLINK",
    errno.ENXIO: "SPECIAL_FILE",
    errno.ENOENT: "SOURCE_GONE",
}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\udc80-\udcff]")


@dataclass(frozen=True)
class Folder:
    """One folder of a walk.

    Attributes:
        path: the folder.
        prefix: its path below the root, with a slash at its end; empty for the root.
        names: of its files, sorted; of links, devices and folders that cannot be listed too.
        odd: those of `names` that are no regular file.
        wanted: the files that were asked for by name; None where the whole folder is.
    """

    path: Path
    prefix: str
    names: list[str]
    odd: frozenset[str] = frozenset()
    wanted: frozenset[str] | None = None

    def chosen(self, suffixes: tuple[str, ...]) -> Iterator[str]:
        """Yield what ends so, and everything odd, which is reported.

        Of files asked for by name those that end so, or all of them where none does.
        """
        fits = frozenset(name for name in self.names if name.lower().endswith(suffixes))
        if self.wanted is not None:
            fits = (fits & self.wanted) or self.wanted
        for name in self.names:
            if name in fits or (self.wanted is None and name in self.odd):
                yield name


class Tree:
    """The files that a source's paths mean.

    Folders are walked without recursion, each file before its subfolders, everything sorted by
    name. Hidden files, `Thumbs.db`, `desktop.ini`, `*.part` and `*.crdownload` are passed over.
    Symbolic links are never followed, but the root, and a source's only path, may be one: these
    the user named. No device is ever opened.

    Cost: memory for the names of one folder.
    """

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        self.root, self.paths = root, list(paths)
        self._named = self.paths[0] if len(self.paths) == 1 else None
        # Whether the source is one file, whose loss is the loss of the source.
        self.single = self._named is not None and not self._is_folder(self._named)

    def folders(self) -> Iterator[Folder]:
        """Yield the folders that hold something.

        Raises:
            StorageError: a path of the source itself cannot be listed.
        """
        files: dict[Path, set[str]] = defaultdict(set)
        waiting = []
        for path in self.paths:
            if self._is_folder(path):
                waiting.append(path)
            else:
                files[path.parent].add(path.name)
        for parent, names in sorted(files.items()):
            listed, odd, _ = _list(parent)
            if self.single:
                listed = sorted(names.union(listed))
            yield self._folder(parent, listed, odd, frozenset(names))
        roots = set(waiting)
        waiting.reverse()
        while waiting:
            path = waiting.pop()
            try:
                listed, odd, folders = _list(path)
            except OSError as error:
                if path in roots:
                    raise StorageError(f"{path}: cannot be listed: {error.strerror}") from error
                yield self._folder(path.parent, [path.name], [path.name])
                continue
            if listed:
                yield self._folder(path, listed, odd)
            waiting += [path / name for name in reversed(folders)]

    def units(self, suffixes: tuple[str, ...]) -> Iterator[Unit]:
        """Yield a unit for each file with one of the suffixes."""
        for folder in self.folders():
            for name in folder.chosen(suffixes):
                yield self.unit(folder, name)

    def unit(self, folder: Folder, name: str, *beside: str) -> Unit:
        """Return the unit of a file and of those beside it that belong to it; none is opened."""
        size, marks = 0, []
        for part in (name, *beside):
            follow = self.single and self._named is not None and part == self._named.name
            try:
                status = os.stat(f"{folder.path}/{part}", follow_symlinks=follow)  # noqa: PTH116
            except OSError as error:
                marks.append(errno.errorcode.get(error.errno or 0, "gone"))
            else:
                size += status.st_size
                marks.append(f"{status.st_size}-{status.st_mtime_ns}")
        return Unit(shown(folder.prefix + name), folder.path / name, size, "+".join(marks))

    def open(self, path: Path) -> BinaryIO:
        """Open a regular file below the root, following no link on the way to it.

        Raises:
            Refused: SYMLINK, SPECIAL_FILE, SOURCE_GONE or UNREADABLE.
        """
        folders, name = path.relative_to(self.root).parts[:-1], path.name
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        keep = 0 if path == self._named else os.O_NOFOLLOW
        try:
            folder = os.open(self.root, flags | os.O_DIRECTORY)
            try:
                for part in folders:
                    inner = os.open(part, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                status = os.stat(name, dir_fd=folder, follow_symlinks=not keep)
                _check_regular(status.st_mode)
                file = os.open(name, flags | keep, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            code = _CODES.get(error.errno or 0, "UNREADABLE")
            raise Refused(code, error.strerror or "") from None
        opened = os.fdopen(file, "rb")
        try:
            _check_regular(os.fstat(file).st_mode)
        except Refused:
            opened.close()
            raise
        return opened

    def read(self, path: Path, limit: int = FILE_BYTES) -> bytes:
        """Return a file whole.

        Raises:
            Refused: as `open`, or TOO_LARGE before a byte is read, or CHANGED_WHILE_READING.
        """
        with self.open(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > limit:
                raise Refused("TOO_LARGE", f"{before.st_size:,} bytes, the limit is {limit:,}")
            try:
                data = file.read(before.st_size + 1)
            except OSError as error:
                raise Refused("UNREADABLE", error.strerror or "") from None
            check_unchanged(file, before)
        if len(data) != before.st_size:
            raise Refused("CHANGED_WHILE_READING", f"{len(data):,} of {before.st_size:,} bytes")
        return data

    def _is_folder(self, path: Path) -> bool:
        return path.is_dir() and (path == self._named or not path.is_symlink())

    def _folder(
        self, path: Path, names: list[str], odd: list[str], wanted: frozenset[str] | None = None
    ) -> Folder:
        below = path.relative_to(self.root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        return Folder(path, prefix, names, frozenset(odd), wanted)


def shown(name: str) -> str:
    """Return a file name as text: bytes that are no character become `%E9`."""
    return _UNPRINTABLE.sub(lambda m: f"%{ord(m[0]) & 0xFF:02X}", name)


def check_unchanged(file: BinaryIO, before: os.stat_result) -> None:
    """Check that nobody wrote to an open file since `before`.

    Raises:
        Refused: CHANGED_WHILE_READING.
    """
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        detail = f"{before.st_size:,} bytes at first, {now.st_size:,} at the end"
        raise Refused("CHANGED_WHILE_READING", detail)


def _check_regular(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise Refused("SYMLINK", "a symbolic link is not followed")
    if stat.S_ISDIR(mode):
        raise Refused("UNREADABLE", "the folder cannot be listed")
    if not stat.S_ISREG(mode):
        raise Refused("SPECIAL_FILE", f"{special_kind(mode)}, which is never read")


def _list(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the names of files, of those that are no regular files, and of subfolders."""
    files, odd, folders = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if _IGNORED.fullmatch(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
                continue
            files.append(entry.name)
            if not entry.is_file(follow_symlinks=False):
                odd.append(entry.name)
    return sorted(files), odd, sorted(folders)
