"""Walk folders and open files that one does not trust: no links, no devices, nothing outside.

Links are followed on demand, to what lies below a folder that the user names.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from contracts.errors import StorageError
from storage.source import PassedOver, Refused, Tally, Unit, special_kind

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FILE_BYTES = 64 << 20
_IGNORED = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE | re.DOTALL)
_UNFINISHED = re.compile(r".*\.(part|crdownload)", re.IGNORECASE | re.DOTALL)
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
        folders: names of its subfolders.
        passed_over: what no source takes of it is counted here.
    """

    path: Path
    prefix: str
    names: list[str]
    odd: frozenset[str] = frozenset()
    wanted: frozenset[str] | None = None
    folders: frozenset[str] = frozenset()
    passed_over: Tally = field(default_factory=Tally, compare=False)

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

    def pass_over(self, name: str, reason: str) -> None:
        """Count a file that is left aside."""
        self.passed_over.add(shown(self.prefix + name), reason)

    def pass_over_rest(self, used: Iterable[str]) -> None:
        """Count all files that were asked for but those used."""
        asked = set(self.names) if self.wanted is None else self.wanted.intersection(self.names)
        for name in sorted(asked.difference(used)):
            self.pass_over(name, "not read")


class Tree:
    """The files that a source's paths mean.

    Folders are walked without recursion, each file before its subfolders, everything sorted by
    name. Hidden files, `Thumbs.db` and `desktop.ini` are passed over, `*.part` and `*.crdownload`
    too, and these are counted. No device is ever opened.

    Symbolic links are not followed, but the root, and a source's only path, may be one: these the
    user named. With `follow_links` a link is followed to what lies below that folder, and named by
    the link; a folder that is read already is not read again through a link, so loops end.

    Attributes:
        passed_over: of a source of this tree.

    Cost: memory for the names of one folder, and for each folder that a link leads to.
    """

    def __init__(self, root: Path, paths: Sequence[Path], follow_links: Path | None = None) -> None:
        self.root, self.paths = root, list(paths)
        self.passed_over = PassedOver()
        self._links_below = None if follow_links is None else follow_links.resolve()
        self._named = self.paths[0] if len(self.paths) == 1 else None
        # Whether the source is one file, whose loss is the loss of the source.
        self.single = self._named is not None and not self._is_folder(self._named)

    def folders(self) -> Iterator[Folder]:
        """Yield the folders that hold something.

        Raises:
            StorageError: a path of the source itself cannot be listed.
        """
        passed_over = self.passed_over.names = Tally()
        files: dict[Path, set[str]] = defaultdict(set)
        roots = []
        for path in self.paths:
            if self._is_folder(path):
                roots.append(path)
            else:
                files[path.parent].add(path.name)
        for parent, names in sorted(files.items()):
            listed, odd, _ = self._list_root(parent)
            # One that is gone since it was named is reported.
            asked = {name for name in names if self.single or not _IGNORED.fullmatch(name)}
            listed = sorted(asked.union(listed))
            yield self._folder(parent, listed, odd, [], passed_over, frozenset(names))
        asked_for = set(roots)
        own = {path.resolve() for path in roots} if self._links_below else set()
        linked: set[Path] = set()
        # Each folder with its real path where a link led to it.
        waiting: list[tuple[Path, Path | None]] = [(path, None) for path in reversed(roots)]
        while waiting:
            path, real = waiting.pop()
            if real is not None:
                if real in linked or not own.isdisjoint((real, *real.parents)):
                    name = shown(path.relative_to(self.root).as_posix())
                    passed_over.add(name, "a link to a folder that is read already")
                    continue
                linked.add(real)
            if path in asked_for:
                listed, odd, folders = self._list_root(path)
            else:
                try:
                    listed, odd, folders = self._list(path)
                except OSError:
                    name = path.name
                    yield self._folder(path.parent, [name], [name], [], passed_over)
                    continue
            if listed:
                yield self._folder(path, listed, odd, folders, passed_over)
            for name in reversed(folders):
                inner = path / name
                below = None if real is None else real / name
                waiting.append((inner, self._followed(inner) if inner.is_symlink() else below))
        # Another walk may have begun meanwhile.
        self.passed_over.names = passed_over

    def units(self, suffixes: tuple[str, ...]) -> Iterator[Unit]:
        """Yield a unit for each file with one of the suffixes."""
        for folder in self.folders():
            chosen = list(folder.chosen(suffixes))
            folder.pass_over_rest(chosen)
            for name in chosen:
                yield self.unit(folder, name)

    def unit(self, folder: Folder, name: str, *beside: str) -> Unit:
        """Return the unit of a file and of those beside it that belong to it; none is opened."""
        size, marks = 0, []
        for part in (name, *beside):
            place = f"{folder.path}/{part}"
            follow = self.single and self._named is not None and part == self._named.name
            follow = follow or self._followed(place) is not None
            try:
                status = os.stat(place, follow_symlinks=follow)  # noqa: PTH116
            except OSError as error:
                marks.append(errno.errorcode.get(error.errno or 0, "gone"))
            else:
                size += status.st_size
                marks.append(f"{status.st_size}-{status.st_mtime_ns}")
        return Unit(shown(folder.prefix + name), folder.path / name, size, "+".join(marks))

    def open(self, path: Path) -> BinaryIO:
        """Open a regular file below the root, following no link on the way that may not be.

        Reading from it raises Refused with UNREADABLE where the system fails.

        Raises:
            Refused: SYMLINK, SPECIAL_FILE, SOURCE_GONE or UNREADABLE.
        """
        try:
            return _open(self.root, path, follow=path == self._named)
        except Refused as refused:
            if refused.code != "SYMLINK" or self._links_below is None:
                raise
        target = self._followed(path)
        if target is None:
            if not path.exists():
                raise Refused("SOURCE_GONE", "a symbolic link that leads nowhere")
            raise Refused("SYMLINK", f"a symbolic link that leads out of {self._links_below}")
        # No link is left on this way; one that is put there now is not followed.
        return _open(self._links_below, target, follow=False)

    def read(self, path: Path, limit: int = FILE_BYTES) -> bytes:
        """Return a file whole.

        Raises:
            Refused: as `open`, or TOO_LARGE before a byte is read, or CHANGED_WHILE_READING.
        """
        with self.open(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > limit:
                raise Refused("TOO_LARGE", f"{before.st_size:,} bytes, the limit is {limit:,}")
            data = file.read(before.st_size + 1)
            check_unchanged(file, before)
        if len(data) != before.st_size:
            raise Refused("CHANGED_WHILE_READING", f"{len(data):,} of {before.st_size:,} bytes")
        return data

    def _is_folder(self, path: Path) -> bool:
        followed = path == self._named or not path.is_symlink() or self._followed(path) is not None
        return followed and path.is_dir()

    def _followed(self, path: str | Path) -> Path | None:
        """Return the real path of what a link may be followed to; None where it may not."""
        if self._links_below is None:
            return None
        try:
            target = Path(path).resolve(strict=True)
        except (OSError, RuntimeError):  # nothing is there; a loop
            return None
        return target if target.is_relative_to(self._links_below) else None

    def _folder(
        self,
        path: Path,
        names: list[str],
        odd: list[str],
        folders: list[str],
        passed_over: Tally,
        wanted: frozenset[str] | None = None,
    ) -> Folder:
        below = path.relative_to(self.root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        unfinished = {n for n in names if _UNFINISHED.fullmatch(n) and not self.single}
        names = [name for name in names if name not in unfinished]
        folder = Folder(
            path, prefix, names, frozenset(odd), wanted, frozenset(folders), passed_over
        )
        for name in sorted(unfinished if wanted is None else unfinished & wanted):
            folder.pass_over(name, "an unfinished download")
        return folder

    def _list_root(self, path: Path) -> tuple[list[str], list[str], list[str]]:
        try:
            return self._list(path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be listed: {error.strerror}") from error

    def _list(self, path: Path) -> tuple[list[str], list[str], list[str]]:
        """Return the names of files, of those that are no regular files, and of subfolders."""
        files, odd, folders = [], [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if _IGNORED.fullmatch(entry.name):
                    continue
                follow = entry.is_symlink() and self._followed(entry.path) is not None
                if entry.is_dir(follow_symlinks=follow):
                    folders.append(entry.name)
                    continue
                files.append(entry.name)
                if not entry.is_file(follow_symlinks=follow):
                    odd.append(entry.name)
        return sorted(files), odd, sorted(folders)


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


class _File(io.FileIO):
    """A file that says by Refused that the system fails; libraries say damage by OSError too."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise Refused("UNREADABLE", error.strerror or "") from None

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise Refused("UNREADABLE", error.strerror or "") from None


def _open(root: Path, path: Path, *, follow: bool) -> BinaryIO:
    """Open a regular file below `root` by way of its folders; a link only as the last, if at all.

    Raises:
        Refused: SYMLINK, SPECIAL_FILE, SOURCE_GONE or UNREADABLE.
    """
    folders, name = path.relative_to(root).parts[:-1], path.name
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        folder = os.open(root, flags | os.O_DIRECTORY)
        try:
            for part in folders:
                inner = os.open(part, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            status = os.stat(name, dir_fd=folder, follow_symlinks=follow)
            _check_regular(status.st_mode)
            file = os.open(name, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        code = _CODES.get(error.errno or 0, "UNREADABLE")
        raise Refused(code, error.strerror or "") from None
    opened = io.BufferedReader(_File(file))
    try:
        _check_regular(os.fstat(file).st_mode)
    except Refused:
        opened.close()
        raise
    return opened
