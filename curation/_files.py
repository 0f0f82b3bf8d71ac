"""What is made of a file that a recipe names: once a process, and again where the file changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


def once(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
    """Return a function that keeps what it made of the last two files or folders."""

    @lru_cache(maxsize=2)
    def kept(path: Path, _state: tuple[tuple[str, int, int], ...]) -> Made:
        return make(path)

    return lambda path: kept(path, _state_of(path))


def _state_of(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, time and size of a file, or of all that lies under a folder."""
    members = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(str(member), member.stat()) for member in members if member.is_file()]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)
