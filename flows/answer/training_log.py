"""The log of a training while it runs and after: lines that nothing is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage import commit


@contextmanager
def opened(path: Path, done: int) -> Iterator[Callable[[str], None]]:
    """Yield what appends a line, each seen at once by who reads the file.

    What a killed training wrote after the state that it goes on from is dropped. The file need
    not outlive a crash, so nothing here is made durable.

    Args:
        path: of the log; it need not exist.
        done: steps done before.

    Raises:
        StorageError: it cannot be written.
    """
    commit.make_folder(path.parent)
    with commit.reporting(path):
        before = path.read_bytes() if path.is_file() else b""
        path.write_bytes(b"".join(line for line in before.splitlines(True) if _step(line) <= done))
        file = path.open("ab", buffering=0)
    with file:

        def write(line: str) -> None:
            with commit.reporting(path):
                file.write(line.encode())

        yield write


def _step(line: bytes) -> float:
    """Return the step of a line; of one that a kill has cut, one after all."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
